from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hashshield.attacks.masking import FINE_GRAIN, MIDDLE_GRAIN, PerceptualMask, Spectrum, perceptual_mask


def half_textured(height: int, width: int) -> np.ndarray:
    pixels = np.full((height, width, 3), 120, np.uint8)
    noise = np.random.default_rng(0).integers(60, 180, (height, width // 2, 1))
    pixels[:, width // 2 :] = noise.astype(np.uint8)
    return pixels


@pytest.mark.parametrize("times", [1, 4])
def test_texture_hides_more_than_flat_parts_at_any_size(times: int) -> None:
    """Also texture finer than the grid, of which the grid itself shows nothing."""
    found = perceptual_mask(half_textured(64 * times, 96 * times), 64, 96).share[0]
    assert found.shape == (64, 96)
    flat, textured = found[:, :40], found[:, 56:]
    assert float(flat.max()) < 0.17
    assert float(textured.min()) > 0.55


def test_beside_an_edge_flat_parts_stay_flat() -> None:
    pixels = np.full((60, 80, 3), 40, np.uint8)
    pixels[:, 40:] = 220
    found = perceptual_mask(pixels, 60, 80).share[0]
    assert float(found[:, :36].max()) < 0.17
    assert float(found[:, 44:].max()) < 0.17


@settings(max_examples=30, deadline=None)
@given(st.integers(16, 90), st.integers(16, 90), st.integers(0, 5))
def test_it_is_a_share_everywhere(height: int, width: int, seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)
    found = perceptual_mask(pixels, 16, 16).share
    assert found.shape == (1, 16, 16)
    assert float(found.min()) > 0
    assert float(found.max()) <= 1


def test_weight_and_unweight_undo_each_other() -> None:
    found = perceptual_mask(half_textured(64, 96), 64, 96)
    change = torch.randn(3, 64, 96, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(found.unweight(found.weight(change)), change)
    assert float(found.weight(change)[:, :, :40].abs().mean()) > 3 * float(found.weight(change)[:, :, 56:].abs().mean())


HELD_COLOUR = Spectrum(luma=(1.0, 0.0), colour=(0.0, 0.4))
"""Colour is smoothed and held back, luma is left alone."""


def test_light_passes_and_colour_is_held_back() -> None:
    """By luma: what a change in each direction does to it is the same before and after."""
    found = perceptual_mask(half_textured(64, 96), 64, 96, HELD_COLOUR)
    gradient = torch.randn(3, 64, 96, generator=torch.Generator().manual_seed(1))
    toned = found.condition(gradient)
    weights = torch.tensor([0.299, 0.587, 0.114])[:, None, None]
    torch.testing.assert_close((weights * toned).sum(0), (weights * gradient).sum(0), atol=1e-5, rtol=1e-5)
    light = weights / weights.square().sum().sqrt()
    colour = [plane - light * (light * plane).sum(0) for plane in (gradient, toned)]
    assert float(colour[1].norm()) < 0.4 * float(colour[0].norm())


def test_even_colour_is_held_back_and_not_smoothed_away() -> None:
    found = perceptual_mask(half_textured(64, 96), 64, 96, HELD_COLOUR)
    red = torch.tensor([1.0, -0.299 / 0.587, 0.0])[:, None, None].expand(3, 64, 96)
    torch.testing.assert_close(found.condition(red), 0.4 * red)


def test_a_single_channel_has_no_colour() -> None:
    found = perceptual_mask(half_textured(64, 96), 64, 96)
    gradient = torch.randn(1, 64, 96, generator=torch.Generator().manual_seed(2))
    assert torch.equal(found.condition(gradient), gradient)


@pytest.mark.parametrize("spectrum", [s for s in (*FINE_GRAIN, *MIDDLE_GRAIN) if s is not None])
def test_grain_takes_even_luma_out_and_leaves_checks(spectrum: Spectrum) -> None:
    mask = PerceptualMask(torch.ones(1, 32, 32), spectrum)
    even = torch.ones(1, 32, 32)
    checks = (torch.arange(32)[:, None] + torch.arange(32)) % 2 * 2.0 - 1
    inside = slice(8, 24)  # edges are repeated, where checks meet themselves
    coarse = mask.condition(even)[0, inside, inside].abs().mean()
    fine = mask.condition(checks[None])[0, inside, inside].abs().mean()
    assert float(coarse) == pytest.approx(1 + spectrum.luma[1], abs=1e-5)
    assert float(fine) > 0.99


def test_colour_of_a_lossy_format_is_smoother_than_of_a_lossless_one() -> None:
    gradient = torch.randn(3, 64, 96, generator=torch.Generator().manual_seed(3))

    def roughness(spectrum: Spectrum) -> float:
        only_colour = PerceptualMask(torch.ones(1, 64, 96), Spectrum((0.0, 0.0), spectrum.colour))
        shaped = only_colour.condition(gradient)
        return float(shaped.diff(dim=2).norm() / shaped.norm())

    assert roughness(FINE_GRAIN.lossy) < 0.95 * roughness(FINE_GRAIN.lossless)


def test_what_is_enlarged_has_a_spectrum_of_its_own_where_there_is_one() -> None:
    assert MIDDLE_GRAIN.of(lossless=True, enlarged=True) is MIDDLE_GRAIN.enlarged
    assert MIDDLE_GRAIN.of(lossless=True, enlarged=False) is MIDDLE_GRAIN.lossless
    assert FINE_GRAIN.of(lossless=False, enlarged=True) is FINE_GRAIN.lossy
