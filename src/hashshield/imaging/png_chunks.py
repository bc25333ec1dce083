"""PNG files as a list of chunks: checksums verified, text unpacked (PNG specification, sections 5 and 11.3.3)."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from hashshield.errors import BrokenPhotoError
from hashshield.imaging.metadata import MetadataBudget

__all__ = ["SIGNATURE", "PngChunk", "TextChunk", "chunk", "chunks", "read_texts"]

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
            # Letters in a sound file; anything else is shown as escapes.
            shown = repr(kind)[2:-1]
            raise BrokenPhotoError(
                f"{name}: the PNG is damaged: wrong checksum in chunk {shown} at byte {position}; get the file again"
            )
        items.append(PngChunk(kind, whole))
        position = end
    return items, position


_TEXT_LIMIT = 1 << 20
"""Most bytes of one text chunk once unpacked, the same as Pillow's limit."""
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
    return [read_text(item, budget) for item in items]


def read_text(item: PngChunk, budget: MetadataBudget) -> TextChunk | None:
    """Return one text chunk taken apart; as `read_texts`."""
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


def is_compressed_text(item: PngChunk) -> bool:
    """Return True for a chunk of compressed text."""
    return item.kind == b"zTXt" or (item.kind == b"iTXt" and item.payload.partition(b"\0")[2][:1] == b"\1")
