"""Split a PNG into chunks; read, inspect and rewrite those that hold text.

Follows the PNG specification, third edition: checksums are verified (section 5), compressed text is unpacked (section
11.3.3). Text may hold whole metadata blocks: XMP, and the "raw profiles" of ImageMagick and others in hexadecimal.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from hashshield.errors import BrokenPhotoError
from hashshield.imaging.metadata import MetadataBudget
from hashshield.imaging.metadata.exif import parse_exif, split_header
from hashshield.imaging.metadata.findings import (
    MetadataFindings,
    find_previews,
    inspect_exif_payload,
    inspect_iptc,
    inspect_xmp,
    rewrite_exif,
    rewrite_xmp,
)
from hashshield.imaging.photo import StripOptions

__all__ = [
    "SIGNATURE",
    "PngChunk",
    "TextChunk",
    "chunk",
    "chunks",
    "exif_profile",
    "inspect_text",
    "read_texts",
    "rewrite_text",
    "xmp_packet",
]

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_MAX_IMAGE_CHUNKS = 250_000
"""Most chunks of image data; 200 megapixels of noise in the 8 KB chunks that libpng writes take 73,000."""


@dataclass(frozen=True, slots=True)
class PngChunk:
    """One chunk with its length and checksum."""

    kind: bytes
    data: bytes
    """The whole chunk as stored in the file."""

    @property
    def payload(self) -> bytes:
        """The chunk's data, without length, kind, and checksum."""
        return self.data[8:-4]


def chunk(kind: bytes, payload: bytes) -> PngChunk:
    """Return a chunk with this payload, its length, and its checksum."""
    checksum = zlib.crc32(payload, zlib.crc32(kind))
    return PngChunk(kind, len(payload).to_bytes(4, "big") + kind + payload + checksum.to_bytes(4, "big"))


def chunks(data: bytes, *, name: str) -> tuple[list[PngChunk], int]:
    """Split a PNG into chunks; return them, including IEND, and the offset just after it.

    Raises BrokenPhotoError for damage, and UnsupportedError for more chunks than a file may have.
    """
    items, position, budget, image_chunks = list[PngChunk](), len(SIGNATURE), MetadataBudget(name), 0
    while not items or items[-1].kind != b"IEND":
        end = position + 12 + int.from_bytes(data[position : position + 4], "big")
        if end > len(data):
            raise BrokenPhotoError(f"{name}: the PNG ends in the middle of a chunk; get the file again from its source")
        whole = data[position:end]
        kind = whole[4:8]
        # Image data may be cut into chunks of any size, tens of thousands for a photo.
        image_chunks += kind == b"IDAT"
        if kind != b"IDAT" or image_chunks > _MAX_IMAGE_CHUNKS:
            budget.segments(1)
        if zlib.crc32(memoryview(whole)[4:-4]) != int.from_bytes(whole[-4:], "big"):
            # The kind has four letters in a sound file; other bytes are shown as escapes.
            shown = repr(kind)[2:-1]
            raise BrokenPhotoError(
                f"{name}: the PNG is damaged: wrong checksum in chunk {shown} at byte {position}; get the file again"
            )
        items.append(PngChunk(kind, whole))
        position = end
    return items, position


_TEXT_LIMIT = 1 << 20
"""Most bytes of one unpacked text chunk, the same as Pillow's limit."""
_TEXT = (b"tEXt", b"zTXt", b"iTXt")


@dataclass(frozen=True, slots=True)
class TextChunk:
    """A text chunk and its parts; `head` is everything before the value."""

    kind: bytes
    keyword: bytes
    head: bytes
    value: bytes
    compressed: bool

    def with_value(self, value: bytes) -> PngChunk:
        """Return the chunk with another value."""
        return chunk(self.kind, self.head + (zlib.compress(value) if self.compressed else value))


def read_texts(items: Sequence[PngChunk], budget: MetadataBudget) -> list[TextChunk | None]:
    """Return the text of each chunk, in order; None for other chunks, and for damaged or overlong text.

    Raises UnsupportedError if together they unpack to more than a file may hold.
    """
    return [_read_text(item, budget) for item in items]


def _read_text(item: PngChunk, budget: MetadataBudget) -> TextChunk | None:
    """Return the parts of one text chunk, or None, as `read_texts` does."""
    if item.kind not in _TEXT:
        return None
    payload = item.payload
    keyword, separator, rest = payload.partition(b"\0")
    compressed = item.kind == b"zTXt"
    if item.kind == b"zTXt":
        rest = rest[1:]
    elif item.kind == b"iTXt":
        compressed = rest[:1] == b"\1"
        parts = rest[2:].split(b"\0", 2)
        if len(parts) != 3:
            return None
        rest = parts[2]
    head = payload[: len(payload) - len(rest)]
    if not separator:
        return None
    if compressed:
        inflate = zlib.decompressobj()
        try:
            rest = inflate.decompress(rest, _TEXT_LIMIT)
        except zlib.error:
            return None
        budget.inflated(len(rest))
        if not inflate.eof:
            return None
    return TextChunk(item.kind, keyword, head, rest, compressed)


_XMP = b"XML:com.adobe.xmp"
_EXIF_PROFILE = b"Raw profile type exif"
_PROFILE = b"raw profile type "
"""How the keywords of profiles begin, in lower case; readers ignore case."""
_ICC_MARK = b"acsp"
"""Bytes 36 to 39 of an ICC profile."""
_OWNER_KEYWORDS = (b"Author", b"Copyright")
_POSITION = re.compile(rb"\w+:gps", re.IGNORECASE)
"""Keywords of the single EXIF values that ImageMagick writes, such as `exif:GPSLatitude`."""


def exif_profile(texts: Sequence[TextChunk | None]) -> bytes | None:
    """Return the EXIF block of the first text profile that viewers read, or None."""
    return next((_profile(text.value) for text in texts if text and text.keyword == _EXIF_PROFILE), None)


def xmp_packet(texts: Sequence[TextChunk | None]) -> bytes | None:
    """Return the last XMP packet, or None."""
    return next((text.value for text in reversed(texts) if text and text.keyword == _XMP), None)


def inspect_text(
    item: PngChunk, text: TextChunk | None, photo: Image.Image, budget: MetadataBudget
) -> MetadataFindings:
    """Return the copies and links in a chunk whose text was read as `text`; no slots, as no picture is drawn again.

    Raises UnsupportedError beyond the file's budget.
    """
    if text is None:
        return MetadataFindings(copies=["compressed text that cannot be read"] if _is_compressed(item) else [])
    if text.keyword == _XMP:
        return inspect_xmp(text.value)
    if not _is_profile(text):
        owner, position = text.keyword in _OWNER_KEYWORDS, _POSITION.match(text.keyword)
        return MetadataFindings(links=["owner name"] * owner + ["GPS"] * bool(position))
    block = _profile(text.value)
    if block is None:
        return MetadataFindings(copies=["metadata in a text chunk that cannot be read"])
    return _inspect_profile(block, photo, budget)


def rewrite_text(item: PngChunk, photo: Image.Image, strip: StripOptions) -> list[PngChunk]:
    """Return the replacement of a chunk of text, or of any other; empty if it is stripped."""
    if item.kind not in _TEXT or not (strip.gps or strip.copies or strip.credentials):
        return [item]
    # The file was within its budget when it was read, so a new budget for each chunk does no harm.
    text = _read_text(item, MetadataBudget("PNG"))
    if text is None:
        # Text that cannot be read may hold anything, so it is stripped.
        return [] if (strip.gps or strip.copies) and _is_compressed(item) else [item]
    if text.keyword == _XMP:
        value = rewrite_xmp(text.value, strip)
        return [item] if value == text.value else [text.with_value(value)]
    if _is_profile(text):
        return _rewrite_profile(item, text, photo, strip)
    return [] if strip.gps and _POSITION.match(text.keyword) else [item]


def _is_compressed(item: PngChunk) -> bool:
    """Return True for a chunk of compressed text."""
    return item.kind == b"zTXt" or (item.kind == b"iTXt" and item.payload.partition(b"\0")[2][:1] == b"\1")


def _is_profile(text: TextChunk) -> bool:
    return text.keyword.lower().startswith(_PROFILE)


def _profile(value: bytes) -> bytes | None:
    """Return the block of a text profile (name, length, hexadecimal lines); None if it is damaged."""
    lines = value.split(b"\n")
    if len(lines) < 4 or not lines[2].strip().isdigit():
        return None
    try:
        return bytes.fromhex(b"".join(lines[3:]).decode("ascii"))
    except ValueError:
        return None


def _with_profile(value: bytes, block: bytes) -> bytes:
    """Return the text profile with another block of the same length; line breaks stay."""
    lines = value.split(b"\n")
    digits = block.hex().encode("ascii")
    out, position = lines[:3], 0
    for line in lines[3:]:
        size = len(line.strip())
        out.append(line.replace(line.strip(), digits[position : position + size]))
        position += size
    return b"\n".join(out)


def _is_exif(block: bytes) -> bool:
    return parse_exif(split_header(block)[1]) is not None


def _inspect_profile(block: bytes, photo: Image.Image, budget: MetadataBudget) -> MetadataFindings:
    """Inspect a block by its content: an APP1 profile holds EXIF or XMP, Photoshop resources hold IPTC and XMP."""
    # A picture in hexadecimal is not drawn again; stripping copies drops the chunk.
    if _is_exif(block):
        found = inspect_exif_payload(block, photo, budget)
        copies = ["EXIF thumbnail in a text chunk"] if found.redrawn or found.copies else []
        return MetadataFindings(copies=copies, links=found.links)
    if block[36:40] == _ICC_MARK:
        return MetadataFindings()
    found = find_previews(block, photo, budget, where="Photoshop resources", thumbnails=True)
    result = MetadataFindings(copies=["Photoshop thumbnail in a text chunk"] if found.redrawn or found.copies else [])
    result.add(inspect_iptc(block))
    result.add(inspect_xmp(block))
    return result


def _rewrite_profile(item: PngChunk, text: TextChunk, photo: Image.Image, strip: StripOptions) -> list[PngChunk]:
    block = _profile(text.value)
    if block is None:
        return [] if strip.gps or strip.copies else [item]
    after = rewrite_exif(block, MetadataFindings(), photo, strip) if _is_exif(block) else rewrite_xmp(block, strip)
    if strip.copies and _inspect_profile(after, photo, MetadataBudget("PNG")).copies:
        return []
    return [item] if after == block else [text.with_value(_with_profile(text.value, after))]
