"""Where a change is seen least: little in flat sky and skin, much in grass and hair, and less of it in colour."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn.functional import avg_pool2d, max_pool2d
from torch.nn.functional import pad as padded_with

from hashshield.transforms.differentiable import blur

__all__ = ["PerceptualMask", "perceptual_mask"]

_FLAT = 0.1
"""What a pixel without any contrast around it may change, as a share of one amid texture."""
_HALF = 6.0
"""Local standard deviation, in 8-bit levels, at which half of the way to full texture is done."""
_COLOUR = 0.4
"""How far a step may change colour, as a share of what it would."""
_COLOUR_SIGMA = 1.0
"""Grid pixels over which colour is smoothed: JPEG keeps it at half the resolution, and what is finer is lost."""

_smoothed = blur(_COLOUR_SIGMA)

_LUMA = torch.tensor([0.299, 0.587, 0.114])
_LIGHT = (_LUMA / _LUMA.norm())[:, None, None]
"""(3, 1, 1): the direction of luma (ITU-R BT.601) in RGB, of length 1."""


@dataclass(frozen=True, slots=True, eq=False)
class PerceptualMask:
    """How far a change goes unseen, by place and by colour."""

    share: Tensor
    """(1, h, w) in (0, 1]: what a place hides, as a share of full texture."""

    def to(self, device: torch.device | str) -> PerceptualMask:
        """The same on another device."""
        return replace(self, share=self.share.to(device))

    def weight(self, delta: Tensor) -> Tensor:
        """(C, h, w) change as it is seen: more where little hides it."""
        return delta / self.share

    def unweight(self, change: Tensor) -> Tensor:
        """Undo `seen`: less where little hides it."""
        return change * self.share

    def damp_chroma(self, gradient: Tensor) -> Tensor:
        """(C, h, w) gradient with its colour smoothed and held back; all of it where there is one channel.

        Colour is the plane orthogonal to the direction of luma.
        """
        if len(gradient) == 1:
            return gradient
        direction = _LIGHT.to(gradient)
        light = direction * (direction * gradient).sum(0)
        colour: Tensor = _smoothed((gradient - light)[None])[0]
        toned: Tensor = light + _COLOUR * colour
        return toned


def perceptual_mask(shown: NDArray[np.uint8], height: int, width: int) -> PerceptualMask:
    """Upright (H, W, 3) pixels -> the masking of their (height, width) grid.

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
    return PerceptualMask((_FLAT + (1 - _FLAT) * _windowed(share))[0])


def _reduced(plane: NDArray[np.float32], height: int, width: int) -> Tensor:
    small = Image.fromarray(plane).resize((width, height), Image.Resampling.BOX)
    return torch.from_numpy(np.array(small))[None, None]


def _extended(plane: Tensor) -> Tensor:
    return padded_with(plane, (1, 1, 1, 1), mode="replicate")


def _windowed(plane: Tensor) -> Tensor:
    """Mean over 3 x 3 pixels, edges repeated."""
    return avg_pool2d(_extended(plane), 3, stride=1)
