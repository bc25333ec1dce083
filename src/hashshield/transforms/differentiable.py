"""Differentiable transforms of (N, 3, H, W) images in [0, 1]: codecs, noise, blur, brightness, resizing, crops.

Most functions return a `View`, which maps such a batch to the transformed one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
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
    "SHARING_TRANSFORMS",
    "Transforms",
    "blur",
    "brightness",
    "contrast",
    "crop",
    "flip",
    "jpeg",
    "long_side",
    "noise",
    "pad",
    "scaled",
    "soft_jpeg",
    "webp",
]

_LONGEST = {"JPEG": 65_500, "WEBP": 16_383}
"""Longest sides that the encoders accept, in pixels; larger images are returned unencoded."""


def jpeg(quality: int) -> View:
    """Return the view that encodes as JPEG of that quality (1 to 100) with Pillow's other defaults, and decodes.

    The gradient is the identity. A straight-through gradient through the rounding of an orthonormal transform's
    coefficients would be the same.
    """
    return _through("JPEG", quality=quality)


def webp(quality: int) -> View:
    """Return the view that encodes as lossy WebP of that quality (0 to 100) and decodes; gradient as in `jpeg`."""
    return _through("WEBP", quality=quality)


def soft_jpeg(quality: int) -> View:
    """Return a simulation of JPEG of that quality (1 to 100), whose gradient shows which coefficients are dropped.

    Coefficients of 8 x 8 blocks are rounded softly: r + (z - r)^3 with r = round(z) (Shin and Song 2017). Unlike JPEG,
    all planes use the standard luma table (ITU-T T.81, table K.1) and none is subsampled; that is close enough for a
    gradient.
    """
    scale = 5000 / quality if quality < 50 else 200 - 2 * quality
    table = ((_LUMA_TABLE * scale + 50) / 100).floor().clamp(1, 255)

    def view(images: Tensor) -> Tensor:
        dct, steps, to_planes = (t.to(images.device, images.dtype, non_blocking=True) for t in (_DCT, table, _TO_YCBCR))
        height, width = images.shape[-2:]
        wider = padded_with(255 * images - 128, (0, -width % 8, 0, -height % 8), mode="replicate")
        planes = torch.einsum("dc,nchw->ndhw", to_planes, wider)
        rows, columns = planes.shape[-2] // 8, planes.shape[-1] // 8
        blocks = planes.reshape(-1, 3, rows, 8, columns, 8).transpose(3, 4)
        exact = dct @ blocks @ dct.T / steps
        whole = exact.round().detach()
        decoded = dct.T @ ((whole + (exact - whole) ** 3) * steps) @ dct
        planes = decoded.transpose(3, 4).reshape(planes.shape)
        pixels = torch.einsum("dc,nchw->ndhw", torch.linalg.inv(to_planes), planes)
        return ((pixels + 128) / 255)[..., :height, :width].clamp(0, 1)

    return view


_FREQUENCIES = torch.arange(8).float()
_DCT = torch.cos((2 * _FREQUENCIES[None] + 1) * _FREQUENCIES[:, None] * math.pi / 16) / 2
_DCT[0] /= math.sqrt(2)
_TO_YCBCR = torch.tensor(
    [[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]]
)  # JFIF (ITU-T T.871)
_LUMA_TABLE = torch.tensor(
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ]
).float()


def _through(container: str, **options: int) -> View:
    def view(images: Tensor) -> Tensor:
        decoded: Tensor = _Coded.apply(images, container, options)
        return decoded

    return view


class _Coded(torch.autograd.Function):
    """Encode and decode (N, 3, H, W) images in [0, 1]; the gradient is the identity."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, container: str, options: dict[str, int]) -> Tensor:
        if max(images.shape[-2:]) > _LONGEST[container]:
            return images.clamp(0, 1)
        pixels = (images.detach().clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
        coded = [_decoded(Image.fromarray(photo), container, options) for photo in pixels]
        return torch.stack(coded).to(images.device, images.dtype, non_blocking=True)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return gradients[0], None, None


def _decoded(photo: Image.Image, container: str, options: dict[str, int]) -> Tensor:
    with BytesIO() as out:
        photo.save(out, container, **options)
        return to_image(np.asarray(Image.open(out, formats=[container]).convert("RGB")))


def noise(sigma: float, generator: np.random.Generator) -> View:
    """Return the view that adds Gaussian noise of standard deviation `sigma`, in [0, 1] units; it does not clip.

    Each call draws new noise from `generator`.
    """

    def view(images: Tensor) -> Tensor:
        sample = generator.standard_normal(tuple(images.shape), dtype=np.float32)
        return images + sigma * torch.from_numpy(sample).to(images.device, images.dtype, non_blocking=True)

    return view


def blur(sigma: float) -> View:
    """Return a Gaussian blur with `sigma` in pixels; edges are repeated. Pillow's own approximates it by box blurs."""

    def view(images: Tensor) -> Tensor:
        weights = _gaussian(sigma).to(images.device, images.dtype, non_blocking=True)
        reach = len(weights) // 2
        channels = images.shape[1]
        rows = weights.view(1, 1, -1, 1).expand(channels, 1, -1, 1)
        columns = weights.view(1, 1, 1, -1).expand(channels, 1, 1, -1)
        wider = padded_with(images, (reach,) * 4, mode="replicate")
        return conv2d(conv2d(wider, rows, groups=channels), columns, groups=channels)

    return view


def brightness(factor: float) -> View:
    """Return the view that multiplies every value by `factor` and clips to [0, 1]."""
    return lambda images: (images * factor).clamp(0, 1)


def contrast(factor: float) -> View:
    """Return the view that scales every value's distance from the image's mean grey by `factor`; clips to [0, 1]."""

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
    """Return the view that resizes both sides to `share` of their length, rounded down, as Pillow does."""

    def view(images: Tensor) -> Tensor:
        return reshaped(images, *(max(1, int(side * share)) for side in images.shape[-2:]))

    return view


def long_side(pixels: int) -> View:
    """Return the view that resizes the long side to `pixels`; a smaller image is returned unchanged."""

    def view(images: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        longest = max(height, width)
        if longest <= pixels:
            return images
        return reshaped(images, *(max(1, round(side * pixels / longest)) for side in (height, width)))

    return view


def crop(top: float, left: float, share: float) -> View:
    """Return the view that crops to `share` of both sides.

    `top` and `left`, in [0, 1], are the shares of the removed height and width that are removed at the top and left.
    """

    def view(images: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        tall, wide = round(height * share), round(width * share)
        first, begin = round((height - tall) * top), round((width - wide) * left)
        return images[..., first : first + tall, begin : begin + wide]

    return view


def pad(share: float, value: float = 0.0) -> View:
    """Return the view that adds a border of `value`, in [0, 1]: `share` of each side's length, half at either end."""

    def view(images: Tensor) -> Tensor:
        rows, columns = (round(side * share / 2) for side in images.shape[-2:])
        return padded_with(images, (columns, columns, rows, rows), value=value)

    return view


def flip(images: Tensor) -> Tensor:
    """Return the images mirrored left to right."""
    return torch.flip(images, (-1,))


_COARSE = {1: 6.0, 2: 2.0}
"""Kind of transform (1: JPEG, 2: half size) -> photo pixels per grid pixel from which it averages out on the grid."""
_SIGMA = 0.003
_QUALITIES = (80, 92)
"""Least and greatest JPEG quality. Higher than a service's, because on the grid a block covers more of the photo."""


@dataclass(frozen=True, slots=True)
class Transforms:
    """The transforms that a search prepares for: one kind per step, in turn."""

    draw: Callable[[int, np.random.Generator, float], View | None]
    """(step number, generator, photo pixels per grid pixel) -> the step's transform; None: no transform."""
    cycle: int
    """Number of steps in which each kind has one turn; the first of them has no transform."""


def _sharing_transform(step: int, generator: np.random.Generator, scale: float) -> View | None:
    """Return what services do to photos they store: in turn nothing, JPEG, and half the size.

    Neither is visible on the grid of a large photo; noise is used instead.
    """
    kind = step % 3
    if kind == 0:
        return None
    if scale >= _COARSE[kind]:
        return noise(_SIGMA, generator)
    if kind == 1:
        return jpeg(int(generator.integers(_QUALITIES[0], _QUALITIES[1] + 1)))
    return scaled(min(1.0, scale / 2))


SHARING_TRANSFORMS = Transforms(_sharing_transform, cycle=3)
