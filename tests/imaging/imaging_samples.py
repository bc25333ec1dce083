"""Synthetic files for the tests: smooth pictures, because that is what photos are like."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from hashshield.imaging.jpeg.markers import Segment, join, segment, walk

ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = b"http://ns.adobe.com/xap/1.0/\0"


def scene(height: int = 96, width: int = 128, channels: int = 3, seed: int = 0) -> NDArray[np.uint8]:
    """A smooth picture with edges, (H, W, C) uint8, clear of 0 and 255."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(40, 210, (6, 8, channels), dtype=np.uint8)
    layers = [
        np.asarray(Image.fromarray(coarse[..., c]).resize((width, height), Image.Resampling.BICUBIC), dtype=np.float64)
        for c in range(channels)
    ]
    picture = np.stack(layers, axis=2)
    picture[height // 4 : height // 2, width // 3 : width // 2] *= 0.6
    picture += rng.normal(0, 2, picture.shape)
    return np.clip(picture, 8, 247).astype(np.uint8)


def jpeg(pixels: NDArray[np.uint8], **options: Any) -> bytes:
    out = io.BytesIO()
    image = Image.fromarray(pixels.squeeze() if pixels.shape[2] == 1 else pixels)
    image.save(out, "JPEG", **{"quality": 90, **options})
    return out.getvalue()


def png(pixels: NDArray[np.uint8], **options: Any) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels.squeeze() if pixels.shape[2] == 1 else pixels).save(out, "PNG", **options)
    return out.getvalue()


def with_segments(data: bytes, *added: Segment) -> bytes:
    """Put segments right after SOI, before what is there."""
    segments, end = walk(data, name="sample")
    return join([*added, *segments]) + data[end:]


def exif_block(*, orientation: int = 1, thumbnail: bytes = b"", gps: bool = False, order: str = "little") -> bytes:
    """A TIFF block as cameras write it: IFD0 (with serial number below it), GPS, IFD1 with a JPEG thumbnail."""
    little = order == "little"

    def number(value: int, size: int) -> bytes:
        return value.to_bytes(size, "little" if little else "big")

    def entry(tag: int, kind: int, count: int, value: bytes) -> bytes:
        return number(tag, 2) + number(kind, 2) + number(count, 4) + value.ljust(4, b"\0")

    def table(entries: list[bytes], following: int) -> bytes:
        return number(len(entries), 2) + b"".join(entries) + number(following, 4)

    serial = b"SN-12345678\0"
    ifd0 = 8
    count0 = 3 if gps else 2
    sub = ifd0 + 2 + 12 * count0 + 4
    sub_data = sub + 2 + 12 + 4
    gps_at = sub_data + len(serial)
    gps_data = gps_at + 2 + 12 * 4 + 4 if gps else gps_at
    ifd1 = gps_data + (48 if gps else 0)
    picture = ifd1 + 2 + 12 * 3 + 4
    entries0 = [entry(0x0112, 3, 1, number(orientation, 2)), entry(0x8769, 4, 1, number(sub, 4))]
    if gps:
        entries0.append(entry(0x8825, 4, 1, number(gps_at, 4)))
    out = (b"II*\0" if little else b"MM\0*") + number(ifd0, 4)
    out += table(entries0, ifd1 if thumbnail else 0)
    out += table([entry(0xA431, 2, len(serial), number(sub_data, 4))], 0) + serial
    if gps:
        degrees = b"".join(number(n, 4) for n in (48, 1, 12, 1, 34, 1))
        out += table(
            [
                entry(1, 2, 2, b"N\0"),
                entry(2, 5, 3, number(gps_data, 4)),
                entry(3, 2, 2, b"E\0"),
                entry(4, 5, 3, number(gps_data + 24, 4)),
            ],
            0,
        )
        out += degrees * 2
    if thumbnail:
        out += table(
            [
                entry(0x0103, 3, 1, number(6, 2)),
                entry(0x0201, 4, 1, number(picture, 4)),
                entry(0x0202, 4, 1, number(len(thumbnail), 4)),
            ],
            0,
        )
        assert len(out) == picture
        out += thumbnail
    return out


def exif_segment(block: bytes) -> Segment:
    return segment(0xE1, b"Exif\0\0" + block)


def xmp_segment(body: bytes) -> Segment:
    return segment(0xE1, XMP + body)


def metadata(data: bytes) -> list[bytes]:
    """The APPn and COM segments of a JPEG, whole."""
    return [s.data for s in walk(data, name="sample")[0] if 0xE0 <= s.marker <= 0xEF or s.marker == 0xFE]


def psnr(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    error = np.mean((one.astype(np.float64) - other) ** 2)
    return float("inf") if error == 0 else float(10 * np.log10(255**2 / error))
