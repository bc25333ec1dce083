"""Goals judged by retrieval, small."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from bench_experiment import Silent
from hashshield.bench.config import GoalsConfig
from hashshield.bench.goals import run_goals


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
