"""The cost of a photo's size. That of workers is measured in `tests/fleet/test_scale.py`."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench_experiment import Silent
from hashshield.bench.config import SizeConfig
from hashshield.bench.scaling import run_size
from hashshield.errors import UsageError
from tiny_net import encoded, picture


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
