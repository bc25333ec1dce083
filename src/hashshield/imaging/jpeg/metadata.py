"""The metadata of a JPEG: its segments, the bytes after the photo, and the offsets in segments that point there."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
from PIL import Image

from hashshield.imaging.jpeg.markers import Segment, is_metadata, segment
from hashshield.imaging.metadata import MetadataBudget
from hashshield.imaging.metadata.exif import ExifBlock, parse_exif, split_header
from hashshield.imaging.metadata.findings import (
    C2PA,
    MetadataFindings,
    blank,
    blank_exif_gps,
    blank_xmp_copies,
    blank_xmp_credentials,
    blank_xmp_gps,
    exif_with_orientation,
    find_previews,
    inspect_exif,
    inspect_iptc,
    inspect_xmp,
)
from hashshield.imaging.metadata.thumbnails import PreviewSlot, can_hold, redraw
from hashshield.imaging.photo import StripOptions

__all__ = [
    "APP0",
    "EXIF",
    "MPF",
    "XMP",
    "SegmentFindings",
    "SegmentOffsets",
    "correct_offsets",
    "inspect_segments",
    "locate_segments",
    "rewrite_segments",
    "tail_without_gps",
]

APP0, APP1, APP2, APP11, APP13, APP14 = 0xE0, 0xE1, 0xE2, 0xEB, 0xED, 0xEE
EXIF = b"Exif\0\0"
XMP = b"http://ns.adobe.com/xap/1.0/\0"
_XMP_EXTENSION = b"http://ns.adobe.com/xmp/extension/\0"
_ICC = b"ICC_PROFILE\0"
MPF = b"MPF\0"
_FLASHPIX = b"FPXR\0"
_GAIN_MAP = b"urn:iso:std:iso:ts:21496:-1\0"
_TAIL_BLOCKS = 32
"""Most EXIF blocks that are searched for after the photo."""
_TAIL_EXIF = re.compile(rb"Exif\0\0(?=II\*\0|MM\0\*)")
_MP_ENTRIES = 0xB002
_MAKER_NOTE = 0x927C
_PICTURE = re.compile(rb"\xff\xd8\xff")
_TIFF = re.compile(rb"II\*\0|MM\0\*")
_PICTURES, _ORIGINS = 256, 8
"""Most second images, and most TIFF headers inside maker notes, that are considered."""
_SONY_HEADER = 32
"""Bytes between the offset in Sony's maker notes (tag 0x2001) and the preview."""


@dataclass(frozen=True, slots=True)
class SegmentFindings:
    """Copies of the picture and links to its owner in a file; offsets count from the start of a segment's payload."""

    redrawn: dict[int, list[PreviewSlot]]
    """Segment -> previews that `rewrite_segments` draws again."""
    untouched: dict[int, list[PreviewSlot]]
    """Segment -> pictures that it leaves unchanged, or blanks when copies are stripped."""
    copies: tuple[str, ...]
    links: tuple[str, ...]


def inspect_segments(
    segments: Sequence[Segment], tail: bytes, photo: Image.Image, budget: MetadataBudget
) -> SegmentFindings:
    """Return the copies and links in all metadata; copies are recognised by comparison with the decoded photo.

    Raises UnsupportedError for a file that exceeds its budget.
    """
    redrawn, untouched, findings = dict[int, list[PreviewSlot]](), dict[int, list[PreviewSlot]](), MetadataFindings()
    for index, item in enumerate(segments):
        if not is_metadata(item.marker):
            continue
        part = _inspect(item, photo, budget)
        redrawn[index], untouched[index] = part.redrawn, part.untouched
        findings.add(part)
    findings.add(_inspect_tail(segments, tail))
    return SegmentFindings(
        redrawn, untouched, tuple(dict.fromkeys(findings.copies)), tuple(dict.fromkeys(findings.links))
    )


def _inspect(item: Segment, photo: Image.Image, budget: MetadataBudget) -> MetadataFindings:
    payload = item.payload
    if item.marker == APP1 and payload.startswith(EXIF):
        header, block = split_header(payload)
        found = inspect_exif(block, photo, budget)
        found.redrawn = [_moved(slot, len(header)) for slot in found.redrawn]
        found.untouched = [_moved(slot, len(header)) for slot in found.untouched]
        return found
    if item.marker == APP1 and payload.startswith((XMP, _XMP_EXTENSION)):
        return inspect_xmp(payload)
    if item.marker == APP0 and payload.startswith((b"JFIF\0", b"JFXX\0")):
        return _inspect_jfif(payload, photo, budget)
    if item.marker == APP11 and b"c2pa" in payload:
        return MetadataFindings(links=[C2PA])
    if item.marker == APP2 and payload.startswith((_ICC, MPF, _GAIN_MAP)):
        return MetadataFindings()
    where = "Photoshop resources" if item.marker == APP13 else f"APP{item.marker & 15}"
    found = find_previews(payload, photo, budget, where=where, thumbnails=item.marker == APP13)
    if item.marker == APP13:
        found.add(inspect_iptc(payload))
    if item.marker == APP2 and payload.startswith(_FLASHPIX):
        # A FlashPix stream may be split over several segments, none of which holds a whole picture.
        found.copies.append("FlashPix data")
    return found


def _inspect_jfif(payload: bytes, photo: Image.Image, budget: MetadataBudget) -> MetadataFindings:
    if payload.startswith(b"JFXX\0") and payload[5:6] == b"\x10":
        return find_previews(payload, photo, budget, where="JFIF extension", thumbnails=True)
    plain = {b"JFIF\0": 12, b"JFXX\0": 6}[payload[:5]]
    if payload.startswith(b"JFXX\0") and payload[5:6] != b"\x13":
        return MetadataFindings(copies=["JFIF thumbnail with a palette"])
    size = payload[plain : plain + 2]
    if len(size) < 2 or 0 in size:
        return MetadataFindings()
    slot = PreviewSlot(plain + 2, len(payload), size[0], size[1], coding="rgb")
    if can_hold(slot) and budget.preview(slot.width, slot.height):
        return MetadataFindings(redrawn=[slot])
    return MetadataFindings(untouched=[slot], copies=["JFIF thumbnail"])


def _inspect_tail(segments: Sequence[Segment], tail: bytes) -> MetadataFindings:
    found = MetadataFindings()
    if not tail.strip(b"\0"):
        return found
    pictures = b"\xff\xd8\xff" in tail
    payloads = [s.payload for s in segments if is_metadata(s.marker)]
    gain_map = any(p.startswith(_GAIN_MAP) or (p.startswith(XMP) and b"hdrgm:Version" in p) for p in payloads)
    if pictures and gain_map:
        found.copies.append("Ultra HDR gain map")
    elif pictures and any(p.startswith(MPF) for p in payloads):
        found.copies.append("MPO second image")
    elif pictures:
        found.copies.append("image after the end of the photo")
    if b"MotionPhoto_Data" in tail or b"ftyp" in tail:
        found.copies.append("motion photo video")
    if not found.copies:
        found.copies.append(f"trailing data ({len(tail)} bytes)")
    if any("GPS" in block.directories for _, block in _tail_blocks(tail)) or b"\xa9xyz" in tail:
        found.links.append("GPS in what follows the photo")
    return found


def rewrite_segments(
    segments: Sequence[Segment], findings: SegmentFindings, photo: Image.Image, strip: StripOptions, orientation: int
) -> dict[int, Segment]:
    """Return the metadata segments that stay, by index, with previews drawn again from `photo`."""
    rewritten: dict[int, Segment] = {}
    has_orientation = False
    credentials = _credential_segments(segments) if strip.credentials else frozenset()
    for index, item in enumerate(segments):
        if not is_metadata(item.marker) or index in credentials:
            continue
        payload = item.payload
        for slot in findings.redrawn[index]:
            payload = redraw(payload, slot, photo)
        if strip.copies or strip.metadata:
            for slot in findings.untouched[index]:
                payload = blank(payload, slot.start, slot.end)
            if item.marker == APP1 and payload.startswith(XMP):
                payload = XMP + blank_xmp_copies(payload[len(XMP) :])
            if _only_points_at_copies(item):
                continue
        if strip.gps:
            payload = _without_gps(item.marker, payload)
        if strip.credentials and item.marker == APP1 and payload.startswith(XMP):
            payload = XMP + blank_xmp_credentials(payload[len(XMP) :])
        if strip.metadata and not _needed(item):
            # Only the orientation stays, in a minimal block where EXIF was.
            if has_orientation or orientation == 1 or item.marker != APP1:
                continue
            payload, has_orientation = EXIF + exif_with_orientation(orientation), True
        rewritten[index] = item if payload == item.payload else segment(item.marker, payload)
    return rewritten


def _credential_segments(segments: Sequence[Segment]) -> frozenset[int]:
    """Return the indices of segments that hold a C2PA manifest.

    A JUMBF box that is too long for one segment continues in others with the same box instance number, and only the
    first of them contains the name (ISO 19566-5, D.2).
    """
    boxes = {index: s.payload for index, s in enumerate(segments) if s.marker == APP11 and s.payload.startswith(b"JP")}
    instances = {payload[2:4] for payload in boxes.values() if b"c2pa" in payload}
    return frozenset(index for index, payload in boxes.items() if payload[2:4] in instances)


def _only_points_at_copies(item: Segment) -> bool:
    payload = item.payload
    if item.marker == APP0:
        return payload.startswith(b"JFXX\0") and payload[5:6] == b"\x11"
    if item.marker == APP1:
        return payload.startswith(_XMP_EXTENSION) and bool(inspect_xmp(payload).copies)
    return item.marker == APP2 and payload.startswith((MPF, _GAIN_MAP, _FLASHPIX))


def _needed(item: Segment) -> bool:
    """Return True for segments that decoding and colour need: JFIF, ICC profile, Adobe's transform."""
    return (
        (item.marker == APP0 and item.payload.startswith(b"JFIF\0"))
        or (item.marker == APP2 and item.payload.startswith(_ICC))
        or (item.marker == APP14 and item.payload.startswith(b"Adobe"))
    )


def _without_gps(marker: int, payload: bytes) -> bytes:
    if marker == APP1 and payload.startswith(EXIF):
        header, block = split_header(payload)
        return header + blank_exif_gps(block)
    if marker == APP1 and payload.startswith(XMP):
        return XMP + blank_xmp_gps(payload[len(XMP) :])
    return payload


def tail_without_gps(tail: bytes) -> bytes:
    """Return the bytes after the photo without positions in the EXIF of second images; their length stays."""
    for start, block in list(_tail_blocks(tail)):
        tail = tail[:start] + blank_exif_gps(block.data) + tail[start + len(block.data) :]
    return tail


def _tail_blocks(tail: bytes) -> Iterator[tuple[int, ExifBlock]]:
    for _, match in zip(range(_TAIL_BLOCKS), _TAIL_EXIF.finditer(tail), strict=False):
        block = parse_exif(tail[match.end() : match.end() + 65_536])
        if block is not None:
            yield match.end(), block


def _moved(slot: PreviewSlot, by: int) -> PreviewSlot:
    return replace(slot, start=slot.start + by, end=slot.end + by)


@dataclass(frozen=True, slots=True)
class SegmentOffsets:
    """Offsets of a file's metadata segments and of the bytes after its photo."""

    segments: dict[int, int]
    """Offset of each segment, by its index."""
    tail: int
    """Offset of the bytes after the photo."""


def locate_segments(data: bytes, segments: Mapping[int, Segment], tail: int) -> SegmentOffsets:
    """Return the offsets of segments in a file that holds them in this order; other bytes may lie between them."""
    offsets, position = dict[int, int](), 0
    for index, item in segments.items():
        offsets[index] = data.index(item.data, position)
        position = offsets[index] + len(item.data)
    return SegmentOffsets(offsets, tail)


def correct_offsets(
    segments: dict[int, Segment], tail: bytes, before: SegmentOffsets, after: SegmentOffsets, findings: SegmentFindings
) -> None:
    """Correct, in `segments`, the MPF indices and maker notes whose distance to their second images has changed."""
    for index, item in segments.items():
        moved = after.segments[index] - before.segments[index]
        shift = after.tail - before.tail - moved
        if item.marker == APP2 and item.payload.startswith(MPF):
            payload = _correct_mpf(item.payload, shift, grown=after.tail - before.tail)
        elif item.marker == APP1 and item.payload.startswith(EXIF) and shift:
            start = before.segments[index] + len(item.data) - len(item.payload) + len(EXIF)
            beginnings = [m.start() + before.tail for m in islice(_PICTURE.finditer(tail), _PICTURES)]
            payload = EXIF + _correct_pointers(
                item.payload[len(EXIF) :],
                start,
                beginnings,
                shift,
                [*findings.redrawn[index], *findings.untouched[index]],
            )
        else:
            continue
        if payload != item.payload:
            segments[index] = segment(item.marker, payload)


def _correct_mpf(payload: bytes, shift: int, *, grown: int) -> bytes:
    block = parse_exif(payload[len(MPF) :])
    entries = block.find("0th", _MP_ENTRIES) if block else None
    if block is None or entries is None:
        return payload
    out = bytearray(block.data)
    for at in range(entries.start, entries.start + entries.size - 15, 16):
        # Offset 0 stands for the photo itself, whose size changes; all other images move.
        field, by = (at + 8, shift) if any(out[at + 8 : at + 12]) else (at + 4, grown)
        value = int.from_bytes(out[field : field + 4], block.order) + by
        out[field : field + 4] = (value % (1 << 32)).to_bytes(4, block.order)
    return MPF + bytes(out)


def _correct_pointers(
    block: bytes, start: int, beginnings: Sequence[int], shift: int, pictures: Sequence[PreviewSlot]
) -> bytes:
    """Return the EXIF block at `start` of its file with its pointers to second images, at `beginnings`, shifted.

    Each maker has its own layout, so a pointer is recognised by its target: four bytes, in either order, that count
    from the EXIF header, from the maker note, or from a TIFF header within it, and lead to the first byte of a picture.
    The chance that another number matches is 1 in 2^32, for each picture and origin.
    """
    parsed = parse_exif(block)
    note = parsed.find("Exif", _MAKER_NOTE) if parsed else None
    origins = {0} | ({note.start} if note else set()) | {m.start() for m in islice(_TIFF.finditer(block), _ORIGINS)}
    targets = [at - start - origin for at in beginnings for origin in origins]
    targets = [target for each in targets for target in (each, each - _SONY_HEADER) if target > 0]
    excluded = [range(slot.start - len(EXIF) - 3, slot.end - len(EXIF)) for slot in pictures]
    out = bytearray(block)
    for phase in range(4):
        for kind in ("<u4", ">u4"):
            offsets = np.frombuffer(block, dtype=kind, offset=phase, count=(len(block) - phase) // 4)
            for index in np.flatnonzero(np.isin(offsets, targets)).tolist():
                at = phase + 4 * index
                if not any(at in part for part in excluded):
                    moved = np.array([(int(offsets[index]) + shift) % (1 << 32)], dtype=kind)
                    out[at : at + 4] = moved.tobytes()
    return bytes(out)
