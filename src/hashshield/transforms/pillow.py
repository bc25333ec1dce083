"""Changes that services and people make to a photo after it was protected: the table that every receipt measures.

This module needs Pillow but not torch, so that reports can name the transforms without importing it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from io import BytesIO
from typing import NamedTuple

from PIL import Image, ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from hashshield.imaging.coders import decode

__all__ = ["JPEG_Q75", "SERVICES", "Transform", "jpeg"]

_JPEG_SIDE, _WEBP_SIDE = 65_500, 16_383
"""Longest sides that libjpeg and libwebp write, in pixels."""


class Transform(NamedTuple):
    """A change that a photo undergoes before a service hashes it."""

    name: str
    what: str
    """Description for people; continues "the photo, ..."."""
    done: Callable[[Image.Image], Image.Image]
    """RGB image in displayed orientation -> RGB image."""
    above: int = 0
    """The transform applies only to photos whose long side exceeds this, in pixels."""
    longest: int = 0
    """Longest side that its encoder accepts, in pixels; 0 for no limit."""
    squashed: bool = False
    """True if the network then sees the photo in the `squash` view instead of the `card` view."""

    def refused(self, width: int, height: int) -> str | None:
        """Return why the transform does not apply to a photo of this size, in pixels; None if it does."""
        side = max(width, height)
        if side <= self.above:
            return f"not applicable: the long side is {side} pixels, not more than {self.above}"
        if self.longest and side > self.longest:
            return f"not applicable: the long side is {side} pixels, and the encoder takes {self.longest}"
        return None


def _as_is(image: Image.Image) -> Image.Image:
    return image


def _encoded(plugin: Callable[[BytesIO], ImageFile.ImageFile], image: Image.Image, **options: int) -> Image.Image:
    """Encode with Pillow's defaults and decode again."""
    kind = str(plugin.format)  # type: ignore[attr-defined]
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return decode(plugin, buffer.getvalue(), name=kind)


def _long_side(size: int, image: Image.Image) -> Image.Image:
    share = size / max(image.size)
    width, height = (max(1, round(side * share)) for side in image.size)
    return image.resize((width, height), Image.Resampling.LANCZOS)


def _half(image: Image.Image) -> Image.Image:
    return image.resize((image.width // 2, image.height // 2), Image.Resampling.LANCZOS)


def _half_q75(image: Image.Image) -> Image.Image:
    return _encoded(JpegImageFile, _half(image), quality=75)


def _thumbnail(size: int, image: Image.Image) -> Image.Image:
    return _encoded(JpegImageFile, _long_side(size, image), quality=75)


def _crop(image: Image.Image) -> Image.Image:
    left, top = round(0.05 * image.width), round(0.05 * image.height)
    return image.crop((left, top, image.width - left, image.height - top))


def _flip(image: Image.Image) -> Image.Image:
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


def _rotated(image: Image.Image) -> Image.Image:
    return image.rotate(2, Image.Resampling.BICUBIC)


def _brighter(image: Image.Image) -> Image.Image:
    return image.point([min(255, round(1.1 * level)) for level in range(256)] * 3)


def jpeg(quality: int) -> Transform:
    """Return the transform that encodes as JPEG of this quality, 1 to 100, with chroma at half resolution."""
    done = partial(_encoded, JpegImageFile, quality=quality)
    return Transform(f"jpeg q{quality}", f"as JPEG of quality {quality}", done, longest=_JPEG_SIDE)


JPEG_Q75 = jpeg(75)
"""The transform that every receipt measures."""

SERVICES: tuple[Transform, ...] = (
    Transform("png", "as PNG", partial(_encoded, PngImageFile, compress_level=1)),
    jpeg(95),
    jpeg(90),
    JPEG_Q75,
    jpeg(50),
    Transform("half size", "at half its size", _half),
    Transform("half + jpeg q75", "at half its size, as JPEG of quality 75", _half_q75, longest=2 * _JPEG_SIDE),
    Transform("long side 2048", "made smaller, long side 2048 pixels", partial(_long_side, 2048), above=2048),
    Transform("long side 1024", "made smaller, long side 1024 pixels", partial(_long_side, 1024), above=1024),
    Transform("webp q80", "as WebP of quality 80", partial(_encoded, WebPImageFile, quality=80), longest=_WEBP_SIDE),
    Transform("crop 90%", "without 5% at each edge", _crop),
    Transform("squash", "made a square, aspect given up", _as_is, squashed=True),
    Transform("flip", "mirrored, left and right exchanged", _flip),
    Transform("rotate 2 degrees", "turned by 2 degrees, corners black", _rotated),
    Transform("brightness +10%", "made brighter by a tenth", _brighter),
    Transform("thumbnail 320", "long side 320 pixels, as JPEG of quality 75", partial(_thumbnail, 320), above=320),
    Transform("thumbnail 150", "long side 150 pixels, as JPEG of quality 75", partial(_thumbnail, 150), above=150),
)
"""All transforms, in the order of reports."""
