"""EXIF and XMP as PNG and WebP carry them: one block each, rewritten in place."""

from __future__ import annotations

from PIL import Image

from hashshield.imaging import metadata, strip
from hashshield.imaging.budget import MetadataBudget
from hashshield.imaging.metadata import Findings
from hashshield.imaging.photo import Strip
from hashshield.imaging.thumbnail import remake

__all__ = ["bare", "inspect_exif", "opaque", "rewrite_exif", "rewrite_xmp"]

_HEADER = b"Exif\0\0"


def bare(data: bytes) -> tuple[bytes, bytes]:
    """Split off the `Exif\\0\\0` that some writers put before the TIFF block: (header or nothing, block)."""
    return (data[: len(_HEADER)], data[len(_HEADER) :]) if data.startswith(_HEADER) else (b"", data)


def inspect_exif(data: bytes, photo: Image.Image, budget: MetadataBudget) -> Findings:
    """Look through a block, header or not; spots count from the start of the TIFF block."""
    return metadata.inspect_exif(bare(data)[1], photo, budget)


def opaque(image: Image.Image) -> Image.Image:
    """Return the image without its alpha."""
    return image if image.mode in ("L", "RGB") else image.convert("L" if image.mode == "LA" else "RGB")


def rewrite_exif(data: bytes, found: Findings, photo: Image.Image, what: Strip) -> bytes:
    """Return the block, of the same length, with re-made thumbnails and without what is stripped."""
    header, block = bare(data)
    for spot in found.spots:
        block = remake(block, spot, photo)
    if what.copies:
        for spot in found.leftovers:
            block = strip.blank(block, spot.start, spot.end)
    if what.gps:
        block = strip.blank_exif_gps(block)
    return header + block


def rewrite_xmp(packet: bytes, what: Strip) -> bytes:
    """Return an XMP packet of the same length without what is stripped."""
    if what.copies:
        packet = strip.blank_xmp_copies(packet)
    return strip.blank_xmp_gps(packet) if what.gps else packet
