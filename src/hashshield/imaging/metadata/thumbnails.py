"""Find small pictures in metadata, and draw the protected photo into the bytes that they occupy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO

import numpy as np
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from hashshield.errors import BrokenPhotoError, PhotoError
from hashshield.imaging.coders import decode
from hashshield.imaging.jpeg import markers
from hashshield.imaging.metadata import MetadataBudget

__all__ = ["PreviewFraming", "PreviewSlot", "can_hold", "find_jpegs", "jpeg_size", "match_framing", "redraw"]

_LARGEST = 4_000_000
"""Most pixels of a preview that is drawn again."""

_SAME = 0.8
"""Correlation of grey values at which a preview counts as showing the photo."""

PreviewFraming = tuple[str, int]
"""How a preview shows the photo: (fit, quarter turns), where the fit is 'whole', 'bars' (dark, around it), or 'crop'.

Turns occur because editors rotate photos and forget their previews.
"""

_FITS = ("whole", "bars", "crop")
_ROTATIONS = {1: Image.Transpose.ROTATE_90, 2: Image.Transpose.ROTATE_180, 3: Image.Transpose.ROTATE_270}


@dataclass(frozen=True, slots=True)
class PreviewSlot:
    """The bytes that hold a small picture, and how it is drawn into them."""

    start: int
    end: int
    """Offsets of its bytes in the data it was found in, end exclusive."""
    width: int
    height: int
    coding: str = "jpeg"
    """'jpeg', or 'rgb' for three bytes per pixel."""
    framing: PreviewFraming = ("whole", 0)
    """How the photo is fitted to this size."""


def find_jpegs(data: bytes, budget: MetadataBudget) -> Iterator[PreviewSlot]:
    """Yield the complete JPEG files inside `data`, until the budget for candidates is spent.

    Raises UnsupportedError if together they have more segments than a file may have.
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
    """Return width and height of the JPEG at the start of `data`, even if truncated; None if it is not a JPEG."""
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


def can_hold(slot: PreviewSlot) -> bool:
    """Return True if every picture of this size fits into the slot's bytes."""
    if slot.width * slot.height > _LARGEST:
        return False
    if slot.coding == "rgb":
        return slot.end - slot.start == 3 * slot.width * slot.height
    return len(_flat(slot.width, slot.height)) <= slot.end - slot.start


def match_framing(
    data: bytes, slot: PreviewSlot, photo: Image.Image, budget: MetadataBudget
) -> tuple[PreviewFraming, bool]:
    """Return the framing in which the photo is most similar to the picture in the slot, and True if they match.

    Returns (('bars', 0), False) for a picture that cannot be decoded within the file's budget.
    """
    best, score = ("bars", 0), 0.0
    old = _current(data, slot, budget)
    if old is None:
        return best, False
    target, small = _grey(old), _reduced(photo, slot)
    for turns in (0, 1, 3, 2):
        for fit in _FITS:
            likeness = _correlation(target, _grey(_draw(small, slot, (fit, turns))))
            if likeness > score:
                best, score = (fit, turns), likeness
        if score >= _SAME:
            return best, True
    return ("bars", 0), False


def redraw(data: bytes, slot: PreviewSlot, photo: Image.Image) -> bytes:
    """Return `data` with the photo drawn into the slot; its length and all offsets stay."""
    picture = _draw(_reduced(photo, slot), slot, slot.framing)
    size = slot.end - slot.start
    if slot.coding == "rgb":
        return data[: slot.start] + picture.convert("RGB").tobytes() + data[slot.end :]
    coded = _flat(slot.width, slot.height)
    low, high = 1, 92
    while low <= high:
        quality = (low + high) // 2
        attempt = _encode(picture, quality)
        if len(attempt) <= size:
            coded, low = attempt, quality + 1
        else:
            high = quality - 1
    return data[: slot.start] + coded.ljust(size, b"\0") + data[slot.end :]


def _current(data: bytes, slot: PreviewSlot, budget: MetadataBudget) -> Image.Image | None:
    held = data[slot.start : slot.end]
    if slot.coding == "rgb":
        return Image.frombytes("RGB", (slot.width, slot.height), held)
    try:
        segments, _ = markers.walk(held, name="preview")
        scans = sum(s.marker == markers.SOS for s in segments)
        if not budget.scans(scans * slot.width * slot.height):
            return None
        return decode(JpegImageFile, held, name="preview")
    except PhotoError:
        return None


def _reduced(photo: Image.Image, slot: PreviewSlot) -> Image.Image:
    """Scale the photo down to about twice the slot's size with a box filter, which is fast."""
    short, long = sorted((slot.width, slot.height))
    factor = min(min(photo.size) // (2 * short), max(photo.size) // (2 * long))
    return photo.reduce(factor) if factor > 1 else photo


def _draw(photo: Image.Image, slot: PreviewSlot, framing: PreviewFraming) -> Image.Image:
    """Return the photo in the slot's size and with this framing."""
    fit, turns = framing
    if turns:
        photo = photo.transpose(_ROTATIONS[turns])
    size = slot.width, slot.height
    if fit == "whole":
        return photo.resize(size, Image.Resampling.BICUBIC)
    choose = min if fit == "bars" else max
    scale = choose(slot.width / photo.width, slot.height / photo.height)
    part = photo.resize(
        (max(1, round(photo.width * scale)), max(1, round(photo.height * scale))), Image.Resampling.BICUBIC
    )
    canvas = Image.new(photo.mode, size)
    canvas.paste(part, ((slot.width - part.width) // 2, (slot.height - part.height) // 2))
    return canvas


def _grey(image: Image.Image) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    return np.asarray(image.convert("L").resize((64, 64), Image.Resampling.BOX), dtype=np.float64)


def _correlation(
    one: np.ndarray[tuple[int, ...], np.dtype[np.float64]], other: np.ndarray[tuple[int, ...], np.dtype[np.float64]]
) -> float:
    one, other = one - one.mean(), other - other.mean()
    norm = float(np.sqrt((one**2).sum() * (other**2).sum()))
    # Two flat pictures have no correlation; they count as equal.
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
