"""What may be done to a photo before it is hashed: each look at it sees one of many transforms, not all."""

from __future__ import annotations

import math

import numpy as np
from torch import Tensor

from hashshield.types import View
from hashshield.views.codec import jpeg
from hashshield.views.light import noise
from hashshield.views.scaling import pad, scaled

__all__ = ["TURNS", "anything", "kept_photo"]

TURNS = 3
"""Looks in which `kept_photo` shows each of its kinds once."""

_COARSE = {1: 6.0, 2: 2.0}
"""Photo pixels per grid pixel from which on JPEG (1) and half the size (2) average out before they reach the grid."""
_SIGMA = 0.01
_QUALITIES = (80, 92)
"""On the grid; q75 on a photo of half as many pixels again leaves as much."""


def kept_photo(turn: int, generator: np.random.Generator, scale: float) -> View:
    """What services do to photos they keep, in turns: little things that add up to noise, JPEG, half the size.

    `scale` is photo pixels per grid pixel. Of a large photo the grid shows too little of the last two, and noise
    stands in for them.
    """
    kind = turn % TURNS
    if scale >= _COARSE.get(kind, math.inf):
        kind = 0
    if kind == 1:
        return jpeg(int(generator.integers(_QUALITIES[0], _QUALITIES[1] + 1)))
    if kind == 2:
        return scaled(min(1.0, scale / 2))
    return noise(_SIGMA, generator)


def anything(_turn: int, generator: np.random.Generator, _scale: float) -> View:
    """Another size, on a border of another width, under noise: a change that survives depends less on one network.

    Input diversity (DI-FGSM, Xie et al. 2019), here in the photo's aspect.
    """
    share, border = 1 - 0.25 * float(generator.random()), 0.2 * float(generator.random())

    def view(images: Tensor) -> Tensor:
        return pad(border, 0.5)(scaled(share)(noise(0.03, generator)(images)))

    return view
