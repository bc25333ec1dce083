"""The decoded photo, its properties, and the interface a codec implements to write it back."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from hashshield.arrays import Pixels
from hashshield.errors import UnsupportedError

__all__ = [
    "MAX_PIXELS",
    "MIN_SIDE",
    "Encoding",
    "Photo",
    "StripOptions",
    "check_size",
    "colour_channels",
    "pixel_digest",
    "to_display_orientation",
    "to_stored_orientation",
]

Scalar = TypeVar("Scalar", bound=np.generic)

MAX_PIXELS = 200_000_000
"""Most pixels a photo may have; covers 200-megapixel phones (16,320 x 12,240)."""

MIN_SIDE = 32
"""Shortest side, in pixels; of anything smaller a hash network sees next to nothing."""

_COLOURLESS = 3
"""Largest difference between channels, in levels, that still counts as grey.

Chroma one level off grey causes at most 3; lossy WebP decodes grey with 1, JPEG, HEIC and AVIF with 0.
"""
_ROWS = 64


@dataclass(frozen=True, slots=True)
class StripOptions:
    """Parts of the file that `write` leaves out; none by default."""

    copies: bool = False
    """Second images, gain maps, videos, trailing data, and thumbnails that cannot be drawn again."""
    gps: bool = False
    """Positions in EXIF and XMP; every other value keeps its offset."""
    metadata: bool = False
    """Everything but orientation, colour profile, and data needed for decoding; implies the others."""
    credentials: bool = False
    """Content credentials (C2PA), which sign the original pixels, and the XMP property that says where they are."""


class Encoding(Protocol):
    """Everything a codec needs in order to write the file again with other pixels."""

    def encode(self, photo: Photo, pixels: Pixels, strip: StripOptions) -> bytes:
        """Return the whole file with `pixels`, shaped like `photo.pixels`."""
        ...

    def previewer(self, photo: Photo) -> Callable[[Pixels], Pixels]:
        """Return a function that maps pixels, shaped like `photo.pixels`, to what the written file would decode to."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Photo:
    """A decoded file, in stored orientation."""

    pixels: Pixels
    """(H, W, 3) RGB or (H, W, 1) grey."""
    alpha: Pixels | None
    """(H, W), 0 is transparent; includes a PNG colour key. None for a photo without transparency."""
    container: str
    """'jpeg', 'png', 'webp', 'heic' or 'avif'."""
    orientation: int
    """EXIF orientation, 1 to 8; 1 if absent or invalid. For HEIC and AVIF, the container's rotation and mirroring."""
    lossless: bool
    """True if `write` keeps pixels exactly."""
    source: bytes
    """The file as read."""
    encoding: Encoding
    unprotected_copies: tuple[str, ...] = ()
    """Copies of the picture inside the file that `write` leaves unchanged, unless they are stripped."""
    links_to_owner: tuple[str, ...] = ()
    """Metadata that can link the photo to its owner and is kept byte for byte."""


def check_size(width: int, height: int, *, name: str) -> None:
    """Raise UnsupportedError for a side below MIN_SIDE or more than MAX_PIXELS, before anything is allocated."""
    if min(width, height) < MIN_SIDE:
        raise UnsupportedError(
            f"{name}: {width}x{height} pixels is too small to protect; both sides must have {MIN_SIDE} pixels or more"
        )
    if width * height > MAX_PIXELS:
        raise UnsupportedError(
            f"{name}: {width}x{height} pixels is more than the limit of {MAX_PIXELS // 10**6} megapixels; scale it down"
        )


def colour_channels(photo: Photo) -> int:
    """Return the number of colour channels the picture uses: 1 if every visible pixel is grey, else 3.

    Channels that differ by up to `_COLOURLESS` levels count as grey, because lossy codecs leave as much.
    """
    if photo.pixels.shape[2] == 1:
        return 1
    for top in range(0, len(photo.pixels), _ROWS):
        rows = photo.pixels[top : top + _ROWS]
        # Three slices are several times as fast as a reduction over a short axis.
        red, green, blue = rows[..., 0], rows[..., 1], rows[..., 2]
        least, most = np.minimum(np.minimum(red, green), blue), np.maximum(np.maximum(red, green), blue)
        coloured = most - least > _COLOURLESS
        if photo.alpha is not None:
            coloured &= photo.alpha[top : top + _ROWS] > 0
        if coloured.any():
            return 3
    return 1


def to_display_orientation(pixels: NDArray[Scalar], orientation: int) -> NDArray[Scalar]:
    """Turn an (H, W) or (H, W, C) array from stored to displayed orientation (EXIF 2.32, tag 0x0112).

    Returns a view, not a copy.
    """
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    rows, columns = _FLIPS[orientation]
    return pixels[:: -1 if rows else 1, :: -1 if columns else 1]


def to_stored_orientation(pixels: NDArray[Scalar], orientation: int) -> NDArray[Scalar]:
    """Turn an (H, W) or (H, W, C) array from displayed to stored orientation; inverts `to_display_orientation`.

    Returns a view, not a copy.
    """
    rows, columns = _FLIPS[orientation]
    pixels = pixels[:: -1 if rows else 1, :: -1 if columns else 1]
    return pixels.swapaxes(0, 1) if orientation >= 5 else pixels


# Orientation -> (flip rows, flip columns), after the transpose that 5 to 8 start with.
_FLIPS = {
    1: (False, False),
    2: (False, True),
    3: (True, True),
    4: (True, False),
    5: (False, False),
    6: (False, True),
    7: (True, True),
    8: (True, False),
}


def pixel_digest(photo: Photo, turn: int = 1) -> str:
    """Return the SHA-256 (hexadecimal) of shape, pixels, and alpha, which edits of metadata do not change.

    `turn`, 1 to 8, is the orientation in which the stored pixels are brought before they are digested.
    """
    planes = [to_display_orientation(photo.pixels, turn)] + (
        [] if photo.alpha is None else [to_display_orientation(photo.alpha, turn)]
    )
    digest = hashlib.sha256(f"{planes[0].shape} {photo.alpha is not None}".encode())
    for plane in planes:
        # In strips, because turned pixels have to be copied before they can be digested.
        for top in range(0, len(plane), _ROWS):
            digest.update(np.ascontiguousarray(plane[top : top + _ROWS]).data)
    return digest.hexdigest()
