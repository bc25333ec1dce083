from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from hashshield.attacks import grid
from hashshield.attacks.grid import apply_perturbation, levels_of, uniform_noise
from hashshield.imaging import to_display_orientation, to_stored_orientation
from tiny_net import picture


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def levels(pixels: NDArray[np.uint8], result: NDArray[np.uint8]) -> NDArray[np.int64]:
    return result.astype(np.int64) - pixels


def change(shape: tuple[int, ...], size: float, seed: int = 1) -> torch.Tensor:
    return (torch.rand(shape, generator=seeded(seed)) * 2 - 1) * size


@pytest.mark.parametrize(("tau", "whole"), [(0.032, 8), (1 / 255, 1), (8 / 255, 8), (0.0313, 7), (1.0, 255), (0.02, 5)])
def test_whole_levels_of_tau(tau: float, whole: int) -> None:
    assert levels_of(tau) == whole


@given(st.integers(1, 255))
def test_a_tau_of_whole_levels_allows_all_of_them(whole: int) -> None:
    assert levels_of(whole / 255) == whole


@settings(max_examples=80, deadline=None)
@given(st.floats(1 / 255, 0.5), st.floats(0, 1.0), st.sampled_from([1, 3]), st.integers(0, 1000))
def test_no_level_is_above_tau(tau: float, size: float, channels: int, seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (40, 37, channels), dtype=np.uint8)
    delta = change((channels, 13, 12), size, seed)
    result = apply_perturbation(pixels, delta, tau=tau, orientation=1, generator=seeded(seed))
    assert np.abs(levels(pixels, result)).max() <= math.floor(tau * 255 + 1e-9)


def test_no_level_is_above_tau_in_a_large_saturated_photo() -> None:
    """In float32 8 + 0.99999995 is 9: once in two million draws, so often in every large photo."""
    pixels = np.full((2400, 1600, 3), 100, np.uint8)
    for sign in (1, -1):
        result = apply_perturbation(
            pixels, torch.full((3, 4, 4), 0.5 * sign), tau=0.032, orientation=1, generator=seeded()
        )
        found = levels(pixels, result)
        assert np.abs(found).max() == 8
        assert np.mean(found == 8 * sign) > 0.999999


@pytest.mark.parametrize("shape", [(20, 30), (97, 131)])
def test_numbers_drawn_once_serve_again(shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grid, "_STRIP_VALUES", 131 * 3 * 40)
    pixels = picture(*shape)
    drawn: dict[int, torch.Tensor] = {}
    for seed in (1, 2):
        delta = change((3, 20, 30), 0.03, seed)
        plain = apply_perturbation(pixels, delta, tau=0.032, orientation=1, generator=seeded())
        kept = apply_perturbation(pixels, delta, tau=0.032, orientation=1, generator=seeded(), noise_cache=drawn)
        assert np.array_equal(plain, kept)
    assert sum(len(noise[0]) for noise in drawn.values()) == shape[0]


def test_upsampling_is_bilinear() -> None:
    """Held against torch's own interpolation, which is slower: without rounding noise the levels are its floor."""
    delta = change((3, 13, 12), 8 / 255)
    pixels = np.full((40, 37, 3), 100, np.uint8)
    wide = torch.nn.functional.interpolate(delta[None] * 255, (40, 37), mode="bilinear", align_corners=False)[0]
    zeros = {0: torch.zeros(3, 40, 37)}
    found = levels(
        pixels, apply_perturbation(pixels, delta, tau=0.05, orientation=1, generator=seeded(), noise_cache=zeros)
    )
    expected = wide.permute(1, 2, 0).numpy()
    assert np.abs(found - np.floor(expected)).max() <= 1
    assert np.mean(found != np.floor(expected)) < 0.001


@pytest.mark.parametrize("value", [0.1, 0.37, 0.5, 2.25, 7.9, -0.1, -0.5, -3.3, -7.9])
def test_rounding_keeps_the_mean(value: float) -> None:
    pixels = np.full((300, 400, 3), 100, np.uint8)
    result = apply_perturbation(
        pixels, torch.full((3, 2, 2), value / 255), tau=0.032, orientation=1, generator=seeded()
    )
    found = levels(pixels, result)
    assert set(np.unique(found)) == {math.floor(value), math.ceil(value)}
    share = value - math.floor(value)
    assert found.mean() == pytest.approx(value, abs=5 * math.sqrt(share * (1 - share) / found.size))


@pytest.mark.parametrize("channels", [1, 3])
def test_the_size_of_the_parts_changes_nothing(channels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels, delta = picture(90, 70, channels=channels), change((channels, 30, 24), 0.02)
    opaque = np.tile(np.array([0, 255], np.uint8), (90, 35))
    results = []
    for size in (1, 700, 10**6):
        monkeypatch.setattr(grid, "_CACHED_VALUES", size)
        results.append(apply_perturbation(pixels, delta, tau=0.032, orientation=1, generator=seeded(), alpha=opaque))
    assert all(np.array_equal(results[0], other) for other in results[1:])


def test_no_change_changes_nothing() -> None:
    pixels = picture(50, 70)
    result = apply_perturbation(pixels, torch.zeros(3, 20, 28), tau=0.032, orientation=1, generator=seeded())
    assert np.array_equal(result, pixels)


def test_pixels_stay_in_range() -> None:
    pixels = np.zeros((20, 20, 3), np.uint8)
    pixels[10:] = 255
    for sign in (1, -1):
        result = levels(
            pixels,
            apply_perturbation(pixels, torch.full((3, 5, 5), float(sign)), tau=0.1, orientation=1, generator=seeded()),
        )
        assert np.abs(result).max() == 25
        assert (result[:10] >= 0).all()
        assert (result[10:] <= 0).all()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("channels", [1, 3])
def test_a_change_lands_where_the_viewer_sees_it(orientation: int, channels: int) -> None:
    seen = picture(60, 90, channels=channels)
    # Whole levels and a grid of the photo's size: the rounding has nothing to decide.
    wanted = np.random.default_rng(3).integers(-8, 9, (60, 90, channels))
    delta = torch.from_numpy(wanted.astype(np.float32) / 255).permute(2, 0, 1)
    kept = np.ascontiguousarray(to_stored_orientation(seen, orientation))
    # 1e-4 of a level: float32 may leave a whole level a hair short.
    result = apply_perturbation(kept, delta + 1e-4 / 255, tau=0.032, orientation=orientation, generator=seeded())
    displayed = to_display_orientation(result, orientation).astype(int) - seen
    assert np.mean(displayed != wanted) < 0.001
    assert result.shape == kept.shape


@pytest.mark.parametrize("orientation", range(1, 9))
def test_upsampling_follows_the_orientation(orientation: int) -> None:
    seen = np.full((120, 200, 3), 100, np.uint8)
    delta = change((3, 12, 20), 0.03)
    straight = apply_perturbation(seen, delta, tau=0.032, orientation=1, generator=seeded())
    turned = apply_perturbation(
        np.ascontiguousarray(to_stored_orientation(seen, orientation)),
        delta,
        tau=0.032,
        orientation=orientation,
        generator=seeded(),
    )
    back = to_display_orientation(turned, orientation).astype(int)
    assert np.abs(back - straight).max() <= 1, "the same but for the dice"
    assert abs((back - straight).mean()) < 0.02


def test_transparent_pixels_keep_their_values() -> None:
    pixels = picture(40, 50)
    opaque = np.zeros((40, 50), np.uint8)
    opaque[:, 25:] = 1
    result = apply_perturbation(
        pixels, torch.full((3, 4, 5), 0.03), tau=0.032, orientation=1, generator=seeded(), alpha=opaque
    )
    found = levels(pixels, result)
    assert (found[:, :25] == 0).all()
    assert (found[:, 25:] >= 7).all()


@pytest.mark.parametrize("values", [1, 700, 5000])
def test_strips_agree_with_one_strip(values: int, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = picture(97, 61)
    opaque = (np.random.default_rng(0).random((97, 61)) * 3).astype(np.uint8)
    # Whole levels, so that the dice, which are thrown strip by strip, decide nothing.
    delta = torch.full((3, 10, 7), 5.0001 / 255)
    delta[:, 5:] = -2.9999 / 255
    noise_free = {"tau": 0.032, "orientation": 1, "alpha": opaque}
    whole = apply_perturbation(pixels, delta, generator=seeded(), **noise_free)  # type: ignore[arg-type]
    monkeypatch.setattr(grid, "_STRIP_VALUES", values)
    parts = apply_perturbation(pixels, delta, generator=seeded(), **noise_free)  # type: ignore[arg-type]
    difference = np.abs(levels(whole, parts))
    assert difference.max() <= 1
    # Rows between the two plateaus are fractional; elsewhere nothing may differ.
    rows = np.flatnonzero(difference.any(axis=(1, 2)))
    assert len(rows) == 0 or (rows.min() >= 40 and rows.max() <= 56)


def test_a_seed_fixes_the_result() -> None:
    pixels, delta = picture(50, 60), change((3, 20, 24), 0.03)
    one, again, other = (
        apply_perturbation(pixels, delta, tau=0.032, orientation=1, generator=seeded(seed)) for seed in (0, 0, 1)
    )
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)


@pytest.mark.parametrize("tau", [1 / 255, 0.032, 0.5])
def test_uniform_noise_is_within_tau(tau: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grid, "_STRIP_VALUES", 5000)
    pixels = np.full((100, 80, 3), 128, np.uint8)
    opaque = np.ones((100, 80), np.uint8)
    opaque[:50] = 0
    found = levels(pixels, uniform_noise(pixels, tau=tau, generator=seeded(), alpha=opaque))
    assert (found[:50] == 0).all()
    assert np.abs(found).max() == levels_of(tau)
    assert found[50:].mean() == pytest.approx(0, abs=5 * tau * 255 / math.sqrt(12000))
