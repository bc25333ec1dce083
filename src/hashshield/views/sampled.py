"""What may be done to a photo before it is hashed: each look at it sees one of many transforms, not all."""

from __future__ import annotations

import math

import numpy as np
from torch import Tensor

from hashshield.types import View
from hashshield.views.codec import jpeg
from hashshield.views.light import noise
from hashshield.views.scaling import placed, scaled

__all__ = ["CYCLE", "input_diversity", "sharing_transforms"]

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
