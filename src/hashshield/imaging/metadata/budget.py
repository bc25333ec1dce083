"""What reading one file's metadata may cost, all its carriers together.

A limit per chunk or segment bounds nothing, because a file may hold thousands of them. Real files stay far below: of
103 camera files none has more than 26 segments, 79 EXIF entries, or 2 previews of 0.2 megapixels together.
"""

from __future__ import annotations

from typing import NoReturn

from hashshield.errors import UnsupportedError

__all__ = ["MAX_SEGMENTS", "MetadataBudget"]

MAX_SEGMENTS = 20_000
"""Segments, chunks or boxes of one file; the largest files of phones have some hundred, image data apart."""

_INFLATED_BYTES = 16 << 20
_EXIF_ENTRIES = 20_000
_CANDIDATES = 32
_PREVIEWS = 16
_PREVIEW_PIXELS = 10_000_000
_SCAN_PIXELS = 40_000_000


class MetadataBudget:
    """Counts what is spent on one file; `name` is what messages call it.

    Going over what only a crafted file needs raises UnsupportedError. Going over what a strange but honest file might
    need, its number of previews, answers False: such previews are left as they are and reported.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._inflated = _INFLATED_BYTES
        self._segments = MAX_SEGMENTS
        self._entries = _EXIF_ENTRIES
        self._candidates = _CANDIDATES
        self._previews = _PREVIEWS
        self._pixels = _PREVIEW_PIXELS
        self._scans = _SCAN_PIXELS

    @property
    def inflatable(self) -> int:
        """Bytes of compressed text that may still be unpacked."""
        return self._inflated

    def inflated(self, size: int) -> None:
        """Count unpacked bytes. Raises UnsupportedError."""
        self._inflated -= size
        if self._inflated < 0:
            self._refuse(f"its compressed text unpacks to more than {_INFLATED_BYTES >> 20} MB")

    def entries(self, count: int) -> None:
        """Count EXIF entries. Raises UnsupportedError."""
        self._entries -= count
        if self._entries < 0:
            self._refuse(f"it holds more than {_EXIF_ENTRIES:,} EXIF entries")

    def segments(self, count: int) -> None:
        """Count segments of the file and of previews inside it. Raises UnsupportedError."""
        self._segments -= count
        if self._segments < 0:
            self._refuse(f"it is in more than {MAX_SEGMENTS:,} pieces")

    def candidate(self) -> bool:
        """Tell whether one more place may be searched for the beginning of a preview, and count it."""
        self._candidates -= 1
        return self._candidates >= 0

    def preview(self, width: int, height: int) -> bool:
        """Tell whether one more preview of this size may be compared with the photo and re-made, and count it if so."""
        pixels = width * height
        if self._previews < 1 or pixels > self._pixels:
            return False
        self._previews -= 1
        self._pixels -= pixels
        return True

    def scans(self, pixels: int) -> bool:
        """Tell whether scans of so many pixels together may be decoded, and count them if so."""
        if pixels > self._scans:
            return False
        self._scans -= pixels
        return True

    def _refuse(self, what: str) -> NoReturn:
        raise UnsupportedError(
            f"{self._name}: its metadata is far more than a photo's ({what}); save the photo again without its metadata"
        )
