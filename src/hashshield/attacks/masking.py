"""Where and how a change is seen least: less in flat sky and skin than in grass and hair, and fine, not coarse."""

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
"""What a pixel without any contrast around it may change, as a share of one amid texture."""
_HALF = 6.0
"""Local standard deviation, in 8-bit levels, at which half of the way to full texture is done."""
_SIGMA = 1.0
"""Grid pixels over which `Spectrum` takes the mean of luma and colour."""

_smoothed = blur(_SIGMA)

_LUMA = torch.tensor([0.299, 0.587, 0.114])
_LIGHT = (_LUMA / _LUMA.norm())[:, None, None]
"""(3, 1, 1): the direction of luma (ITU-R BT.601) in RGB, of length 1."""


class Spectrum(NamedTuple):
    """What a step makes of a gradient's luma and colour: weights of the plane itself and of its Gaussian mean.

    The mean holds low frequencies. A negative weight takes them out, because eyes see coarse patches before fine grain
    (contrast sensitivity; Watson 1993).
    """

    luma: tuple[float, float]
    colour: tuple[float, float]


class Spectra(NamedTuple):
    """The spectrum of a photo's steps."""

    lossless: Spectrum
    """Where the file keeps every pixel."""
    lossy: Spectrum
    """Where it is encoded."""
    enlarged: Spectrum | None = None
    """Where the photo has more pixels than the grid, so that no grain is fine; None: as for others."""

    def of(self, *, lossless: bool, enlarged: bool) -> Spectrum:
        """Return the one for such a photo."""
        if enlarged and self.enlarged is not None:
            return self.enlarged
        return self.lossless if lossless else self.lossy


AS_IT_IS = Spectrum(luma=(1.0, 0.0), colour=(1.0, 0.0))
FINE_GRAIN = Spectra(
    lossless=Spectrum(luma=(1.0, -0.8), colour=(1.5, -0.75)), lossy=Spectrum(luma=(1.0, -0.5), colour=(1.0, 0.5))
)
"""For changes that need only be in the file (measured: ADR 011)."""
MIDDLE_GRAIN = Spectra(
    lossless=Spectrum(luma=(1.0, -0.8), colour=(1.0, 0.5)),
    lossy=Spectrum(luma=(1.0, -0.8), colour=(1.0, 0.5)),
    enlarged=Spectrum(luma=(1.0, -0.8), colour=(1.0, 0.0)),
)
"""For changes that are to outlast JPEG and resizing as far as they stay unseen (measured: ADR 014)."""


_COARSER = Spectrum(luma=(1.0, -0.5), colour=(1.0, 0.0))
COARSE_GRAIN = Spectra(lossless=_COARSER, lossy=_COARSER)
"""For changes that are to move what networks of other kinds see too (measured: ADR 015)."""


@dataclass(frozen=True, slots=True, eq=False)
class PerceptualMask:
    """How far a change goes unseen, by place, by colour and by how fine it is."""

    share: Tensor
    """(1, h, w) in (0, 1]: what a place hides, as a share of full texture; of several photos (N, 1, h, w)."""
    spectrum: Spectrum = AS_IT_IS

    def to(self, device: torch.device | str) -> PerceptualMask:
        """The same on another device."""
        return replace(self, share=self.share.to(device))

    def weight(self, delta: Tensor) -> Tensor:
        """(C, h, w) change as it is seen: more where little hides it."""
        return delta / self.share

    def unweight(self, change: Tensor) -> Tensor:
        """Undo `weight`: less where little hides it."""
        return change * self.share

    def condition(self, gradient: Tensor) -> Tensor:
        """Return a (C, h, w) gradient, or several in (N, C, h, w), with luma and colour weighted by `spectrum`.

        Colour is the plane orthogonal to the direction of luma; one channel is luma.
        """
        if gradient.shape[-3] == 1:
            return _weighted(gradient, self.spectrum.luma)
        direction = _LIGHT.to(gradient, non_blocking=True)
        luma = (direction * gradient).sum(-3, keepdim=True)
        colour = gradient - direction * luma
        shaped: Tensor = direction * _weighted(luma, self.spectrum.luma) + _weighted(colour, self.spectrum.colour)
        return shaped


def _weighted(planes: Tensor, weights: tuple[float, float]) -> Tensor:
    """Weight (..., C, h, w) planes and their means."""
    itself, mean = weights
    if not mean:
        return itself * planes
    smooth: Tensor = mean * _smoothed(planes.view(-1, *planes.shape[-3:])).view(planes.shape)
    return itself * planes + smooth if itself else smooth


def perceptual_mask(
    pixels: NDArray[np.uint8], height: int, width: int, spectrum: Spectrum = AS_IT_IS
) -> PerceptualMask:
    """Return the mask of upright (H, W, 3) `pixels` on their (height, width) grid.

    Contrast masks what is added to it (texture masking in just-noticeable differences; Chou and Li 1995). It is the
    standard deviation of luma over 3 x 3 grid pixels, and of neighbouring windows the least counts: beside an edge,
    flat parts stay flat. The photo's own pixels are counted, so texture too fine for the grid masks too.
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
    """Mean over 3 x 3 pixels, edges repeated."""
    return avg_pool2d(_extended(plane), 3, stride=1)
