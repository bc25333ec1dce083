"""Check that a written picture is the intended one, with a bound on the error that coding may cause in each block.

Coding loses a little, in known ways; a picture that is sheared, shifted, or in other colours means a bug in this
program. A block is 8 x 8 pixels; its error is the root mean square over all channels, in levels. The bounds were
measured on photos as JPEG, WebP, HEIC, and AVIF of the lowest to the highest quality with changes of up to 40 levels,
on camera files, and on squares, stripes, and noise in pure colours: a sound file reaches at most 0.7 of its bound.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hashshield.arrays import Pixels
from hashshield.imaging.heif.codec import HeifEncoding
from hashshield.imaging.jpeg.codec import JpegEncoding
from hashshield.imaging.photo import Photo
from hashshield.imaging.webp import WebpEncoding

__all__ = ["departure"]

_ROWS = 256
"""Rows measured at once, a multiple of 8."""
_MEAN = 0.6
"""Largest mean error over all blocks, as a share of the mean of their bounds."""

Blocks = NDArray[np.float32]
"""(h, w): one number for each block."""


@dataclass(frozen=True, slots=True)
class _Allowance:
    """The error a coder may cause in a block, in levels or as shares."""

    base: float
    """Rounding, in every block."""
    change: float
    """Share of the change intended for the block and its neighbours: the part that the quantiser drops."""
    activity: float
    """Share of the standard deviation of the block and its neighbours: detail that the coder drops."""
    clipped: float
    """In levels, for blocks with a sample of 0 or 255: the coded value may have been beyond, and is coded again."""
    level: float
    """In levels, for the block's mean, which coders keep better than detail; added to the share of the change."""


class _BlockErrors(NamedTuple):
    """Measurements of every block, in levels."""

    error: Blocks
    level: Blocks
    """Error of the block's mean."""
    change: Blocks
    activity: Blocks
    clipped: Blocks
    """1 where any sample of the photo is 0 or 255, else 0."""


def departure(photo: Photo, intended: Pixels, written: Photo) -> str | None:
    """Describe how `written` differs from `photo` with the `intended` pixels; None if coding explains the difference.

    All three have the same shape. A lossless file must be exact at every visible pixel.
    """
    if photo.lossless:
        return _describe_inexact(photo, intended, written)
    errors = _measure(photo.pixels, intended, written.pixels)
    allowed = _allowance(photo)
    around = _greatest_around(errors.change)
    bound = allowed.base + allowed.change * around
    activity = _greatest_around(errors.activity)
    bound += allowed.activity * activity
    # Coding a clipped sample again moves no coefficient further than half of its step, or than to zero.
    bound += np.where(_greatest_around(errors.clipped) > 0, np.minimum(allowed.clipped, 2 * activity), 0)
    # Chroma at half the size takes colour from beside an edge into the block.
    level = np.minimum(allowed.level + allowed.change * around + activity / 4, bound)
    worst = np.unravel_index(int(np.argmax(np.maximum(errors.error / bound, errors.level / level))), bound.shape)
    if errors.error[worst] > bound[worst] or errors.level[worst] > level[worst]:
        return (
            f"the 8x8 block at {8 * int(worst[1])},{8 * int(worst[0])} is {errors.error[worst]:.1f} levels off "
            f"(its mean {errors.level[worst]:.1f}), where coding allows {bound[worst]:.1f} ({level[worst]:.1f})"
        )
    mean, most = float(errors.error.mean(dtype=np.float64)), _MEAN * float(bound.mean(dtype=np.float64))
    if mean > most:
        return f"its 8x8 blocks are {mean:.1f} levels off on average, where coding allows {most:.1f}"
    return None


def _allowance(photo: Photo) -> _Allowance:
    encoding = photo.encoding
    if isinstance(encoding, JpegEncoding):
        # Unchanged samples return to the quantised values that they came from, and a change loses at most itself.
        steps = [float(np.sqrt(np.mean(np.square(table)))) / 2 for table in np.array(encoding.header.tables, float)]
        most = steps[0] if len(steps) == 1 else steps[0] + 1.042 * steps[1] + 0.908 * steps[-1]  # T.871, section 7
        factors = encoding.header.factors
        plain = len(factors) == 1 or factors in _PLAIN
        return _Allowance(3.0, 2.0, 0.0 if plain else 2.0, most, most)
    if isinstance(encoding, WebpEncoding):
        share = (encoding.quality or 0.0) / 100
        # libwebp's quantiser index of a quality, 0 to 127; see `webp.estimate_quality`.
        index = 127 * (1 - (share / 1.5 if share < 0.75 else 2 * share - 1) ** (1 / 3))
        return _Allowance(4 + index / 4, 1.0, 1.0, 0.0, 8 + index / 4)
    assert isinstance(encoding, HeifEncoding)
    return _Allowance(4.0, 1.0, 1.0, 0.0, 8.0)


_PLAIN = {((across, down), (1, 1), (1, 1)) for across in (1, 2) for down in (1, 2)}
"""Sampling factors that are written unchanged; with others, chroma may be coded at another size."""


def _describe_inexact(photo: Photo, intended: Pixels, written: Photo) -> str | None:
    off = (written.pixels != intended).any(axis=2)
    if photo.alpha is not None:
        off &= photo.alpha > 0
    if not off.any():
        return None
    # A visible pixel cannot get the transparent colour of a PNG, so it stays as it was.
    if photo.container == "png" and photo.alpha is not None:
        unchanged = (written.pixels[off] == photo.pixels[off]).all() and (intended[off] == intended[off][0]).all()
        if unchanged:
            return None
    row, column = (int(n[0]) for n in np.nonzero(off))
    return f"{int(off.sum())} of its pixels differ, the first at {column},{row}, in a lossless file"


def _measure(before: Pixels, intended: Pixels, written: Pixels) -> _BlockErrors:
    parts = []
    for top in range(0, len(intended), _ROWS):
        old, new, now = (_whole(pixels[top : top + _ROWS]) for pixels in (before, intended, written))
        squares, sums = _moments(now - new)
        changes, _ = _moments(new - old)
        energy, totals = _moments(new)
        count = 64 * intended.shape[2]
        parts.append(
            _BlockErrors(
                np.sqrt(squares / count),
                np.sqrt(np.square(sums / 64).mean(axis=2)),
                np.sqrt(changes / count),
                np.sqrt(np.maximum(energy - np.square(totals).sum(axis=2) / 64, 0) / count),
                np.sign(_moments(((old == 0) | (old == 255)).astype(np.int32))[0]),
            )
        )
    return _BlockErrors(*(np.concatenate(each) for each in zip(*parts, strict=True)))


def _whole(rows: Pixels) -> NDArray[np.int32]:
    """Pad (H, W, C) pixels to whole blocks by repeating their edges."""
    missing = [(0, -side % 8) for side in rows.shape[:2]]
    return np.pad(rows, (*missing, (0, 0)), mode="edge").astype(np.int32)


def _moments(values: NDArray[np.int32]) -> tuple[Blocks, Blocks]:
    """Return sums over blocks: of squares (h, w), over all channels, and of values (h, w, C)."""
    height, width, channels = values.shape
    columns = height // 8, 8, width * channels
    squares = np.square(values).reshape(columns).sum(axis=1).reshape(height // 8, width // 8, -1).sum(axis=2)
    sums = values.reshape(columns).sum(axis=1).reshape(height // 8, width // 8, 8, channels).sum(axis=2)
    return squares.astype(np.float32), sums.astype(np.float32)


def _greatest_around(blocks: Blocks) -> Blocks:
    """Return the greatest of 3 x 3 blocks: chroma is coded in blocks of 16 pixels, and its filter reaches further."""
    for axis in (0, 1):
        wide = np.pad(blocks, [(1, 1) if axis == i else (0, 0) for i in (0, 1)], mode="edge")
        near = [np.take(wide, range(k, k + blocks.shape[axis]), axis=axis) for k in range(3)]
        blocks = np.maximum(np.maximum(near[0], near[1]), near[2])
    return blocks
