"""Every method on the same photos, small."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bench_experiment import Silent
from hashshield.bench import methods
from hashshield.bench.config import MethodsConfig
from hashshield.errors import UnknownNameError


def test_methods_can_be_run_one_by_one(model: str, classes: Path, silent: Silent) -> None:
    def rows(*only: str) -> list[dict[str, Any]]:
        config = MethodsConfig(model=model, data=classes, photos=2, baseline_photos=2, limit=3, only=only, device="cpu")
        return methods.run_methods(config, silent)

    assert [row["method"] for row in rows("hag")] == ["hag, own rule", "hag, minimum norm, 40 steps"]
    with pytest.raises(UnknownNameError, match="unknown method 'gah'; known are rnm"):
        rows("rnm", "gah")


@pytest.mark.long
def test_methods_censor_what_is_not_reached(model: str, classes: Path, silent: Silent) -> None:
    config = MethodsConfig(model=model, data=classes, photos=3, baseline_photos=2, limit=5, device="cpu")
    rows = methods.run_methods(config, silent)
    assert len(rows) == 3 + 2 * len(methods.BASELINES)
    for row in rows:
        assert 0 <= row["distance_0_written"] <= 1
        steps = row["steps_to_goal_95"]
        assert steps == f"> {row['limit']}" or 0 <= steps <= row["limit"]
    assert silent.count == silent.total
