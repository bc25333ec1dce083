"""Table 3 and figure 3 of the paper, small."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest
from PIL import Image

from bench_experiment import SMALL, Silent, config_for
from hashshield.bench import untargeted
from hashshield.bench.config import BaselineConfig, TraditionalConfig


def test_untargeted_asks_in_every_way(folder: Path) -> None:
    config = config_for(folder, kind=BaselineConfig, queries=2, **SMALL)
    progress = Silent()
    rows = untargeted.run_untargeted(config, progress)
    assert progress.count == progress.total
    names = [row["method"] for row in rows]
    assert names[:2] == ["original", "noise"]
    protected = product(("invisible", "balanced"), ("away", "opposite", "decoy"))
    assert names[-7:] == ["saat's goal, rnm", *(f"protect, {preset}, {goal}" for preset, goal in protected)]
    assert {row["photos"] for row in rows} == {2}
    for row in rows:
        for way in ("complement", "predicted_flip", "real_valued", "jpeg_q75", "blur"):
            assert row["map_lowest"] - 1e-4 <= row[f"map_{way}"] <= 1
    by_name = {row["method"]: row for row in rows}
    assert by_name["original"]["mean_distance_from_original"] == 0
    opposite, noise = by_name["protect, invisible, opposite"], by_name["noise"]
    assert opposite["mean_distance_from_original"] > noise["mean_distance_from_original"]


def test_traditional_matches_the_papers_psnrs(folder: Path) -> None:
    config, progress = (
        config_for(folder, kind=TraditionalConfig, queries=2, steps=5, taus=(0.01, 0.03), **SMALL),
        Silent(),
    )
    rows = untargeted.run_traditional(config, progress)
    assert progress.count == progress.total
    names = ["original", "mosaic", "brightness", "transparency", "noise"]
    names += [f"{method}, tau {tau}" for method in ("rnm-paper", "away") for tau in (0.01, 0.03)]
    assert [row["change"] for row in rows] == names
    by_name = {row["change"]: row for row in rows}
    for name, config_db in (("brightness", 13.02), ("transparency", 18.28), ("noise", 24.53)):
        assert by_name[name]["median_psnr_db"] == pytest.approx(config_db, abs=0.15)
    assert by_name["away, tau 0.01"]["largest_levels"] <= 2
    assert by_name["away, tau 0.03"]["largest_levels"] <= 7
    with Image.open(config.output / "plots" / "traditional-tiny.png") as picture:
        assert picture.width > 3 * 200
