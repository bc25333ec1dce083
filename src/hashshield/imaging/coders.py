"""The coders of Pillow and pillow-heif, each called directly and given picture data only; and arrays as Pillow images.

HEIC is coded by pillow-heif, an optional dependency, and AVIF by Pillow. Both work on whole files; `heif.codec` moves
the coded pictures between these and the photo's own file.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from io import BytesIO
from typing import Any, Protocol

import numpy as np
from PIL import Image, ImageFile

from hashshield.arrays import Pixels
from hashshield.errors import BrokenPhotoError, UnsupportedError

__all__ = [
    "Coder",
    "choose_coder",
    "damage_error",
    "decode",
    "from_array",
    "to_array",
    "without_alpha",
]


_ROWS = 256

# The errors that Pillow's plugins raise for damaged data; any other is a bug and is not caught.
_DAMAGE = (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error, zlib.error)


def decode(
    plugin: Callable[[BytesIO], ImageFile.ImageFile], data: bytes, *, name: str, ycc: bool = False
) -> Image.Image:
    """Decode `data` completely with one Pillow plugin class.

    The plugin is called directly rather than through `Image.open`, for two reasons: no other format is tried (an EPS
    named .jpg would reach Ghostscript), and Pillow's process-wide size limit, whose warning cannot be silenced safely
    in a thread, does not apply. Callers check sizes first. With `ycc` a JPEG is decoded to its own YCbCr samples.

    Raises BrokenPhotoError for damaged data, and UnsupportedError if memory runs out.
    """
    try:
        image = plugin(BytesIO(data))
        if ycc:
            # With a size of None, draft mode changes only the output colour space, not the scale.
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
    """Return the image without its alpha channel, as L or RGB."""
    return image if image.mode in ("L", "RGB") else image.convert("L" if image.mode == "LA" else "RGB")


_MODES = {1: "L", 3: "RGB"}

# The errors that pillow-heif documents for damaged data; any other is a bug and is not caught.
_HEIF_DAMAGE = (ValueError, EOFError, SyntaxError, RuntimeError, OSError)


class Coder(Protocol):
    """A library that decodes and encodes one coding of pictures."""

    config: bytes
    """Kind of the item property that configures the decoder."""

    def traits(self, config: bytes) -> tuple[int, str]:
        """Return bits per sample and the chroma sampling: '4:2:0', '4:2:2', '4:4:4', or '4:0:0' for grey."""
        ...

    def decode(self, data: bytes, *, name: str) -> Pixels:
        """Decode a file of one picture to (H, W, C), alpha last; raises BrokenPhotoError or UnsupportedError."""
        ...

    def encode(self, pixels: Pixels, *, sampling: str, colours: tuple[int, int]) -> bytes:
        """Encode (H, W, C) to a file of one picture; `colours` are primaries and transfer (ITU-T H.273)."""
        ...


def choose_coder(kind: bytes, *, name: str) -> Coder:
    """Return the coder of an item kind; raises UnsupportedError if there is none or it is not installed."""
    if kind == b"hvc1":
        return _Hevc(name)
    if kind == b"av01":
        return _Av1(name)
    coding = kind.decode("ascii", "replace") if kind.isalnum() else "unknown"
    raise UnsupportedError(
        f"{name}: a picture coded as {coding} is not supported in HEIC or AVIF; convert it to JPEG, PNG or WebP first"
    )


class _Hevc:
    config = b"hvcC"

    quality = 70
    """Gives about 48 dB in 1.3 to 2.7 times the bytes of phones' files; 90 gives 2 to 8 dB more in twice as many."""

    def __init__(self, name: str) -> None:
        try:
            import pillow_heif
        except ImportError:
            raise UnsupportedError(
                f"{name}: HEIC needs pillow-heif, which is not installed; add it with "
                "`pipx inject hashshield pillow-heif` (or pip install 'hashshield[heif]'), or convert the photo to JPEG"
            ) from None
        self.library: Any = pillow_heif

    def traits(self, config: bytes) -> tuple[int, str]:
        # HEVCDecoderConfigurationRecord, ISO/IEC 14496-15, 8.3.2.1.
        if len(config) < 23:
            return 0, ""
        depth = 8 + max(config[17] & 7, config[18] & 7)
        return depth, ("4:0:0", "4:2:0", "4:2:2", "4:4:4")[config[16] & 3]

    def decode(self, data: bytes, *, name: str) -> Pixels:
        try:
            image = self.library.open_heif(data, convert_hdr_to_8bit=False)
            if image.mode not in ("L", "LA", "RGB", "RGBA"):
                raise UnsupportedError(f"{name}: a HEIC that decodes as {image.mode} is not supported; save it as JPEG")
            # Copied, because the buffer belongs to the library.
            return np.array(np.asarray(image), dtype=np.uint8).reshape(*image.size[::-1], len(image.mode))
        except _HEIF_DAMAGE as error:
            raise damage_error(error, name=name) from error
        except MemoryError as error:
            raise UnsupportedError(f"{name}: there is not enough memory to decode it; scale it down") from error

    def encode(self, pixels: Pixels, *, sampling: str, colours: tuple[int, int]) -> bytes:
        out = BytesIO()
        height, width, channels = pixels.shape
        self.library.encode(
            _MODES[channels],
            (width, height),
            pixels.tobytes(),
            out,
            quality=self.quality,
            # Half the time of the default, in no more bytes.
            enc_params={"preset": "fast"},
            subsampling="4:2:0" if sampling == "4:0:0" else sampling,
            color_primaries=colours[0],
            transfer_characteristics=colours[1],
            matrix_coefficients=6,
            full_range_flag=1,
        )
        return out.getvalue()


class _Av1:
    config = b"av1C"

    quality = 90
    """Gives about 44 dB."""

    def __init__(self, name: str) -> None:
        from PIL import features

        if not features.check("avif"):
            raise UnsupportedError(
                f"{name}: this Pillow has no AVIF; install Pillow 11.3 or newer, or convert the photo to JPEG"
            )

    def traits(self, config: bytes) -> tuple[int, str]:
        # AV1CodecConfigurationRecord, AV1 in ISOBMFF 1.2, section 2.3.3.
        if len(config) < 4:
            return 0, ""
        flags = config[2]
        depth = (12 if flags & 0x20 else 10) if flags & 0x40 else 8
        if flags & 0x10:
            return depth, "4:0:0"
        return depth, {0x00: "4:4:4", 0x08: "4:2:2", 0x0C: "4:2:0"}.get(flags & 0x0C, "")

    def decode(self, data: bytes, *, name: str) -> Pixels:
        from PIL.AvifImagePlugin import AvifImageFile

        try:
            return to_array(decode(AvifImageFile, data, name=name))
        except RuntimeError as error:
            # Of Pillow's decoders, only libavif's conversion raises this.
            raise damage_error(error, name=name) from error

    def encode(self, pixels: Pixels, *, sampling: str, colours: tuple[int, int]) -> bytes:
        out = BytesIO()
        # Pillow sets primaries and transfer itself, but those stated by the container take precedence.
        from_array(pixels, _MODES[pixels.shape[2]]).save(out, "AVIF", quality=self.quality, subsampling=sampling)
        return out.getvalue()
