"""Classical perceptual hashes, which HashShield does not hide photos from; measured so that nobody has to guess.

pHash and dHash are implemented here, because the package imagehash, which they agree with bit for bit, would bring in
scipy and PyWavelets for these few lines. PDQ comes from its publisher's package: any other version would prove nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hashshield.types import PerceptualRow

__all__ = ["dhash", "perceptual_rows", "phash"]

HashBits = NDArray[np.bool_]
"""(K,) bits of a classical hash."""


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


def _pdq(image: Image.Image) -> HashBits:
    """Return the (256,) bits of PDQ. Raises ImportError where the package pdqhash is not installed."""
    import pdqhash

    bits, _quality = pdqhash.compute(np.asarray(image))
    found: HashBits = np.asarray(bits, bool)
    return found


class _Hash(NamedTuple):
    name: str
    bits: int
    threshold: int
    """Largest distance that is customarily taken for a match."""
    of: Callable[[Image.Image], HashBits]


_HASHES = (
    # 10 of 64 is Krawetz's own bound for both; 31 of 256 is where PDQ's publisher recommends to start.
    _Hash("pHash", 64, 10, phash),
    _Hash("dHash", 64, 10, dhash),
    _Hash("PDQ", 256, 31, _pdq),
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
