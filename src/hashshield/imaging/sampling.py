"""Chroma subsampling: coded samples out of decoded ones, and any sampling out of an encoder that knows three."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hashshield.imaging.photo import Pixels

__all__ = ["Layout", "arrange", "choose", "recover"]

Ratio = tuple[int, int]

_ROWS = 256
"""Rows worked on at once; even."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How a picture is coded, and in which disguise Pillow's encoder codes it."""

    factors: tuple[Ratio, ...]
    """(horizontal, vertical) per component, as the frame header will say."""
    disguise: Ratio
    """Luma factors given to the encoder: equal to the real ones, or another shape with as many blocks per MCU."""

    @property
    def ratio(self) -> Ratio:
        """Luma samples per chroma sample, horizontally and vertically."""
        return self.factors[0]

    @property
    def pillow(self) -> int:
        """Pillow's number for the sampling it is asked to write."""
        return _PILLOW[self.disguise]


_PILLOW = {(1, 1): 0, (2, 1): 1, (2, 2): 2}
_DISGUISES = {(1, 2): (2, 1), (4, 1): (2, 2), (1, 4): (2, 2)}


def choose(factors: tuple[Ratio, ...], *, odd_allowed: bool) -> Layout:
    """Keep the source's sampling where an encoder can be brought to write it; 4:4:4, which loses nothing, elsewhere.

    `odd_allowed` permits shapes Pillow does not know (4:4:0, 4:1:1): an MCU of theirs holds the same blocks in the same
    order as one of 4:2:2 or 4:2:0, so the pictures are shuffled and the frame header renamed. That holds in a
    single scan only.
    """
    if len(factors) == 1:
        return Layout(((1, 1),), (1, 1))
    luma, *chroma = factors
    if len(set(chroma)) == 1 and luma[0] % chroma[0][0] == 0 and luma[1] % chroma[0][1] == 0:
        ratio = luma[0] // chroma[0][0], luma[1] // chroma[0][1]
        named = (ratio, (1, 1), (1, 1))
        if ratio in _PILLOW:
            return Layout(named, ratio)
        if odd_allowed and ratio in _DISGUISES:
            return Layout(named, _DISGUISES[ratio])
    return Layout(((1, 1),) * 3, (1, 1))


def recover(planes: Iterable[Pixels], layout: Layout) -> list[Pixels]:
    """Turn decoded full-size planes into coded ones: padded to whole MCUs, chroma at its own size.

    Planes are taken one at a time, because each is as large as the photo.
    """
    across, down = layout.ratio
    step = (down, across) if layout.disguise == layout.ratio else (8 * down, 8 * across)
    coded: list[Pixels] = []
    for plane in planes:
        pad = [(0, -side % unit) for side, unit in zip(plane.shape, step, strict=True)]
        whole = np.pad(plane, pad, mode="edge") if any(after for _, after in pad) else plane
        if not coded or layout.ratio == (1, 1):
            coded.append(whole)
        elif max(layout.ratio) > 2:
            # The decoder repeats samples at these ratios.
            coded.append(whole[::down, ::across].copy())
        else:
            coded.append(_undo_triangle(whole, across, down))
    return coded


def _undo_triangle(plane: Pixels, across: int, down: int) -> Pixels:
    """Undo the decoder's triangle filter (libjpeg, "fancy upsampling"): (3 near + far) / 4 along each doubled axis.

    With p, a | b, n the decoded samples around a pair, both 1.5 a - 0.5 p and 1.5 b - 0.5 n are the coded one; their
    mean, (3 (a + b) - p - n) / 4, is what remains of the rounding. With one doubled axis it need not remain at all.
    """
    if down == 2 and across == 2:
        height, width = plane.shape
        small = np.empty((height // 2, width // 2), dtype=np.uint8)
        for top in range(0, height, _ROWS):
            # One row more above and below, of which the estimates are not used.
            first, last = max(0, top - 2), min(top + _ROWS + 2, height)
            part = _round(_pairs(_pairs(plane[first:last].astype(np.int16)).T).T, 16)
            kept = part[(top - first) // 2 :][: _ROWS // 2]
            small[top // 2 :][: len(kept)] = kept
        return small
    work: NDArray[np.int16] = plane.astype(np.int16)
    if across == 2:
        turned: Pixels = _undo_exactly(work.T).T
        return turned
    return _undo_exactly(work)


def _undo_exactly(work: NDArray[np.int16]) -> Pixels:
    """Undo a filter along the first axis without any loss.

    Between coded c and its neighbour d the decoder puts a = (3c + d + 2) >> 2 and b = (c + 3d + 1) >> 2. Both roundings
    together are less than 1, so c + d = a + b: the first sample, which is decoded as it is, yields all others.
    """
    near = _round(_pairs(work), 4)
    sums = work[1:-1:2].astype(np.int32) + work[2::2]
    signs: NDArray[np.int32] = np.where(np.arange(len(near)) % 2, -1, 1).astype(np.int32)[:, None]
    exact: NDArray[np.int32] = signs * np.cumsum(np.vstack((work[:1], signs[1:] * sums)), axis=0, dtype=np.int32)
    # A decoder that rounds in another way would send errors down whole columns; the estimate cannot be far off.
    if np.abs(exact - near).max() > 1:
        return near
    return exact.astype(np.uint8, copy=False)


def _pairs(work: NDArray[np.int16]) -> NDArray[np.int16]:
    first, second = work[0::2], work[1::2]
    out = 3 * (first + second)
    out[1:] -= second[:-1]
    out[0] -= first[0]
    out[:-1] -= first[1:]
    out[-1] -= second[-1]
    return out


def _round(work: NDArray[np.int16], scale: int) -> Pixels:
    rounded: Pixels = np.clip((work + scale // 2) // scale, 0, 255).astype(np.uint8)
    return rounded


def arrange(planes: list[Pixels], layout: Layout) -> list[Pixels]:
    """Lay coded planes out at full size for the encoder, chroma repeated so that its averaging gives it back."""
    if len(planes) == 1:
        return planes
    luma = _shuffle(planes[0], layout)
    across, down = layout.disguise
    height, width = luma.shape
    return [luma, *(plane.repeat(down, 0).repeat(across, 1)[:height, :width] for plane in planes[1:])]


def _shuffle(luma: Pixels, layout: Layout) -> Pixels:
    (across, down), (shown_across, shown_down) = layout.ratio, layout.disguise
    if layout.ratio == layout.disguise:
        return luma
    rows, columns = luma.shape[0] // (8 * down), luma.shape[1] // (8 * across)
    blocks = luma.reshape(rows, down, 8, columns, across, 8).transpose(0, 3, 1, 4, 2, 5)
    blocks = blocks.reshape(rows, columns, shown_down, shown_across, 8, 8).transpose(0, 2, 4, 1, 3, 5)
    shuffled: Pixels = blocks.reshape(rows * shown_down * 8, columns * shown_across * 8)
    return shuffled
