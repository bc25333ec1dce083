"""Table 3 and figure 3 of the paper, small."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from bench_experiment import SMALL, Silent, config_for
from hashshield.bench import untargeted
from hashshield.bench.config import BaselineConfig, TraditionalConfig


def test_untargeted_asks_in_every_way(folder: Path) -> None:
    config = config_for(folder, kind=BaselineConfig, queries=2, baseline_queries=1, **SMALL)
    progress = Silent()
    rows = untargeted.run_untargeted(config, progress)
    assert progress.count == progress.total
    names = [row["method"] for row in rows]
    assert names[:2] == ["original", "noise"]
    assert names[-4:] == ["saat's goal, rnm", "away", "opposite", "decoy"]
    for row in rows:
        for way in ("complement", "predicted_flip", "real_valued", "jpeg_q75", "blur"):
            assert row["map_lowest"] - 1e-4 <= row[f"map_{way}"] <= 1
    by_name = {row["method"]: row for row in rows}
    assert by_name["original"]["mean_distance_from_original"] == 0
    assert by_name["opposite"]["mean_distance_from_original"] > by_name["noise"]["mean_distance_from_original"]
    # Figures for the photos of the published methods alone, to compare theirs with.
    assert "median_psnr_db_on_rival_photos" in by_name["away"]
    assert "median_psnr_db_on_rival_photos" not in by_name["hag"]


def test_traditional_matches_the_papers_psnrs(folder: Path) -> None:
    config, progress = config_for(folder, kind=TraditionalConfig, queries=2, steps=5, taus=(0.01, 0.03)), Silent()
    rows = untargeted.run_traditional(config, progress)
    assert progress.count == progress.total
    names = ["original", "mosaic", "brightness", "transparency", "noise", "away, tau 0.01", "away, tau 0.03"]
    assert [row["change"] for row in rows] == names
    by_name = {row["change"]: row for row in rows}
    for name, config_db in (("brightness", 13.02), ("transparency", 18.28), ("noise", 24.53)):
        assert by_name[name]["median_psnr_db"] == pytest.approx(config_db, abs=0.15)
    assert by_name["away, tau 0.01"]["largest_levels"] <= 2
    assert by_name["away, tau 0.03"]["largest_levels"] <= 7
    with Image.open(config.output / "plots" / "traditional-tiny.png") as picture:
        assert picture.width > 3 * 200
