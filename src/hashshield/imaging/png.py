"""PNG in and out: new image data, every other chunk byte for byte and in its place (PNG specification, third edition).

Two things cannot stay: Adam7 interlacing, which Pillow does not write (the header's interlace byte becomes 0), and
Apple's iDOT chunk, which points into the old image data.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from hashshield.errors import BrokenPhotoError, UnsupportedError
from hashshield.imaging import exif
from hashshield.imaging.decode import decode, from_array, to_array
from hashshield.imaging.photo import Photo, Pixels, Strip, check_size

__all__ = ["Chunk", "PngEncoding", "chunk", "chunks", "raw_profile", "read", "text"]

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_MODES = {0: "L", 2: "RGB", 4: "LA", 6: "RGBA"}
_TEXT_LIMIT = 1 << 20
"""Bytes of one inflated text chunk, as much as Pillow accepts."""


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
    """Split a PNG into its chunks, IEND included, and the offset just after it; raises BrokenPhotoError."""
    found, position = list[Chunk](), len(_SIGNATURE)
    while not found or found[-1].kind != b"IEND":
        end = position + 12 + int.from_bytes(data[position : position + 4], "big")
        if end > len(data):
            raise BrokenPhotoError(f"{name}: the PNG ends in the middle of a chunk; get the file again from its source")
        whole = data[position:end]
        kind = whole[4:8]
        if zlib.crc32(memoryview(whole)[4:-4]) != int.from_bytes(whole[-4:], "big"):
            raise BrokenPhotoError(
                f"{name}: the PNG is damaged: wrong checksum in chunk {kind!r} at byte {position}; get the file again"
            )
        found.append(Chunk(kind, whole))
        position = end
    return found, position


def text(item: Chunk) -> tuple[bytes, bytes] | None:
    """Return keyword and value of a tEXt, zTXt or iTXt chunk; None for other chunks and damaged ones."""
    if item.kind not in (b"tEXt", b"zTXt", b"iTXt"):
        return None
    keyword, _, value = item.payload.partition(b"\0")
    compressed = item.kind == b"zTXt"
    if item.kind == b"zTXt":
        value = value[1:]
    elif item.kind == b"iTXt":
        compressed = value[:1] == b"\1"
        parts = value[2:].split(b"\0", 2)
        if len(parts) != 3:
            return None
        value = parts[2]
    if compressed:
        try:
            value = zlib.decompressobj().decompress(value, _TEXT_LIMIT)
        except zlib.error:
            return None
    return keyword, value


@dataclass(frozen=True, slots=True)
class PngEncoding:
    """How the file was coded."""

    chunks: tuple[Chunk, ...]
    tail: bytes
    """What follows IEND."""
    mode: str
    """Pillow's mode: 'L', 'LA', 'RGB' or 'RGBA'."""
    key: tuple[int, ...] | None
    """The colour that means transparent."""

    def encode(self, photo: Photo, pixels: Pixels, strip: Strip) -> bytes:
        """Return the file with other pixels."""
        picture = _image_data(self._visible(photo, pixels), photo.alpha if self.key is None else None, self.mode)
        out: list[Chunk] = []
        for item in self.chunks:
            if item.kind == b"IHDR":
                out.append(chunk(b"IHDR", item.payload[:12] + b"\0"))
            elif item.kind != b"IDAT":
                if item.kind != b"iDOT":
                    out.append(item)
            elif picture:
                out.extend(picture)
                picture = []
        return b"".join((_SIGNATURE, *(item.data for item in out))) + self.tail

    def _visible(self, photo: Photo, pixels: Pixels) -> Pixels:
        """Keep stored what nobody sees, and keep opaque pixels off the colour key."""
        if photo.alpha is None:
            return pixels
        kept = photo.alpha == 0
        if self.key is not None:
            kept = kept | (pixels == np.array(self.key, dtype=np.uint8)).all(axis=2)
        return np.where(kept[..., None], photo.pixels, pixels) if kept.any() else pixels


def _image_data(pixels: Pixels, alpha: Pixels | None, mode: str) -> list[Chunk]:
    if alpha is not None:
        pixels = np.dstack((pixels, alpha))
    out = BytesIO()
    from_array(pixels, mode).save(out, "PNG")
    written, _ = chunks(out.getvalue(), name="new image data")
    return [item for item in written if item.kind == b"IDAT"]


def read(data: bytes, *, name: str) -> Photo:
    """Decode a PNG; raises UnsupportedError or BrokenPhotoError."""
    found, end = chunks(data, name=name)
    mode = _check(found, name=name)
    seen = b"".join((_SIGNATURE, *(item.data for item in found if item.kind in (b"IHDR", b"IDAT", b"IEND"))))
    image = decode(PngImageFile, seen, name=name)
    if image.mode != mode:
        raise BrokenPhotoError(f"{name}: the PNG decodes as {image.mode}, its header says {mode}; get the file again")
    pixels, alpha = _split(image)
    key = _key(found, mode, name=name)
    if key is not None:
        alpha = np.where((pixels == np.array(key, dtype=np.uint8)).all(axis=2), np.uint8(0), np.uint8(255))
    return Photo(
        pixels=pixels,
        alpha=alpha,
        container="png",
        orientation=exif.orientation(_exif(found), _xmp(found)),
        lossless=True,
        source=data,
        encoding=PngEncoding(tuple(found), data[end:], mode, key),
    )


def _check(found: list[Chunk], *, name: str) -> str:
    """Refuse what cannot be kept as it is; return Pillow's mode."""
    if found[0].kind == b"CgBI":
        raise UnsupportedError(f"{name}: a PNG in Apple's app format is not supported; convert it to a plain PNG first")
    header = found[0].payload
    if found[0].kind != b"IHDR" or len(header) != 13:
        raise BrokenPhotoError(f"{name}: the PNG does not begin with its header; get the file again from its source")
    if not any(item.kind == b"IDAT" for item in found):
        raise BrokenPhotoError(f"{name}: the PNG has no image data; get the file again from its source")
    if any(item.kind == b"acTL" for item in found):
        raise UnsupportedError(f"{name}: an animated PNG is not supported; protect single frames instead")
    depth, colour = header[8], header[9]
    if colour == 3:
        raise UnsupportedError(f"{name}: a PNG with a palette is not supported; convert it to RGB first")
    if colour not in _MODES:
        raise BrokenPhotoError(f"{name}: the PNG names an unknown colour type, {colour}; get the file again")
    if depth != 8:
        raise UnsupportedError(
            f"{name}: a PNG of {depth} bits per channel is not supported; convert it to 8 bits per channel first"
        )
    check_size(int.from_bytes(header[:4], "big"), int.from_bytes(header[4:8], "big"), name=name)
    return _MODES[colour]


def _split(image: Image.Image) -> tuple[Pixels, Pixels | None]:
    if image.mode not in ("LA", "RGBA"):
        return to_array(image), None
    both = to_array(image)
    return np.ascontiguousarray(both[..., :-1]), np.ascontiguousarray(both[..., -1])


def _key(found: list[Chunk], mode: str, *, name: str) -> tuple[int, ...] | None:
    payload = next((item.payload for item in found if item.kind == b"tRNS"), None)
    if payload is None:
        return None
    if mode not in ("L", "RGB") or len(payload) != 2 * len(mode):
        raise BrokenPhotoError(f"{name}: the PNG has a transparency chunk that does not fit it; get the file again")
    # Two bytes per channel; at 8 bits per channel only the lower one counts.
    return tuple(payload[1::2])


def _exif(found: list[Chunk]) -> bytes | None:
    blocks = [item.payload for item in found if item.kind == b"eXIf"]
    if blocks:
        return blocks[-1]
    for keyword, value in filter(None, map(text, found)):
        if keyword == b"Raw profile type exif":
            return raw_profile(value)
    return None


def raw_profile(value: bytes) -> bytes | None:
    """Decode ImageMagick's text form of a block: name, length, hexadecimal lines; None when damaged."""
    try:
        return bytes.fromhex("".join(value.decode("latin-1").split("\n")[3:]))
    except ValueError:
        return None


def _xmp(found: list[Chunk]) -> bytes | None:
    packets = [value for keyword, value in filter(None, map(text, found)) if keyword == b"XML:com.adobe.xmp"]
    return packets[-1] if packets else None
