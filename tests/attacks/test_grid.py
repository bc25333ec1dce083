"""The grid of a photo, and the bands that its round trip is made of."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from hashshield.attacks.grid import (
    MOST_PIXELS,
    SHORT_SIDE,
    Band,
    _long_round_trip,
    _round_trip,
    grid_size,
    make_grid,
    resampled,
)
from hashshield.transforms import resized, short_side, to_image
from tiny_net import picture


def smooth(shape: tuple[int, ...], size: float, seed: int = 0) -> torch.Tensor:
    return (torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1) * size


@pytest.mark.parametrize(("height", "width"), [(600, 451), (301, 700), (1030, 257)])
def test_a_change_comes_back_through_the_full_photo(height: int, width: int) -> None:
    grid = make_grid(picture(height, width))
    assert min(grid.image.shape[1:]) == SHORT_SIDE
    delta = smooth(tuple(grid.start().shape), 0.03)
    full = interpolate(delta[None], (height, width), mode="bilinear", align_corners=False)
    back = interpolate(full, grid.image.shape[1:], mode="bilinear", align_corners=False, antialias=True)[0]
    assert torch.allclose(grid.changed(delta)[0] - grid.image, back, atol=1e-5)


def test_a_real_photo_is_seen_as_pillow_would_see_it_protected(data: Path) -> None:
    """The grid's promise, on pixels: change the full photo, let Pillow reduce it, compare with the grid."""
    image = Image.open(data / "sunflower.jpg").convert("RGB")
    pixels = np.asarray(image.resize((image.width * 3, image.height * 3), Image.Resampling.BICUBIC)).clip(20, 235)
    grid = make_grid(pixels)
    height, width = pixels.shape[:2]
    delta = smooth((3, *grid.image.shape[1:]), 0.05)
    full = interpolate(delta[None], (height, width), mode="bilinear", align_corners=False)[0]
    changed = pixels + 255 * full.permute(1, 2, 0).numpy()
    seen = to_image(resized(np.rint(changed).astype(np.uint8), *grid.image.shape[1:]))
    difference = (grid.changed(delta)[0] - seen).abs()
    assert float(difference.max()) <= 2 / 255
    assert float(difference.mean()) <= 0.5 / 255


def test_a_small_photo_is_its_own_grid() -> None:
    pixels = picture(200, 260)
    grid = make_grid(pixels)
    assert grid.rows is None
    assert grid.columns is None
    assert torch.equal(grid.image, to_image(pixels))
    delta = smooth((3, 200, 260), 0.02)
    assert torch.equal(grid.changed(delta)[0], grid.image + delta)


@pytest.mark.parametrize(("short", "on_grid"), [(256, 256), (400, 400), (512, 512), (513, 256), (2000, 256)])
def test_a_photo_of_few_pixels_may_be_searched_at_its_own_size(short: int, on_grid: int) -> None:
    assert min(grid_size(short, short + 40, own_pixels=512)) == on_grid
    assert min(grid_size(short + 40, short)) == 256


@settings(max_examples=30, deadline=None)
@given(
    st.sampled_from([1, 3]),
    st.floats(1 / 255, 1.0),
    st.floats(1e-3, 3),
    st.integers(0, 1000),
    st.sampled_from([0, 255, 9]),
)
def test_projection_stays_within_tau_and_the_range_of_pixels(
    channels: int, tau: float, size: float, seed: int, shade: int
) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (33, 34, 3), dtype=np.uint8)
    pixels[:9] = shade
    if channels == 1:
        pixels[...] = pixels[..., :1]
    grid = make_grid(pixels, channels=channels)
    given_ = smooth((channels, 33, 34), size, seed)
    delta = given_.clamp(*grid.bounds(tau))
    assert float(delta.abs().max()) <= tau * (1 + 1e-6)
    image = grid.image[:channels] + delta
    assert float(image.min()) >= -1e-6
    assert float(image.max()) <= 1 + 1e-6
    assert torch.equal(delta.clamp(*grid.bounds(tau)), delta), "projecting twice is projecting once"
    inside = (given_.abs() <= tau) & (grid.image[:channels] + given_ >= 0) & (grid.image[:channels] + given_ <= 1)
    assert torch.allclose(delta[inside], given_[inside], atol=1e-6), "what is allowed is kept"


def test_a_grey_change_is_one_plane_seen_in_all() -> None:
    pixels = np.repeat(picture(300, 400, channels=1), 3, axis=2)
    grid = make_grid(pixels, channels=1)
    assert grid.start().shape == (1, 256, 341)
    moved = grid.changed(smooth((1, 256, 341), 0.03))[0] - grid.image
    assert torch.allclose(moved[0], moved[1])
    assert torch.allclose(moved[0], moved[2])
    assert float(moved.abs().max()) > 0


def test_where_nothing_is_opaque_nothing_changes() -> None:
    opaque = np.zeros((60, 80), np.uint8)
    opaque[:, 40:] = 255
    opaque[:30, 40:] = 51
    grid = make_grid(picture(60, 80), alpha=opaque)
    moved = grid.changed(torch.full((3, 60, 80), 0.02))[0] - grid.image
    assert float(moved[:, :, :40].abs().max()) == 0
    assert torch.allclose(moved[:, 30:, 40:], torch.tensor(0.02), atol=1e-6)
    assert torch.allclose(moved[:, :30, 40:], torch.tensor(0.004), atol=1e-6)


def test_what_writing_does_is_seen_and_gradients_pass_it() -> None:
    grid = make_grid(picture(40, 50))
    written = replace(grid, written=lambda delta: (grid.image + delta).mul(4).round() / 4)
    delta = smooth((3, 40, 50), 0.03).requires_grad_()
    seen = written.changed(delta)
    assert torch.allclose(seen[0], (grid.image + delta).mul(4).round().detach() / 4, atol=1e-6)
    (gradient,) = torch.autograd.grad(seen.sum(), delta)
    assert torch.equal(gradient, torch.ones_like(delta))
    drift = torch.full((3, 40, 50), 0.01)
    drifted = replace(grid, drift=drift)
    assert torch.allclose(drifted.changed(grid.start())[0], grid.image + drift)


def test_moving_keeps_everything() -> None:
    grid = make_grid(picture(300, 400), alpha=np.full((300, 400), 7, np.uint8))
    moved = grid.to("cpu")
    delta = smooth((3, 256, 341), 0.02)
    assert torch.equal(moved.changed(delta), grid.changed(delta))


@settings(max_examples=200, deadline=None)
@given(st.integers(32, 70_000), st.integers(32, 70_000))
def test_a_grid_has_half_a_megapixel_at_most(height: int, width: int) -> None:
    rows, columns = grid_size(height, width)
    assert 1 <= rows <= height
    assert 1 <= columns <= width
    assert rows * columns <= MOST_PIXELS
    plain = short_side(height, width, min(SHORT_SIDE, height, width))
    if plain[0] * plain[1] <= MOST_PIXELS:
        assert (rows, columns) == plain
        return
    assert (rows + 1) * (columns + 1) > MOST_PIXELS, "and no fewer than whole pixels allow"
    # Sides are whole pixels, rounded down; one of at least a pixel may be longer than its share.
    if min(rows, columns) > 1:
        assert rows / (columns + 1) < height / width < (rows + 1) / columns


def plain_round_trip(small: int, full: int) -> Band:
    up = interpolate(torch.eye(small)[None, None], (full, small), mode="bilinear", align_corners=False)
    return Band.of(interpolate(up, (small, small), mode="bilinear", align_corners=False, antialias=True)[0, 0])


def dense(band: Band) -> torch.Tensor:
    matrix = torch.zeros(band.weights.shape[1], band.weights.shape[1])
    for offset, row in zip(band.offsets, band.weights, strict=True):
        first, count = max(0, -offset), len(matrix) - abs(offset)
        torch.diagonal(matrix, offset).copy_(row[first : first + count])
    return matrix


@pytest.mark.parametrize(("small", "full"), [(256, 4000), (257, 300), (341, 1300), (700, 701), (300, 12240)])
def test_a_round_trip_made_in_parts_is_the_whole_one(small: int, full: int) -> None:
    whole, parts = plain_round_trip(small, full), _round_trip(small, full)
    assert whole.offsets == parts.offsets
    assert torch.equal(whole.weights, parts.weights), "bit for bit"
    assert torch.equal(whole.transposed, parts.transposed)


@pytest.mark.parametrize(("small", "full"), [(256, 1999), (2100, 4300), (900, 901)])
def test_a_long_round_trip_is_the_same_but_for_rounding(small: int, full: int) -> None:
    whole, long = dense(plain_round_trip(small, full)), _long_round_trip(small, full)
    # torch finds places in float32, whose steps are 5e-4 at 4,300 pixels.
    assert torch.allclose(dense(long), whole, atol=1e-3)
    flipped = dense(replace(long, weights=long.transposed))
    assert torch.equal(flipped, dense(long).T)


def test_the_grid_of_a_long_strip_is_made_from_few_numbers() -> None:
    grid = make_grid(np.zeros((32, 60_000, 3), np.uint8))  # a matrix of 7 GB otherwise
    assert grid.image.shape == (3, 16, 30_618)
    assert grid.columns is not None
    assert grid.columns.weights.numel() < 10 * 30_618
    delta = smooth((3, 16, 30_618), 0.03)
    assert float(grid.changed(delta).detach().abs().max()) > 0


def banded(size: int, reach: int, seed: int) -> Tensor:
    dense = torch.randn(size, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    index = torch.arange(size)
    return dense * ((index[:, None] - index).abs() <= reach)


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 12), st.integers(2, 12), st.integers(0, 13), st.integers(0, 13), st.integers(0, 99))
def test_the_product_and_its_gradient_are_those_of_the_dense_matrices(
    height: int, width: int, tall: int, wide: int, seed: int
) -> None:
    rows, columns = banded(height, tall, seed), banded(width, wide, seed + 1)
    image = torch.randn(3, height, width, dtype=torch.float64).requires_grad_()
    weight = torch.randn(3, height, width, dtype=torch.float64)
    dense = rows @ image @ columns.T
    found = resampled(image, Band.of(rows), Band.of(columns))
    assert torch.allclose(found, dense)
    gradients = [torch.autograd.grad((out * weight).sum(), image)[0] for out in (found, dense)]
    assert torch.allclose(*gradients)


def test_only_diagonals_that_hold_anything_are_kept() -> None:
    assert Band.of(banded(9, 1, 0)).offsets == (-1, 0, 1)
    assert Band.of(torch.eye(5)).offsets == (0,)


def test_a_lopsided_matrix_has_a_transpose_too() -> None:
    lopsided, image = torch.eye(4).roll(1, 0).tril(), torch.rand(1, 4, 4)
    band = Band.of(lopsided)
    assert band.offsets == (-1, 1)
    assert torch.equal(resampled(image, band, band), lopsided @ image @ lopsided.T)
