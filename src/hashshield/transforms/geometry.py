"""Views of a network: resize and crop, with Pillow as a service does it, and the same on tensors with gradients.

`pillow_view` and `tensor_view` are the two entry points; `framing` computes the geometry for both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from hashshield.checkpoints.card import InputSpec
from hashshield.types import View

__all__ = [
    "CARD",
    "LONG",
    "SQUASH",
    "VIEWS",
    "Lines",
    "card_view",
    "centre",
    "enlarged",
    "framed",
    "framing",
    "lines",
    "pillow_view",
    "resampled_lines",
    "reshaped",
    "resized",
    "short_side",
    "spread_lines",
    "tensor_view",
    "tensor_views",
    "to_image",
]

LONG = 4096
"""Longest axis, in pixels before or after resizing, that torch resizes; longer ones are resized tap by tap."""

_PRECISION = 22
"""Fractional bits of Pillow's fixed-point weights (Resample.c)."""


class Lines(NamedTuple):
    """The lines of a resized axis as weighted sums of source lines."""

    first: NDArray[np.int64]
    """(n,): the first source line of each resized line."""
    weights: NDArray[np.float64]
    """(n, taps): weights of that line and the following ones; 0 beyond the axis."""


@lru_cache(maxsize=16)
def lines(size: int, goal: int, start: int, stop: int) -> Lines:
    """Return lines `start` to `stop` of an axis of `size` pixels resized to `goal` by Pillow's antialiased bilinear."""
    scale = size / goal
    reach = max(scale, 1.0)
    centres = (np.arange(start, stop) + 0.5) * scale
    first = np.maximum((centres - reach + 0.5).astype(np.int64), 0)
    last = np.minimum((centres + reach + 0.5).astype(np.int64), size)
    taps = np.arange(int((last - first).max()))
    weights = np.maximum(1 - np.abs(first[:, None] + taps - centres[:, None] + 0.5) / reach, 0)
    weights[taps >= (last - first)[:, None]] = 0
    return Lines(first, weights / weights.sum(axis=1, keepdims=True))


def resampled_lines(images: Tensor, found: Lines, dim: int) -> Tensor:
    """Return the resized lines of `images` along `dim`."""
    total: Tensor | None = None
    for source, weights in _steps(images, found, images.shape[dim], dim):
        part = images.index_select(dim, source) * weights
        total = part if total is None else total.add_(part)
    assert total is not None
    return total


def spread_lines(gradients: Tensor, found: Lines, size: int, dim: int) -> Tensor:
    """Return the transpose of `resampled_lines`: the gradients of `size` source lines from those of resized lines."""
    shape = list(gradients.shape)
    shape[dim] = size
    total = gradients.new_zeros(shape)
    for source, weights in _steps(gradients, found, size, dim):
        total.index_add_(dim, source, gradients * weights)
    return total


def _steps(like: Tensor, found: Lines, size: int, dim: int) -> list[tuple[Tensor, Tensor]]:
    """Return source lines and weights of each tap, shaped to multiply along `dim`."""
    shape = [1] * like.ndim
    shape[dim] = len(found.first)
    return [
        (
            torch.from_numpy(np.minimum(found.first + tap, size - 1)).to(like.device, non_blocking=True),
            torch.from_numpy(weights).to(like.device, like.dtype, non_blocking=True).view(shape),
        )
        for tap, weights in enumerate(found.weights.T)
    ]


def enlarged(
    pixels: NDArray[np.uint8] | Image.Image, goal: tuple[int, int], crop: tuple[slice, slice]
) -> NDArray[np.uint8]:
    """Return rows and columns `crop` of (H, W, 3) pixels or an RGB image, enlarged to `goal` with bilinear resizing.

    The result equals Pillow's bit for bit: columns first, then rows, rounded to 8 bits after each, with its fixed-point
    weights.
    """
    height, width = pixels.shape[:2] if isinstance(pixels, np.ndarray) else pixels.size[::-1]
    rows = lines(height, goal[0], crop[0].start, crop[0].stop)
    columns = lines(width, goal[1], crop[1].start, crop[1].stop)
    (top, bottom), (left, right) = _extent(rows, height), _extent(columns, width)
    if isinstance(pixels, np.ndarray):
        part = pixels[top:bottom, left:right]
    else:
        part = np.asarray(pixels.crop((left, top, right, bottom)))
    wide = _levels(part.swapaxes(0, 1), columns, left).swapaxes(0, 1)
    return np.ascontiguousarray(_levels(wide, rows, top))


def _extent(found: Lines, size: int) -> tuple[int, int]:
    """Return the first source line that is needed, and the one after the last."""
    return int(found.first[0]), min(int(found.first[-1]) + found.weights.shape[1], size)


def _levels(part: NDArray[np.uint8], found: Lines, offset: int) -> NDArray[np.uint8]:
    """Return `part`, which starts at the source's line `offset`, with its first axis resized."""
    fixed_point = np.floor(found.weights * (1 << _PRECISION) + 0.5).astype(np.int64)
    total = np.full((len(found.first), *part.shape[1:]), 1 << (_PRECISION - 1), dtype=np.int64)
    for tap in range(fixed_point.shape[1]):
        source = np.minimum(found.first + tap - offset, len(part) - 1)
        total += part[source] * fixed_point[:, tap].reshape(-1, *[1] * (part.ndim - 1))
    rounded: NDArray[np.uint8] = np.clip(total >> _PRECISION, 0, 255).astype(np.uint8)
    return rounded


CARD = "card"
"""View that resizes the short side and crops the centre, as the network's card says."""
SQUASH = "squash"
"""View that resizes both sides to the network's input and ignores the aspect."""

VIEWS = (CARD, SQUASH)
"""All views."""

_BLOCK = 512
"""Source lines whose resampling weights are computed at once."""

Framing = tuple[tuple[int, int], tuple[slice, slice]]


def short_side(height: int, width: int, size: int) -> tuple[int, int]:
    """Return (height, width) after resizing the short side to `size`."""
    if height <= width:
        return size, int(size * width / height)
    return int(size * height / width), size


def resized(pixels: NDArray[np.uint8] | Image.Image, height: int, width: int) -> NDArray[np.uint8]:
    """Return (H, W, 3) pixels or an RGB image as (height, width, 3), with Pillow's antialiased bilinear resizing.

    Pass an image to resize a large photo several times, because making one copies the pixels.
    """
    if isinstance(pixels, np.ndarray):
        if pixels.shape[:2] == (height, width):
            return pixels
        pixels = Image.fromarray(pixels)
    return np.asarray(pixels.resize((width, height), Image.Resampling.BILINEAR))


def centre(height: int, width: int, size: int) -> tuple[slice, slice]:
    """Return rows and columns of the centre crop of `size` pixels."""
    top, left = round((height - size) / 2), round((width - size) / 2)
    return slice(top, top + size), slice(left, left + size)


def to_image(pixels: NDArray[np.uint8]) -> Tensor:
    """Return (H, W, 3) uint8 pixels as a (3, H, W) float tensor in [0, 1]."""
    return torch.from_numpy(np.array(pixels)).permute(2, 0, 1).float() / 255


def framing(view: str, size: InputSpec, height: int, width: int) -> Framing:
    """Return the (height, width) to which `view` resizes a photo of that size, and the rows and columns of its crop.

    If the card itself squashes, both views are the same.
    """
    if view == SQUASH or size.squash:
        return (size.crop, size.crop), (slice(0, size.crop), slice(0, size.crop))
    goal = short_side(height, width, size.resize)
    return goal, centre(*goal, size.crop)


def framed(
    pixels: NDArray[np.uint8] | Image.Image,
    goal: tuple[int, int],
    crop: tuple[slice, slice],
    resize: Callable[[int, int], NDArray[np.uint8]],
) -> NDArray[np.uint8]:
    """Return (H, W, 3) pixels or an RGB image resized to `goal` and cropped to rows and columns `crop`.

    `goal` and `crop` are those of `framing`. `resize` resizes the whole photo; if the result would be larger than the
    photo, only the cropped part is computed instead.
    """
    height, width = pixels.shape[:2] if isinstance(pixels, np.ndarray) else pixels.size[::-1]
    if goal[0] * goal[1] > height * width:
        return enlarged(pixels, goal, crop)
    return resize(*goal)[crop]


def pillow_view(pixels: NDArray[np.uint8], size: InputSpec, view: str = CARD) -> Tensor:
    """Return the (3, crop, crop) image in [0, 1] of upright (H, W, 3) pixels in `view`."""
    goal, crop = framing(view, size, pixels.shape[0], pixels.shape[1])
    return to_image(framed(pixels, goal, crop, lambda height, width: resized(pixels, height, width)))


def tensor_view(size: InputSpec, view: str = CARD) -> View:
    """Return the differentiable view: (N, 3, H, W) images in [0, 1] -> (N, 3, crop, crop)."""
    return lambda images: tensor_views([images], size, view)


def tensor_views(batches: Sequence[Tensor], size: InputSpec, view: str = CARD) -> Tensor:
    """Return several (N, 3, H, W) batches, each of its own size, in `view` as one (sum of N, 3, crop, crop) batch."""
    framings = [framing(view, size, images.shape[-2], images.shape[-1]) for images in batches]
    out: Tensor = _Shrunk.apply(framings, *batches)
    return out


def reshaped(images: Tensor, height: int, width: int) -> Tensor:
    """Return (N, 3, H, W) images as (N, 3, height, width), resized as Pillow does; differentiable."""
    if images.shape[-2:] == (height, width):
        return images
    shrunk: Tensor = _Shrunk.apply([((height, width), (slice(0, height), slice(0, width)))], images)
    return shrunk


def card_view(size: InputSpec) -> View:
    """Return the `tensor_view` of the `card` view."""
    return tensor_view(size, CARD)


class _Shrunk(torch.autograd.Function):
    """Resize as Pillow does (one axis after the other, rounded to 8 bits after each), then crop and concatenate.

    The gradient ignores the rounding. It is a product with the resampling matrices of the cropped lines; torch's own
    gradient of antialiased resizing takes three times as long, a tenth of a gradient step.
    """

    @staticmethod
    def forward(ctx: Any, framings: Sequence[Framing], *batches: Tensor) -> Tensor:
        ctx.framings, ctx.shapes = framings, [images.shape for images in batches]
        shrunk = list(batches)
        # Columns before rows, so that cropped columns are not resized in height.
        for side in (1, 0):
            shrunk = _resized_axis(shrunk, side - 2, [(goal[side], crop[side]) for goal, crop in framings])
        return shrunk[0].contiguous() if len(shrunk) == 1 else torch.cat(shrunk)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        found = list(torch.split(gradients[0], [shape[0] for shape in ctx.shapes]))
        for side in (0, 1):
            found = [
                _spread_axis(gradient, side - 2, shape[side - 2], goal[side], crop[side])
                for gradient, shape, (goal, crop) in zip(found, ctx.shapes, ctx.framings, strict=True)
            ]
        return None, *found


def _resized_axis(batches: Sequence[Tensor], dim: int, framings: Sequence[tuple[int, slice]]) -> list[Tensor]:
    """Return each batch with one of the last two axes resized to its goal and cropped."""
    found, resampled = [], []
    for images, (goal, crop) in zip(batches, framings, strict=True):
        size = images.shape[dim]
        if size == goal:
            found.append(images.narrow(dim, crop.start, crop.stop - crop.start))
        elif max(size, goal) > LONG:
            found.append(resampled_lines(images, lines(size, goal, crop.start, crop.stop), dim))
            resampled.append(found[-1])
        else:
            shape = (images.shape[-2], goal) if dim == -1 else (goal, images.shape[-1])
            resampled.append(_bilinear(images, *shape))
            found.append(resampled[-1].narrow(dim, crop.start, crop.stop - crop.start))
    _to_levels(resampled)
    return found


def _spread_axis(gradients: Tensor, dim: int, size: int, goal: int, crop: slice) -> Tensor:
    """Return the gradients of the `size` lines before `_resized_axis`, from the (N, 3, h, w) gradients after it."""
    if size != goal and max(size, goal) > LONG:
        return spread_lines(gradients, lines(size, goal, crop.start, crop.stop), size, dim)
    if size != goal:
        matrix = _resampling(size, goal, crop.start, crop.stop, gradients.device)
        if dim == -1:
            return gradients.flatten(0, 2).mm(matrix).view(*gradients.shape[:3], size)
        planes = gradients.flatten(0, 1)
        spread = matrix.T.expand(len(planes), -1, -1).bmm(planes)
        return spread.view(*gradients.shape[:2], size, -1)
    if gradients.shape[dim] == size:
        return gradients
    shape = list(gradients.shape)
    shape[dim] = size
    whole = gradients.new_zeros(shape)
    whole.narrow(dim, crop.start, crop.stop - crop.start).copy_(gradients)
    return whole


@lru_cache(maxsize=64)
def _resampling(size: int, goal: int, first: int, last: int, device: torch.device) -> Tensor:
    """Return rows `first` to `last` of the matrix that resizes `size` pixels to `goal`: (last - first, size)."""
    found = torch.zeros(last - first, size)
    # Resize unit vectors of the source lines that the crop depends on, a block at a time.
    reach = max(size / goal, 1.0) + 1
    begin, end = max(0, int(first * size / goal - reach)), min(size, int(last * size / goal + reach) + 1)
    for start in range(begin, end, _BLOCK):
        units = torch.zeros(min(_BLOCK, end - start), size)
        units[:, start : start + len(units)].fill_diagonal_(1.0)
        weights = _bilinear(units[None, None], len(units), goal)[0, 0, :, first:last]
        found[:, start : start + len(units)] = weights.T
    return found.to(device, non_blocking=True)


def _bilinear(images: Tensor, height: int, width: int) -> Tensor:
    return interpolate(images, (height, width), mode="bilinear", align_corners=False, antialias=True)


def _to_levels(batches: list[Tensor]) -> None:
    """Round to 8-bit levels, in place; each operator runs once for all sizes."""
    if not batches:
        return
    # Pillow rounds ties up; 1e-4 keeps float32's error from rounding them down.
    torch._foreach_mul_(batches, 255)
    torch._foreach_add_(batches, 0.5 + 1e-4)
    torch._foreach_floor_(batches)
    torch._foreach_div_(batches, 255)
