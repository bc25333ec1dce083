"""Bilinear resizing along one axis, line by line, where making the whole result or its matrix would not do.

A strip of 60,000 x 32 pixels is enlarged to 480,000 x 256 before its centre is cropped. What is made here grows with
what the crop keeps, not with what it cuts away.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

__all__ = ["LONG", "Lines", "enlarged", "lines", "resampled_lines", "spread_lines"]

LONG = 4096
"""Pixels; an axis longer than this before or after resizing is resized line by line."""

_PRECISION = 22
"""Bits after the point in Pillow's weights (Resample.c)."""


class Lines(NamedTuple):
    """The lines of a resized axis as sums of the source's lines."""

    first: NDArray[np.int64]
    """(n,): the first source line of each."""
    weights: NDArray[np.float64]
    """(n, taps): weights of that line and those that follow; 0 beyond the axis."""


@lru_cache(maxsize=16)
def lines(size: int, goal: int, start: int, stop: int) -> Lines:
    """Return lines `start` to `stop` of an axis of `size` pixels resized to `goal`, antialiased as Pillow does it."""
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
    """Return the transpose of `resampled_lines`: gradients of the resized lines, given to the `size` source lines."""
    shape = list(gradients.shape)
    shape[dim] = size
    total = gradients.new_zeros(shape)
    for source, weights in _steps(gradients, found, size, dim):
        total.index_add_(dim, source, gradients * weights)
    return total


def _steps(like: Tensor, found: Lines, size: int, dim: int) -> list[tuple[Tensor, Tensor]]:
    """Source lines and weights, shaped to multiply along `dim`, tap by tap."""
    shape = [1] * like.ndim
    shape[dim] = len(found.first)
    return [
        (
            torch.from_numpy(np.minimum(found.first + tap, size - 1)).to(like.device),
            torch.from_numpy(weights).to(like.device, like.dtype).view(shape),
        )
        for tap, weights in enumerate(found.weights.T)
    ]


def enlarged(
    pixels: NDArray[np.uint8] | Image.Image, goal: tuple[int, int], crop: tuple[slice, slice]
) -> NDArray[np.uint8]:
    """Return rows and columns `crop` of (H, W, 3) or an RGB image enlarged to `goal`, as Pillow's bilinear makes them.

    Bit for bit Pillow's: columns first, then rows, rounded to 8 bits after each, with its weights in fixed point.
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
    """First source line that is needed, and the one after the last."""
    return int(found.first[0]), min(int(found.first[-1]) + found.weights.shape[1], size)


def _levels(part: NDArray[np.uint8], found: Lines, offset: int) -> NDArray[np.uint8]:
    """Resize the first axis of `part`, whose first line is the source's line `offset`."""
    fixed = np.floor(found.weights * (1 << _PRECISION) + 0.5).astype(np.int64)
    total = np.full((len(found.first), *part.shape[1:]), 1 << (_PRECISION - 1), dtype=np.int64)
    for tap in range(fixed.shape[1]):
        source = np.minimum(found.first + tap - offset, len(part) - 1)
        total += part[source] * fixed[:, tap].reshape(-1, *[1] * (part.ndim - 1))
    rounded: NDArray[np.uint8] = np.clip(total >> _PRECISION, 0, 255).astype(np.uint8)
    return rounded
