"""Rows with real files behind them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hashshield.types import CodeRow, Evaluation
from tiny_net import encoded, picture


@pytest.fixture
def pair(tmp_path: Path) -> Callable[..., Evaluation]:
    """A row of `evaluate` about two files that exist: a photo, and the same with noise of three levels in a corner."""

    def make(name: str = "a.png", *, height: int = 48, width: int = 64, seed: int = 0, **other: Any) -> Evaluation:
        before = picture(height, width, seed=seed)
        after = before.copy()
        after[-24:, -32:] += np.random.default_rng(seed).integers(0, 4, (24, 32, 3), dtype=np.uint8)
        paths = [tmp_path / folder / name for folder in ("before", "after")]
        for path, pixels in zip(paths, (before, after), strict=True):
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(encoded(pixels))
        plain: dict[str, Any] = {
            "psnr_db": 48.0 + seed / 100,
            "ssim": 0.99,
            "linf_levels": 3,
            "changed_pixels": 0.25,
            "codes": (CodeRow("tiny:16", 16, "card", 8, 0, 0.3),),
        }
        return Evaluation(str(paths[0]), str(paths[1]), "compared", **{**plain, **other})

    return make
