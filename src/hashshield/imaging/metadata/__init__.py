"""EXIF and XMP, which all formats contain in the same form, and a limit on the work that one file's metadata may cause.

Start at `findings`, which reports the copies of the photo and the personal data in a block, draws previews again and
blanks what is stripped. `exif` parses TIFF blocks, `thumbnails` finds and draws previews.

The limit is for the whole file, because a file may hold thousands of segments. Real files stay far below it: of 103
camera files, none has more than 26 segments, 79 EXIF entries, or 2 previews of 0.2 megapixels together.
"""

from __future__ import annotations

from typing import NoReturn

from hashshield.errors import UnsupportedError

__all__ = [
    "MAX_SEGMENTS",
    "MetadataBudget",
]


MAX_SEGMENTS = 20_000
"""Most segments or chunks of one file; apart from image data, even large files of phones have a few hundred."""

_INFLATED_BYTES = 16 << 20
_EXIF_ENTRIES = 20_000
_CANDIDATES = 32
_PREVIEWS = 16
_PREVIEW_PIXELS = 10_000_000
_SCAN_PIXELS = 40_000_000


class MetadataBudget:
    """Counts the work spent on one file, which messages call `name`.

    Methods raise UnsupportedError beyond limits that only a crafted file reaches. Those for previews, of which a
    genuine file may hold many, return False instead: further previews are left unchanged and reported.
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
        """Count unpacked bytes; raises UnsupportedError."""
        self._inflated -= size
        if self._inflated < 0:
            self._refuse(f"its compressed text unpacks to more than {_INFLATED_BYTES >> 20} MB")

    def entries(self, count: int) -> None:
        """Count EXIF entries; raises UnsupportedError."""
        self._entries -= count
        if self._entries < 0:
            self._refuse(f"it holds more than {_EXIF_ENTRIES:,} EXIF entries")

    def segments(self, count: int) -> None:
        """Count segments of the file and of previews inside it; raises UnsupportedError."""
        self._segments -= count
        if self._segments < 0:
            self._refuse(f"it has more than {MAX_SEGMENTS:,} segments")

    def candidate(self) -> bool:
        """Count one possible start of a preview; return True if it may be examined."""
        self._candidates -= 1
        return self._candidates >= 0

    def preview(self, width: int, height: int) -> bool:
        """Return True, and count it, if another preview of this size may be compared and drawn again."""
        pixels = width * height
        if self._previews < 1 or pixels > self._pixels:
            return False
        self._previews -= 1
        self._pixels -= pixels
        return True

    def scans(self, pixels: int) -> bool:
        """Return True, and count them, if scans of this many pixels in total may be decoded."""
        if pixels > self._scans:
            return False
        self._scans -= pixels
        return True

    def _refuse(self, excess: str) -> NoReturn:
        raise UnsupportedError(
            f"{self._name}: its metadata is far more than a photo's ({excess}); "
            "save the photo again without its metadata"
        )
