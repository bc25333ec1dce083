"""Other sizes and framings of a photo as views: smaller copies, crops, borders, mirrored."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad as padded_with

from hashshield.types import View
from hashshield.views.geometry import reshaped

__all__ = ["crop", "flip", "long_side", "pad", "placed", "scaled"]


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
