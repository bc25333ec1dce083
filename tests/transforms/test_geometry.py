from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import v2

from hashshield.checkpoints.card import InputSpec
from hashshield.metrics.retrieval import bits_of
from hashshield.models.load import open_models
from hashshield.transforms import card_view, pillow_view, resized, short_side, to_image
from hashshield.transforms.geometry import centre
from tiny_net import picture

PLAIN = (0.5, 0.5, 0.5)


def size(resize: int, crop: int) -> InputSpec:
    return InputSpec(resize, crop, "bilinear", PLAIN, PLAIN)


@settings(max_examples=60, deadline=None)
@given(st.integers(32, 131), st.integers(32, 131), st.integers(16, 80), st.integers(0, 13))
def test_a_service_with_torchvisions_transforms_sees_the_same(height: int, width: int, resize: int, less: int) -> None:
    crop = max(16, resize - less)
    pixels = picture(height, width)
    steps = v2.Compose([v2.Resize(resize, antialias=True), v2.CenterCrop(crop)])
    expected = np.asarray(steps(Image.fromarray(pixels)))
    found = pillow_view(pixels, size(resize, crop))
    assert found.shape == (3, crop, crop)
    assert torch.equal(found, to_image(expected))


@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(16, 2048))
def test_the_short_side_becomes_the_asked_one(height: int, width: int, asked: int) -> None:
    rows, columns = short_side(height, width, asked)
    assert min(rows, columns) == asked
    assert (rows <= columns) == (height <= width) or rows == columns
    assert max(rows, columns) == int(asked * max(height, width) / min(height, width))


@given(st.integers(16, 300), st.integers(16, 300), st.integers(1, 16))
def test_a_centre_crop_lies_inside(height: int, width: int, crop: int) -> None:
    for part, whole in zip(centre(height, width, crop), (height, width), strict=True):
        assert 0 <= part.start <= part.stop <= whole
        assert part.stop - part.start == crop
        assert abs(part.start - (whole - part.stop)) <= 1


def test_pixels_become_an_image_in_the_unit_range() -> None:
    pixels = np.array([[[0, 51, 255]]], np.uint8)
    image = to_image(pixels)
    assert image.shape == (3, 1, 1)
    assert image.flatten().tolist() == pytest.approx([0.0, 0.2, 1.0])
    image.zero_()
    assert pixels.max() == 255, "a copy: a view would write into the photo"


def test_nothing_is_resized_that_fits() -> None:
    pixels = picture(40, 60)
    assert resized(pixels, 40, 60) is pixels


@pytest.mark.parametrize("name", ["sunflower", "kangaroo", "lotus"])
def test_tensors_and_pillow_agree_on_real_photos(name: str, data: Path) -> None:
    pixels = np.asarray(Image.open(data / f"{name}.jpg").convert("RGB"))
    (model,) = open_models(["lite0-caltech101:48"])
    geometry = model.card.input
    by_tensor = card_view(geometry)(to_image(pixels)[None])[0]
    by_pillow = pillow_view(pixels, geometry)
    # Both round to 8 bits after each of two passes; now and then a tie falls otherwise.
    off = (by_tensor - by_pillow).abs() * 255
    assert float(off.max()) <= 1.01
    assert float((off > 0.01).float().mean()) <= 0.02
    with torch.inference_mode():
        codes = model.model(torch.stack([by_tensor, by_pillow])).code
    assert (bits_of(codes[0].numpy()) == bits_of(codes[1].numpy())).all()
    assert torch.nn.functional.cosine_similarity(codes[0], codes[1], dim=0) > 0.999


@settings(max_examples=40, deadline=None)
@given(st.integers(32, 300), st.integers(32, 300))
def test_tensors_and_pillow_agree_at_any_size(height: int, width: int) -> None:
    pixels = picture(height, width, seed=height)
    geometry = size(64, 56)
    by_tensor = card_view(geometry)(to_image(pixels)[None])[0]
    assert by_tensor.shape == (3, 56, 56)
    off = (by_tensor - pillow_view(pixels, geometry)).abs() * 255
    assert float(off.max()) <= 2.01
    # At sizes such as 80 to 64 every fifth value is a tie, which the rounding of Pillow's fixed-point weights decides
    # (measured: of 6,000 sizes one had more than 4% of such values, 4.2%).
    assert float((off > 0.01).float().mean()) <= 0.05


def test_a_view_lets_gradients_through() -> None:
    image = torch.rand(2, 3, 50, 70, requires_grad=True)
    view = card_view(size(36, 32))
    (gradient,) = torch.autograd.grad(view(image).sum(), image)
    assert gradient.shape == image.shape
    # What is cropped away gets none; what is seen shares out exactly the values of the input.
    assert float(gradient.sum()) == pytest.approx(2 * 3 * 32 * 32, rel=1e-3)
    assert (gradient[..., 0] == 0).all()
