"""The time of the search and of a whole run, small."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench_experiment import Silent
from hashshield.bench.config import SpeedConfig
from hashshield.bench.speed import run_speed
from hashshield.errors import UsageError
from tiny_net import picture


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
