"""Classical perceptual hashes, which HashShield does not hide from; measured so that nobody has to guess.

pHash and dHash are written out here: the package imagehash, which they agree with bit for bit, brings scipy and
PyWavelets for these few lines. PDQ is not, because it is worth something only as its publisher wrote it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hashshield.types import PerceptualRow

__all__ = ["dhash", "perceptual_rows", "phash"]

Bits = NDArray[np.bool_]


def phash(image: Image.Image) -> Bits:
    """(64,) bits of an RGB image: the lowest 8x8 frequencies of its 32x32 grey version above their median.

    Krawetz, "Looks Like It" (2011), with the median of imagehash in the place of the mean.
    """
    grey = np.asarray(image.convert("L").resize((32, 32), Image.Resampling.LANCZOS), np.float64)
    frequency, place = np.arange(8)[:, None], np.arange(32)[None]
    cosines = np.cos(np.pi * frequency * (2 * place + 1) / 64)  # DCT-II; its scale changes no comparison
    low = cosines @ grey @ cosines.T
    bits: Bits = (low > np.median(low)).ravel()
    return bits


def dhash(image: Image.Image) -> Bits:
    """(64,) bits of an RGB image: whether brightness rises from pixel to pixel along the rows of its 9x8 grey version.

    Krawetz, "Kind of Like That" (2013).
    """
    grey = np.asarray(image.convert("L").resize((9, 8), Image.Resampling.LANCZOS))
    bits: Bits = (grey[:, 1:] > grey[:, :-1]).ravel()
    return bits


def _pdq(image: Image.Image) -> Bits:
    """(256,) bits of PDQ, by the package pdqhash. Raises ImportError where it is not installed."""
    import pdqhash

    bits, _quality = pdqhash.compute(np.asarray(image))
    found: Bits = np.asarray(bits, bool)
    return found


class _Hash(NamedTuple):
    name: str
    bits: int
    threshold: int
    """Largest distance that customarily counts as a match."""
    of: Callable[[Image.Image], Bits]


_HASHES = (
    # 10 of 64 is Krawetz's own bound for both, 31 of 256 the one its publisher recommends to begin with.
    _Hash("pHash", 64, 10, phash),
    _Hash("dHash", 64, 10, dhash),
    _Hash("PDQ", 256, 31, _pdq),
)


def perceptual_rows(before: Image.Image, after: Image.Image) -> tuple[PerceptualRow, ...]:
    """How far two upright RGB images are apart by each hash; a hash that is not installed says so in its row."""
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
