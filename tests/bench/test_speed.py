"""The time of the search and of a whole run, small."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench_experiment import Silent
from hashshield.bench.config import SizeConfig, SpeedConfig
from hashshield.bench.speed import run_size, run_speed
from hashshield.errors import UsageError
from tiny_net import encoded, picture


@pytest.mark.long
def test_speed_counts_every_photo(model: str, tmp_path: Path, silent: Silent) -> None:
    for index in range(3):
        Image.fromarray(np.asarray(picture(seed=index))).save(tmp_path / f"{index}.png")
    (row,) = run_speed(SpeedConfig(model=model, photos=tmp_path, batch_size=2, rounds=2, device="cpu"), silent)
    assert row["photos"] == 3
    assert row["loop_over_floor"] > 0
    assert row["evaluations"] >= row["steps"] > 0
    assert row["median_evaluations"] > 0
    for stage in ("attack", "decode", "grid", "finish", "encode", "receipt", "ledger"):
        assert row[f"{stage}_seconds"] > 0, stage


def test_speed_of_an_empty_folder_says_so(model: str, tmp_path: Path, silent: Silent) -> None:
    with pytest.raises(UsageError, match="no photos"):
        run_speed(SpeedConfig(model=model, photos=tmp_path, device="cpu"), silent)


@pytest.mark.long
def test_size_measures_each_in_a_process_of_its_own(model: str, tmp_path: Path, silent: Silent) -> None:
    (tmp_path / "a.png").write_bytes(encoded(picture(60, 90, seed=10)))
    config = SizeConfig(model=model, photo=tmp_path / "a.png", megapixels=(0.02, 0.05), device="cpu")
    rows = run_size(config, silent)
    assert [row["megapixels"] for row in rows] == [0.02, 0.05]
    assert rows[0]["more_than_first_seconds"] == 0.0
    for row in rows:
        parts = ("decode", "finish", "encode", "receipt")
        assert row["without_ssim_seconds"] == pytest.approx(sum(row[f"{name}_seconds"] for name in parts), abs=0.01)
        assert row["ssim_seconds"] > 0
        assert row["peak_memory_mib"] > 100
        assert row["status"] in ("protected", "short")
    assert silent.count == silent.total == 4


@pytest.mark.parametrize("content", [None, b"no photo"])
def test_an_unusable_photo_is_named(content: bytes | None, model: str, tmp_path: Path, silent: Silent) -> None:
    if content is not None:
        (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(UsageError, match=r"a\.jpg"):
        run_size(SizeConfig(model=model, photo=tmp_path / "a.jpg"), silent)
