"""Pillow's decoders, called one at a time by name and shown nothing but picture data."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from io import BytesIO

import numpy as np
from PIL import Image, ImageFile

from hashshield.arrays import Pixels
from hashshield.errors import BrokenPhotoError, UnsupportedError

__all__ = ["decode", "from_array", "to_array", "without_alpha"]

_ROWS = 256

# What Pillow's plugins are seen to raise on damaged data; anything else is a bug and shows as one.
_DAMAGE = (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error, zlib.error)


def decode(
    plugin: Callable[[BytesIO], ImageFile.ImageFile], data: bytes, *, name: str, ycc: bool = False
) -> Image.Image:
    """Decode `data` completely with one Pillow plugin class.

    The class is called itself, not `Image.open`: no other format can be tried (an EPS named .jpg would reach
    Ghostscript), and Pillow's process-wide size limit, whose warning cannot be silenced safely from a thread, stays out
    of it; callers check sizes first. `ycc` asks a JPEG for its own YCbCr samples, at full scale.

    Raises BrokenPhotoError, or UnsupportedError when memory runs out.
    """
    try:
        image = plugin(BytesIO(data))
        if ycc:
            # With a size of None, draft mode changes the output colour space and never the scale.
            image.draft("YCbCr", None)
        image.load()
    except _DAMAGE as error:
        detail = " ".join(str(error).split()) or type(error).__name__
        raise BrokenPhotoError(
            f"{name}: the picture data is damaged or incomplete ({detail}); get the file again from its source"
        ) from error
    except Image.DecompressionBombError as error:
        raise UnsupportedError(f"{name}: more pixels than the decoder allows; scale it down") from error
    except MemoryError as error:
        raise UnsupportedError(f"{name}: there is not enough memory to decode it; scale it down") from error
    return image


def to_array(image: Image.Image) -> Pixels:
    """Copy an 8-bit image into an (H, W, C) array.

    In strips, because Pillow exports an image through two full-size copies otherwise.
    """
    channels = len(image.getbands())
    width, height = image.size
    pixels = np.empty((height, width, channels), dtype=np.uint8)
    for top in range(0, height, _ROWS):
        bottom = min(top + _ROWS, height)
        strip = np.asarray(image.crop((0, top, width, bottom)), dtype=np.uint8)
        pixels[top:bottom] = strip.reshape(bottom - top, width, channels)
    return pixels


def from_array(pixels: Pixels, mode: str) -> Image.Image:
    """Make a Pillow image of `mode` from an (H, W, C) array."""
    height, width = pixels.shape[:2]
    return Image.frombuffer(mode, (width, height), np.ascontiguousarray(pixels), "raw", mode, 0, 1)


def without_alpha(image: Image.Image) -> Image.Image:
    """Return the image without its alpha."""
    return image if image.mode in ("L", "RGB") else image.convert("L" if image.mode == "LA" else "RGB")
