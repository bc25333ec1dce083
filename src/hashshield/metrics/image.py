"""Distances between two photos: PSNR, SSIM, L-infinity, and classical perceptual hashes.

The first three are computed strip by strip to stay in the CPU cache. HashShield does not hide photos from the classical
hashes; their distances are reported for information. pHash and dHash are implemented here and equal those of the
package imagehash bit for bit, which would bring in scipy and PyWavelets. PDQ comes from its publisher's package, so
that the distance is the one that services measure.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from hashshield.arrays import Pixels
from hashshield.types import PerceptualRow

__all__ = ["dhash", "linf_levels", "pdq", "perceptual_rows", "phash", "psnr_db", "ssim"]

_STRIP_VALUES = 400_000
"""Values per strip: a few such strips of float32 fit a core's cache. Sums over main memory are several times slower."""
_STRIP_WIDTH = 20_000
"""Most pixels across a strip of SSIM: a strip has at least 20 rows, too many for a photo a million pixels wide."""
_RADIUS, _SIGMA = 5, 1.5
HashBits = NDArray[np.bool_]
"""(K,) bits of a classical hash."""


def linf_levels(a: Pixels, b: Pixels) -> int:
    """Return the largest absolute difference of two arrays, 0 to 255. Raises ValueError if their shapes differ."""
    return max((int(_difference(x, y).max()) for x, y in _strips(a, b)), default=0)


def psnr_db(a: Pixels, b: Pixels) -> float:
    """Return the peak signal-to-noise ratio over all values, in dB, peak 255; infinite for equal arrays.

    Raises ValueError if their shapes differ.
    """
    total = 0.0
    for x, y in _strips(a, b):
        # The sum is exact: its terms are integers far below 2^53.
        difference = _difference(x, y).ravel().astype(np.float64)
        total += float(difference @ difference)
    return math.inf if total == 0 else 10 * math.log10(255**2 * a.size / total)


def ssim(a: Pixels, b: Pixels) -> float:
    """Return the structural similarity (Wang et al. 2004) of two (H, W, C) arrays, at most 1.

    The window is Gaussian, 11 pixels a side with sigma 1.5; K1 is 0.01, K2 is 0.03. The mean is taken over the windows
    that lie inside the photo and over channels. Raises ValueError for a side under 11 pixels.
    """
    if min(a.shape[:2]) < 2 * _RADIUS + 1:
        raise ValueError(f"SSIM needs 11 pixels a side, found {a.shape[:2]}")
    height, width, channels = a.shape
    step = max(2 * _RADIUS, _STRIP_VALUES // (width * channels))
    total = 0.0
    for top in range(0, height - 2 * _RADIUS, step):
        rows = slice(top, min(top + step + 2 * _RADIUS, height))
        for left in range(0, width - 2 * _RADIUS, _STRIP_WIDTH):
            part = rows, slice(left, min(left + _STRIP_WIDTH + 2 * _RADIUS, width))
            total += float(_ssim_map(_rows(a[part]), _rows(b[part]), channels).sum(dtype=torch.float64))
    mean: float = total / (channels * (height - 2 * _RADIUS) * (width - 2 * _RADIUS))
    return mean


def _ssim_map(x: Tensor, y: Tensor, channels: int) -> Tensor:
    c1, c2 = 0.01**2, 0.03**2
    mx, my = _blur(x, channels), _blur(y, channels)
    product, squares = mx * my, mx * mx + my * my
    covariance = _blur(x * y, channels) - product
    variances = _blur(x * x + y * y, channels) - squares
    return ((2 * product + c1) * (2 * covariance + c2)) / ((squares + c1) * (variances + c2))


def _blur(plane: Tensor, channels: int) -> Tensor:
    """Return the Gaussian mean of each window, by shifted sums because one-channel convolutions are not vectorised."""
    for axis, stride in ((0, 1), (1, channels)):
        size = plane.shape[axis] - 2 * _RADIUS * stride
        total = plane.narrow(axis, 0, size) * _WINDOW[0]
        for k in range(1, len(_WINDOW)):
            total.add_(plane.narrow(axis, k * stride, size), alpha=_WINDOW[k])
        plane = total
    return plane


def _window() -> list[float]:
    weights = [math.exp(-(offset**2) / (2 * _SIGMA**2)) for offset in range(-_RADIUS, _RADIUS + 1)]
    return [weight / sum(weights) for weight in weights]


_WINDOW = _window()


def _rows(pixels: Pixels) -> Tensor:
    """Return (H, W, C) pixels as (H, W * C) in [0, 1]; neighbours in one channel are C apart."""
    return torch.from_numpy(pixels.astype(np.float32).reshape(len(pixels), -1)).div_(255)


def _difference(a: Pixels, b: Pixels) -> Pixels:
    larger: Pixels = np.maximum(a, b)
    larger -= np.minimum(a, b)
    return larger


def _strips(a: Pixels, b: Pixels) -> list[tuple[Pixels, Pixels]]:
    if a.shape != b.shape:
        raise ValueError(f"shapes differ: {a.shape} and {b.shape}")
    step = max(1, _STRIP_VALUES // max(1, a[0].size))
    return [(a[top : top + step], b[top : top + step]) for top in range(0, len(a), step)]


def phash(image: Image.Image) -> HashBits:
    """Return the (64,) bits of an RGB image: which of the lowest 8x8 frequencies at 32x32 pixels exceed their median.

    Krawetz, "Looks Like It" (2011), with the median, as in imagehash, in place of the mean.
    """
    grey = np.asarray(image.convert("L").resize((32, 32), Image.Resampling.LANCZOS), np.float64)
    frequency, place = np.arange(8)[:, None], np.arange(32)[None]
    cosines = np.cos(np.pi * frequency * (2 * place + 1) / 64)  # DCT-II; its scale changes no comparison
    low = cosines @ grey @ cosines.T
    bits: HashBits = (low > np.median(low)).ravel()
    return bits


def dhash(image: Image.Image) -> HashBits:
    """Return the (64,) bits of an RGB image: where brightness rises along the rows of its grey version of 9x8 pixels.

    Krawetz, "Kind of Like That" (2013).
    """
    grey = np.asarray(image.convert("L").resize((9, 8), Image.Resampling.LANCZOS))
    bits: HashBits = (grey[:, 1:] > grey[:, :-1]).ravel()
    return bits


def pdq(image: Image.Image) -> HashBits:
    """Return the (256,) bits of PDQ. Raises ImportError where the package pdqhash is not installed."""
    import pdqhash

    bits, _quality = pdqhash.compute(np.asarray(image))
    found: HashBits = np.asarray(bits, bool)
    return found


class _Hash(NamedTuple):
    name: str
    bits: int
    threshold: int
    """Largest distance that customarily counts as a match."""
    of: Callable[[Image.Image], HashBits]


_HASHES = (
    # 10 of 64 is Krawetz's own threshold for both; 31 of 256 is the one that PDQ's publisher recommends.
    _Hash("pHash", 64, 10, phash),
    _Hash("dHash", 64, 10, dhash),
    _Hash("PDQ", 256, 31, pdq),
)


def perceptual_rows(before: Image.Image, after: Image.Image) -> tuple[PerceptualRow, ...]:
    """Return one row per hash with the distance of two upright RGB images, or the reason why there is none."""
    rows = []
    for kind in _HASHES:
        try:
            distance = int(np.count_nonzero(kind.of(before) != kind.of(after)))
        except ImportError:
            reason = "pdqhash is not installed; add it with `pipx inject hashshield pdqhash`"
            rows.append(PerceptualRow(kind.name, kind.bits, kind.threshold, reason=reason))
            continue
        rows.append(PerceptualRow(kind.name, kind.bits, kind.threshold, distance, distance <= kind.threshold))
    return tuple(rows)
