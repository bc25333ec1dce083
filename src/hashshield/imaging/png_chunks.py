"""PNG files as a list of chunks: checksums verified, text unpacked (PNG specification, sections 5 and 11.3.3)."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from hashshield.errors import BrokenPhotoError
from hashshield.imaging.metadata.budget import MetadataBudget

__all__ = ["SIGNATURE", "PngChunk", "TextChunk", "chunk", "chunks", "read_texts"]

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_MAX_IMAGE_CHUNKS = 250_000
"""PNG files as a list of chunks: checksums verified, text unpacked (PNG specification, sections 5 and 11.3.3)."""


@dataclass(frozen=True, slots=True)
class PngChunk:
    """One chunk with its length and checksum."""

    kind: bytes
    data: bytes
    """The whole chunk as it is in the file."""

    @property
    def payload(self) -> bytes:
        """What the chunk carries."""
        return self.data[8:-4]


def chunk(kind: bytes, payload: bytes) -> PngChunk:
    """Build a chunk."""
    checksum = zlib.crc32(payload, zlib.crc32(kind))
    return PngChunk(kind, len(payload).to_bytes(4, "big") + kind + payload + checksum.to_bytes(4, "big"))


def chunks(data: bytes, *, name: str) -> tuple[list[PngChunk], int]:
    """Split a PNG into its chunks, IEND included, and the offset just after it.

    Raises BrokenPhotoError, UnsupportedError for more chunks than a file may have.
    """
    found, position, budget, pieces = list[PngChunk](), len(SIGNATURE), MetadataBudget(name), 0
    while not found or found[-1].kind != b"IEND":
        end = position + 12 + int.from_bytes(data[position : position + 4], "big")
        if end > len(data):
            raise BrokenPhotoError(f"{name}: the PNG ends in the middle of a chunk; get the file again from its source")
        whole = data[position:end]
        kind = whole[4:8]
        # Image data comes in pieces of any size, a photo's in tens of thousands.
        pieces += kind == b"IDAT"
        if kind != b"IDAT" or pieces > _MAX_IMAGE_CHUNKS:
            budget.segments(1)
        if zlib.crc32(memoryview(whole)[4:-4]) != int.from_bytes(whole[-4:], "big"):
            raise BrokenPhotoError(
                f"{name}: the PNG is damaged: wrong checksum in chunk {kind!r} at byte {position}; get the file again"
            )
        found.append(PngChunk(kind, whole))
        position = end
    return found, position


_TEXT_LIMIT = 1 << 20
"""PNG files as a list of chunks: checksums verified, text unpacked (PNG specification, sections 5 and 11.3.3)."""
_TEXT = (b"tEXt", b"zTXt", b"iTXt")


@dataclass(frozen=True, slots=True)
class TextChunk:
    """A text chunk taken apart; `head` is all that stands before the value."""

    kind: bytes
    keyword: bytes
    head: bytes
    value: bytes
    compressed: bool

    def with_value(self, value: bytes) -> PngChunk:
        """Build the chunk with another value."""
        return chunk(self.kind, self.head + (zlib.compress(value) if self.compressed else value))


def read_texts(found: Sequence[PngChunk], budget: MetadataBudget) -> list[TextChunk | None]:
    """Take each text chunk apart, in the chunks' order; None for other chunks, damaged and overlong ones.

    Raises UnsupportedError when they unpack to more than a file may hold.
    """
    return [read_text(item, budget) for item in found]


def read_text(item: PngChunk, budget: MetadataBudget) -> TextChunk | None:
    if item.kind not in _TEXT:
        return None
    payload = item.payload
    keyword, found, rest = payload.partition(b"\0")
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
    if not found:
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
    return item.kind == b"zTXt" or (item.kind == b"iTXt" and item.payload.partition(b"\0")[2][:1] == b"\1")
