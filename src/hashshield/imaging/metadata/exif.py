"""Parse EXIF blocks (TIFF 6.0) with every offset checked, so that values can be found and blanked in place."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

__all__ = ["ExifBlock", "ExifEntry", "parse_exif", "read_orientation", "split_header"]

_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8}
_CHILDREN = {("0th", 0x8769): "Exif", ("0th", 0x8825): "GPS", ("Exif", 0xA005): "Interop"}
_POINTERS = dict.fromkeys((0x8769, 0x8825, 0xA005), ((4, 1),)) | dict.fromkeys((0x0201, 0x0202), ((3, 1), (4, 1)))
"""Tag that holds an offset -> permitted (type, count)."""
_INTEGERS = frozenset({3, 4, 6, 8, 9})
_SIGNED = frozenset({6, 8, 9})
_ORIENTATION = 0x0112
_XMP_ORIENTATION = re.compile(rb'tiff:Orientation(?:="|>)([0-9])')


@dataclass(frozen=True, slots=True)
class ExifEntry:
    """One tag of one directory; offsets count from the start of the TIFF header."""

    ifd: str
    """'0th', '1st', 'Exif', 'GPS' or 'Interop'."""
    tag: int
    kind: int
    count: int
    at: int
    """Offset of the 12-byte entry."""
    start: int
    """Offset of the value, which lies inside the entry if it fits four bytes."""
    size: int
    """Length of the value in bytes; start + size never exceeds the block."""


@dataclass(frozen=True, slots=True)
class ExifBlock:
    """An EXIF block and its directories."""

    data: bytes
    little: bool
    entries: tuple[ExifEntry, ...]
    directories: dict[str, int]
    """Name -> offset of the directory."""
    valid: bool
    """True if every offset, type, and count follows TIFF; only such a block may be given to a stricter parser."""

    @property
    def order(self) -> Literal["little", "big"]:
        """Byte order of every number in the block."""
        return "little" if self.little else "big"

    def find(self, ifd: str, tag: int) -> ExifEntry | None:
        """Return the first entry with this tag in a directory, or None."""
        return next((e for e in self.entries if e.ifd == ifd and e.tag == tag), None)

    def value(self, entry: ExifEntry) -> bytes:
        """Return an entry's value as stored."""
        return self.data[entry.start : entry.start + entry.size]

    def integer(self, entry: ExifEntry | None) -> int | None:
        """Return an entry's value if it is a single integer, else None."""
        if entry is None or entry.count != 1 or entry.kind not in _INTEGERS:
            return None
        return int.from_bytes(self.value(entry), self.order, signed=entry.kind in _SIGNED)


def parse_exif(data: bytes) -> ExifBlock | None:
    """Parse a TIFF block, without the `Exif\\0\\0` before it; return None for other data.

    Reads at most five directories, each once, so that loops and huge counts are harmless.
    """
    if data[:4] not in (b"II*\x00", b"MM\x00*") or len(data) < 8:
        return None
    return _ExifWalker(data).block()


class _ExifWalker:
    """Reads the directories of one block."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.little = data[:2] == b"II"
        self.entries: list[ExifEntry] = []
        self.directories: dict[str, int] = {}
        self.valid = True
        self.held = 0

    def block(self) -> ExifBlock:
        following = self.directory("0th", self.number(4, 4))
        if following:
            self.directory("1st", following)
        # In a crafted block, overlapping values could add up to thousands of times its length.
        valid = self.valid and self.held <= len(self.data)
        return ExifBlock(self.data, self.little, tuple(self.entries), self.directories, valid)

    def number(self, at: int, size: int) -> int:
        return int.from_bytes(self.data[at : at + size], "little" if self.little else "big")

    def directory(self, name: str, offset: int) -> int:
        """Read one directory and those below it; return the offset of the next one, or 0."""
        if offset + 2 > len(self.data) or offset < 8 or offset in self.directories.values():
            self.valid = False
            return 0
        self.directories[name] = offset
        count = self.number(offset, 2)
        end = offset + 2 + 12 * count
        if end + (4 if name == "0th" else 0) > len(self.data):
            self.valid = False
            count = (len(self.data) - offset - 2) // 12
        children = []
        for at in range(offset + 2, offset + 2 + 12 * count, 12):
            entry = self.entry(name, at)
            if entry is None:
                continue
            self.entries.append(entry)
            child = _CHILDREN.get((name, entry.tag))
            if child is not None and entry.kind == 4 and entry.count == 1:
                children.append((child, self.number(entry.start, 4)))
        for child, where in children:
            self.directory(child, where)
        return self.number(end, 4) if end + 4 <= len(self.data) else 0

    def entry(self, ifd: str, at: int) -> ExifEntry | None:
        tag, kind, count = self.number(at, 2), self.number(at + 2, 2), self.number(at + 4, 4)
        if kind not in _SIZES or count == 0:
            self.valid = False
            return None
        if tag in _POINTERS and (kind, count) not in _POINTERS[tag]:
            self.valid = False
        size = count * _SIZES[kind]
        self.held += size if size > 4 else 0
        start = at + 8 if size <= 4 else self.number(at + 8, 4)
        if start + size > len(self.data):
            self.valid = False
            return None
        return ExifEntry(ifd, tag, kind, count, at, start, size)


def read_orientation(exif: bytes | None, xmp: bytes | None) -> int:
    """Return the orientation, 1 to 8, that a viewer applies; 1 if it is absent or invalid.

    Decides as Pillow's `exif_transpose` does: XMP's `tiff:Orientation` counts only if EXIF has no such tag. `exif` may
    begin with `Exif\\0\\0`.
    """
    block = parse_exif(split_header(exif)[1]) if exif else None
    entry = block.find("0th", _ORIENTATION) if block else None
    if block and entry:
        value = block.integer(entry)
    else:
        match = _XMP_ORIENTATION.search(xmp) if xmp else None
        value = int(match[1]) if match else None
    return value if value is not None and 1 <= value <= 8 else 1


_HEADERS = re.compile(rb"(?:Exif\x00\x00){0,2}")


def split_header(data: bytes) -> tuple[bytes, bytes]:
    """Return (header, block): any `Exif\\0\\0` before the TIFF block, and the block.

    Some writers repeat the header, which Pillow accepts, and so viewers that use it.
    """
    found = _HEADERS.match(data)
    end = found.end() if found else 0
    return data[:end], data[end:]
