"""The decoded photo, the interface of the codecs that write it, and format detection by the first 64 bytes of a file.

This module does not import Pillow.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from hashshield.arrays import Pixels
from hashshield.boundary import boundary
from hashshield.errors import UnsupportedError
from hashshield.storage import Snapshot, read_snapshot, read_stream

__all__ = [
    "HEAD_BYTES",
    "LOSSY_FORMATS",
    "MAX_PIXELS",
    "MIN_SIDE",
    "SUPPORTED",
    "UNSUPPORTED_NAMES",
    "Encoding",
    "Photo",
    "StripOptions",
    "check_size",
    "colour_channels",
    "has_credentials",
    "is_image",
    "pixel_digest",
    "read_photo_file",
    "read_photo_stream",
    "sniff",
    "to_display_orientation",
    "to_stored_orientation",
]


HEAD_BYTES = 64
"""Bytes at the start of a file that are enough to detect its format."""
SUPPORTED = frozenset({"jpeg", "png", "webp"})
"""Containers that are protected by default."""
LOSSY_FORMATS = frozenset({"heic", "avif"})
"""Containers that are protected on request only (`--lossy-formats`); their coders must be installed."""
UNSUPPORTED_NAMES = {
    "bmp": "BMP",
    "dds": "DDS",
    "exr": "OpenEXR",
    "eps": "EPS",
    "gif": "GIF",
    "hdr": "Radiance HDR",
    "ico": "ICO",
    "jp2": "JPEG 2000",
    "jxl": "JPEG XL",
    "pnm": "PNM",
    "psd": "Photoshop",
    "qoi": "QOI",
    "raw": "camera raw",
    "tiff": "TIFF",
}
"""Formats that are recognised but not supported: identifier -> name in messages."""
_SIGNATURES = (
    (b"\xff\xd8\xff", "jpeg"),
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"GIF87a", "gif"),
    (b"GIF89a", "gif"),
    (b"FUJIFILMCCD-RAW", "raw"),
    (b"IIU\x00", "raw"),
    (b"IIRO", "raw"),
    (b"IIRS", "raw"),
    (b"MMOR", "raw"),
    (b"II*\x00", "tiff"),
    (b"MM\x00*", "tiff"),
    (b"II+\x00", "tiff"),
    (b"MM\x00+", "tiff"),
    (b"8BPS", "psd"),
    (b"\x00\x00\x00\x0cJXL \r\n\x87\n", "jxl"),
    (b"\xff\x0a", "jxl"),
    (b"\x00\x00\x00\x0cjP  \r\n\x87\n", "jp2"),
    (b"\xff\x4f\xff\x51", "jp2"),
    (b"\x00\x00\x01\x00", "ico"),
    (b"\x00\x00\x02\x00", "ico"),
    (b"qoif", "qoi"),
    (b"v/1\x01", "exr"),
    (b"#?RADIANCE", "hdr"),
    (b"#?RGBE", "hdr"),
    (b"DDS ", "dds"),
    (b"%!PS-Adobe", "eps"),
    (b"\xc5\xd0\xd3\xc6", "eps"),
)
_BRANDS = {b"avif": "avif", b"avis": "avif", b"crx ": "raw"} | dict.fromkeys(
    (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1", b"mif2"), "heic"
)


def has_credentials(data: bytes) -> bool:
    """Return True if a file of any format holds content credentials: a JUMBF box named c2pa."""
    return b"c2pa" in data and b"jumb" in data


def sniff(head: bytes) -> str | None:
    """Return the image format of a file that begins with `head`: its first HEAD_BYTES, or all of a shorter file.

    One of SUPPORTED, LOSSY_FORMATS or UNSUPPORTED_NAMES; None for an unknown format.
    """
    for signature, name in _SIGNATURES:
        if head.startswith(signature):
            # Older Canon raw files are TIFF files with an additional mark.
            return "raw" if name == "tiff" and head[8:10] == b"CR" else name
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "webp"
    if head[4:8] == b"ftyp":
        return _brand(head)
    # Two letters alone would match many text files, so the length of the bitmap header is checked as well.
    if head[:2] == b"BM" and head[14:18] in {n.to_bytes(4, "little") for n in (12, 40, 52, 56, 64, 108, 124)}:
        return "bmp"
    if head[:1] == b"P" and head[1:2] in b"1234567" and head[2:3] in (b"\n", b" ", b"\r", b"\t"):
        return "pnm"
    return None


def _brand(head: bytes) -> str | None:
    """Return the format of an ISO base media file by its major brand, then by its compatible brands."""
    size = int.from_bytes(head[:4], "big")
    brands = [head[8:12], *(head[i : i + 4] for i in range(16, min(size, len(head)) - 3, 4))]
    known = [_BRANDS[brand] for brand in brands if brand in _BRANDS]
    if not known:
        return None
    # mif1 is an umbrella brand: AVIF files may name it first and avif only among the compatible brands.
    return "avif" if "avif" in known and brands[0] in (b"mif1", b"msf1", b"mif2") else known[0]


def is_image(head: bytes) -> bool:
    """Return True if a file that begins with `head` is in a known image format, supported or not."""
    return sniff(head[:HEAD_BYTES]) is not None


def read_photo_file(path: Path, *, follow: bool, within: Path | None = None) -> Snapshot:
    """Read a file with `storage.read_snapshot` if its first bytes are those of an image.

    Raises NotAPhotoError for other files, of which only the first bytes are read, and the errors of `read_snapshot`.
    """
    return read_snapshot(path, follow=follow, within=within, accept=is_image)


def read_photo_stream(stream: BinaryIO, *, name: str) -> bytes:
    """Read a photo from a stream with `storage.read_stream` if its first bytes are those of an image.

    Raises the errors of `read_stream`, and InternalError for more bytes than fit into memory.
    """
    with boundary("read", name):
        return read_stream(stream, name=name, accept=is_image)


Scalar = TypeVar("Scalar", bound=np.generic)

MAX_PIXELS = 200_000_000
"""Most pixels a photo may have; covers 200-megapixel phones (16,320 x 12,240)."""

MIN_SIDE = 32
"""Shortest side, in pixels; smaller pictures show a hash network too little."""

_COLOURLESS = 3
"""Largest difference between channels, in levels, that still counts as grey.

Chroma one level off grey causes at most 3; lossy WebP decodes grey with 1, JPEG, HEIC and AVIF with 0.
"""
_ROWS = 64


@dataclass(frozen=True, slots=True)
class StripOptions:
    """Parts of the file that `write` leaves out; none by default."""

    copies: bool = False
    """Second images, gain maps, videos, trailing data, and thumbnails that cannot be drawn again."""
    gps: bool = False
    """Positions in EXIF and XMP; every other value keeps its offset."""
    metadata: bool = False
    """Everything but orientation, colour profile, and data needed for decoding; implies the others."""
    credentials: bool = False
    """Content credentials (C2PA), which sign the original pixels, and the XMP property that points to them."""


class Encoding(Protocol):
    """What a codec keeps of a file in order to write it again with other pixels."""

    def encode(self, photo: Photo, pixels: Pixels, strip: StripOptions) -> bytes:
        """Return the whole file with `pixels`, shaped like `photo.pixels`."""
        ...

    def previewer(self, photo: Photo) -> Callable[[Pixels], Pixels]:
        """Return a function that maps pixels, shaped like `photo.pixels`, to what the written file would decode to."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Photo:
    """A decoded file, in stored orientation."""

    pixels: Pixels
    """(H, W, 3) RGB or (H, W, 1) grey."""
    alpha: Pixels | None
    """(H, W), 0 is transparent; includes a PNG colour key. None for a photo without transparency."""
    container: str
    """'jpeg', 'png', 'webp', 'heic' or 'avif'."""
    orientation: int
    """EXIF orientation, 1 to 8; 1 if absent or invalid. For HEIC and AVIF, the container's rotation and mirroring."""
    lossless: bool
    """True if `write` keeps pixels exactly."""
    source: bytes
    """The file as read."""
    encoding: Encoding
    unprotected_copies: tuple[str, ...] = ()
    """Copies of the picture inside the file that `write` leaves unchanged, unless they are stripped."""
    links_to_owner: tuple[str, ...] = ()
    """Metadata that can link the photo to its owner and is kept byte for byte."""


def check_size(width: int, height: int, *, name: str) -> None:
    """Raise UnsupportedError for a side below MIN_SIDE or more than MAX_PIXELS; called before decoding."""
    if min(width, height) < MIN_SIDE:
        raise UnsupportedError(
            f"{name}: {width}x{height} pixels is too small to protect; both sides must have {MIN_SIDE} pixels or more"
        )
    if width * height > MAX_PIXELS:
        raise UnsupportedError(
            f"{name}: {width}x{height} pixels is more than the limit of {MAX_PIXELS // 10**6} megapixels; scale it down"
        )


def colour_channels(photo: Photo) -> int:
    """Return the number of colour channels the picture uses: 1 if every visible pixel is grey, else 3.

    Channels that differ by up to `_COLOURLESS` levels count as grey, because lossy codecs cause such differences.
    """
    if photo.pixels.shape[2] == 1:
        return 1
    for top in range(0, len(photo.pixels), _ROWS):
        rows = photo.pixels[top : top + _ROWS]
        # Comparing three slices is several times as fast as a reduction over the short axis.
        red, green, blue = rows[..., 0], rows[..., 1], rows[..., 2]
        least, most = np.minimum(np.minimum(red, green), blue), np.maximum(np.maximum(red, green), blue)
        coloured = most - least > _COLOURLESS
        if photo.alpha is not None:
            coloured &= photo.alpha[top : top + _ROWS] > 0
        if coloured.any():
            return 3
    return 1


def to_display_orientation(pixels: NDArray[Scalar], orientation: int) -> NDArray[Scalar]:
    """Turn an (H, W) or (H, W, C) array from stored to displayed orientation (EXIF 2.32, tag 0x0112).

    Returns a view, not a copy.
    """
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    rows, columns = _FLIPS[orientation]
    return pixels[:: -1 if rows else 1, :: -1 if columns else 1]


def to_stored_orientation(pixels: NDArray[Scalar], orientation: int) -> NDArray[Scalar]:
    """Turn an (H, W) or (H, W, C) array from displayed to stored orientation; inverts `to_display_orientation`.

    Returns a view, not a copy.
    """
    rows, columns = _FLIPS[orientation]
    pixels = pixels[:: -1 if rows else 1, :: -1 if columns else 1]
    return pixels.swapaxes(0, 1) if orientation >= 5 else pixels


# Orientation -> (flip rows, flip columns), after the transpose that 5 to 8 start with.
_FLIPS = {
    1: (False, False),
    2: (False, True),
    3: (True, True),
    4: (True, False),
    5: (False, False),
    6: (False, True),
    7: (True, True),
    8: (True, False),
}


def pixel_digest(photo: Photo, turn: int = 1) -> str:
    """Return the SHA-256 (hexadecimal) of shape, pixels, and alpha, which edits of metadata do not change.

    `turn`, 1 to 8, is an EXIF orientation applied to the stored pixels first.
    """
    planes = [to_display_orientation(photo.pixels, turn)] + (
        [] if photo.alpha is None else [to_display_orientation(photo.alpha, turn)]
    )
    digest = hashlib.sha256(f"{planes[0].shape} {photo.alpha is not None}".encode())
    for plane in planes:
        # In strips, because turned pixels have to be copied before they can be digested.
        for top in range(0, len(plane), _ROWS):
            digest.update(np.ascontiguousarray(plane[top : top + _ROWS]).data)
    return digest.hexdigest()
