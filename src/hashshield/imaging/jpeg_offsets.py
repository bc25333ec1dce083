"""Numbers in a JPEG's metadata that say where second images lie behind the photo, corrected when these move."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from hashshield.imaging import exif
from hashshield.imaging.jpeg_metadata import EXIF, MPF, Plan
from hashshield.imaging.markers import Segment, segment
from hashshield.imaging.thumbnail import Spot

__all__ = ["Places", "follow_tail", "places"]

APP1, APP2 = 0xE1, 0xE2
_MP_ENTRIES = 0xB002
_MAKER_NOTE = 0x927C

_PICTURE = re.compile(rb"\xff\xd8\xff")
_TIFF = re.compile(rb"II\*\0|MM\0\*")
_PICTURES, _ORIGINS = 256, 8
"""Second images, and TIFF headers inside maker notes, that are looked at."""

_SONY_HEADER = 32
"""Bytes before the preview that Sony's maker notes point at (tag 0x2001)."""


@dataclass(frozen=True, slots=True)
class Places:
    """Where things lie in a file."""

    segments: dict[int, int]
    """Offset of each segment, by its index."""
    tail: int
    """Offset of what follows the photo."""


def places(data: bytes, segments: Mapping[int, Segment], tail: int) -> Places:
    """Find segments, in their order, in a file that holds them; fill and stray bytes may lie between them."""
    found, position = dict[int, int](), 0
    for index, item in segments.items():
        found[index] = data.index(item.data, position)
        position = found[index] + len(item.data)
    return Places(found, tail)


def follow_tail(kept: dict[int, Segment], tail: bytes, before: Places, after: Places, plan: Plan) -> None:
    """Correct MPF indices and maker notes when what follows the photo, or they themselves, moved."""
    for index, item in kept.items():
        moved = after.segments[index] - before.segments[index]
        shift = after.tail - before.tail - moved
        if item.marker == APP2 and item.payload.startswith(MPF):
            payload = _mpf(item.payload, shift, grown=after.tail - before.tail)
        elif item.marker == APP1 and item.payload.startswith(EXIF) and shift:
            start = before.segments[index] + len(item.data) - len(item.payload) + len(EXIF)
            beginnings = [m.start() + before.tail for m in islice(_PICTURE.finditer(tail), _PICTURES)]
            payload = EXIF + _pointing(
                item.payload[len(EXIF) :], start, beginnings, shift, [*plan.spots[index], *plan.leftovers[index]]
            )
        else:
            continue
        if payload != item.payload:
            kept[index] = segment(item.marker, payload)


def _mpf(payload: bytes, shift: int, *, grown: int) -> bytes:
    block = exif.parse(payload[len(MPF) :])
    entries = block.find("0th", _MP_ENTRIES) if block else None
    if block is None or entries is None:
        return payload
    out = bytearray(block.data)
    for at in range(entries.start, entries.start + entries.size - 15, 16):
        # An offset of 0 is the photo itself, whose size changes; all others move.
        field, by = (at + 8, shift) if any(out[at + 8 : at + 12]) else (at + 4, grown)
        value = int.from_bytes(out[field : field + 4], block.order) + by
        out[field : field + 4] = (value % (1 << 32)).to_bytes(4, block.order)
    return MPF + bytes(out)


def _pointing(block: bytes, start: int, beginnings: Sequence[int], shift: int, pictures: Sequence[Spot]) -> bytes:
    """Return an EXIF block, at `start` in its file, whose pointers to these beginnings of second images moved along.

    Each maker has its own layout, so a pointer is known by where it leads: four bytes, in either order, that
    count from the EXIF header, from the maker note or from a TIFF header within it, and lead to the first byte of a
    picture. By chance a number does so once in 2^32, for each picture and origin.
    """
    parsed = exif.parse(block)
    note = parsed.find("Exif", _MAKER_NOTE) if parsed else None
    origins = {0} | ({note.start} if note else set()) | {m.start() for m in islice(_TIFF.finditer(block), _ORIGINS)}
    targets = [at - start - origin for at in beginnings for origin in origins]
    targets = [target for each in targets for target in (each, each - _SONY_HEADER) if target > 0]
    spared = [range(spot.start - len(EXIF) - 3, spot.end - len(EXIF)) for spot in pictures]
    out = bytearray(block)
    for phase in range(4):
        for kind in ("<u4", ">u4"):
            numbers = np.frombuffer(block, dtype=kind, offset=phase, count=(len(block) - phase) // 4)
            for index in np.flatnonzero(np.isin(numbers, targets)).tolist():
                at = phase + 4 * index
                if not any(at in part for part in spared):
                    moved = np.array([(int(numbers[index]) + shift) % (1 << 32)], dtype=kind)
                    out[at : at + 4] = moved.tobytes()
    return bytes(out)
