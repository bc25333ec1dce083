"""Resize and centre crop, twice: on tensors for gradients, and by Pillow for what a service really does.

Tensor resizing matches Pillow only with `antialias=True`. Sizes follow torchvision's rule: the short side becomes
`resize`, the long side is cut to whole pixels, and a centre crop's offset is rounded to even.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from hashshield.checkpoints.card import Input
from hashshield.types import View

__all__ = ["card_view", "centre", "cropped", "pillow_view", "resized", "short_side", "to_image"]


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


def pillow_view(pixels: NDArray[np.uint8], size: Input) -> Tensor:
    """Upright (H, W, 3) pixels -> (3, crop, crop) image in [0, 1], by the card's geometry."""
    return cropped(resized(pixels, *short_side(pixels.shape[0], pixels.shape[1], size.resize)), size)


def cropped(small: NDArray[np.uint8], size: Input) -> Tensor:
    """The end of `pillow_view`, for pixels that are resized already."""
    rows, columns = centre(small.shape[0], small.shape[1], size.crop)
    return to_image(small[rows, columns])


def card_view(size: Input) -> View:
    """The card's geometry on tensors: (N, 3, H, W) in [0, 1] -> (N, 3, crop, crop)."""

    def view(images: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        goal = short_side(height, width, size.resize)
        # As Pillow does it to 8-bit pixels: one axis after the other, rounded after each.
        if width != goal[1]:
            images = _to_levels(_bilinear(images, height, goal[1]))
        if height != goal[0]:
            images = _to_levels(_bilinear(images, *goal))
        rows, columns = centre(*goal, size.crop)
        return images[..., rows, columns]

    return view


def _bilinear(images: Tensor, height: int, width: int) -> Tensor:
    return interpolate(images, (height, width), mode="bilinear", align_corners=False, antialias=True)


def _to_levels(images: Tensor) -> Tensor:
    """Round to 8-bit levels; the gradient goes straight through."""
    plain = images.detach()
    # Pillow's ties go up; 1e-4 keeps float32's own error from deciding them.
    return images + (torch.floor(plain * 255 + (0.5 + 1e-4)) / 255 - plain)
