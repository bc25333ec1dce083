"""How far two photos are apart: PSNR, SSIM and L-infinity on 8-bit pixels, in strips so that memory stays flat."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import conv2d

__all__ = ["linf_levels", "psnr_db", "ssim"]

Pixels = NDArray[np.uint8]

_STRIP_VALUES = 2_000_000
_RADIUS, _SIGMA = 5, 1.5


def linf_levels(a: Pixels, b: Pixels) -> int:
    """Largest absolute difference of two arrays of one shape, in 8-bit levels."""
    return max((int(_difference(x, y).max()) for x, y in _strips(a, b)), default=0)


def psnr_db(a: Pixels, b: Pixels) -> float:
    """Peak signal-to-noise ratio in dB over all values, peak 255; infinite for equal arrays."""
    total = sum(int(np.square(_difference(x, y), dtype=np.int64).sum()) for x, y in _strips(a, b))
    return math.inf if total == 0 else 10 * math.log10(255**2 * a.size / total)


def ssim(a: Pixels, b: Pixels) -> float:
    """Structural similarity (Wang et al. 2004) of (H, W, C) arrays, at most 1.

    Gaussian window of 11 with sigma 1.5, K1 0.01, K2 0.03, over windows that lie inside the photo, mean over
    channels. Raises ValueError for a side under 11 pixels.
    """
    if min(a.shape[:2]) < 2 * _RADIUS + 1:
        raise ValueError(f"SSIM needs 11 pixels a side, found {a.shape[:2]}")
    offsets = torch.arange(-_RADIUS, _RADIUS + 1, dtype=torch.float32)
    window = torch.exp(-offsets.square() / (2 * _SIGMA**2))
    window = window / window.sum()
    height, width, channels = a.shape
    step = max(32, _STRIP_VALUES // (width * channels))
    total = 0.0
    for top in range(0, height - 2 * _RADIUS, step):
        rows = slice(top, min(top + step + 2 * _RADIUS, height))
        total += float(_ssim_map(_planes(a[rows]), _planes(b[rows]), window).sum(dtype=torch.float64))
    mean: float = total / (channels * (height - 2 * _RADIUS) * (width - 2 * _RADIUS))
    return mean


def _ssim_map(x: Tensor, y: Tensor, window: Tensor) -> Tensor:
    def blur(plane: Tensor) -> Tensor:
        return conv2d(conv2d(plane, window.view(1, 1, -1, 1)), window.view(1, 1, 1, -1))

    c1, c2 = 0.01**2, 0.03**2
    mx, my = blur(x), blur(y)
    vx, vy, vxy = blur(x * x) - mx * mx, blur(y * y) - my * my, blur(x * y) - mx * my
    return ((2 * mx * my + c1) * (2 * vxy + c2)) / ((mx * mx + my * my + c1) * (vx + vy + c2))


def _planes(pixels: Pixels) -> Tensor:
    return torch.from_numpy(np.array(pixels)).permute(2, 0, 1)[:, None].float() / 255


def _difference(a: Pixels, b: Pixels) -> NDArray[np.int16]:
    return np.abs(a.astype(np.int16) - b.astype(np.int16))


def _strips(a: Pixels, b: Pixels) -> list[tuple[Pixels, Pixels]]:
    if a.shape != b.shape:
        raise ValueError(f"shapes differ: {a.shape} and {b.shape}")
    step = max(1, _STRIP_VALUES // max(1, a[0].size))
    return [(a[top : top + step], b[top : top + step]) for top in range(0, len(a), step)]
