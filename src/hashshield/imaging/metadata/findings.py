"""Find copies of the photo and links to its owner in metadata, and blank them on request.

EXIF and XMP are rewritten in place: values are blanked at the same length, so that no offset changes.
"""

from __future__ import annotations

import re
import struct
from bisect import bisect
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import piexif
from PIL import Image

from hashshield.imaging.metadata import MetadataBudget
from hashshield.imaging.metadata.exif import ExifBlock, parse_exif, split_header
from hashshield.imaging.metadata.thumbnails import PreviewSlot, can_hold, find_jpegs, jpeg_size, match_framing, redraw
from hashshield.imaging.photo import StripOptions

__all__ = [
    "C2PA",
    "MetadataFindings",
    "blank",
    "blank_exif_gps",
    "blank_xmp_copies",
    "blank_xmp_credentials",
    "blank_xmp_gps",
    "exif_with_orientation",
    "find_previews",
    "inspect_exif",
    "inspect_iptc",
    "inspect_xmp",
    "rewrite_exif",
    "rewrite_xmp",
    "thumbnail",
]


C2PA = "C2PA manifest"

# Tags of IFD0 and the EXIF directory that identify the photographer or the camera.
_LINKS = {
    0x013B: "owner name",
    0x8298: "owner name",
    0x9C9D: "owner name",
    0xA430: "owner name",
    0xA420: "ImageUniqueID",
    0xA431: "serial number",
    0xA435: "serial number",
    0xC62F: "serial number",
    0x927C: "maker notes",
}
_CAPTURED = (0x9003, 0x9004)
"""DateTimeOriginal and DateTimeDigitized, in the EXIF directory."""
_CAMERA = (0x010F, 0x0110)
"""Make and Model, in IFD0."""
_CAPTURE = "capture time with camera"
_GPS_VERSION = 0
_LONG_VALUE = 4096
"""Length in bytes beyond which a value counts as set without being read; cameras pad empty ones to a few hundred."""
_XMP_LINKS = (
    (re.compile(rb":GPS(?:Latitude|Longitude|Position|DestL)", re.IGNORECASE), "GPS"),
    (re.compile(rb"xmpMM:(?:Original)?(?:DocumentID|InstanceID)"), "XMP DocumentID"),
    (re.compile(rb":(?:Body|Lens|Camera|Internal)?Serial(?:Number|No)"), "serial number"),
    (re.compile(rb"(?:dc:creator|dc:rights|aux:OwnerName|exifEX:CameraOwnerName|xmpRights:Owner)\b"), "owner name"),
    (re.compile(rb"(?:mwg-rs:Name|MPReg:PersonDisplayName|Iptc4xmpExt:PersonInImage)\b"), "names of people"),
    (re.compile(rb"dcterms:provenance"), C2PA),
)
_XMP_CAPTURED = re.compile(rb"(?:exif:DateTime(?:Original|Digitized)|photoshop:DateCreated|xmp:CreateDate)\b")
_XMP_CAMERA = re.compile(rb"tiff:(?:Make|Model)\b")
_XMP_COPIES = (
    (re.compile(rb"xmpGImg:image\b"), "XMP thumbnail"),
    (re.compile(rb"GDepth:Data\b"), "depth map"),
    (re.compile(rb"GImage:Data\b"), "unblurred image in XMP"),
)

# Datasets of record 2: by-line, contact, copyright; city, province, country.
_IPTC_LINKS = (
    (re.compile(rb"\x1c\x02[\x50\x74\x76]"), "owner name"),
    (re.compile(rb"\x1c\x02[\x5a\x5f\x65]"), "place"),
)


@dataclass(slots=True)
class MetadataFindings:
    """Copies and links found in one segment or chunk, or in a whole file."""

    redrawn: list[PreviewSlot] = field(default_factory=list)
    """Previews that `imaging.write` draws again."""
    untouched: list[PreviewSlot] = field(default_factory=list)
    """Pictures that `imaging.write` leaves unchanged, and blanks with `StripOptions.copies`."""
    copies: list[str] = field(default_factory=list)
    """Descriptions of copies that stay unprotected."""
    links: list[str] = field(default_factory=list)
    """Descriptions of metadata that can link the photo to its owner."""

    def add(self, other: MetadataFindings) -> None:
        """Add the copies and links found elsewhere, but not the slots, whose offsets belong to other data."""
        self.copies += other.copies
        self.links += other.links


def inspect_exif(data: bytes, photo: Image.Image, budget: MetadataBudget, *, where: str = "EXIF") -> MetadataFindings:
    """Inspect a TIFF block; slots count from its start. Raises UnsupportedError beyond the file's budget."""
    block, findings = parse_exif(data), MetadataFindings()
    if block is None:
        return findings
    budget.entries(len(block.entries))
    official = thumbnail(block)
    if official is not None and _affordable(official, budget):
        framing, _ = match_framing(data, official, photo, budget)
        findings.redrawn.append(replace(official, framing=framing))
    elif official is not None:
        findings.untouched.append(official)
        findings.copies.append(f"{where} thumbnail ({official.width}x{official.height})")
    elif _has_picture(block):
        findings.copies.append(f"{where} thumbnail of an unknown kind")
    pictures = find_previews(data, photo, budget, where=where, exclude=official)
    findings.redrawn += pictures.redrawn
    findings.untouched += pictures.untouched
    findings.add(pictures)
    findings.links += [
        _LINKS[e.tag]
        for e in block.entries
        if e.ifd in ("0th", "Exif") and e.tag in _LINKS and _is_set(block, e.start, e.size)
    ]
    if _has_position(block):
        findings.links.append("GPS")
    if _states(block, "Exif", _CAPTURED, needs=b"123456789") and _states(block, "0th", _CAMERA):
        # Two people hardly ever take a photo with the same model in the same second.
        findings.links.append(_CAPTURE)
    return findings


def inspect_exif_payload(data: bytes, photo: Image.Image, budget: MetadataBudget) -> MetadataFindings:
    """Inspect an EXIF block with or without its header; slots count from the start of the TIFF block."""
    return inspect_exif(split_header(data)[1], photo, budget)


def find_previews(
    data: bytes,
    photo: Image.Image,
    budget: MetadataBudget,
    *,
    where: str,
    exclude: PreviewSlot | None = None,
    thumbnails: bool = False,
) -> MetadataFindings:
    """Find whole JPEGs inside `data` (maker notes, Photoshop resources, FlashPix), except for the one in `exclude`.

    One that does not show the photo is left unchanged and reported. With `thumbnails` all of them are thumbnails by
    definition, so one that differs is outdated and drawn again. `where` is the place in reports. Raises
    UnsupportedError beyond the file's budget.
    """
    findings = MetadataFindings()
    for slot in find_jpegs(data, budget):
        if exclude is not None and slot.start < exclude.end and exclude.start < slot.end:
            continue
        affordable = _affordable(slot, budget)
        framing, same = match_framing(data, slot, photo, budget) if affordable else (("whole", 0), False)
        if same or (thumbnails and affordable):
            findings.redrawn.append(replace(slot, framing=framing))
        else:
            findings.untouched.append(slot)
            findings.copies.append(f"image in {where} ({slot.width}x{slot.height})")
    return findings


def thumbnail(block: ExifBlock) -> PreviewSlot | None:
    """Return the slot of IFD1's picture if it is a JPEG, or plain RGB in one strip; else None."""
    start = block.integer(block.find("1st", 0x0201))
    length = block.integer(block.find("1st", 0x0202))
    if start and length and start + length <= len(block.data):
        size = jpeg_size(block.data[start : start + length])
        return PreviewSlot(start, start + length, *size) if size else None
    start, length, width, height, kind = (
        block.integer(block.find("1st", tag)) for tag in (0x0111, 0x0117, 0x0100, 0x0101, 0x0106)
    )
    compression = block.integer(block.find("1st", 0x0103))
    if not (start and length and width and height) or compression != 1 or kind != 2:
        return None
    if length != 3 * width * height or start + length > len(block.data):
        return None
    return PreviewSlot(start, start + length, width, height, coding="rgb")


def inspect_xmp(packet: bytes) -> MetadataFindings:
    """Inspect an XMP packet in UTF-8."""
    findings = MetadataFindings()
    findings.copies += [name for pattern, name in _XMP_COPIES if pattern.search(packet)]
    findings.links += [name for pattern, name in _XMP_LINKS if pattern.search(packet)]
    if _XMP_CAPTURED.search(packet) and _XMP_CAMERA.search(packet):
        findings.links.append(_CAPTURE)
    return findings


def inspect_iptc(record: bytes) -> MetadataFindings:
    """Inspect Photoshop resources or an IPTC record."""
    return MetadataFindings(links=[name for pattern, name in _IPTC_LINKS if pattern.search(record)])


def _affordable(slot: PreviewSlot, budget: MetadataBudget) -> bool:
    """Return True if a picture of this size fits its slot and the file's budget, and count it there."""
    return can_hold(slot) and budget.preview(slot.width, slot.height)


def _has_picture(block: ExifBlock) -> bool:
    """Return True if IFD1 refers to a picture; some writers leave an empty reference."""
    if block.find("1st", 0x0201) is None:
        return block.find("1st", 0x0111) is not None
    return block.integer(block.find("1st", 0x0202)) != 0


def _is_set(block: ExifBlock, start: int, size: int) -> bool:
    """Return True if a value is not blank; a long one counts unread, because thousands of entries may share it."""
    return size > _LONG_VALUE or bool(block.data[start : start + size].strip(b"\0 0"))


def _states(block: ExifBlock, ifd: str, tags: tuple[int, ...], *, needs: bytes = b"") -> bool:
    """Return True if one of the tags is set and has a byte of `needs`; the time of an unset clock is all zeros."""
    found = [e for e in block.entries if e.ifd == ifd and e.tag in tags and _is_set(block, e.start, e.size)]
    return any(not needs or e.size > _LONG_VALUE or set(block.value(e)) & set(needs) for e in found)


def _has_position(block: ExifBlock) -> bool:
    """Return True if the GPS directory holds more than its version, or if the block is invalid.

    Only valid blocks are passed to piexif: others may make it open a path (Piexif issue 124) or use up memory (issue
    90).
    """
    if "GPS" not in block.directories:
        return False
    if not block.valid:
        return True
    try:
        tags = piexif.load(b"Exif\0\0" + block.data)["GPS"]
    except (struct.error, ValueError):
        return True
    return any(tag != _GPS_VERSION for tag in tags)


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
_XMP_COPY_PROPERTIES = _XmpProperties.named(
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
    """Overwrite ranges with zeros, each byte once: in a crafted block, thousands of ranges may each cover all of it."""
    out, done = bytearray(data), 0
    for start, end in sorted(ranges):
        first = max(start, done)
        if first < end:
            out[first:end] = bytes(end - first)
            done = end
    return bytes(out)


def _without_pointer(data: bytes, block: ExifBlock) -> bytes:
    """Remove the GPS pointer from IFD0 and close the gap; nothing refers to the bytes that move up."""
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
    return _blank_properties(packet, _XMP_COPY_PROPERTIES)


def blank_xmp_credentials(packet: bytes) -> bytes:
    """Return an XMP packet without the property that points to the photo's content credentials (C2PA)."""
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
