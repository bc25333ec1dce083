"""Resize and centre crop, twice: on tensors for gradients, and by Pillow for what a service really does.

Tensor resizing matches Pillow only with `antialias=True`. Sizes follow torchvision's rule: the short side becomes
`resize`, the long side is cut to whole pixels, and a centre crop's offset is rounded to even.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

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
    "SQUASH",
    "VIEWS",
    "card_view",
    "centre",
    "framing",
    "pillow_view",
    "reshaped",
    "resized",
    "short_side",
    "tensor_view",
    "to_image",
]

CARD = "card"
"""Resize the short side and crop the centre, as the network's card says."""
SQUASH = "squash"
"""Resize both sides to the network's input, whatever the aspect."""

VIEWS = (CARD, SQUASH)
"""Every way in which a network is taken to see a whole photo."""

Framing = tuple[tuple[int, int], tuple[slice, slice]]


def short_side(height: int, width: int, size: int) -> tuple[int, int]:
    """(height, width) after resizing so that the short side is `size`."""
    if height <= width:
        return size, int(size * width / height)
    return int(size * height / width), size


def resized(pixels: NDArray[np.uint8] | Image.Image, height: int, width: int) -> NDArray[np.uint8]:
    """(H, W, 3) or RGB image -> (height, width, 3), Pillow's antialiased bilinear, rounded to 8 bits.

    That is what a service gets. An image is for those who need several sizes of a large photo: making one is a copy.
    """
    if isinstance(pixels, np.ndarray):
        if pixels.shape[:2] == (height, width):
            return pixels
        pixels = Image.fromarray(pixels)
    return np.asarray(pixels.resize((width, height), Image.Resampling.BILINEAR))


def centre(height: int, width: int, size: int) -> tuple[slice, slice]:
    """Rows and columns of the centre crop."""
    top, left = round((height - size) / 2), round((width - size) / 2)
    return slice(top, top + size), slice(left, left + size)


def to_image(pixels: NDArray[np.uint8]) -> Tensor:
    """(H, W, 3) uint8 -> (3, H, W) float in [0, 1]."""
    return torch.from_numpy(np.array(pixels)).permute(2, 0, 1).float() / 255


def framing(view: str, size: InputSpec, height: int, width: int) -> Framing:
    """What `view` (`CARD` or `SQUASH`) does to a photo of that size: (height, width) to resize to, then the crop."""
    if view == SQUASH:
        return (size.crop, size.crop), (slice(0, size.crop), slice(0, size.crop))
    goal = short_side(height, width, size.resize)
    return goal, centre(*goal, size.crop)


def pillow_view(pixels: NDArray[np.uint8], size: InputSpec, view: str = CARD) -> Tensor:
    """Upright (H, W, 3) pixels -> (3, crop, crop) image in [0, 1], by the card's geometry or squashed."""
    goal, crop = framing(view, size, pixels.shape[0], pixels.shape[1])
    return to_image(resized(pixels, *goal)[crop])


def tensor_view(size: InputSpec, view: str = CARD) -> View:
    """The same on tensors: (N, 3, H, W) in [0, 1] -> (N, 3, crop, crop)."""

    def seen(images: Tensor) -> Tensor:
        out: Tensor = _Shrunk.apply(images, *framing(view, size, images.shape[-2], images.shape[-1]))
        return out

    return seen


def reshaped(images: Tensor, height: int, width: int) -> Tensor:
    """(N, 3, H, W) -> (N, 3, height, width), resized as Pillow does it, with a gradient."""
    if images.shape[-2:] == (height, width):
        return images
    seen: Tensor = _Shrunk.apply(images, (height, width), (slice(0, height), slice(0, width)))
    return seen


def card_view(size: InputSpec) -> View:
    """`tensor_view` by the card's own geometry."""
    return tensor_view(size, CARD)


class _Shrunk(torch.autograd.Function):
    """Resized as Pillow does it to 8-bit pixels, one axis after the other and rounded after each, then cropped.

    The gradient goes straight through the rounding. It is a product with the resampling matrices of what the crop
    keeps: torch's own for antialiased resizing costs three times as much, a tenth of a gradient step.
    """

    @staticmethod
    def forward(ctx: Any, images: Tensor, goal: tuple[int, int], crop: tuple[slice, slice]) -> Tensor:
        ctx.size, ctx.goal, ctx.crop = images.shape[-2:], goal, crop
        if images.shape[-1] != goal[1]:
            images = _to_levels(_bilinear(images, images.shape[-2], goal[1]))
        images = images[..., crop[1]]
        if images.shape[-2] != goal[0]:
            images = _to_levels(_bilinear(images, goal[0], images.shape[-1]))
        return images[..., crop[0], :].contiguous()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (height, width), (tall, wide), (rows, columns) = ctx.size, ctx.goal, ctx.crop
        found = gradients[0]
        if height != tall:
            found = _resampling(height, tall, rows.start, rows.stop, found.device).T @ found
        if width != wide:
            found = found @ _resampling(width, wide, columns.start, columns.stop, found.device)
        left, top = (0 if width != wide else columns.start), (0 if height != tall else rows.start)
        if found.shape[-2:] != (height, width):
            whole = found.new_zeros((*found.shape[:-2], height, width))
            whole[..., top : top + found.shape[-2], left : left + found.shape[-1]] = found
            found = whole
        return found, None, None


@lru_cache(maxsize=64)
def _resampling(size: int, goal: int, first: int, last: int, device: torch.device) -> Tensor:
    """(last - first, size): the rows of the matrix that resizes `size` pixels to `goal` which the crop keeps."""
    return _bilinear(torch.eye(size)[None, None], size, goal)[0, 0, :, first:last].T.contiguous().to(device)


def _bilinear(images: Tensor, height: int, width: int) -> Tensor:
    return interpolate(images, (height, width), mode="bilinear", align_corners=False, antialias=True)


def _to_levels(images: Tensor) -> Tensor:
    """Round to 8-bit levels."""
    # Pillow's ties go up; 1e-4 keeps float32's own error from deciding them.
    return images.mul_(255).add_(0.5 + 1e-4).floor_().div_(255)
