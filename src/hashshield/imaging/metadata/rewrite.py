"""Rewrite EXIF and XMP in place: values are blanked at the same length, so that no offset moves."""

from __future__ import annotations

import re
from bisect import bisect
from collections.abc import Iterator
from dataclasses import dataclass

from PIL import Image

from hashshield.imaging.metadata.exif import ExifBlock, parse_exif, split_header
from hashshield.imaging.metadata.findings import MetadataFindings
from hashshield.imaging.metadata.thumbnails import redraw
from hashshield.imaging.photo import StripOptions

__all__ = [
    "blank",
    "blank_exif_gps",
    "blank_xmp_copies",
    "blank_xmp_credentials",
    "blank_xmp_gps",
    "exif_with_orientation",
    "rewrite_exif",
    "rewrite_xmp",
]

_GPS_POINTER = 0x8825
_NAME = rb"[A-Za-z][\w.-]*"


@dataclass(frozen=True, slots=True)
class _XmpProperties:
    """Patterns that match XMP properties by qualified name, as attributes and as elements.

    Start tags and end tags are matched separately, which takes time linear in the packet: a single pattern would try
    every start tag against all that follows.
    """

    attribute: re.Pattern[bytes]
    start_tag: re.Pattern[bytes]
    end_tag: re.Pattern[bytes]

    @classmethod
    def named(cls, names: bytes) -> _XmpProperties:
        return cls(
            re.compile(rb"""(?<=\s)(?:""" + names + rb""")\s*=\s*(?:"[^"<]*"|'[^'<]*')"""),
            re.compile(rb"<(" + names + rb")(?:\s[^<>]*)?>"),
            re.compile(rb"</(" + names + rb")\s*>"),
        )

    def ranges(self, packet: bytes) -> Iterator[tuple[int, int]]:
        """Yield (start, end) of every property."""
        yield from (match.span() for match in self.attribute.finditer(packet))
        ends: dict[bytes, list[int]] = {}
        for match in self.end_tag.finditer(packet):
            ends.setdefault(match[1], []).append(match.end())
        for match in self.start_tag.finditer(packet):
            if match[0].endswith(b"/>"):
                yield match.span()
                continue
            following = ends.get(match[1], [])
            index = bisect(following, match.end())
            if index < len(following):
                yield match.start(), following[index]


_XMP_GPS = _XmpProperties.named(_NAME + rb":[Gg][Pp][Ss]\w*")
_XMP_CREDENTIALS = _XmpProperties.named(rb"dcterms:provenance")
_XMP_COPIES = _XmpProperties.named(
    rb"(?:xmp:Thumbnails|xap:Thumbnails|hdrgm:\w+|GContainer:Directory|Container:Directory|GDepth:\w+|GImage:\w+"
    rb"|GCamera:(?:MicroVideo|MotionPhoto)\w*|Camera:(?:MicroVideo|MotionPhoto)\w*|xmpNote:HasExtendedXMP)"
)


def blank(data: bytes, start: int, end: int, filler: bytes = b"\0") -> bytes:
    """Return `data` with a range overwritten by `filler`, one byte."""
    return data[:start] + filler * (end - start) + data[end:]


def blank_exif_gps(data: bytes) -> bytes:
    """Return a TIFF block without its GPS directory; the length and all other offsets stay.

    The entry that points at it is removed as well: a directory of zeros would place the photo at 0 N 0 E.
    """
    block = parse_exif(data)
    if block is None:
        return data
    ranges = [(e.start, e.start + e.size) for e in block.entries if e.ifd == "GPS"]
    ranges += [(e.at, e.at + 12) for e in block.entries if e.ifd == "GPS"]
    start = block.directories.get("GPS")
    if start is not None:
        ranges.append((start, start + 2))
    return _without_pointer(_blank_all(data, ranges), block)


def _blank_all(data: bytes, ranges: list[tuple[int, int]]) -> bytes:
    """Overwrite ranges, each byte only once: in a crafted block, thousands of ranges may each cover all of it."""
    out, done = bytearray(data), 0
    for start, end in sorted(ranges):
        first = max(start, done)
        if first < end:
            out[first:end] = bytes(end - first)
            done = end
    return bytes(out)


def _without_pointer(data: bytes, block: ExifBlock) -> bytes:
    """Remove the pointer from IFD0 and close the gap; nothing refers to the entries and the link that move up."""
    entry = block.find("0th", _GPS_POINTER)
    if entry is None:
        return data
    # Read from the original block: in a crafted one directories overlap, and IFD0 may just have been blanked.
    before, start = block.data, block.directories["0th"]
    count = int.from_bytes(before[start : start + 2], block.order)
    end = min(start + 2 + 12 * count + 4, len(before))
    fewer = (count - 1).to_bytes(2, block.order)
    return data[:start] + fewer + before[start + 2 : entry.at] + before[entry.at + 12 : end] + bytes(12) + data[end:]


def blank_xmp_gps(packet: bytes) -> bytes:
    """Return an XMP packet with every property named GPS... overwritten by spaces."""
    return _blank_properties(packet, _XMP_GPS)


def blank_xmp_copies(packet: bytes) -> bytes:
    """Return an XMP packet without thumbnails and references to gain maps, depth maps, videos, and extended packets."""
    return _blank_properties(packet, _XMP_COPIES)


def blank_xmp_credentials(packet: bytes) -> bytes:
    """Return an XMP packet without the property that says where the photo's content credentials (C2PA) are."""
    return _blank_properties(packet, _XMP_CREDENTIALS)


def _blank_properties(packet: bytes, properties: _XmpProperties) -> bytes:
    out = bytearray(packet)
    for start, end in properties.ranges(packet):
        out[start:end] = b" " * (end - start)
    return bytes(out)


def exif_with_orientation(orientation: int) -> bytes:
    """Return the smallest TIFF block that states this orientation, 1 to 8."""
    entry = b"\x01\x12\x00\x03\x00\x00\x00\x01" + orientation.to_bytes(2, "big") + b"\0\0"
    return b"MM\0*\0\0\0\x08\0\x01" + entry + b"\0\0\0\0"


def rewrite_exif(data: bytes, findings: MetadataFindings, photo: Image.Image, strip: StripOptions) -> bytes:
    """Return an EXIF block of the same length with its previews drawn again and the stripped parts blanked."""
    header, block = split_header(data)
    for slot in findings.redrawn:
        block = redraw(block, slot, photo)
    if strip.copies:
        for slot in findings.untouched:
            block = blank(block, slot.start, slot.end)
    if strip.gps:
        block = blank_exif_gps(block)
    return header + block


def rewrite_xmp(packet: bytes, strip: StripOptions) -> bytes:
    """Return an XMP packet of the same length with the stripped parts blanked."""
    if strip.copies:
        packet = blank_xmp_copies(packet)
    if strip.credentials:
        packet = blank_xmp_credentials(packet)
    return blank_xmp_gps(packet) if strip.gps else packet
