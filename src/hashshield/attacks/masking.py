"""The perceptual mask: put a change where it shows least, in grass and hair instead of sky and skin, and keep it fine.

`PerceptualMask.share` weights places, `Spectrum` weights luma, colour and coarseness.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn.functional import avg_pool2d, max_pool2d
from torch.nn.functional import pad as padded_with

from hashshield.transforms.differentiable import blur

__all__ = [
    "AS_IT_IS",
    "COARSE_GRAIN",
    "FINE_GRAIN",
    "MIDDLE_GRAIN",
    "PerceptualMask",
    "Spectra",
    "Spectrum",
    "perceptual_mask",
]

_FLAT = 0.1
"""Share of a pixel without contrast around it; a pixel in full texture has 1."""
_HALF = 6.0
"""Local standard deviation, in 8-bit levels, at which the share is halfway to that of full texture."""
_SIGMA = 1.0
"""Standard deviation, in grid pixels, of the Gaussian mean in `Spectrum`."""

_smoothed = blur(_SIGMA)

_LUMA = torch.tensor([0.299, 0.587, 0.114])
_LIGHT = (_LUMA / _LUMA.norm())[:, None, None]
"""(3, 1, 1): the direction of luma (ITU-R BT.601) in RGB, of length 1."""


class Spectrum(NamedTuple):
    """Weights of a gradient's luma and colour: for each, (weight of the plane itself, weight of its Gaussian mean).

    The mean holds the low frequencies. A negative weight removes them, because eyes see coarse patches before fine
    grain (contrast sensitivity; Watson 1993).
    """

    luma: tuple[float, float]
    colour: tuple[float, float]


class Spectra(NamedTuple):
    """The spectrum to use, by kind of photo."""

    lossless: Spectrum
    """For lossless formats."""
    lossy: Spectrum
    """For lossy formats."""
    enlarged: Spectrum | None = None
    """For photos with more pixels than their grid, where no grain is fine; None: as for others."""

    def of(self, *, lossless: bool, enlarged: bool) -> Spectrum:
        """Return the spectrum for a photo of that kind."""
        if enlarged and self.enlarged is not None:
            return self.enlarged
        return self.lossless if lossless else self.lossy


AS_IT_IS = Spectrum(luma=(1.0, 0.0), colour=(1.0, 0.0))
FINE_GRAIN = Spectra(
    lossless=Spectrum(luma=(1.0, -0.8), colour=(1.5, -0.75)), lossy=Spectrum(luma=(1.0, -0.5), colour=(1.0, 0.5))
)
"""For changes that only have to be in the written file (measured: ADR 011)."""
MIDDLE_GRAIN = Spectra(
    lossless=Spectrum(luma=(1.0, -0.8), colour=(1.0, 0.5)),
    lossy=Spectrum(luma=(1.0, -0.8), colour=(1.0, 0.5)),
    enlarged=Spectrum(luma=(1.0, -0.8), colour=(1.0, 0.0)),
)
"""For changes that should survive JPEG and resizing (measured: ADR 014)."""


_COARSER = Spectrum(luma=(1.0, -0.5), colour=(1.0, 0.0))
COARSE_GRAIN = Spectra(lossless=_COARSER, lossy=_COARSER)
"""For changes that should also move the codes of networks not searched on (measured: ADR 015)."""


@dataclass(frozen=True, slots=True, eq=False)
class PerceptualMask:
    """How well a change is hidden, by place, colour and fineness."""

    share: Tensor
    """(1, h, w) in (0, 1]: how much change each place hides, relative to full texture; (N, 1, h, w) for a stack."""
    spectrum: Spectrum = AS_IT_IS

    def to(self, device: torch.device | str) -> PerceptualMask:
        """Return the mask on another device."""
        return replace(self, share=self.share.to(device))

    def weight(self, delta: Tensor) -> Tensor:
        """Return a (C, h, w) change in units of visible change: larger where texture hides little."""
        return delta / self.share

    def unweight(self, change: Tensor) -> Tensor:
        """Undo `weight`: return a (C, h, w) visible change in [0, 1] pixel units."""
        return change * self.share

    def condition(self, gradient: Tensor) -> Tensor:
        """Return a (C, h, w) gradient, or an (N, C, h, w) stack, with luma and colour weighted by `spectrum`.

        Colour is the part orthogonal to the direction of luma. A single channel counts as luma.
        """
        if gradient.shape[-3] == 1:
            return _weighted(gradient, self.spectrum.luma)
        direction = _LIGHT.to(gradient, non_blocking=True)
        luma = (direction * gradient).sum(-3, keepdim=True)
        colour = gradient - direction * luma
        shaped: Tensor = direction * _weighted(luma, self.spectrum.luma) + _weighted(colour, self.spectrum.colour)
        return shaped


def _weighted(planes: Tensor, weights: tuple[float, float]) -> Tensor:
    """Return the weighted sum of (..., C, h, w) planes and their Gaussian means."""
    itself, mean = weights
    if not mean:
        return itself * planes
    smooth: Tensor = mean * _smoothed(planes.view(-1, *planes.shape[-3:])).view(planes.shape)
    return itself * planes + smooth if itself else smooth


def perceptual_mask(
    pixels: NDArray[np.uint8], height: int, width: int, spectrum: Spectrum = AS_IT_IS
) -> PerceptualMask:
    """Return the mask of upright (H, W, 3) `pixels` on their (height, width) grid.

    Contrast hides a change (texture masking in just-noticeable differences; Chou and Li 1995). It is measured as the
    standard deviation of luma over 3 x 3 grid pixels. Of neighbouring windows the smallest value counts, so that flat
    parts beside an edge still count as flat. The moments are averaged over the photo's own pixels, so texture too fine
    for the grid counts as well.
    """
    luma = Image.fromarray(pixels).convert("L")
    levels = np.asarray(luma, dtype=np.float32)
    moments = [_reduced(plane, height, width) for plane in (levels, np.square(levels))]
    mean, square = (_windowed(plane) for plane in moments)
    contrast = (square - mean.square()).clamp_min(0).sqrt()
    least = -max_pool2d(_extended(-contrast), 3, stride=1)
    share = least / (least + _HALF)
    return PerceptualMask((_FLAT + (1 - _FLAT) * _windowed(share))[0], spectrum)


def _reduced(plane: NDArray[np.float32], height: int, width: int) -> Tensor:
    small = Image.fromarray(plane).resize((width, height), Image.Resampling.BOX)
    return torch.from_numpy(np.array(small))[None, None]


def _extended(plane: Tensor) -> Tensor:
    return padded_with(plane, (1, 1, 1, 1), mode="replicate")


def _windowed(plane: Tensor) -> Tensor:
    """Return the mean over 3 x 3 pixels, with edges repeated."""
    return avg_pool2d(_extended(plane), 3, stride=1)
