"""Photos in and out: pixels change, everything else stays byte for byte."""

from __future__ import annotations

from collections.abc import Callable

from hashshield.arrays import Pixels
from hashshield.errors import NotAPhotoError, UnsupportedError
from hashshield.imaging.formats import LOSSY_FORMATS, SUPPORTED, UNSUPPORTED_NAMES, sniff
from hashshield.imaging.photo import (
    MAX_PIXELS,
    MIN_SIDE,
    Photo,
    StripOptions,
    colour_channels,
    pixel_digest,
    to_display_orientation,
    to_stored_orientation,
)

__all__ = [
    "LOSSY_FORMATS",
    "MAX_PIXELS",
    "MIN_SIDE",
    "SUPPORTED",
    "Photo",
    "Pixels",
    "StripOptions",
    "colour_channels",
    "departure",
    "pixel_digest",
    "previewer",
    "read",
    "sniff",
    "to_display_orientation",
    "to_stored_orientation",
    "write",
]


def read(data: bytes, *, name: str) -> Photo:
    """Decode a whole file; `name` is what messages call it.

    Raises NotAPhotoError, UnsupportedError and BrokenPhotoError.
    """
    # Imported here because planning only sniffs and should not wait for Pillow.
    from hashshield.imaging import png, webp
    from hashshield.imaging.heif import codec as heif
    from hashshield.imaging.jpeg import codec as jpeg

    if not data:
        raise NotAPhotoError(f"{name}: the file is empty; get it again from its source")
    container = sniff(data[:64])
    if container is None:
        raise NotAPhotoError(f"{name}: not an image; its first bytes are no image format known here")
    if container in LOSSY_FORMATS:
        return heif.read(data, name=name, container=container)
    readers = {"jpeg": jpeg.read, "png": png.read, "webp": webp.read}
    if container not in readers:
        raise UnsupportedError(
            f"{name}: {UNSUPPORTED_NAMES[container]} is not supported; convert it to JPEG, PNG or WebP first"
        )
    return readers[container](data, name=name)


def write(photo: Photo, pixels: Pixels, *, strip: StripOptions = StripOptions()) -> bytes:  # noqa: B008  (frozen)
    """Return the photo's file with other pixels, of the same shape and in stored orientation.

    Container, encoding parameters and metadata stay; thumbnails are re-made from the new pixels. Where alpha is 0
    the stored pixels stay whatever is given, in lossless files. Raises ValueError on another shape or type (a bug of
    the caller).
    """
    if pixels.shape != photo.pixels.shape or pixels.dtype != photo.pixels.dtype:
        raise ValueError(f"pixels are {pixels.shape} {pixels.dtype}, the photo's {photo.pixels.shape} uint8")
    return photo.encoding.encode(photo, pixels, strip)


def departure(photo: Photo, meant: Pixels, written: Photo) -> str | None:
    """Return how `written` is not `photo` with the `meant` pixels, for a message; None where coding explains it."""
    from hashshield.imaging import fidelity

    return fidelity.departure(photo, meant, written)


def previewer(photo: Photo) -> Callable[[Pixels], Pixels]:
    """Return a function of pixels that does what `read(write(photo, pixels)).pixels` does, in less time where it can.

    A search asks for it at every step. Lossless files give all pixels back as they are, transparent ones too.
    """
    return photo.encoding.previewer(photo)
