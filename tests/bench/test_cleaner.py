"""The cleaner of `benchmarks/cleaner.py` learns to remove a change, small."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
import torch

from hashshield.models.load import open_models
from tiny_net import write_tiny

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "cleaner.py"


@pytest.mark.long
def test_a_pattern_that_is_always_the_same_is_removed(tmp_path: Path) -> None:
    cleaner = runpy.run_path(str(SCRIPT), run_name="loaded")
    (opened,) = open_models([f"{write_tiny(tmp_path / 'tiny.safetensors')}:24"])
    generator = torch.Generator().manual_seed(0)
    clean = 0.2 + 0.6 * torch.rand(48, 3, 1, 1, generator=generator).expand(-1, -1, 32, 32).contiguous()
    pattern = 8 / 255 * torch.randn(3, 32, 32, generator=generator).sign()
    network = cleaner["trained"](opened, clean[:40] + pattern, clean[:40], steps=300, feature_steps=3, seed=0)
    after = cleaner["cleaned"](network, clean[40:] + pattern)
    assert (after - clean[40:]).abs().mean() < pattern.abs().mean() / 2
    untouched = cleaner["cleaned"](network, clean[40:])
    assert (untouched - clean[40:]).abs().mean() < pattern.abs().mean() / 2
