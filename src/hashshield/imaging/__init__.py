"""Read photos and write them with other pixels; everything else in the file stays byte for byte.

Start at `read` and `write` below, which choose the codec of a format: `png`, `webp`, `jpeg.codec` or `heif.codec`.
`photo` recognises formats and holds what the codecs share; `metadata` handles EXIF and XMP, which all formats share;
`fidelity` checks that a written file shows the intended pixels.
"""

from __future__ import annotations

from collections.abc import Callable

from hashshield.arrays import Pixels
from hashshield.errors import NotAPhotoError, UnsupportedError
from hashshield.imaging.photo import (
    LOSSY_FORMATS,
    MAX_PIXELS,
    MIN_SIDE,
    SUPPORTED,
    UNSUPPORTED_NAMES,
    Photo,
    StripOptions,
    colour_channels,
    pixel_digest,
    sniff,
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
    """Decode a file; error messages call it `name`.

    Raises NotAPhotoError, UnsupportedError, or BrokenPhotoError.
    """
    # Imported here because planning only sniffs formats and should not wait for Pillow.
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
    """Return the photo's file with other pixels, uint8, of the same shape and in stored orientation.

    Container, encoding parameters and metadata stay, apart from what `strip` removes; thumbnails are drawn again from
    the new pixels. In lossless files, fully transparent pixels keep their stored values. Raises ValueError for another
    shape or type, which is a bug in the caller.
    """
    if pixels.shape != photo.pixels.shape or pixels.dtype != photo.pixels.dtype:
        raise ValueError(f"pixels are {pixels.shape} {pixels.dtype}, the photo's {photo.pixels.shape} uint8")
    return photo.encoding.encode(photo, pixels, strip)


def departure(photo: Photo, intended: Pixels, written: Photo) -> str | None:
    """Describe how `written` differs from `photo` with the `intended` pixels; None if coding explains it all."""
    from hashshield.imaging import fidelity

    return fidelity.departure(photo, intended, written)


def previewer(photo: Photo) -> Callable[[Pixels], Pixels]:
    """Return a function that maps pixels to `read(write(photo, pixels)).pixels`, by a faster way if there is one.

    A search calls it at every step. For lossless files it is the identity, even at transparent pixels.
    """
    return photo.encoding.previewer(photo)
