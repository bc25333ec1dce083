"""Read and write PNG files: only image data is new, every other chunk stays in place byte for byte.

Two things are not kept: Adam7 interlacing, which Pillow does not write (the header's interlace byte becomes 0), and
Apple's iDOT chunk, which points into the old image data. `png_chunks` splits a file and handles the text in it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from hashshield.arrays import Pixels
from hashshield.errors import BrokenPhotoError, UnsupportedError
from hashshield.imaging.coders import decode, from_array, to_array, without_alpha
from hashshield.imaging.metadata import MetadataBudget
from hashshield.imaging.metadata.exif import read_orientation
from hashshield.imaging.metadata.findings import (
    C2PA,
    MetadataFindings,
    exif_with_orientation,
    inspect_exif_payload,
    rewrite_exif,
)
from hashshield.imaging.photo import Photo, StripOptions, check_size
from hashshield.imaging.png_chunks import (
    SIGNATURE,
    PngChunk,
    TextChunk,
    chunk,
    chunks,
    exif_profile,
    inspect_text,
    read_texts,
    rewrite_text,
    xmp_packet,
)

__all__ = ["PngEncoding", "read"]

_EFFORT = 5
"""zlib's level; the default of 6 makes files 1.5% smaller and takes twice as long."""
_MODES = {0: "L", 2: "RGB", 4: "LA", 6: "RGBA"}


@dataclass(frozen=True, slots=True)
class PngEncoding:
    """Everything needed to write the file again."""

    chunks: tuple[PngChunk, ...]
    tail: bytes
    """The bytes after IEND."""
    mode: str
    """Pillow's mode: 'L', 'LA', 'RGB' or 'RGBA'."""
    key: tuple[int, ...] | None
    """The transparent colour (tRNS), if there is one."""
    findings: MetadataFindings
    """Copies and links in its metadata; slots belong to the last eXIf chunk."""

    def encode(self, photo: Photo, pixels: Pixels, strip: StripOptions) -> bytes:
        """Return the file with other pixels."""
        pixels = self._visible(photo, pixels)
        image = from_array(pixels, "RGB" if pixels.shape[2] == 3 else "L")
        picture = _image_data(pixels, photo.alpha if self.key is None else None, self.mode)
        out: list[PngChunk] = []
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
                out.extend(
                    _rewrite_chunk(item, self.findings if item is exif_chunk else MetadataFindings(), image, strip)
                )
        tail = b"" if strip.copies or strip.metadata else self.tail
        return b"".join((SIGNATURE, *(item.data for item in out))) + tail

    def previewer(self, photo: Photo) -> Callable[[Pixels], Pixels]:
        """Return the identity: a PNG gives its pixels back exactly."""
        return lambda pixels: pixels

    def _visible(self, photo: Photo, pixels: Pixels) -> Pixels:
        """Return the pixels with stored values where alpha is 0 and where a new value would equal the colour key."""
        if photo.alpha is None:
            return pixels
        unchanged = photo.alpha == 0
        if self.key is not None:
            unchanged = unchanged | (pixels == np.array(self.key, dtype=np.uint8)).all(axis=2)
        return np.where(unchanged[..., None], photo.pixels, pixels) if unchanged.any() else pixels


def _image_data(pixels: Pixels, alpha: Pixels | None, mode: str) -> list[PngChunk]:
    if alpha is not None:
        pixels = np.dstack((pixels, alpha))
    out = BytesIO()
    from_array(pixels, mode).save(out, "PNG", compress_level=_EFFORT)
    written, _ = chunks(out.getvalue(), name="new image data")
    return [item for item in written if item.kind == b"IDAT"]


def read(data: bytes, *, name: str) -> Photo:
    """Decode a PNG; raises UnsupportedError or BrokenPhotoError."""
    items, end = chunks(data, name=name)
    mode = _check(items, name=name)
    picture = b"".join((SIGNATURE, *(item.data for item in items if item.kind in (b"IHDR", b"IDAT", b"IEND"))))
    image = decode(PngImageFile, picture, name=name)
    if image.mode != mode:
        raise BrokenPhotoError(f"{name}: the PNG decodes as {image.mode}, its header says {mode}; get the file again")
    pixels, alpha = _split(image)
    key = _key(items, mode, name=name)
    if key is not None:
        alpha = np.where((pixels == np.array(key, dtype=np.uint8)).all(axis=2), np.uint8(0), np.uint8(255))
    budget = MetadataBudget(name)
    texts = read_texts(items, budget)
    findings = _inspect_chunks(items, texts, without_alpha(image), budget)
    if data[end:].strip(b"\0"):
        findings.copies.append(f"trailing data ({len(data) - end} bytes)")
    return Photo(
        pixels=pixels,
        alpha=alpha,
        container="png",
        orientation=read_orientation(_exif_block(items, texts), xmp_packet(texts)),
        lossless=True,
        source=data,
        encoding=PngEncoding(tuple(items), data[end:], mode, key, findings),
        unprotected_copies=tuple(dict.fromkeys(findings.copies)),
        links_to_owner=tuple(dict.fromkeys(findings.links)),
    )


def _check(items: list[PngChunk], *, name: str) -> str:
    """Return Pillow's mode; raise for a file that is damaged or could not be written as it was."""
    if items[0].kind == b"CgBI":
        raise UnsupportedError(f"{name}: a PNG in Apple's app format is not supported; convert it to a plain PNG first")
    header = items[0].payload
    if items[0].kind != b"IHDR" or len(header) != 13:
        raise BrokenPhotoError(f"{name}: the PNG does not begin with its header; get the file again from its source")
    if not any(item.kind == b"IDAT" for item in items):
        raise BrokenPhotoError(f"{name}: the PNG has no image data; get the file again from its source")
    if any(item.kind == b"acTL" for item in items):
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


def _key(items: list[PngChunk], mode: str, *, name: str) -> tuple[int, ...] | None:
    payload = next((item.payload for item in items if item.kind == b"tRNS"), None)
    if payload is None:
        return None
    if mode not in ("L", "RGB") or len(payload) != 2 * len(mode):
        raise BrokenPhotoError(f"{name}: the PNG has a transparency chunk that does not fit it; get the file again")
    # Two bytes per channel, of which only the lower one counts at 8 bits per channel.
    return tuple(payload[1::2])


_NEEDED = frozenset(b"IEND PLTE tRNS gAMA cHRM sRGB iCCP cICP sBIT mDCV cLLI bKGD pHYs".split())
"""Chunks that say how pixels are displayed; `StripOptions.metadata` keeps them."""


def _exif_block(items: Sequence[PngChunk], texts: Sequence[TextChunk | None]) -> bytes | None:
    """Return the EXIF block that a viewer reads: the last eXIf chunk, or else the text profile."""
    held = [item.payload for item in items if item.kind == b"eXIf"]
    if held:
        return held[-1]
    return exif_profile(texts)


def _inspect_chunks(
    items: Sequence[PngChunk], texts: Sequence[TextChunk | None], photo: Image.Image, budget: MetadataBudget
) -> MetadataFindings:
    """Return the copies and links in all metadata; slots belong to the last eXIf chunk, which `_exif_block` reads too.

    Raises UnsupportedError beyond the file's budget.
    """
    findings = MetadataFindings()
    for item, text in zip(items, texts, strict=True):
        if item.kind == b"eXIf":
            part = inspect_exif_payload(item.payload, photo, budget)
            if findings.redrawn or findings.untouched:
                findings.copies.append("thumbnail in a second EXIF chunk")
            findings.redrawn, findings.untouched = part.redrawn, part.untouched
            findings.add(part)
        elif item.kind == b"caBX":
            findings.links.append(C2PA)
        else:
            findings.add(inspect_text(item, text, photo, budget))
    return findings


def _rewrite_chunk(
    item: PngChunk, findings: MetadataFindings, photo: Image.Image, strip: StripOptions
) -> list[PngChunk]:
    """Return the replacement of one chunk that is neither header nor image data; empty if it is stripped."""
    if strip.metadata:
        return [item] if item.kind in _NEEDED else []
    if strip.credentials and item.kind == b"caBX":
        return []
    if item.kind == b"eXIf":
        block = rewrite_exif(item.payload, findings, photo, strip)
        return [item] if block == item.payload else [chunk(b"eXIf", block)]
    return rewrite_text(item, photo, strip)
