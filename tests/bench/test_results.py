"""Trials and result files: written whole, found again, and taken up after an interruption."""

from __future__ import annotations

import math
import platform
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench_experiment import Silent, config_for, trials
from hashshield.attacks import version_of
from hashshield.bench.config import BaselineConfig
from hashshield.bench.results import TrialCache, peak_mib, read_result
from hashshield.bench.targeted import run_targeted
from hashshield.bench.untargeted import run_untargeted
from hashshield.errors import UsageError

Rows = list[dict[str, Any]]


class Stops(Silent):
    """A user who interrupts after so many units."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.after = after

    def done(self, outcome: object) -> None:
        super().done(outcome)
        if self.count == self.after:
            raise KeyboardInterrupt


@pytest.mark.parametrize(("bench", "rows"), [(run_targeted, 16), (run_untargeted, 14)])
def test_an_interrupted_bench_is_unfinished_and_goes_on(
    bench: Callable[[BaselineConfig, Silent], Rows], rows: int, folder: Path, tmp_path: Path
) -> None:
    # Data and network of the others, so that only the trials are new.
    few = {"queries": 2, "limit": 4, "anchor": 3}
    config = config_for(folder, kind=BaselineConfig, steps=3, seed=5, **few)
    config = replace(config, output=tmp_path / "out")
    with pytest.raises(KeyboardInterrupt):
        bench(config, Stops(8))
    name = next((tmp_path / "out" / "results").iterdir()).name.removesuffix(".unfinished")
    with pytest.raises(UsageError, match="has begun and not finished; run its command again"):
        read_result(tmp_path / "out" / "results" / name)
    before = trials(config)
    assert before
    assert len(bench(config, Silent())) == rows
    assert before.items() <= trials(config).items(), "what was made stays as it is"
    assert read_result(tmp_path / "out" / "results" / name)["rows"]
    made = trials(config)
    bench(config, Silent())
    assert trials(config) == made


@pytest.mark.parametrize("content", ["", "{", '{"bench": "tau"}', "[]"])
def test_a_damaged_result_is_no_half_table(content: str, tmp_path: Path) -> None:
    path = tmp_path / "tau-tiny.json"
    path.write_text(content)
    with pytest.raises(UsageError, match=r"tau-tiny\.json"):
        read_result(path)
    with pytest.raises(UsageError, match="no such result"):
        read_result(tmp_path / "none.json")


def test_another_version_of_the_search_uses_no_old_trial(tmp_path: Path) -> None:
    cache, pixels = TrialCache(tmp_path), np.zeros((4, 4, 3), np.uint8)
    cache.keep({"photo": "a"}, pixels, {})
    assert cache.trial({"photo": "a"}) is not None
    assert cache.trial({"photo": "a", "search": version_of() + 1}) is None


def test_a_damaged_trial_is_named(tmp_path: Path) -> None:
    cache = TrialCache(tmp_path)
    pixels = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    kept = cache.keep({"a": 1}, pixels, {"steps": 3})
    assert (kept.pixels == pixels).all()
    assert kept.record == {"steps": 3}
    assert cache.trial({"a": 2}) is None
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(UsageError, match=f"{path}: no readable trial"):
        cache.trial({"a": 1})
    cache.keep_table({"t": 1}, code=np.ones((2, 3), np.float32))
    assert cache.table({"t": 1})["code"].tolist() == [[1, 1, 1], [1, 1, 1]]  # type: ignore[index]
    (path,) = tmp_path.glob("*.safetensors")
    path.write_bytes(b"no table")
    with pytest.raises(UsageError, match="no readable table"):
        cache.table({"t": 1})


def test_memory_is_measured_or_not_known_where_python_has_no_resource_module(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows has none; at first the bench failed there."""
    assert peak_mib() > 10
    monkeypatch.setattr(platform, "system", lambda: "Windows")
    monkeypatch.setitem(sys.modules, "resource", None)
    assert math.isnan(peak_mib())
