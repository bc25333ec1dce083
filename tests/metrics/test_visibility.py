"""The visibility of a change: what any such number must do, and how near it comes to butteraugli."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter
from scipy.stats import spearmanr

from hashshield.metrics import visibility as module
from hashshield.metrics.visibility import LEVELS, features, pooled, visibility, visible_map
from hashshield.visible import MOST, WORDS, ceiling_of, word

Picture = NDArray[np.uint8]

BUTTERAUGLI = {
    "flat, noise 2": 1.224,
    "flat, noise 5": 2.746,
    "flat, wave": 6.353,
    "flat, red against green": 1.996,
    "flat, blue": 1.027,
    "grain, noise 2": 0.458,
    "grain, noise 5": 1.189,
    "grain, wave": 3.300,
    "grain, red against green": 0.607,
    "grain, blue": 0.259,
    "rough, noise 2": 0.240,
    "rough, noise 5": 0.642,
    "rough, wave": 1.999,
    "rough, red against green": 0.559,
    "rough, blue": 0.220,
    "dark, noise 2": 0.886,
    "dark, noise 5": 2.064,
    "dark, wave": 3.449,
    "dark, red against green": 0.831,
    "dark, blue": 0.464,
    "rough, jpeg 60": 1.346,
    "rough, jpeg 90": 0.616,
    "rough, blur": 1.255,
}
"""3-norm of butteraugli_main of libjxl 0.7 for each of `cases`."""


def textured(height: int = 96, width: int = 128, *, contrast: float = 40.0, seed: int = 0) -> Picture:
    """A picture of grain in three sizes around a middle grey that leans to one colour."""
    rng = np.random.default_rng(seed)
    grain = sum(gaussian_filter(rng.normal(0, 1, (height, width)), sigma) * sigma for sigma in (0.7, 1.5, 3.0))
    levels = np.array([140, 125, 110]) + contrast * np.asarray(grain)[..., None] / np.std(grain)
    return clipped(levels)


def clipped(levels: NDArray[np.floating]) -> Picture:
    return np.clip(np.rint(levels), 0, 255).astype(np.uint8)


def noisy(pixels: Picture, size: float, *, seed: int = 1, grey: bool = False) -> Picture:
    channels = 1 if grey else pixels.shape[2]
    return clipped(pixels + np.random.default_rng(seed).normal(0, size, (*pixels.shape[:2], channels)))


def flat(level: int = 128, height: int = 96, width: int = 128) -> Picture:
    return np.full((height, width, 3), level, np.uint8)


def grating(size: float, period: float, colour: tuple[float, float, float]) -> NDArray[np.float64]:
    """A wave across the columns, of that many levels to either side."""
    wave = np.sin(2 * np.pi * np.arange(128) / period)
    return np.broadcast_to(size * wave[None, :, None] * np.array(colour), (96, 128, 3))


def cases() -> Iterator[tuple[str, Picture, Picture]]:
    ground = {"flat": flat(), "grain": textured(contrast=12), "rough": textured(contrast=45), "dark": flat(25)}
    for name, before in ground.items():
        for size in (2, 5):
            yield f"{name}, noise {size}", before, noisy(before, size)
        yield f"{name}, wave", before, clipped(before + grating(6, 16, (1, 1, 1)))
        yield f"{name}, red against green", before, clipped(before + grating(6, 24, (1, -0.5, 0)))
        yield f"{name}, blue", before, clipped(before + grating(6, 24, (0, 0, 1)))
    for quality in (60, 90):
        out = io.BytesIO()
        Image.fromarray(ground["rough"]).save(out, "JPEG", quality=quality)
        yield f"rough, jpeg {quality}", ground["rough"], np.asarray(Image.open(out))
    yield "rough, blur", ground["rough"], clipped(gaussian_filter(ground["rough"].astype(float), (0.6, 0.6, 0)))


def test_it_reads_like_butteraugli() -> None:
    found = {name: visibility(before, after) for name, before, after in cases()}
    assert found.keys() == BUTTERAUGLI.keys()
    ratios = {name: found[name] / expected for name, expected in BUTTERAUGLI.items()}
    assert spearmanr(list(found.values()), list(BUTTERAUGLI.values()))[0] >= 0.9
    assert 0.8 <= float(np.median(list(ratios.values()))) <= 1.25
    assert {name: ratio for name, ratio in ratios.items() if not 0.5 <= ratio <= 2} == {}


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 70), st.integers(1, 70), st.sampled_from([1, 3]), st.integers(0, 1000))
def test_equal_pictures_of_any_size_are_at_zero_and_others_above(h: int, w: int, channels: int, seed: int) -> None:
    one = np.random.default_rng(seed).integers(0, 256, (h, w, channels), dtype=np.uint8)
    assert visibility(one, one.copy()) == 0.0
    other = one ^ np.uint8(255)
    assert 0 < visibility(one, other) < math.inf


def test_more_of_a_change_is_seen_more() -> None:
    for before in (flat(), textured()):
        direction = np.random.default_rng(3).normal(0, 1, before.shape)
        values = [visibility(before, clipped(before + size * direction)) for size in (1, 2, 4, 8, 16)]
        assert values == sorted(values)
        assert values[-1] > 4 * values[0]


@pytest.mark.parametrize("size", [2, 4, 8])
def test_texture_hides_what_flat_ground_shows(size: int) -> None:
    grounds = [textured(contrast=contrast) for contrast in (0.0, 8.0, 25.0, 45.0)]
    values = [visibility(ground, noisy(ground, size, grey=True)) for ground in grounds]
    assert values == sorted(values, reverse=True)
    assert values[0] > 2 * values[-1]


def test_flat_ground_beside_texture_stays_flat() -> None:
    """Half of the picture is rough: noise on the other half is seen as if all of it were flat."""
    half = flat(128, 96, 256)
    half[:, 128:] = textured(contrast=45)
    noise = np.zeros((96, 256, 1))
    noise[:, :112] = np.random.default_rng(2).normal(0, 4, (96, 112, 1))
    beside_rough, beside_flat = (visibility(ground, clipped(ground + noise)) for ground in (half, flat(128, 96, 256)))
    assert beside_rough == pytest.approx(beside_flat, rel=0.05)


def test_a_small_spot_counts_more_than_its_share() -> None:
    before = flat(128, 256, 256)
    spot = before.copy()
    spot[100:116, 100:116] = noisy(before, 20)[100:116, 100:116]
    everywhere = visibility(before, noisy(before, 20))
    assert everywhere / 5 < visibility(before, spot) < everywhere


def test_blue_is_seen_less_than_green_and_fine_colour_less_than_coarse() -> None:
    def of(period: float, colour: tuple[float, float, float]) -> float:
        return visibility(flat(), clipped(flat() + grating(8, period, colour)))

    assert of(24, (0, 0, 1)) < of(24, (0, 1, 0))
    assert of(4, (0, 0, 1)) < of(24, (0, 0, 1))
    assert of(24, (1, -0.3, 0)) > of(24, (0, 0, 1))


def test_grey_counts_as_the_same_in_three_channels() -> None:
    one = textured(seed=4)[..., :1]
    other = noisy(one, 3)
    assert visibility(one, other) == pytest.approx(visibility(one.repeat(3, 2), other.repeat(3, 2)), rel=1e-4)


def test_mirroring_and_turning_change_little() -> None:
    before = textured(96, 96)
    after = noisy(before, 4)
    value = visibility(before, after)
    for rows, columns in ((-1, 1), (1, -1)):
        assert visibility(before[::rows, ::columns], after[::rows, ::columns]) == pytest.approx(value, rel=0.05)
    assert visibility(before.transpose(1, 0, 2), after.transpose(1, 0, 2)) == pytest.approx(value, rel=1e-3)


@pytest.mark.parametrize(("height", "width"), [(96, 128), (131, 257), (33, 400)])
def test_tiles_agree_with_the_whole(height: int, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    before = textured(height, width, seed=5)
    after = noisy(before, 3)
    after[: height // 3] = before[: height // 3]  # so that some tiles are equal
    whole = visibility(before, after)
    assert whole == pytest.approx(float(pooled(visible_map(features(before, after), module.FITTED))), rel=1e-4)
    monkeypatch.setattr(module, "_TILE", 64)
    assert visibility(before, after) == pytest.approx(whole, rel=1e-3)


def test_a_tile_reaches_as_far_as_the_filters() -> None:
    assert module._TILE % 2 ** (LEVELS - 1) == module._HALO % 2 ** (LEVELS - 1) == 0
    before = flat(128, 256, 256)
    after = before.copy()
    after[:, :128] = noisy(before, 30)[:, :128]
    plane = visible_map(features(before, after), module.FITTED)
    beyond = (128 + module._HALO) // 2
    assert float(plane[:, beyond:].max()) < 1e-3 * float(plane.max())


def test_read_only_and_strided_pixels_are_taken() -> None:
    before = textured()
    after = noisy(before, 3)
    value = visibility(before, after)
    before.flags.writeable = False
    wide = np.zeros((96, 256, 3), np.uint8)
    wide[:, ::2] = after
    assert visibility(before, wide[:, ::2]) == value


@pytest.mark.parametrize(
    ("one", "other"),
    [((4, 4, 3), (4, 5, 3)), ((4, 4, 2), (4, 4, 2)), ((4, 4), (4, 4)), ((0, 4, 3), (0, 4, 3))],
)
def test_what_is_no_pair_of_pictures_is_refused(one: tuple[int, ...], other: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="pictures of one size"):
        visibility(np.zeros(one, np.uint8), np.zeros(other, np.uint8))


def test_words_cover_all_values_in_order() -> None:
    assert [word(value) for value in (0.0, 0.35, 0.36, 0.9, 1.0, 2.0, 2.01, 30.0, math.inf)] == [
        *("none", "none", "faint", "faint", "some", "some", "obvious", "obvious", "obvious"),
    ]
    assert list(WORDS.values()) == sorted(WORDS.values())
    assert ceiling_of("faint") == WORDS["faint"]
    assert ceiling_of(1.25) == 1.25
    assert ceiling_of("obvious") > MOST
