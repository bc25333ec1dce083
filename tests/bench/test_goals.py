"""Goals judged by retrieval, small."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bench_experiment import Silent, config_for
from hashshield.bench.config import AdaptiveConfig, GoalsConfig
from hashshield.bench.goals import run_adaptive, run_goals
from hashshield.errors import UsageError
from tiny_net import write_tiny


@pytest.mark.long
def test_goals_compare_with_the_unprotected_photo(model: str, classes: Path, silent: Silent) -> None:
    config = GoalsConfig(model=model, data=classes, goals=("away", "opposite"), photos=3, steps=12, device="cpu")
    none, away, opposite = run_goals(config, silent)
    assert none["rank_symmetric"] == 1, "unprotected, the original comes first"
    assert (away["goal"], away["photos"]) == ("away", 3)
    assert opposite["mean_distance_from_original"] >= away["mean_distance_from_original"]
    assert away["largest_levels"] <= 8
    assert silent.count <= silent.total
    _, balanced = run_goals(replace(config, goals=("away",), preset="balanced"), silent)
    assert (away["preset"], balanced["preset"]) == ("invisible", "balanced")
    assert balanced["median_psnr_db"] != away["median_psnr_db"], "another search"


def test_adaptive_tries_everything_against_every_goal(folder: Path) -> None:
    write_tiny(folder / "other.safetensors", seed=4, name="other", dataset="folder", split={"queries": 8, "seed": 0})
    other, progress = f"{folder / 'other.safetensors'}:24", Silent()
    config = config_for(
        folder, kind=AdaptiveConfig, queries=4, steps=10, goals=("opposite",), services=(other,), psnr=38
    )
    rows = run_adaptive(config, progress)
    assert progress.count == progress.total
    none, opposite = ({row["against"]: row for row in rows if row["goal"] == goal} for goal in ("none", "opposite"))
    assert none.keys() == opposite.keys()
    assert {"features", "jpeg q30", "five crops", "network other", "with other", "detection"} < none.keys()
    assert none["detection"]["auc"] == 0.5
    assert opposite["symmetric"]["median_psnr_db"] == pytest.approx(38, abs=0.5)
    assert none["fine-tuned on 0%"]["pairs"] == 0
    assert [opposite[f"fine-tuned on {share}"]["pairs"] for share in ("1%", "10%", "50%")] == [1, 1, 2]
    for row in rows:
        if "map" in row:
            assert row["map_lowest"] - 1e-4 <= row["map"] <= 1 or row["against"].startswith("fine-tuned")


def test_a_service_of_another_split_would_have_learnt_from_the_queries(folder: Path, tmp_path: Path) -> None:
    other = write_tiny(tmp_path / "other.safetensors", name="other", dataset="folder", split={"queries": 8, "seed": 1})
    config = config_for(folder, kind=AdaptiveConfig, queries=2, goals=("away",), services=(f"{other}:24",))
    with pytest.raises(UsageError, match="name a network of the same split"):
        run_adaptive(config, Silent())
