"""The coders of HEIC and AVIF pictures: pillow-heif, an optional dependency, for HEVC, and Pillow for AV1.

Both work on whole files; `codec` moves the coded pictures between those and the photo's own file.
"""

from __future__ import annotations

from io import BytesIO
from typing import Any, Protocol

import numpy as np

from hashshield.arrays import Pixels
from hashshield.errors import UnsupportedError
from hashshield.imaging.decode import damage_error, decode, from_array, to_array

__all__ = ["Coder", "choose_coder"]

_MODES = {1: "L", 3: "RGB"}

# The errors that pillow-heif documents for damaged data; any other is a bug and is not caught.
_DAMAGE = (ValueError, EOFError, SyntaxError, RuntimeError, OSError)


class Coder(Protocol):
    """A library that decodes and encodes one coding of pictures."""

    config: bytes
    """Kind of the property that configures the decoder."""

    def traits(self, config: bytes) -> tuple[int, str]:
        """Return bits per sample and the chroma sampling: '4:2:0', '4:2:2', '4:4:4', or '4:0:0' for grey."""
        ...

    def decode(self, data: bytes, *, name: str) -> Pixels:
        """Decode a file of one picture to (H, W, C), alpha last; raises BrokenPhotoError or UnsupportedError."""
        ...

    def encode(self, pixels: Pixels, *, sampling: str, colours: tuple[int, int]) -> bytes:
        """Return a file of one picture; `colours` are primaries and transfer (ITU-T H.273)."""
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
        except _DAMAGE as error:
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
            # Only the conversion in libavif raises this, of all Pillow's decoders.
            raise damage_error(error, name=name) from error

    def encode(self, pixels: Pixels, *, sampling: str, colours: tuple[int, int]) -> bytes:
        out = BytesIO()
        # Pillow sets primaries and transfer itself, but those that the container states take precedence.
        from_array(pixels, _MODES[pixels.shape[2]]).save(out, "AVIF", quality=self.quality, subsampling=sampling)
        return out.getvalue()
