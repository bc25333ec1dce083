"""Where a change is seen least: little in flat sky and skin, much in grass and hair."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn.functional import avg_pool2d, max_pool2d
from torch.nn.functional import pad as padded_with

__all__ = ["masking"]

_FLAT = 0.35
"""What a pixel without any contrast around it may change, as a share of one amid texture."""
_HALF = 6.0
"""Local standard deviation, in 8-bit levels, at which half of the way to full texture is done."""


def masking(shown: NDArray[np.uint8], height: int, width: int) -> Tensor:
    """Upright (H, W, 3) pixels -> (1, height, width) in (0, 1]: how far a change goes unseen.

    Contrast masks what is added to it (texture masking in just-noticeable differences; Chou and Li 1995). It is the
    standard deviation of luma over 3 x 3 grid pixels, and of neighbouring windows the least counts: beside an edge,
    flat parts stay flat. The photo's own pixels are counted, so texture too fine for the grid masks too.
    """
    luma = Image.fromarray(shown).convert("L")
    levels = np.asarray(luma, dtype=np.float32)
    moments = [_reduced(plane, height, width) for plane in (levels, np.square(levels))]
    mean, square = (_windowed(plane) for plane in moments)
    contrast = (square - mean.square()).clamp_min(0).sqrt()
    least = -max_pool2d(_extended(-contrast), 3, stride=1)
    share = least / (least + _HALF)
    return (_FLAT + (1 - _FLAT) * _windowed(share))[0]


def _reduced(plane: NDArray[np.float32], height: int, width: int) -> Tensor:
    small = Image.fromarray(plane).resize((width, height), Image.Resampling.BOX)
    return torch.from_numpy(np.array(small))[None, None]


def _extended(plane: Tensor) -> Tensor:
    return padded_with(plane, (1, 1, 1, 1), mode="replicate")


def _windowed(plane: Tensor) -> Tensor:
    """Mean over 3 x 3 pixels, edges repeated."""
    return avg_pool2d(_extended(plane), 3, stride=1)
