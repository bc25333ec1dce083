from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hashshield.attacks.masking import masking


def half_textured(height: int, width: int) -> np.ndarray:
    pixels = np.full((height, width, 3), 120, np.uint8)
    noise = np.random.default_rng(0).integers(60, 180, (height, width // 2, 1))
    pixels[:, width // 2 :] = noise.astype(np.uint8)
    return pixels


@pytest.mark.parametrize("times", [1, 4])
def test_texture_hides_more_than_flat_parts_at_any_size(times: int) -> None:
    """Also texture finer than the grid, of which the grid itself shows nothing."""
    found = masking(half_textured(64 * times, 96 * times), 64, 96)[0]
    assert found.shape == (64, 96)
    flat, textured = found[:, :40], found[:, 56:]
    assert float(flat.max()) < 0.42
    assert float(textured.min()) > 0.65


def test_beside_an_edge_flat_parts_stay_flat() -> None:
    pixels = np.full((60, 80, 3), 40, np.uint8)
    pixels[:, 40:] = 220
    found = masking(pixels, 60, 80)[0]
    assert float(found[:, :36].max()) < 0.42
    assert float(found[:, 44:].max()) < 0.42


@settings(max_examples=30, deadline=None)
@given(st.integers(16, 90), st.integers(16, 90), st.integers(0, 5))
def test_it_is_a_share_everywhere(height: int, width: int, seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)
    found = masking(pixels, 16, 16)
    assert found.shape == (1, 16, 16)
    assert float(found.min()) > 0
    assert float(found.max()) <= 1
