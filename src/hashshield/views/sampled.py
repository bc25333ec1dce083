"""What may be done to a photo before it is hashed: each look at it sees one of many transforms, not all."""

from __future__ import annotations

import math

import numpy as np

from hashshield.types import View
from hashshield.views.codec import jpeg
from hashshield.views.light import noise
from hashshield.views.scaling import scaled

__all__ = ["TURNS", "kept_photo"]

TURNS = 3
"""Looks in which `kept_photo` shows each of its kinds once."""

_COARSE = {1: 6.0, 2: 2.0}
"""Photo pixels per grid pixel from which on JPEG (1) and half the size (2) average out before they reach the grid."""
_SIGMA = 0.01
_QUALITIES = (80, 92)
"""Least and most, on the grid, where a block of 8 x 8 covers more of the photo than in its file."""


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
