"""Pillow's decoders, each called by name and given picture data only; conversion between images and arrays."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from io import BytesIO

import numpy as np
from PIL import Image, ImageFile

from hashshield.arrays import Pixels
from hashshield.errors import BrokenPhotoError, UnsupportedError

__all__ = ["damage_error", "decode", "from_array", "to_array", "without_alpha"]

_ROWS = 256

# The errors that Pillow's plugins raise for damaged data; any other is a bug and is not caught.
_DAMAGE = (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error, zlib.error)


def decode(
    plugin: Callable[[BytesIO], ImageFile.ImageFile], data: bytes, *, name: str, ycc: bool = False
) -> Image.Image:
    """Decode `data` completely with one Pillow plugin class.

    The plugin is called directly rather than through `Image.open`, for two reasons: no other format can be tried (an
    EPS named .jpg would reach Ghostscript), and Pillow's process-wide size limit, whose warning cannot be silenced
    safely in a thread, does not apply. Callers check sizes first. `ycc` makes a JPEG decode to its own YCbCr samples,
    at full scale.

    Raises BrokenPhotoError for damaged data, and UnsupportedError when memory runs out.
    """
    try:
        image = plugin(BytesIO(data))
        if ycc:
            # With a size of None, draft mode changes the output colour space and never the scale.
            image.draft("YCbCr", None)
        image.load()
    except _DAMAGE as error:
        raise damage_error(error, name=name) from error
    except Image.DecompressionBombError as error:
        raise UnsupportedError(f"{name}: more pixels than the decoder allows; scale it down") from error
    except MemoryError as error:
        raise UnsupportedError(f"{name}: there is not enough memory to decode it; scale it down") from error
    return image


def damage_error(error: Exception, *, name: str) -> BrokenPhotoError:
    """Return the error to raise for picture data that a decoder rejected with `error`."""
    detail = " ".join(str(error).split()) or type(error).__name__
    return BrokenPhotoError(
        f"{name}: the picture data is damaged or incomplete ({detail}); get the file again from its source"
    )


def to_array(image: Image.Image) -> Pixels:
    """Copy an 8-bit image into an (H, W, C) array.

    Works in strips, because Pillow would make two full-size copies of a whole image.
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
    """Return a Pillow image of `mode` made from an (H, W, C) array."""
    height, width = pixels.shape[:2]
    return Image.frombuffer(mode, (width, height), np.ascontiguousarray(pixels), "raw", mode, 0, 1)


def without_alpha(image: Image.Image) -> Image.Image:
    """Return the image without its alpha."""
    return image if image.mode in ("L", "RGB") else image.convert("L" if image.mode == "LA" else "RGB")
