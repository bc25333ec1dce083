"""Each transform on tensors against what Pillow does to a file: the pixels, and the code that a network gives them."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageFilter, ImageOps
from torch import Tensor

from hashshield.metrics.retrieval import bits_of
from hashshield.models.load import OpenModel, open_models
from hashshield.transforms import pillow_view, tensor_view, to_image
from hashshield.transforms.differentiable import (
    SHARING_TRANSFORMS,
    Transforms,
    blur,
    brightness,
    contrast,
    crop,
    flip,
    jpeg,
    long_side,
    noise,
    pad,
    scaled,
    soft_jpeg,
    webp,
)
from hashshield.types import View
from tiny_net import picture

Edit = Callable[[Image.Image], Image.Image]
BILINEAR = Image.Resampling.BILINEAR


def saved(container: str, quality: int) -> Edit:
    def edit(image: Image.Image) -> Image.Image:
        out = BytesIO()
        image.save(out, container, quality=quality)
        return Image.open(out).convert("RGB")

    return edit


def window(image: Image.Image) -> Image.Image:
    width, height = image.size
    wide, tall = round(width * 0.9), round(height * 0.9)
    left, top = round((width - wide) * 0.25), round((height - tall) * 0.75)
    return image.crop((left, top, left + wide, top + tall))


def bordered(image: Image.Image) -> Image.Image:
    across, down = round(image.width * 0.1), round(image.height * 0.1)
    return ImageOps.expand(image, (across, down), (255, 255, 255))


def longest(pixels: int) -> Edit:
    def edit(image: Image.Image) -> Image.Image:
        share = pixels / max(image.size)
        return image.resize((round(image.width * share), round(image.height * share)), BILINEAR)

    return edit


# Transform, what Pillow does, and the largest mean difference of a value in levels.
PAIRS: dict[str, tuple[View, Edit, float]] = {
    "half size": (scaled(0.5), lambda image: image.resize((image.width // 2, image.height // 2), BILINEAR), 0.02),
    "long side": (long_side(200), longest(200), 0.02),
    "crop": (crop(0.75, 0.25, 0.9), window, 0.0),
    "border": (pad(0.2, 1.0), bordered, 0.0),
    "mirrored": (flip, ImageOps.mirror, 0.0),
    "jpeg q75": (jpeg(75), saved("JPEG", 75), 0.0),
    "jpeg q50": (jpeg(50), saved("JPEG", 50), 0.0),
    "webp q80": (webp(80), saved("WEBP", 80), 0.0),
    "blur": (blur(1.5), lambda image: image.filter(ImageFilter.GaussianBlur(1.5)), 0.6),
    "brighter": (brightness(1.15), lambda image: ImageEnhance.Brightness(image).enhance(1.15), 0.51),
    "darker": (brightness(0.85), lambda image: ImageEnhance.Brightness(image).enhance(0.85), 0.51),
    "less contrast": (contrast(0.8), lambda image: ImageEnhance.Contrast(image).enhance(0.8), 0.75),
}


@pytest.fixture(scope="module")
def lite() -> OpenModel:
    return open_models(["lite0-caltech101:48"])[0]


@pytest.fixture(scope="module")
def lotus(data: Path) -> Image.Image:
    return Image.open(data / "lotus.jpg").convert("RGB")


def tensor_of(image: Image.Image) -> Tensor:
    return to_image(np.asarray(image))[None]


@pytest.mark.parametrize("name", PAIRS)
def test_a_transform_is_what_pillow_does(name: str, lite: OpenModel, lotus: Image.Image) -> None:
    view, edit, allowed = PAIRS[name]
    by_tensor, by_pillow = view(tensor_of(lotus)), tensor_of(edit(lotus))
    assert by_tensor.shape == by_pillow.shape
    assert float((by_tensor - by_pillow).abs().mean()) * 255 <= allowed
    size = lite.card.input
    for frame in ("card", "squash"):
        seen = [tensor_view(size, frame)(by_tensor)[0], pillow_view(np.asarray(edit(lotus)), size, frame)]
        with torch.inference_mode():
            codes = lite.model(torch.stack(seen)).code.numpy()
        # Pillow cuts fractions of a level off where it blends; half a level everywhere turned one bit at most.
        off = int(np.count_nonzero(bits_of(codes[0]) != bits_of(codes[1])))
        assert off <= (1 if allowed > 0.5 else 0), frame


@pytest.mark.parametrize("name", PAIRS)
def test_a_gradient_comes_back_through_it(name: str) -> None:
    images = to_image(picture(40, 56))[None].requires_grad_()
    out = PAIRS[name][0](images)
    (gradient,) = torch.autograd.grad(out.sum(), images)
    assert gradient.shape == images.shape
    assert float(gradient.sum()) > 0


def test_the_gradient_of_resizing_is_that_of_torch() -> None:
    images = torch.rand(1, 3, 41, 60, requires_grad=True)
    weights = torch.rand(1, 3, 20, 30)
    resize = torch.nn.functional.interpolate(images, (20, 30), mode="bilinear", antialias=True)
    (expected,) = torch.autograd.grad((resize * weights).sum(), images)
    (found,) = torch.autograd.grad((scaled(0.5)(images) * weights).sum(), images)
    assert torch.allclose(found, expected, atol=1e-5)


def test_noise_has_the_spread_it_says_and_is_repeatable() -> None:
    images = torch.full((1, 3, 64, 64), 0.5)
    one, again = (noise(0.05, np.random.default_rng(3))(images) for _ in range(2))
    assert torch.equal(one, again)
    assert float((one - images).std()) == pytest.approx(0.05, rel=0.03)
    view = noise(0.05, np.random.default_rng(3))
    assert not torch.equal(view(images), view(images)), "drawn anew at each call"


def test_a_photo_that_is_small_enough_is_not_enlarged() -> None:
    images = torch.rand(1, 3, 20, 30)
    assert long_side(30)(images) is images


def through(transforms: Transforms, look: int, generator: np.random.Generator, scale: float, images: Tensor) -> Tensor:
    view = transforms.draw(look, generator, scale)
    return images if view is None else view(images)


def test_what_is_drawn_depends_on_look_and_generator_alone() -> None:
    images = to_image(picture(64, 90))[None]
    draws = [
        [through(SHARING_TRANSFORMS, look, rng, 1.4, images) for look in range(6)]
        for rng in map(np.random.default_rng, (5, 5, 6))
    ]
    assert all(torch.equal(a, b) for a, b in zip(draws[0], draws[1], strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(draws[0], draws[2], strict=True))
    assert [seen.shape[-1] for seen in draws[0]] == [90, 90, 62, 90, 90, 62]


def test_the_first_look_of_each_cycle_sees_the_photo_as_it_is() -> None:
    cycle = SHARING_TRANSFORMS.cycle
    looks = [SHARING_TRANSFORMS.draw(look, np.random.default_rng(0), 1.4) is None for look in range(3 * cycle)]
    assert looks == ([True] + [False] * (cycle - 1)) * 3


def test_of_a_large_photo_noise_stands_in_for_what_the_grid_does_not_show() -> None:
    images = to_image(picture(64, 90))[None]
    for look in (1, 2):
        seen = through(SHARING_TRANSFORMS, look, np.random.default_rng(0), 10.0, images)
        assert seen.shape == images.shape
        assert float((seen - images).std()) == pytest.approx(0.003, rel=0.05)


@pytest.mark.parametrize("quality", [30, 75, 90])
def test_soft_jpeg_is_close_to_what_pillow_writes_with_its_own_gradient(quality: int) -> None:
    """Pillow without subsampling is the oracle; only the table of colour differs, so the photo is grey."""
    grain = np.random.default_rng(0).normal(0, 12, (50, 60, 1))  # not a multiple of a block
    pixels = np.repeat(np.clip(picture(50, 60)[..., :1] + grain, 0, 255).astype(np.uint8), 3, axis=2)
    with BytesIO() as out:
        Image.fromarray(pixels).save(out, "JPEG", quality=quality, subsampling=0)
        wanted = to_image(np.asarray(Image.open(out)))
    images = to_image(pixels)[None].requires_grad_()
    found = soft_jpeg(quality)(images)
    assert found.shape == images.shape
    error = (found.detach()[0] - wanted).square().mean().sqrt()
    assert float(error) < 0.6 * float((images.detach()[0] - wanted).square().mean().sqrt())
    generator = torch.Generator().manual_seed(0)
    # Whole levels leave coefficients halfway between two, where rounding jumps.
    along, apart = (torch.randn(images.shape, dtype=torch.float64, generator=generator) for _ in range(2))
    exact = (images.detach().double() + 1e-3 * apart).clamp(0, 1).requires_grad_()
    view, step = soft_jpeg(quality), 1e-7
    (gradient,) = torch.autograd.grad(view(exact).square().sum(), exact)
    ahead, behind = (float(view(exact.detach() + side * step * along).square().sum()) for side in (1, -1))
    assert float((gradient * along).sum()) == pytest.approx((ahead - behind) / (2 * step), rel=1e-3)
