"""Which image format a file is, from its first 64 bytes; Pillow is not needed for it."""

from __future__ import annotations

from pathlib import Path

from hashshield.storage import Snapshot, read_snapshot

__all__ = [
    "HEAD_BYTES",
    "LOSSY_FORMATS",
    "SUPPORTED",
    "UNSUPPORTED_NAMES",
    "has_credentials",
    "is_image",
    "read_photo_file",
    "sniff",
]

HEAD_BYTES = 64
"""Bytes at the start of a file that are enough to know its format."""
SUPPORTED = frozenset({"jpeg", "png", "webp"})
"""Containers that are protected by default."""
LOSSY_FORMATS = frozenset({"heic", "avif"})
"""Containers that are protected on request only; reading them needs their coders to be installed."""
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
    """Return the image format whose signature `head` begins with; `head` is HEAD_BYTES of the file, or all of it.

    One of 'jpeg', 'png', 'webp', 'heic', 'avif', 'gif', 'tiff', 'bmp', 'raw', ...; None for an unknown format.
    """
    for signature, name in _SIGNATURES:
        if head.startswith(signature):
            # Older Canon raw files are TIFF files with a mark of their own.
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
    """Tell the ISO base media image formats apart by major brand, then by compatible brands."""
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

    Raises NotAPhotoError for any other file, without reading the rest of it, and the errors of `read_snapshot`.
    """
    return read_snapshot(path, follow=follow, within=within, accept=is_image)
