"""`bench survival` on the tiny network: a row for each preset, service and view, and noise that changes nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench_experiment import Silent
from hashshield.bench import survival
from hashshield.bench.config import SurvivalConfig
from hashshield.errors import UsageError
from hashshield.transforms.pillow import SERVICES
from hashshield.types import GoalSpec
from tiny_net import encoded, picture, write_tiny


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("survival")
    (root / "photos").mkdir()
    for seed in range(3):
        (root / "photos" / f"{seed}.jpg").write_bytes(encoded(picture(90, 120, seed=seed), "JPEG"))
    (root / "photos" / "notes.txt").write_text("no photo")
    write_tiny(root / "tiny.safetensors")
    return root


@pytest.mark.long
def test_every_service_has_a_row_for_every_preset(folder: Path) -> None:
    progress = Silent()
    config = SurvivalConfig(
        photos=folder / "photos",
        model=f"{folder / 'tiny.safetensors'}:16",
        presets=("invisible", "balanced"),
        png=True,
        steps=60,
        tau=0.1,
        device="cpu",
    )
    rows = survival.run_survival(config, progress)
    assert progress.count == progress.total == 6
    invisible, balanced = (
        {(row["transform"], row["view"]): row for row in rows if row["preset"] == name}
        for name in ("invisible", "balanced")
    )
    assert next(iter(invisible)) == ("the file", "card")
    assert balanced.keys() - invisible.keys() == {("the file", "squash")}
    applying = {service.name for service in SERVICES if service.refused(120, 90) is None}
    assert {transform for transform, _ in invisible} == applying | {"the file"}
    file = invisible["the file", "card"]
    assert file["goal"] == "away"
    assert file["photos"] == file["measured"] == 3
    assert file["share_protected"] == 1
    assert file["within_2"] >= 2
    assert file["goal_met"] == file["goal_met_in_every_view"] == 3, "away asks for its band, not for a code"
    both = [balanced["the file", view] for view in ("card", "squash")]
    assert len({row["goal_met_in_every_view"] for row in both}) == 1
    assert both[0]["goal_met_in_every_view"] <= min(row["goal_met"] for row in both)
    assert 7 <= file["median_from_original"] <= 9
    noise = {row["noise_median_from_original"] for row in rows}
    assert len(noise) > 1, "measured after each service, not once"
    assert invisible["png", "card"]["median_to_goal"] == file["median_to_goal"], "writing PNG again changes nothing"
    assert balanced["the file", "squash"]["measured"] == 3


def test_photos_are_taken_evenly_and_a_folder_without_any_is_named(folder: Path, tmp_path: Path) -> None:
    few = SurvivalConfig(
        model=f"{folder / 'tiny.safetensors'}:16",
        photos=folder / "photos",
        presets=("invisible",),
        goal=GoalSpec("class", "cat"),
        count=2,
        steps=2,
        device="cpu",
    )
    rows = survival.run_survival(few, Silent())
    assert rows[0]["photos"] == 2
    assert rows[0]["goal"] == "cat"
    with pytest.raises(UsageError, match="holds no photos"):
        survival.run_survival(replace(few, photos=tmp_path), Silent())


def test_flat_is_where_nothing_is() -> None:
    before = np.full((40, 40, 3), 120, np.uint8)
    before[:, 20:] = picture(40, 20, seed=1)
    before[:, 20:, 0] = np.random.default_rng(0).integers(0, 255, (40, 20))
    after = before.copy()
    after[:, :20] += 3
    after[:, 20:] += 9
    found = survival.flat_change(before, after)
    assert found == pytest.approx(3)
    assert survival.flat_change(before[:, 22:], after[:, 22:]) is None
