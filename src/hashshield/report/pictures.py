"""The pictures of one photo on the page: a region at 100%, what was changed in it, and where in the photo it is."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hashshield.imaging import Pixels

__all__ = ["AMPLIFIED", "Pictures", "pictures"]

AMPLIFIED = 16
"""The difference is shown this many times as large, so that 8 levels, what tau allows, are black or white."""
_BLOCK = 16
"""Side of the squares, in pixels, by which the most changed region is looked for."""
_SIZES = ((640, 440), (560, 380), (480, 320))
_QUALITIES = (70, 80, 88, 95)
_THUMBNAIL = (216, 162)


@dataclass(frozen=True, slots=True)
class Pictures:
    """Data URIs, and where the region lies; lengths in pixels of the photo."""

    photo_width: int
    photo_height: int
    left: int
    top: int
    width: int
    height: int
    before: str | None
    """None where no original may be shown."""
    after: str
    difference: str | None
    overview: str | None
    """The whole photo; None where the region is the whole photo."""
    quality: int | None
    """Of the WebP that the page shows; None when it is lossless."""


def pictures(before: Pixels, after: Pixels, *, room: int, redact: bool) -> Pictures:
    """Cut and code the pictures of two (H, W, 3) photos so that they take about `room` characters of a page.

    With `redact` the original only decides which region is shown: neither it nor the difference comes out, as the
    original follows from the protected photo and the difference.
    """
    high, wide = after.shape[:2]
    energy = _energy(before, after)
    overview = _overview(after)
    left_over = room * 3 // 4 - len(overview)
    for size in _SIZES:
        width, height = min(size[0], wide), min(size[1], high)
        left, top = _place(energy, wide, high, width, height)
        part = np.s_[top : top + height, left : left + width]
        difference = b"" if redact else _difference(before[part], after[part])
        shown = [after[part]] if redact else [before[part], after[part]]
        coded, quality = _fitting(shown, left_over - len(difference))
        if sum(map(len, coded)) + len(difference) <= left_over:
            break
    return Pictures(
        photo_width=wide,
        photo_height=high,
        left=left,
        top=top,
        width=width,
        height=height,
        before=None if redact else _uri(coded[0]),
        after=_uri(coded[-1]),
        difference=_uri(difference) if difference else None,
        overview=_uri(overview) if width < wide or height < high else None,
        quality=quality,
    )


def _fitting(shown: Sequence[Pixels], room: int) -> tuple[list[bytes], int | None]:
    """The pictures coded alike, as well as fits into `room` bytes, else as small as it goes; and the quality."""

    def coded(quality: int | None) -> list[bytes]:
        return [_webp(pixels, quality) for pixels in shown]

    # Coding without loss takes long, and a photograph rarely gets below a byte a pixel.
    if room > sum(pixels[..., 0].size for pixels in shown):
        found = coded(None)
        if sum(map(len, found)) <= room:
            return found, None
    best, low, high = (coded(_QUALITIES[0]), _QUALITIES[0]), 1, len(_QUALITIES)
    while low < high:
        middle = (low + high) // 2
        found = coded(_QUALITIES[middle])
        if sum(map(len, found)) <= room:
            best, low = (found, _QUALITIES[middle]), middle + 1
        else:
            high = middle
    return best


def _energy(before: Pixels, after: Pixels) -> NDArray[np.float64]:
    """How much each square of the photo was changed, in rows of squares; strip by strip, because photos are large."""
    high, wide = after.shape[:2]
    tops, lefts = range(0, high, _BLOCK), range(0, wide, _BLOCK)
    found = np.zeros((len(tops), len(lefts)))
    for row, top in enumerate(tops):
        strip = np.s_[top : top + _BLOCK]
        change = np.abs(before[strip].astype(np.int16) - after[strip]).sum(axis=(0, 2))
        found[row] = np.add.reduceat(change, lefts)
    return found


def _place(energy: NDArray[np.float64], wide: int, high: int, width: int, height: int) -> tuple[int, int]:
    """Left and top of the region of this size in which most was changed."""
    rows, columns = (min(n // _BLOCK, m) for n, m in zip((height, width), energy.shape, strict=True))
    total = np.pad(energy.cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    sums = total[rows:, columns:] - total[:-rows, columns:] - total[rows:, :-columns] + total[:-rows, :-columns]
    top, left = np.unravel_index(int(sums.argmax()), sums.shape)
    return min(int(left) * _BLOCK, wide - width), min(int(top) * _BLOCK, high - height)


def _difference(before: Pixels, after: Pixels) -> bytes:
    """Protected minus original on mid-grey, amplified."""
    change = after.astype(np.int16) - before
    return _webp(np.clip(128 + AMPLIFIED * change, 0, 255).astype(np.uint8), 30)


def _overview(pixels: Pixels) -> bytes:
    image = Image.fromarray(pixels)
    image.thumbnail(_THUMBNAIL)
    return _webp(np.asarray(image), 75)


def _webp(pixels: Pixels, quality: int | None) -> bytes:
    """Neither metadata nor profile of the photo is taken along."""
    buffer = io.BytesIO()
    image = Image.fromarray(np.ascontiguousarray(pixels))
    if quality is None:
        image.save(buffer, "WEBP", lossless=True, quality=50, method=2)
    else:
        image.save(buffer, "WEBP", quality=quality, method=2)
    return buffer.getvalue()


def _uri(data: bytes) -> str:
    return f"data:image/webp;base64,{base64.b64encode(data).decode('ascii')}"
