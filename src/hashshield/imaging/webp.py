"""Read and write WebP files: lossless files stay lossless, and all chunks but the picture's stay byte for byte.

The container is RIFF (WebP container specification). Only the VP8 or VP8L chunk is replaced; a lossy file's ALPH chunk
stays, because alpha never changes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from PIL.WebPImagePlugin import WebPImageFile

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
    inspect_xmp,
    rewrite_exif,
    rewrite_xmp,
)
from hashshield.imaging.photo import Photo, StripOptions, check_size

__all__ = ["RiffChunk", "WebpEncoding", "chunks", "estimate_quality", "read"]

_ANIMATION = 0x02
_METADATA_FLAGS = {b"ICCP": 0x20, b"EXIF": 0x08, b"XMP ": 0x04}
_PICTURE = frozenset({b"VP8 ", b"VP8L"})
_DECODED = _PICTURE | {b"VP8X", b"ALPH"}
_ESSENTIAL = _DECODED | {b"ICCP"}
"""Chunks that `StripOptions.metadata` keeps."""
_LOSSLESS_EFFORT = 25
"""libwebp's effort, 0 to 100; a higher one makes files a little smaller and takes several times as long."""


@dataclass(frozen=True, slots=True)
class RiffChunk:
    """One RIFF chunk."""

    kind: bytes
    payload: bytes

    @property
    def data(self) -> bytes:
        """The whole chunk, with header and padding."""
        size = len(self.payload)
        return self.kind + size.to_bytes(4, "little") + self.payload + b"\0" * (size % 2)


def chunks(data: bytes, *, name: str) -> tuple[list[RiffChunk], int]:
    """Split a WebP into chunks; return them, and the offset just after the RIFF container.

    Raises BrokenPhotoError for damage, and UnsupportedError for more chunks than a file may have.
    """
    end = 8 + int.from_bytes(data[4:8], "little")
    end += end % 2
    # Some writers leave out the last padding byte.
    if end > len(data) + 1:
        raise BrokenPhotoError(f"{name}: the WebP is shorter than it says; get the file again from its source")
    items, position, budget = list[RiffChunk](), 12, MetadataBudget(name)
    while position + 8 <= min(end, len(data)):
        budget.segments(1)
        size = int.from_bytes(data[position + 4 : position + 8], "little")
        if position + 8 + size > end:
            raise BrokenPhotoError(f"{name}: the WebP has a chunk that runs past its end; get the file again")
        items.append(RiffChunk(data[position : position + 4], data[position + 8 : position + 8 + size]))
        position += 8 + size + size % 2
    return items, min(end, len(data))


def _join(items: list[RiffChunk]) -> bytes:
    body = b"WEBP" + b"".join(item.data for item in items)
    return b"RIFF" + len(body).to_bytes(4, "little") + body


@dataclass(frozen=True, slots=True)
class WebpEncoding:
    """Everything needed to write the file again."""

    chunks: tuple[RiffChunk, ...]
    tail: bytes
    """The bytes after the RIFF container."""
    findings: MetadataFindings
    """Previews and other pictures in its EXIF block."""
    quality: float | None
    """Estimated quality setting of a lossy file, 0 to 100; None for a lossless one."""

    def encode(self, photo: Photo, pixels: Pixels, strip: StripOptions) -> bytes:
        """Return the file with other pixels."""
        if photo.alpha is not None and (transparent := photo.alpha == 0).any():
            pixels = np.where(transparent[..., None], photo.pixels, pixels)
        picture = self._picture(photo, pixels)
        image = from_array(pixels, "RGB")
        out: list[RiffChunk] = []
        exif_chunk = next((item for item in self.chunks if item.kind == b"EXIF"), None)
        for item in self.chunks:
            if item.kind in _PICTURE:
                out.append(picture)
            elif strip.credentials and item.kind == b"C2PA":
                continue
            elif strip.metadata:
                out += [item] if item.kind in _ESSENTIAL else []
            elif item.kind == b"EXIF":
                findings = self.findings if item is exif_chunk else MetadataFindings()
                out.append(RiffChunk(b"EXIF", rewrite_exif(item.payload, findings, image, strip)))
            elif item.kind == b"XMP ":
                out.append(RiffChunk(b"XMP ", rewrite_xmp(item.payload, strip)))
            else:
                out.append(item)
        if strip.metadata and out[0].kind == b"VP8X":
            if photo.orientation != 1:
                out.append(RiffChunk(b"EXIF", exif_with_orientation(photo.orientation)))
            out[0] = _with_flags(out[0], {item.kind for item in out})
        return _join(out) + (b"" if strip.copies or strip.metadata else self.tail)

    def previewer(self, photo: Photo) -> Callable[[Pixels], Pixels]:
        """Return a function that codes the picture and decodes it again; the identity for a lossless file."""
        if photo.lossless:
            return lambda pixels: pixels
        return lambda pixels: read(self.encode(photo, pixels, StripOptions()), name="preview").pixels

    def _picture(self, photo: Photo, pixels: Pixels) -> RiffChunk:
        out = BytesIO()
        if self.quality is not None:
            from_array(pixels, "RGB").save(out, "WEBP", quality=self.quality, method=4)
        elif photo.alpha is None:
            from_array(pixels, "RGB").save(out, "WEBP", lossless=True, quality=_LOSSLESS_EFFORT, method=4)
        else:
            # `exact` keeps the colours of transparent pixels.
            image = from_array(np.dstack((pixels, photo.alpha)), "RGBA")
            image.save(out, "WEBP", lossless=True, exact=True, quality=_LOSSLESS_EFFORT, method=4)
        return next(item for item in chunks(out.getvalue(), name="new picture")[0] if item.kind in _PICTURE)


def read(data: bytes, *, name: str) -> Photo:
    """Decode a WebP; raises UnsupportedError or BrokenPhotoError."""
    items, end = chunks(data, name=name)
    picture = _check(items, name=name)
    image = decode(
        WebPImageFile, _join([_without_metadata_flags(item) for item in items if item.kind in _DECODED]), name=name
    )
    if image.mode not in ("RGB", "RGBA"):
        raise UnsupportedError(f"{name}: a WebP that decodes as {image.mode} is not supported; save it as PNG first")
    pixels = to_array(image)
    alpha = np.ascontiguousarray(pixels[..., 3]) if image.mode == "RGBA" else None
    pixels = pixels if alpha is None else np.ascontiguousarray(pixels[..., :3])
    payloads = {item.kind: item.payload for item in reversed(items)}
    block, packet = payloads.get(b"EXIF"), payloads.get(b"XMP ")
    exif_findings = (
        inspect_exif_payload(block, without_alpha(image), MetadataBudget(name)) if block else MetadataFindings()
    )
    findings = MetadataFindings(copies=list(exif_findings.copies), links=list(exif_findings.links))
    if packet:
        findings.add(inspect_xmp(packet))
    if any(item.kind == b"C2PA" for item in items):
        findings.links.append(C2PA)
    if data[end:].strip(b"\0"):
        findings.copies.append(f"trailing data ({len(data) - end} bytes)")
    return Photo(
        pixels=pixels,
        alpha=alpha,
        container="webp",
        orientation=read_orientation(block, packet),
        lossless=picture.kind == b"VP8L",
        source=data,
        encoding=WebpEncoding(
            tuple(items),
            data[end:],
            exif_findings,
            None if picture.kind == b"VP8L" else estimate_quality(picture.payload),
        ),
        unprotected_copies=tuple(dict.fromkeys(findings.copies)),
        links_to_owner=tuple(dict.fromkeys(findings.links)),
    )


def _check(items: list[RiffChunk], *, name: str) -> RiffChunk:
    """Return the chunk that holds the picture; raise for animations and damage."""
    kinds = [item.kind for item in items]
    header = items[0].payload if kinds[:1] == [b"VP8X"] else b""
    if b"ANMF" in kinds or b"ANIM" in kinds or (header and header[0] & _ANIMATION):
        raise UnsupportedError(f"{name}: an animated WebP is not supported; protect single frames instead")
    pictures = [item for item in items if item.kind in _PICTURE]
    if len(pictures) != 1 or (kinds[0] not in _PICTURE and len(header) != 10):
        raise BrokenPhotoError(f"{name}: the WebP does not hold one picture; get the file again from its source")
    payload = pictures[0].payload
    if pictures[0].kind == b"VP8L":
        bits = int.from_bytes(payload[1:5], "little")
        size = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    else:
        size = int.from_bytes(payload[6:8], "little") & 0x3FFF, int.from_bytes(payload[8:10], "little") & 0x3FFF
    check_size(*size, name=name)
    canvas = [int.from_bytes(header[i : i + 3], "little") + 1 for i in (4, 7)] if header else list(size)
    if canvas != list(size):
        raise BrokenPhotoError(
            f"{name}: the WebP's picture does not have the size that its header states; get the file again"
        )
    return pictures[0]


def _without_metadata_flags(item: RiffChunk) -> RiffChunk:
    """Return the chunk for the decoder; in the header, the flags for metadata are cleared, because it gets none."""
    return item if item.kind != b"VP8X" else RiffChunk(b"VP8X", bytes((item.payload[0] & 0x10,)) + item.payload[1:])


def _with_flags(header: RiffChunk, kinds: set[bytes]) -> RiffChunk:
    flags = header.payload[0]
    for kind, flag in _METADATA_FLAGS.items():
        flags = flags | flag if kind in kinds else flags & ~flag
    return RiffChunk(b"VP8X", bytes((flags,)) + header.payload[1:])


_LARGEST_INDEX = 127
_SEGMENTS = 4


class _BoolDecoder:
    """The boolean entropy decoder of RFC 6386, section 7; reads zeros past the end."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.position = 2
        self.value = int.from_bytes(data[:2].ljust(2, b"\0"), "big")
        self.range = 255
        self.shifts = 0

    def bit(self) -> int:
        """Read one bit of equal probabilities."""
        split = 1 + ((self.range - 1) * 128 >> 8)
        is_set = self.value >= split << 8
        if is_set:
            self.range -= split
            self.value -= split << 8
        else:
            self.range = split
        while self.range < 128:
            self.value <<= 1
            self.range <<= 1
            self.shifts += 1
            if self.shifts == 8:
                self.shifts = 0
                self.value |= self.data[self.position] if self.position < len(self.data) else 0
                self.position += 1
        return int(is_set)

    def number(self, bits: int) -> int:
        """Read an unsigned number, most significant bit first."""
        value = 0
        for _ in range(bits):
            value = value << 1 | self.bit()
        return value

    def optional(self, bits: int) -> int:
        """Read a flag and, if it is set, a magnitude and a sign; return 0 otherwise."""
        if not self.bit():
            return 0
        value = self.number(bits)
        return -value if self.bit() else value


def estimate_quality(frame: bytes) -> float:
    """Estimate libwebp's quality setting (0 to 100) from a VP8 key frame.

    libwebp turns quality into a quantiser index of 127 (1 - c), where c is the cube root of a piecewise linear function
    of quality (RFC 6386, sections 9.3 and 9.6, say where the index is). This inverts it for the finest of the segments,
    so that none of them is coded more coarsely than before.
    """
    bits = _BoolDecoder(frame[10:])
    bits.number(2)
    updates = [0] * _SEGMENTS
    absolute = segmented = False
    if bits.bit():
        maps = bits.bit()
        if bits.bit():
            segmented, absolute = True, bool(bits.bit())
            updates = [bits.optional(7) for _ in range(_SEGMENTS)]
            for _ in range(_SEGMENTS):
                bits.optional(6)
        if maps:
            for _ in range(3):
                if bits.bit():
                    bits.number(8)
    bits.number(10)
    if bits.bit() and bits.bit():
        for _ in range(8):
            bits.optional(6)
    bits.number(2)
    base = bits.number(7)
    indices = [update if absolute else base + update for update in updates] if segmented else [base]
    index = min(max(min(indices), 0), _LARGEST_INDEX)
    linear = (1 - index / _LARGEST_INDEX) ** 3
    return 100 * (linear * 1.5 if linear < 0.5 else (linear + 1) / 2)
