"""The pictures of one photo on the page: a region at 100%, the change in it, and its position in the photo.

`read_pair` reads the original and the result; `pictures` cuts and encodes the pictures.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hashshield import imaging
from hashshield.arrays import Pixels
from hashshield.errors import HashshieldError, PhotoError
from hashshield.imaging.photo import read_photo_file
from hashshield.models.hashing import displayed_rgb
from hashshield.storage import Store, digest
from hashshield.types import Evaluation, Outcome

__all__ = ["AMPLIFIED", "Pictures", "pictures", "read_pair", "same_size_pair"]

AMPLIFIED = 16
"""Factor on the shown difference, with which a change of 8 levels, the default tau, becomes black or white."""
_BLOCK = 16
"""Side, in pixels, of the squares whose changes are summed to find the most changed region."""
_SIZES = ((640, 440), (560, 380), (480, 320))
"""Width and height of the region, in pixels; the largest one is used that fits the page."""
_QUALITIES = (70, 80, 88, 95)
_THUMBNAIL = (216, 162)


@dataclass(frozen=True, slots=True)
class Pictures:
    """The pictures as data URIs, and the position of the region; lengths are in pixels of the photo."""

    photo_width: int
    photo_height: int
    left: int
    top: int
    width: int
    height: int
    before: str | None
    """None if no original may be shown."""
    after: str
    difference: str | None
    overview: str | None
    """The whole photo; None if the region is the whole photo."""
    quality: int | None
    """WebP quality of the region; None if it is lossless."""


def read_pair(row: Outcome | Evaluation, store: Store | None) -> tuple[Pixels, Pixels]:
    """Read the original and the result of a row, (H, W, 3) each, as displayed.

    The original of a photo that was changed in place comes from the vault. Raises PhotoError and StorageError, also if
    a file has changed since.
    """
    if isinstance(row, Evaluation):
        before, after = _read(Path(row.original)), _read(Path(row.protected))
    else:
        after = _read(Path(row.output or row.path))
        if digest(after) != row.sha256_after:
            raise PhotoError(f"{row.output or row.path}: was changed or moved since it was protected")
        before = _original(row, store)
    return same_size_pair(before, after, name=row.path if isinstance(row, Outcome) else row.protected)


def same_size_pair(before: bytes, after: bytes, *, name: str) -> tuple[Pixels, Pixels]:
    """Decode two files as a viewer shows them, (H, W, 3) each. Raises PhotoError, also if their sizes differ."""
    one, other = (displayed_rgb(imaging.read(data, name=name)) for data in (before, after))
    if one.shape != other.shape:
        raise PhotoError(f"{name}: the two photos differ in size, so they cannot be laid over each other")
    return one, other


def _original(row: Outcome, store: Store | None) -> bytes:
    """Return the original's bytes: from its own file if a copy was protected, else from the vault."""
    if row.output is not None:
        try:
            data = _read(Path(row.path))
        except HashshieldError:
            data = b""
        if digest(data) == row.sha256_before:
            return data
    if store is None:
        raise PhotoError(f"{row.path}: its original is not known here")
    if row.sha256_before is not None:
        return store.vault.get(row.sha256_before)
    known = store.known(row.sha256_after or "")
    if known is None:
        raise PhotoError(f"{row.path}: the ledger no longer knows its original")
    return store.original(known)


def _read(path: Path) -> bytes:
    return read_photo_file(path, follow=True).data


def pictures(before: Pixels, after: Pixels, *, room: int, redact: bool) -> Pictures:
    """Cut and encode the pictures of two (H, W, 3) photos so that they take about `room` characters of the page.

    With `redact` the original only decides which region is shown. Neither it nor the difference is returned, because
    the difference and the protected photo together would reveal the original.
    """
    high, wide = after.shape[:2]
    energy = _energy(before, after)
    overview = _overview(after)
    left_over = room * 3 // 4 - len(overview)
    for size in _SIZES:
        width, height = min(size[0], wide), min(size[1], high)
        left, top = _most_changed(energy, wide, high, width, height)
        part = np.s_[top : top + height, left : left + width]
        difference = b"" if redact else _difference(before[part], after[part])
        regions = [after[part]] if redact else [before[part], after[part]]
        encoded, quality = _encode_to_fit(regions, left_over - len(difference))
        if sum(map(len, encoded)) + len(difference) <= left_over:
            break
    return Pictures(
        photo_width=wide,
        photo_height=high,
        left=left,
        top=top,
        width=width,
        height=height,
        before=None if redact else _uri(encoded[0]),
        after=_uri(encoded[-1]),
        difference=_uri(difference) if difference else None,
        overview=_uri(overview) if width < wide or height < high else None,
        quality=quality,
    )


def _encode_to_fit(images: Sequence[Pixels], size: int) -> tuple[list[bytes], int | None]:
    """Encode the images with the best quality that fits `size` bytes, or the lowest; return files and quality."""

    def encode(quality: int | None) -> list[bytes]:
        return [_webp(pixels, quality) for pixels in images]

    # Lossless encoding is slow, and photos rarely take less than a byte per pixel.
    if size > sum(pixels[..., 0].size for pixels in images):
        encoded = encode(None)
        if sum(map(len, encoded)) <= size:
            return encoded, None
    best, low, high = (encode(_QUALITIES[0]), _QUALITIES[0]), 1, len(_QUALITIES)
    while low < high:
        middle = (low + high) // 2
        encoded = encode(_QUALITIES[middle])
        if sum(map(len, encoded)) <= size:
            best, low = (encoded, _QUALITIES[middle]), middle + 1
        else:
            high = middle
    return best


def _energy(before: Pixels, after: Pixels) -> NDArray[np.float64]:
    """Return the sum of absolute changes in each square, (rows, columns); works in strips, because photos are large."""
    high, wide = after.shape[:2]
    tops, lefts = range(0, high, _BLOCK), range(0, wide, _BLOCK)
    found = np.zeros((len(tops), len(lefts)))
    for row, top in enumerate(tops):
        strip = np.s_[top : top + _BLOCK]
        change = np.abs(before[strip].astype(np.int16) - after[strip]).sum(axis=(0, 2))
        found[row] = np.add.reduceat(change, lefts)
    return found


def _most_changed(energy: NDArray[np.float64], wide: int, high: int, width: int, height: int) -> tuple[int, int]:
    """Return left and top of the region of `width` by `height` pixels with the largest change."""
    rows, columns = (min(n // _BLOCK, m) for n, m in zip((height, width), energy.shape, strict=True))
    total = np.pad(energy.cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    sums = total[rows:, columns:] - total[:-rows, columns:] - total[rows:, :-columns] + total[:-rows, :-columns]
    top, left = np.unravel_index(int(sums.argmax()), sums.shape)
    return min(int(left) * _BLOCK, wide - width), min(int(top) * _BLOCK, high - height)


def _difference(before: Pixels, after: Pixels) -> bytes:
    """Return the amplified difference, protected minus original, on mid-grey, as WebP."""
    change = after.astype(np.int16) - before
    return _webp(np.clip(128 + AMPLIFIED * change, 0, 255).astype(np.uint8), 30)


def _overview(pixels: Pixels) -> bytes:
    """Return a thumbnail of the whole photo, as WebP."""
    image = Image.fromarray(pixels)
    image.thumbnail(_THUMBNAIL)
    return _webp(np.asarray(image), 75)


def _webp(pixels: Pixels, quality: int | None) -> bytes:
    """Encode pixels as WebP, without metadata or colour profile; lossless if `quality` is None."""
    buffer = io.BytesIO()
    image = Image.fromarray(np.ascontiguousarray(pixels))
    if quality is None:
        image.save(buffer, "WEBP", lossless=True, quality=50, method=2)
    else:
        image.save(buffer, "WEBP", quality=quality, method=2)
    return buffer.getvalue()


def _uri(data: bytes) -> str:
    return f"data:image/webp;base64,{base64.b64encode(data).decode('ascii')}"
