"""PNG in and out: new image data, every other chunk byte for byte and in its place (PNG specification, third edition).

Two things cannot stay: Adam7 interlacing, which Pillow does not write (the header's interlace byte becomes 0), and
Apple's iDOT chunk, which points into the old image data.
"""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from hashshield.errors import BrokenPhotoError, UnsupportedError
from hashshield.imaging import blocks, exif, png_metadata
from hashshield.imaging.budget import MetadataBudget
from hashshield.imaging.decode import decode, from_array, to_array
from hashshield.imaging.metadata import Findings
from hashshield.imaging.photo import Photo, Pixels, Strip, check_size
from hashshield.imaging.png_chunks import SIGNATURE, Chunk, chunk, chunks
from hashshield.imaging.strip import exif_with_orientation

__all__ = ["PngEncoding", "read"]

_EFFORT = 5
"""zlib's level: the usual 6 makes files 1.5% smaller and takes twice as long."""

_MODES = {0: "L", 2: "RGB", 4: "LA", 6: "RGBA"}


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
    found: Findings
    """What its metadata holds."""

    def encode(self, photo: Photo, pixels: Pixels, strip: Strip) -> bytes:
        """Return the file with other pixels."""
        pixels = self._visible(photo, pixels)
        shown = from_array(pixels, "RGB" if pixels.shape[2] == 3 else "L")
        picture = _image_data(pixels, photo.alpha if self.key is None else None, self.mode)
        out: list[Chunk] = []
        exif_chunk = next((item for item in reversed(self.chunks) if item.kind == b"eXIf"), None)
        for item in self.chunks:
            if item.kind == b"IHDR":
                out.append(chunk(b"IHDR", item.payload[:12] + b"\0"))
            elif item.kind == b"IDAT":
                if picture and strip.metadata and photo.orientation != 1:
                    out.append(chunk(b"eXIf", exif_with_orientation(photo.orientation)))
                out.extend(picture)
                picture = []
            elif item.kind != b"iDOT":
                out.extend(png_metadata.rewrite(item, self.found if item is exif_chunk else Findings(), shown, strip))
        tail = b"" if strip.copies or strip.metadata else self.tail
        return b"".join((SIGNATURE, *(item.data for item in out))) + tail

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
    from_array(pixels, mode).save(out, "PNG", compress_level=_EFFORT)
    written, _ = chunks(out.getvalue(), name="new image data")
    return [item for item in written if item.kind == b"IDAT"]


def read(data: bytes, *, name: str) -> Photo:
    """Decode a PNG; raises UnsupportedError or BrokenPhotoError."""
    found, end = chunks(data, name=name)
    mode = _check(found, name=name)
    seen = b"".join((SIGNATURE, *(item.data for item in found if item.kind in (b"IHDR", b"IDAT", b"IEND"))))
    image = decode(PngImageFile, seen, name=name)
    if image.mode != mode:
        raise BrokenPhotoError(f"{name}: the PNG decodes as {image.mode}, its header says {mode}; get the file again")
    pixels, alpha = _split(image)
    key = _key(found, mode, name=name)
    if key is not None:
        alpha = np.where((pixels == np.array(key, dtype=np.uint8)).all(axis=2), np.uint8(0), np.uint8(255))
    budget = MetadataBudget(name)
    texts = png_metadata.texts(found, budget)
    told = png_metadata.survey(found, texts, blocks.opaque(image), budget)
    if data[end:].strip(b"\0"):
        told.copies.append(f"trailing data ({len(data) - end} bytes)")
    return Photo(
        pixels=pixels,
        alpha=alpha,
        container="png",
        orientation=exif.orientation(png_metadata.exif_block(found, texts), png_metadata.xmp_packet(texts)),
        lossless=True,
        source=data,
        encoding=PngEncoding(tuple(found), data[end:], mode, key, told),
        unprotected_copies=tuple(dict.fromkeys(told.copies)),
        links_to_owner=tuple(dict.fromkeys(told.links)),
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
