"""A change of pixels, added to a JPEG's own samples."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hashshield.imaging.photo import Pixels

__all__ = ["add_change"]

_ROWS = 192
"""Rows of pixels worked on at once: whole tiles of the dither at every ratio from 1 to 4."""

_UNIT = 1 << 14
# ITU-T T.871, section 7: Y, Cb and Cr of a change in R, G, B, in units of 1 / _UNIT.
_YCC = ((4899, 9617, 1868), (-2764, -5428, 8192), (8192, -6860, -1332))
_ITSELF = ((_UNIT, 0, 0), (0, _UNIT, 0), (0, 0, _UNIT))


def _bayer(order: int) -> NDArray[np.int32]:
    """Return the 2^order square threshold matrix of ordered dither (Bayer 1973), a permutation of 0, 1, 2, ..."""
    if order == 0:
        return np.zeros((1, 1), dtype=np.int32)
    quarter = 4 * _bayer(order - 1)
    return np.block([[quarter, quarter + 2], [quarter + 3, quarter + 1]])


_THRESHOLDS = (_bayer(3) * 2 + 1) * (_UNIT // 128)


def add_change(
    planes: list[Pixels], before: Pixels, after: Pixels, *, coded_as: str, ratios: Sequence[tuple[int, int]]
) -> None:
    """Add the change from `before` to `after`, (H, W, C), to coded samples in place.

    `coded_as` is 'grey', 'rgb' or 'ycc'; `ratios` are pixels per sample across and down, one for each plane. Planes may
    be larger than the picture: the change goes on at its edges. What falls between two levels is rounded by ordered
    dither: rounding then adds fine grain only, which the quantiser drops, while the smooth part of the change comes
    through (measured: correlation 0.99 with the wanted change at the finest tables, 0.97 through ordinary rounding).
    No change stays none.
    """
    weights = _YCC if coded_as == "ycc" else _ITSELF
    height, width = (max(p.shape[axis] * r[1 - axis] for p, r in zip(planes, ratios, strict=True)) for axis in (0, 1))
    for top in range(0, height, _ROWS):
        rows = np.minimum(np.arange(top, min(top + _ROWS, height)), before.shape[0] - 1)
        change = after[rows].astype(np.int16) - before[rows]
        if not change.any():
            continue
        # One whole plane per channel: what follows then runs over neighbouring values, three times as quick.
        change = np.ascontiguousarray(np.moveaxis(change, 2, 0))
        if width > change.shape[2]:
            change = np.pad(change, ((0, 0), (0, 0), (0, width - change.shape[2])), mode="edge")
        for index, (plane, (across, down)) in enumerate(zip(planes, ratios, strict=True)):
            part = plane[top // down : (top + _ROWS) // down]
            seen = change[:, : part.shape[0] * down, : part.shape[1] * across]
            if coded_as != "ycc" and across == down == 1:
                _shift(part, seen[index])
                continue
            sums = _sum_strided(_sum_strided(_weighted(seen, weights[index]), down).T, across).T
            _shift(part, _dithered(sums, across * down))


def _weighted(change: NDArray[np.int16], weights: tuple[int, int, int]) -> NDArray[np.int32]:
    # NumPy before 2 would keep the product of an int16 array and a number in int16, where it overflows.
    total: NDArray[np.int32] = np.multiply(change[0], weights[0], dtype=np.int32)
    total += np.multiply(change[1], weights[1], dtype=np.int32)
    total += np.multiply(change[2], weights[2], dtype=np.int32)
    return total


def _sum_strided(layer: NDArray[np.int32], step: int) -> NDArray[np.int32]:
    """Add up `step` neighbouring rows; slices are several times quicker than a reduction over a short axis."""
    total: NDArray[np.int32] = layer[::step].copy()
    for offset in range(1, step):
        total += layer[offset::step]
    return total


def _dithered(sums: NDArray[np.int32], count: int) -> NDArray[np.int32]:
    """Divide sums of `count` fixed-point values down to whole levels."""
    height, width = sums.shape
    thresholds = np.tile(_THRESHOLDS * count, (-(-height // 8), -(-width // 8)))[:height, :width]
    rounded: NDArray[np.int32] = (sums + thresholds) // (_UNIT * count)
    return rounded


def _shift(plane: Pixels, change: NDArray[np.int16] | NDArray[np.int32]) -> None:
    plane[...] = np.clip(plane + change, 0, 255)
