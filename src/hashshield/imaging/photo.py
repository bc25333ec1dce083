"""The decoded photo, what can be asked of it, and what a codec must offer to write it back."""

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
"""The largest photo read; covers the 200-megapixel phones (16,320 x 12,240)."""

MIN_SIDE = 32
"""Pixels; below this a hash network sees next to nothing of the photo."""

_COLOURLESS = 3
"""Levels: chroma one level off grey comes to 3 at most; lossy WebP decodes grey with 1, JPEG, HEIC and AVIF with 0."""
_ROWS = 64


@dataclass(frozen=True, slots=True)
class StripOptions:
    """What `write` leaves out, on request only."""

    copies: bool = False
    """Second images, gain maps, videos, trailing data, and thumbnails that cannot be re-made."""
    gps: bool = False
    """Positions in EXIF and XMP; every other value keeps its place."""
    metadata: bool = False
    """Everything but orientation, colour profile and what decoding needs; implies the others."""
    credentials: bool = False
    """Content credentials (C2PA), whose signature is of the pixels before; and what XMP says of where they are."""


class Encoding(Protocol):
    """What a codec remembers of the file, enough to write it again with other pixels."""

    def encode(self, photo: Photo, pixels: Pixels, strip: StripOptions) -> bytes:
        """Return the whole file with `pixels`, shaped like `photo.pixels`."""
        ...

    def previewer(self, photo: Photo) -> Callable[[Pixels], Pixels]:
        """Return a function from pixels, shaped like `photo.pixels`, to those that a written file would decode to."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Photo:
    """A decoded file, in stored orientation."""

    pixels: Pixels
    """(H, W, 3) RGB or (H, W, 1) grey."""
    alpha: Pixels | None
    """(H, W), 0 is transparent; a PNG colour key appears here too. None when there is no transparency."""
    container: str
    """'jpeg', 'png', 'webp', 'heic' or 'avif'."""
    orientation: int
    """EXIF orientation, 1 to 8; 1 when absent or invalid. In HEIC and AVIF the container's turns, as that number."""
    lossless: bool
    """Whether `write` keeps pixels exactly."""
    source: bytes
    """The file as read."""
    encoding: Encoding
    unprotected_copies: tuple[str, ...] = ()
    """Copies of the picture inside the file that `write` leaves as they are, unless stripped."""
    links_to_owner: tuple[str, ...] = ()
    """Metadata kept byte for byte that can link the photo to its owner."""


def check_size(width: int, height: int, *, name: str) -> None:
    """Refuse sizes outside [MIN_SIDE, MAX_PIXELS] before anything is allocated for them.

    Raises UnsupportedError.
    """
    if min(width, height) < MIN_SIDE:
        raise UnsupportedError(
            f"{name}: {width}x{height} pixels is too small to protect; both sides must have {MIN_SIDE} pixels or more"
        )
    if width * height > MAX_PIXELS:
        raise UnsupportedError(
            f"{name}: {width}x{height} pixels is more than the limit of {MAX_PIXELS // 10**6} megapixels; scale it down"
        )


def colour_channels(photo: Photo) -> int:
    """Return how many planes of colour the picture has: 1 where no visible pixel has any, whatever the file's channels.

    Red, green and blue that are `_COLOURLESS` levels apart are grey too: lossy codecs leave as much.
    """
    if photo.pixels.shape[2] == 1:
        return 1
    for top in range(0, len(photo.pixels), _ROWS):
        rows = photo.pixels[top : top + _ROWS]
        # Slices of three are several times as quick as a reduction over a short axis.
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
    """Turn an (H, W) or (H, W, C) array from displayed to stored orientation: the inverse of `upright`."""
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
    """Return the SHA-256 (hexadecimal) of shape, pixels and alpha, which metadata edits do not change.

    With `turn`, 1 to 8, of what `upright` makes of the stored pixels by that orientation.
    """
    planes = [to_display_orientation(photo.pixels, turn)] + (
        [] if photo.alpha is None else [to_display_orientation(photo.alpha, turn)]
    )
    digest = hashlib.sha256(f"{planes[0].shape} {photo.alpha is not None}".encode())
    for plane in planes:
        # In strips, because turned pixels have to be copied.
        for top in range(0, len(plane), _ROWS):
            digest.update(np.ascontiguousarray(plane[top : top + _ROWS]).data)
    return digest.hexdigest()
