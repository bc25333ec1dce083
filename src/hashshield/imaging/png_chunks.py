"""PNG files as a list of chunks, each with its checksum verified (PNG specification, section 5)."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

from hashshield.errors import BrokenPhotoError
from hashshield.imaging.budget import MetadataBudget

__all__ = ["SIGNATURE", "Chunk", "chunk", "chunks"]

SIGNATURE = b"\x89PNG\r\n\x1a\n"

_MAX_IMAGE_CHUNKS = 250_000
"""200 megapixels of noise in the pieces of 8 KB that libpng writes are 73,000."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """One chunk with its length and checksum."""

    kind: bytes
    data: bytes
    """The whole chunk as it is in the file."""

    @property
    def payload(self) -> bytes:
        """What the chunk carries."""
        return self.data[8:-4]


def chunk(kind: bytes, payload: bytes) -> Chunk:
    """Build a chunk."""
    checksum = zlib.crc32(payload, zlib.crc32(kind))
    return Chunk(kind, len(payload).to_bytes(4, "big") + kind + payload + checksum.to_bytes(4, "big"))


def chunks(data: bytes, *, name: str) -> tuple[list[Chunk], int]:
    """Split a PNG into its chunks, IEND included, and the offset just after it.

    Raises BrokenPhotoError, UnsupportedError for more chunks than a file may have.
    """
    found, position, budget, pieces = list[Chunk](), len(SIGNATURE), MetadataBudget(name), 0
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
        found.append(Chunk(kind, whole))
        position = end
    return found, position
