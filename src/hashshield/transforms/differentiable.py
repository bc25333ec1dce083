"""What happens to a photo before it is hashed, on tensors, with gradients: codecs, noise, blur, light, sizes, crops."""

from __future__ import annotations

import math
from functools import lru_cache
from io import BytesIO
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import conv2d
from torch.nn.functional import pad as padded_with

from hashshield.transforms.geometry import reshaped, to_image
from hashshield.types import View

__all__ = [
    "CYCLE",
    "blur",
    "brightness",
    "contrast",
    "crop",
    "flip",
    "input_diversity",
    "jpeg",
    "long_side",
    "noise",
    "pad",
    "placed",
    "scaled",
    "sharing_transforms",
    "webp",
]

_LONGEST = {"JPEG": 65_500, "WEBP": 16_383}
"""Sides that the encoders take, in pixels; what is longer is not coded, here as little as by a service."""


def jpeg(quality: int) -> View:
    """Written as JPEG of that quality (1 to 100) with Pillow's other defaults, and read again.

    Forwards that is what Pillow does, backwards the identity, which is also what rounding the coefficients of an
    orthonormal transform straight through comes to.
    """
    return _through("JPEG", quality=quality)


def webp(quality: int) -> View:
    """Written as lossy WebP of that quality (0 to 100) and read again; differentiable as `jpeg` is."""
    return _through("WEBP", quality=quality)


def _through(container: str, **options: int) -> View:
    def view(images: Tensor) -> Tensor:
        decoded: Tensor = _Coded.apply(images, container, options)
        return decoded

    return view


class _Coded(torch.autograd.Function):
    """(N, 3, H, W) in [0, 1] through a codec; the gradient passes as if it were not there."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, container: str, options: dict[str, int]) -> Tensor:
        if max(images.shape[-2:]) > _LONGEST[container]:
            return images.clamp(0, 1)
        pixels = (images.detach().clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
        coded = [_decoded(Image.fromarray(photo), container, options) for photo in pixels]
        return torch.stack(coded).to(images.device, images.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return gradients[0], None, None


def _decoded(photo: Image.Image, container: str, options: dict[str, int]) -> Tensor:
    with BytesIO() as out:
        photo.save(out, container, **options)
        return to_image(np.asarray(Image.open(out, formats=[container]).convert("RGB")))


def noise(sigma: float, generator: np.random.Generator) -> View:
    """Gaussian noise of that standard deviation, in [0, 1] units, drawn anew for each call; not clipped."""

    def view(images: Tensor) -> Tensor:
        sample = generator.standard_normal(tuple(images.shape), dtype=np.float32)
        return images + sigma * torch.from_numpy(sample).to(images.device, images.dtype)

    return view


def blur(sigma: float) -> View:
    """Gaussian blur, `sigma` in pixels; edges are repeated. Pillow's own is three box blurs of that sigma together."""

    def view(images: Tensor) -> Tensor:
        weights = _gaussian(sigma).to(images.device, images.dtype)
        reach = len(weights) // 2
        channels = images.shape[1]
        rows = weights.view(1, 1, -1, 1).expand(channels, 1, -1, 1)
        columns = weights.view(1, 1, 1, -1).expand(channels, 1, 1, -1)
        wider = padded_with(images, (reach,) * 4, mode="replicate")
        return conv2d(conv2d(wider, rows, groups=channels), columns, groups=channels)

    return view


def brightness(factor: float) -> View:
    """Every value times `factor`, clipped to [0, 1]."""
    return lambda images: (images * factor).clamp(0, 1)


def contrast(factor: float) -> View:
    """Every value's distance from the photo's mean grey times `factor`, clipped to [0, 1]."""

    def view(images: Tensor) -> Tensor:
        grey = 0.299 * images[:, :1] + 0.587 * images[:, 1:2] + 0.114 * images[:, 2:]
        mean = grey.mean((-3, -2, -1), keepdim=True)
        return (mean + (images - mean) * factor).clamp(0, 1)

    return view


@lru_cache(maxsize=32)
def _gaussian(sigma: float) -> Tensor:
    reach = max(1, round(3 * sigma))
    weights = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / sigma).square())
    return weights / weights.sum()


def scaled(share: float) -> View:
    """Resized as Pillow does it, both sides to that share of themselves, cut to whole pixels."""

    def view(images: Tensor) -> Tensor:
        return reshaped(images, *(max(1, int(side * share)) for side in images.shape[-2:]))

    return view


def long_side(pixels: int) -> View:
    """Resized so that the long side is `pixels`; a smaller photo stays as it is."""

    def view(images: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        longest = max(height, width)
        if longest <= pixels:
            return images
        return reshaped(images, *(max(1, round(side * pixels / longest)) for side in (height, width)))

    return view


def crop(top: float, left: float, share: float) -> View:
    """A window of `share` of both sides; `top` and `left` are shares of what is cut away, in [0, 1]."""

    def view(images: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        tall, wide = round(height * share), round(width * share)
        first, begin = round((height - tall) * top), round((width - wide) * left)
        return images[..., first : first + tall, begin : begin + wide]

    return view


def pad(share: float, value: float = 0.0) -> View:
    """Borders of one value, in [0, 1], that add `share` of the sides, half of it on each."""

    def view(images: Tensor) -> Tensor:
        rows, columns = (round(side * share / 2) for side in images.shape[-2:])
        return padded_with(images, (columns, columns, rows, rows), value=value)

    return view


def placed(share: float, top: float, left: float, value: float = 0.5) -> View:
    """A copy of `share` of both sides on a ground of one value, in [0, 1], of the size from before.

    `top` and `left` are shares of what remains free, in [0, 1].
    """

    def view(images: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        small = scaled(share)(images)
        rows, columns = height - small.shape[-2], width - small.shape[-1]
        above, before = round(rows * top), round(columns * left)
        return padded_with(small, (before, columns - before, above, rows - above), value=value)

    return view


def flip(images: Tensor) -> Tensor:
    """Mirrored, left to right."""
    return torch.flip(images, (-1,))


CYCLE = 3
"""Looks in which `kept_photo` shows each of its kinds once."""

_COARSE = {1: 6.0, 2: 2.0}
"""Photo pixels per grid pixel from which on JPEG (1) and half the size (2) average out before they reach the grid."""
_SIGMA = 0.006
_LEAST_SHARE = 0.7
"""Of the sides, of the smallest copy that `any_network` puts onto a plain ground."""
_LOUD_SIGMA = 0.04
_QUALITIES = (80, 92)
"""Least and most, on the grid, where a block of 8 x 8 covers more of the photo than in its file."""


def sharing_transforms(turn: int, generator: np.random.Generator, scale: float) -> View:
    """What services do to photos they keep, in turns: little things that add up to noise, JPEG, half the size.

    `scale` is photo pixels per grid pixel. Of a large photo the grid shows too little of the last two, and noise
    stands in for them.
    """
    kind = turn % CYCLE
    if scale >= _COARSE.get(kind, math.inf):
        kind = 0
    if kind == 1:
        return jpeg(int(generator.integers(_QUALITIES[0], _QUALITIES[1] + 1)))
    if kind == 2:
        return scaled(min(1.0, scale / 2))
    return noise(_SIGMA, generator)


def input_diversity(turn: int, generator: np.random.Generator, _scale: float) -> View:
    """What networks of other kinds may agree on: the photo as it is, and in turn a smaller copy on grey under noise.

    Random resizing and padding are the input diversity of Xie et al. 2019.
    """
    if turn % 2 == 0:
        return lambda images: images
    share = generator.uniform(_LEAST_SHARE, 1.0)
    top, left = generator.uniform(size=2)
    noisy = noise(_LOUD_SIGMA, generator)

    def view(images: Tensor) -> Tensor:
        return noisy(placed(share, top, left)(images))

    return view
