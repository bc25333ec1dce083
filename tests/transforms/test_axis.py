from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.nn.functional import interpolate

from hashshield.checkpoints.card import InputSpec
from hashshield.transforms import centre, framed, pillow_view, resized, short_side, tensor_view, to_image
from hashshield.transforms import geometry as axis
from hashshield.transforms.geometry import _resampling, reshaped
from tiny_net import picture

PLAIN = (0.5, 0.5, 0.5)
CPU = torch.device("cpu")


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 900), st.integers(2, 900), st.data())
def test_the_matrix_of_a_crop_is_cut_out_of_the_whole_one(size: int, goal: int, data: st.DataObject) -> None:
    first = data.draw(st.integers(0, goal - 1))
    last = data.draw(st.integers(first + 1, goal))
    units = torch.eye(size)[None, None]
    whole = interpolate(units, (size, goal), mode="bilinear", align_corners=False, antialias=True)[0, 0].T
    assert torch.equal(_resampling(size, goal, first, last, CPU), whole[first:last]), "bit for bit"


@settings(max_examples=60, deadline=None)
@given(st.integers(32, 200), st.integers(32, 200), st.integers(33, 420), st.integers(16, 400), st.booleans())
def test_a_crop_of_an_enlarged_photo_is_pillows(tall: int, wide: int, asked: int, crop: int, image: bool) -> None:
    pixels = np.random.default_rng(tall * wide).integers(0, 256, (tall, wide, 3), dtype=np.uint8)
    goal = short_side(tall, wide, max(asked, min(tall, wide) + 1))
    kept = centre(*goal, min(crop, *goal))
    whole = resized(pixels, *goal)[kept]
    assert np.array_equal(axis.enlarged(Image.fromarray(pixels) if image else pixels, goal, kept), whole)


def test_only_what_is_kept_of_an_enlarged_photo_is_made() -> None:
    def refuse(height: int, width: int) -> np.ndarray:
        raise AssertionError(f"{width}x{height} pixels were made")

    goal = short_side(32, 60_000, 256)
    crop = centre(*goal, 224)
    assert framed(np.zeros((32, 60_000, 3), np.uint8), goal, crop, refuse).shape == (224, 224, 3)


@settings(max_examples=40, deadline=None)
@given(st.integers(40, 500), st.integers(20, 500), st.data())
def test_line_by_line_is_torchs_resizing_and_its_gradient(size: int, goal: int, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, goal - 1))
    stop = data.draw(st.integers(start + 1, goal))
    images = torch.rand(2, 3, size, 5, generator=torch.Generator().manual_seed(size), dtype=torch.float64)
    images.requires_grad_()
    whole = interpolate(images, (goal, 5), mode="bilinear", align_corners=False, antialias=True)[:, :, start:stop]
    found = axis.lines(size, goal, start, stop)
    assert torch.allclose(axis.resampled_lines(images.detach(), found, -2), whole, atol=1e-5)
    (gradient,) = torch.autograd.grad(whole.square().sum(), images)
    assert torch.allclose(axis.spread_lines(2 * whole.detach(), found, size, -2), gradient, atol=1e-4)


@pytest.mark.parametrize("view", ["card", "squash"])
@pytest.mark.parametrize(("height", "width"), [(17, 5000), (5000, 19), (41, 4500)])
def test_a_view_of_a_strip_is_pillows_and_has_a_gradient(height: int, width: int, view: str) -> None:
    size = InputSpec(36, 32, "bilinear", PLAIN, PLAIN)
    pixels = picture(height, width)
    image = to_image(pixels)[None].requires_grad_()
    seen = tensor_view(size, view)(image)
    off = (seen[0].detach() - pillow_view(pixels, size, view)).abs() * 255
    assert float(off.max()) <= 2.01
    # Sides in simple ratios, such as 19 to 32, have many ties, which either side rounds by its own last digit.
    assert float((off > 0.01).float().mean()) <= 0.15
    (gradient,) = torch.autograd.grad(seen.sum(), image)
    assert gradient.shape == image.shape
    # Of each resized pixel's gradient nothing is lost on the way to the pixels that made it.
    assert float(gradient.sum()) == pytest.approx(3 * 32 * 32, rel=1e-3)


def test_half_of_a_strip_takes_no_matrix() -> None:
    strip = torch.rand(1, 3, 4, 200_000, requires_grad=True)
    half = reshaped(strip, 2, 100_000)
    assert half.shape == (1, 3, 2, 100_000)
    (gradient,) = torch.autograd.grad(half.sum(), strip)  # a matrix of 80 GB otherwise
    assert float(gradient.double().mean()) == pytest.approx(0.25, rel=1e-3)
