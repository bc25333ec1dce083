"""Inspect metadata for copies of the photo and for links to its owner."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, field, replace

import piexif
from PIL import Image

from hashshield.imaging.metadata.budget import MetadataBudget
from hashshield.imaging.metadata.exif import ExifBlock, parse_exif, split_header
from hashshield.imaging.metadata.thumbnails import PreviewSlot, can_hold, find_jpegs, jpeg_size, match_framing

__all__ = ["C2PA", "MetadataFindings", "find_previews", "inspect_exif", "inspect_iptc", "inspect_xmp", "thumbnail"]

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
_GPS_VERSION = 0
_LONG_VALUE = 4096
"""Bytes beyond which a value is exclude to be set without a look; cameras pad empty ones to a few hundred."""
_XMP_LINKS = (
    (re.compile(rb":GPS(?:Latitude|Longitude|Position|DestL)", re.IGNORECASE), "GPS"),
    (re.compile(rb"xmpMM:(?:Original)?(?:DocumentID|InstanceID)"), "XMP DocumentID"),
    (re.compile(rb":(?:Body|Lens|Camera|Internal)?Serial(?:Number|No)"), "serial number"),
    (re.compile(rb"(?:dc:creator|dc:rights|aux:OwnerName|exifEX:CameraOwnerName|xmpRights:Owner)\b"), "owner name"),
    (re.compile(rb"(?:mwg-rs:Name|MPReg:PersonDisplayName|Iptc4xmpExt:PersonInImage)\b"), "names of people"),
    (re.compile(rb"dcterms:provenance"), C2PA),
)
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
    """Pictures that it leaves unchanged, and blanks with `StripOptions.copies`."""
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

    One that does not show the photo is left unchanged and reported, unless `thumbnails` says that all of them are
    thumbnails by definition: one that differs is then outdated, and drawn again. `where` is the place in reports.
    Raises UnsupportedError beyond the file's budget.
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


def _has_position(block: ExifBlock) -> bool:
    """Return True if the GPS directory states a place or time; an invalid block counts as if it did.

    piexif is given valid blocks only: others may make it open a path (Piexif issue 124) or use up memory (issue 90).
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
