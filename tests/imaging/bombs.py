"""Small files that ask for much: every kind of metadata that can be multiplied, in every container.

Each is a whole, decodable picture with too much around it, so that only a bound per file stops it.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from io import BytesIO

from imaging_samples import exif_block, exif_segment, jpeg, png, scene, with_segments, xmp_segment
from PIL import Image

from hashshield.imaging.jpeg.markers import segment
from hashshield.imaging.png_chunks import SIGNATURE, PngChunk, chunk, chunks
from hashshield.imaging.webp import RiffChunk
from hashshield.imaging.webp import chunks as riff_chunks

XMP_KEYWORD = b"XML:com.adobe.xmp"


def with_chunks(*added: PngChunk) -> bytes:
    """A PNG with more chunks after its header."""
    held, _ = chunks(png(scene(64, 80)), name="bomb")
    return SIGNATURE + b"".join(item.data for item in (held[0], *added, *held[1:]))


def with_riff(*added: RiffChunk) -> bytes:
    """A WebP with more chunks behind its picture."""
    out = BytesIO()
    Image.fromarray(scene(64, 80)).save(out, "WEBP", lossless=True, xmp=b"<x/>")
    held, _ = riff_chunks(out.getvalue(), name="bomb")
    body = b"WEBP" + b"".join(item.data for item in (*held, *added))
    return b"RIFF" + len(body).to_bytes(4, "little") + body


def tiff(entries: int, *, tag: int = 0x8298, directory: int = 0, value: int = 0, gps: bool = False) -> bytes:
    """A TIFF block whose entries all share one value of so many bytes; `gps` puts them into the GPS directory."""
    head = b"II*\0" + (8).to_bytes(4, "little")
    if gps:
        head += b"\1\0" + b"\x25\x88\4\0\1\0\0\0" + (26).to_bytes(4, "little") + bytes(4)
    shared = len(head) + 2 + 12 * entries + 4
    entry = tag.to_bytes(2, "little") + b"\7\0" + max(value, 1).to_bytes(4, "little") + shared.to_bytes(4, "little")
    return head + entries.to_bytes(2, "little") + entry * entries + directory.to_bytes(4, "little") + bytes(value)


def preview(side: int, *, room: int) -> bytes:
    """A JPEG of `side` pixels that fits a segment."""
    small = jpeg(scene(64, 64))
    flat = BytesIO()
    Image.new("RGB", (side, side), (90, 120, 150)).save(flat, "JPEG", quality=1, optimize=True)
    return flat.getvalue() if len(flat.getvalue()) <= room else small


def _png_xmp() -> bytes:
    body = zlib.compress(b"<x:xmpmeta>" + bytes(1_000_000) + b"</x:xmpmeta>", 9)
    return with_chunks(*[chunk(b"iTXt", XMP_KEYWORD + b"\0\1\0\0\0" + body)] * 2000)


def _png_text() -> bytes:
    return with_chunks(*[chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b" " * (1 << 20), 9))] * 2000)


def _png_overlong_text() -> bytes:
    return with_chunks(*[chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(64 << 20), 9))] * 40)


def _png_profiles() -> bytes:
    block = exif_block() + jpeg(scene(120, 160)) * 8
    text = b"\nexif\n%8d\n" % len(block) + block.hex().encode()
    return with_chunks(*[chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(text, 9))] * 100)


def _png_exif_previews() -> bytes:
    return with_chunks(*[chunk(b"eXIf", exif_block() + preview(1900, room=65_000) * 8)] * 60)


def _png_exif_entries() -> bytes:
    return with_chunks(chunk(b"eXIf", tiff(65_535)))


def _png_shared_values() -> bytes:
    return with_chunks(chunk(b"eXIf", tiff(19_000, value=4 << 20)))


def _png_gps_entries() -> bytes:
    return with_chunks(chunk(b"eXIf", tiff(19_000, value=4 << 20, gps=True)))


def _png_empty_chunks() -> bytes:
    return with_chunks(*[chunk(b"teXt", b"")] * 50_000)


def _png_walks() -> bytes:
    """Beginnings of JPEGs made of the shortest segments, which never end."""
    return with_chunks(chunk(b"eXIf", exif_block() + b"\xff\xd8" + b"\xff\xe1\0\2" * 2_000_000))


def _jpeg_previews() -> bytes:
    picture = preview(1900, room=60_000)
    return with_segments(jpeg(scene(64, 80)), *[segment(0xE4, picture)] * 150)


def _jpeg_resources() -> bytes:
    """Photoshop resources, whose pictures are thumbnails by definition and re-made."""
    picture = preview(1900, room=60_000)
    return with_segments(jpeg(scene(64, 80)), *[segment(0xED, b"Photoshop 3.0\0" + picture)] * 150)


def _jpeg_beginnings() -> bytes:
    body = (b"\xff\xd8\xff\xe1\0\2" + b"\xff\xe1\0\2" * 1000) * 16
    return with_segments(jpeg(scene(64, 80)), *[segment(0xE4, body[:65_000])] * 150)


def _jpeg_exif() -> bytes:
    block = tiff(5_000)
    return with_segments(jpeg(scene(64, 80)), *[exif_segment(block)] * 40)


def _jpeg_extensions() -> bytes:
    thumbnail = segment(0xE0, b"JFXX\0\x13" + bytes((140, 150)) + bytes(140 * 150 * 3))
    return with_segments(jpeg(scene(64, 80)), *[thumbnail] * 300)


def _jpeg_segments() -> bytes:
    return b"\xff\xd8" + b"\xff\xfe\0\2" * 2_000_000 + jpeg(scene(64, 80))[2:]


def _jpeg_xmp() -> bytes:
    packet = b"<x " + b"exif:GPSLatitude='" * 3000 + b"/>"
    return with_segments(jpeg(scene(64, 80)), *[xmp_segment(packet)] * 100)


def _jpeg_tail() -> bytes:
    return jpeg(scene(64, 80)) + (b"Exif\0\0" + tiff(5_000, gps=True)) * 100


def _webp_chunks() -> bytes:
    return with_riff(*[RiffChunk(b"JUNK", b"")] * 50_000)


def _webp_exif() -> bytes:
    return with_riff(RiffChunk(b"EXIF", exif_block() + preview(1900, room=65_000) * 300))


BOMBS: dict[str, Callable[[], bytes]] = {
    name.lstrip("_"): make for name, make in list(globals().items()) if name.startswith(("_png", "_jpeg", "_webp"))
}
