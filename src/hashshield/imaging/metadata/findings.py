"""What EXIF and XMP say of a photo's other copies and of its owner."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, field

import piexif
from PIL import Image

from hashshield.imaging.metadata.budget import MetadataBudget
from hashshield.imaging.metadata.exif import ExifBlock, parse_exif, split_header
from hashshield.imaging.metadata.thumbnails import Framing, PreviewSlot, can_hold, find_jpegs, jpeg_size, match_framing

__all__ = ["C2PA", "MetadataFindings", "find_previews", "inspect_exif", "inspect_iptc", "inspect_xmp", "thumbnail"]

C2PA = "C2PA manifest"

# Tags of IFD0 and the EXIF directory that say who took the photo, and with which camera.
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
"""Bytes; cameras pad an empty comment or name to some hundred."""
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
    """What was found in one carrier."""

    remade: list[PreviewSlot] = field(default_factory=list)
    """Pictures `write` re-makes."""
    untouched: list[PreviewSlot] = field(default_factory=list)
    """Pictures it cannot; `StripOptions.copies` blanks them."""
    copies: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)

    def add(self, other: MetadataFindings) -> None:
        """Take over what another carrier holds, its spots apart."""
        self.copies += other.copies
        self.links += other.links


def inspect_exif(data: bytes, photo: Image.Image, budget: MetadataBudget, *, where: str = "EXIF") -> MetadataFindings:
    """Look through a TIFF block; spots count from its start. Raises UnsupportedError beyond the file's budget."""
    block, found = parse_exif(data), MetadataFindings()
    if block is None:
        return found
    budget.entries(len(block.entries))
    official = thumbnail(block)
    if official is not None and _affordable(official, budget):
        shape, _ = match_framing(data, official, photo, budget)
        found.remade.append(_shaped(official, shape))
    elif official is not None:
        found.untouched.append(official)
        found.copies.append(f"{where} thumbnail ({official.width}x{official.height})")
    elif _has_picture(block):
        found.copies.append(f"{where} thumbnail of an unknown kind")
    pictures = find_previews(data, photo, budget, where=where, taken=official)
    found.remade += pictures.remade
    found.untouched += pictures.untouched
    found.add(pictures)
    found.links += [
        _LINKS[e.tag]
        for e in block.entries
        if e.ifd in ("0th", "Exif") and e.tag in _LINKS and _says(block, e.start, e.size)
    ]
    if _positions(block):
        found.links.append("GPS")
    return found


def inspect_exif_payload(data: bytes, photo: Image.Image, budget: MetadataBudget) -> MetadataFindings:
    """Look through a block, header or not; spots count from the start of the TIFF block."""
    return inspect_exif(split_header(data)[1], photo, budget)


def find_previews(
    data: bytes,
    photo: Image.Image,
    budget: MetadataBudget,
    *,
    where: str,
    taken: PreviewSlot | None = None,
    thumbnails: bool = False,
) -> MetadataFindings:
    """Find whole JPEGs inside a carrier (maker notes, Photoshop resources, FlashPix), apart from one `taken`.

    One that does not show the photo is left alone and reported, unless the carrier holds `thumbnails` by definition:
    a thumbnail that differs is an outdated one, and re-made. Raises UnsupportedError beyond the file's budget.
    """
    found = MetadataFindings()
    for spot in find_jpegs(data, budget):
        if taken is not None and spot.start < taken.end and taken.start < spot.end:
            continue
        affordable = _affordable(spot, budget)
        shape, same = match_framing(data, spot, photo, budget) if affordable else (("whole", 0), False)
        if same or (thumbnails and affordable):
            found.remade.append(_shaped(spot, shape))
        else:
            found.untouched.append(spot)
            found.copies.append(f"image in {where} ({spot.width}x{spot.height})")
    return found


def thumbnail(block: ExifBlock) -> PreviewSlot | None:
    """Return where IFD1's picture is: a JPEG, or plain RGB in one strip; None when there is none of these."""
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
    """Look through an XMP packet, in UTF-8."""
    found = MetadataFindings()
    found.copies += [name for pattern, name in _XMP_COPIES if pattern.search(packet)]
    found.links += [name for pattern, name in _XMP_LINKS if pattern.search(packet)]
    return found


def inspect_iptc(record: bytes) -> MetadataFindings:
    """Look through Photoshop resources or an IPTC record."""
    return MetadataFindings(links=[name for pattern, name in _IPTC_LINKS if pattern.search(record)])


def _affordable(spot: PreviewSlot, budget: MetadataBudget) -> bool:
    """Tell whether a picture of this size can be written there, and counted among the file's previews."""
    return can_hold(spot) and budget.preview(spot.width, spot.height)


def _shaped(spot: PreviewSlot, shape: Framing) -> PreviewSlot:
    return PreviewSlot(spot.start, spot.end, spot.width, spot.height, spot.coding, shape)


def _has_picture(block: ExifBlock) -> bool:
    """Tell whether IFD1 points at anything; some writers leave an empty pointer behind."""
    if block.find("1st", 0x0201) is None:
        return block.find("1st", 0x0111) is not None
    return block.integer(block.find("1st", 0x0202)) != 0


def _says(block: ExifBlock, start: int, size: int) -> bool:
    """Tell whether a value says anything; a long one does, because thousands of entries may share one to be read."""
    return size > _LONG_VALUE or bool(block.data[start : start + size].strip(b"\0 0"))


def _positions(block: ExifBlock) -> bool:
    """Tell whether the GPS directory says where or when; piexif sees sound blocks only.

    Given anything else it may open a path (Piexif issue 124) or take all memory (issue 90).
    """
    if "GPS" not in block.directories:
        return False
    if not block.sound:
        return True
    try:
        tags = piexif.load(b"Exif\0\0" + block.data)["GPS"]
    except (struct.error, ValueError):
        return True
    return any(tag != _GPS_VERSION for tag in tags)
