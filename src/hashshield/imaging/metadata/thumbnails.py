"""Small pictures inside metadata, found and re-made from the protected photo in the bytes they already have."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO

import numpy as np
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from hashshield.errors import BrokenPhotoError, PhotoError
from hashshield.imaging.decode import decode
from hashshield.imaging.jpeg import markers
from hashshield.imaging.metadata.budget import MetadataBudget

__all__ = ["Framing", "PreviewSlot", "can_hold", "find_jpegs", "jpeg_size", "match_framing", "redraw"]

_LARGEST = 4_000_000
"""Pixels of a preview that is still re-made."""

_SAME = 0.8
"""Correlation of grey values from which a preview is taken to show the photo."""

Framing = tuple[str, int]
"""('whole', 'bars' (dark, around the photo) or 'crop', quarter turns): editors turn photos and forget previews."""

_FITS = ("whole", "bars", "crop")
_TURNS = {1: Image.Transpose.ROTATE_90, 2: Image.Transpose.ROTATE_180, 3: Image.Transpose.ROTATE_270}


@dataclass(frozen=True, slots=True)
class PreviewSlot:
    """Where a small picture is and how it is drawn."""

    start: int
    end: int
    """Its bytes, in the data it was found in."""
    width: int
    height: int
    coding: str = "jpeg"
    """'jpeg', or 'rgb' for plain bytes."""
    shape: Framing = ("whole", 0)
    """How the photo was brought to this size."""


def find_jpegs(data: bytes, budget: MetadataBudget) -> Iterator[PreviewSlot]:
    """Find complete JPEG files inside `data`, as far as the file's budget goes.

    Raises UnsupportedError when they are in more pieces than a file may have.
    """
    position = 0
    while (start := data.find(b"\xff\xd8\xff", position)) >= 0 and budget.candidate():
        position = start + 3
        try:
            _, length = markers.walk(data[start:], name="preview", budget=budget)
        except BrokenPhotoError:
            continue
        size = jpeg_size(data[start : start + length])
        if size is not None:
            yield PreviewSlot(start, start + length, *size)
            position = start + length


def jpeg_size(data: bytes) -> tuple[int, int] | None:
    """Return the size of the JPEG that `data` begins with, even if its picture is cut short; None if it is none."""
    if data[:2] != b"\xff\xd8":
        return None
    position = 2
    while position + 9 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker == 0xFF:
            position += 1
            continue
        if marker in markers.SOF:
            height, width = (int.from_bytes(data[position + i : position + i + 2], "big") for i in (5, 7))
            return (width, height) if width and height else None
        if marker in (markers.SOS, markers.EOI):
            return None
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return None


def can_hold(spot: PreviewSlot) -> bool:
    """Tell whether any picture of this size can be written into the spot's bytes."""
    if spot.width * spot.height > _LARGEST:
        return False
    if spot.coding == "rgb":
        return spot.end - spot.start == 3 * spot.width * spot.height
    return len(_flat(spot.width, spot.height)) <= spot.end - spot.start


def match_framing(data: bytes, spot: PreviewSlot, photo: Image.Image, budget: MetadataBudget) -> tuple[Framing, bool]:
    """Return the shape in which the photo comes nearest to the picture now in the spot, and whether it shows it.

    (('bars', 0), False) for a picture that cannot be decoded within the file's budget.
    """
    best, score = ("bars", 0), 0.0
    old = _current(data, spot, budget)
    if old is None:
        return best, False
    wanted, small = _grey(old), _reduced(photo, spot)
    for turns in (0, 1, 3, 2):
        for fit in _FITS:
            found = _correlation(wanted, _grey(_draw(small, spot, (fit, turns))))
            if found > score:
                best, score = (fit, turns), found
        if score >= _SAME:
            return best, True
    return ("bars", 0), False


def redraw(data: bytes, spot: PreviewSlot, photo: Image.Image) -> bytes:
    """Return `data` with the photo drawn into the spot; its length, and so every offset, stays."""
    picture = _draw(_reduced(photo, spot), spot, spot.shape)
    room = spot.end - spot.start
    if spot.coding == "rgb":
        return data[: spot.start] + picture.convert("RGB").tobytes() + data[spot.end :]
    made = _flat(spot.width, spot.height)
    low, high = 1, 92
    while low <= high:
        quality = (low + high) // 2
        attempt = _encode(picture, quality)
        if len(attempt) <= room:
            made, low = attempt, quality + 1
        else:
            high = quality - 1
    return data[: spot.start] + made.ljust(room, b"\0") + data[spot.end :]


def _current(data: bytes, spot: PreviewSlot, budget: MetadataBudget) -> Image.Image | None:
    held = data[spot.start : spot.end]
    if spot.coding == "rgb":
        return Image.frombytes("RGB", (spot.width, spot.height), held)
    try:
        segments, _ = markers.walk(held, name="preview")
        scans = sum(s.marker == markers.SOS for s in segments)
        if not budget.scans(scans * spot.width * spot.height):
            return None
        return decode(JpegImageFile, held, name="preview")
    except PhotoError:
        return None


def _reduced(photo: Image.Image, spot: PreviewSlot) -> Image.Image:
    """Scale the photo to about twice the spot's size with a box filter, which is quick."""
    short, long = sorted((spot.width, spot.height))
    factor = min(min(photo.size) // (2 * short), max(photo.size) // (2 * long))
    return photo.reduce(factor) if factor > 1 else photo


def _draw(photo: Image.Image, spot: PreviewSlot, shape: Framing) -> Image.Image:
    """Bring the photo to the spot's size."""
    fit, turns = shape
    if turns:
        photo = photo.transpose(_TURNS[turns])
    size = spot.width, spot.height
    if fit == "whole":
        return photo.resize(size, Image.Resampling.BICUBIC)
    choose = min if fit == "bars" else max
    scale = choose(spot.width / photo.width, spot.height / photo.height)
    part = photo.resize(
        (max(1, round(photo.width * scale)), max(1, round(photo.height * scale))), Image.Resampling.BICUBIC
    )
    canvas = Image.new(photo.mode, size)
    canvas.paste(part, ((spot.width - part.width) // 2, (spot.height - part.height) // 2))
    return canvas


def _grey(image: Image.Image) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    return np.asarray(image.convert("L").resize((64, 64), Image.Resampling.BOX), dtype=np.float64)


def _correlation(
    one: np.ndarray[tuple[int, ...], np.dtype[np.float64]], other: np.ndarray[tuple[int, ...], np.dtype[np.float64]]
) -> float:
    one, other = one - one.mean(), other - other.mean()
    norm = float(np.sqrt((one**2).sum() * (other**2).sum()))
    # Two flat pictures resemble each other as much as pictures can.
    return float((one * other).sum()) / norm if norm > 1e-6 else float(one.any() == other.any())


@lru_cache(maxsize=64)
def _flat(width: int, height: int) -> bytes:
    return _encode(Image.new("RGB", (width, height), (128, 128, 128)), 1)


def _encode(image: Image.Image, quality: int) -> bytes:
    out = BytesIO()
    image.save(out, "JPEG", quality=quality, subsampling=2, optimize=True)
    # EXIF thumbnails carry no APPn of their own (EXIF 2.32, 4.5.8).
    segments, _ = markers.walk(out.getvalue(), name="preview")
    return markers.join(s for s in segments if not markers.is_metadata(s.marker))
