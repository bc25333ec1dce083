"""ISO base media files (ISO/IEC 14496-12, 23008-12): parsed into the items of a still picture, and written from them.

Item data, item entries and property payloads pass through byte for byte; only their locations are written anew.
"""

from __future__ import annotations

from collections.abc import Iterator

from hashshield.errors import BrokenPhotoError, UnsupportedError
from hashshield.imaging.heif.items import IN_FILE, IN_IDAT, HeifItem, ItemProperty, ItemReference, StillImage

__all__ = ["build_still", "parse_still"]

_MOST = 2000
"""Items, references and properties; the largest grids of phones have about 400 items."""
_MOST_TOGETHER = 20_000
"""Boxes of one level, and pieces, targets and properties of all items together."""
_MOST_PROPERTIES = 255
"""Of one item; the format counts them in a byte."""


class _DamageError(Exception):
    """A number that points nowhere."""


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, size: int) -> bytes:
        if self.at + size > len(self.data):
            raise _DamageError("a box is cut short")
        self.at += size
        return self.data[self.at - size : self.at]

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def text(self) -> bytes:
        """A string up to a zero byte, or to the end."""
        end = self.data.find(b"\0", self.at)
        end = len(self.data) if end < 0 else end
        found = self.data[self.at : end]
        self.at = min(end + 1, len(self.data))
        return found

    def full(self) -> tuple[int, int]:
        """Version and flags."""
        return self.number(1), self.number(3)


def _boxes(data: bytes, *, at: int = 0, loose: bool = False) -> Iterator[tuple[bytes, int, int, int]]:
    """Yield kind, start, start of the payload, and end of each box; stop at what is none if `loose`."""
    count = 0
    while at < len(data):
        count += 1
        if count > _MOST_TOGETHER:
            raise _DamageError("there are too many boxes")
        size, head = int.from_bytes(data[at : at + 4], "big"), 8
        if size == 1:
            size, head = int.from_bytes(data[at + 8 : at + 16], "big"), 16
        elif size == 0:
            size = len(data) - at
        if size < head or at + size > len(data):
            # A picture cut short must not pass for trailing data, which is kept.
            if loose and data[at + 4 : at + 8] != b"mdat":
                return
            raise _DamageError("a box runs past the end")
        yield data[at + 4 : at + 8], at, at + head, at + size
        at += size


def parse_still(data: bytes, *, name: str) -> StillImage:
    """Take a file apart; raises UnsupportedError or BrokenPhotoError."""
    try:
        return _parse_boxes(data, name=name)
    except _DamageError as error:
        raise BrokenPhotoError(
            f"{name}: the file's structure is damaged or incomplete ({error}); get the file again from its source"
        ) from error


def _parse_boxes(data: bytes, *, name: str) -> StillImage:
    brands, meta, other_boxes, end = b"", b"", list[tuple[bytes, bytes]](), 0
    for kind, start, payload, end in _boxes(data, loose=True):
        if kind == b"ftyp" and not brands:
            brands = data[start:end]
        elif kind == b"meta" and not meta:
            meta = data[payload:end]
        elif kind in (b"moov", b"moof"):
            raise UnsupportedError(f"{name}: an image sequence is not supported; protect single frames instead")
        elif kind not in (b"mdat", b"free", b"skip"):
            other_boxes.append((kind, data[start:end]))
    if not brands or not meta:
        raise _DamageError("there is no header")
    parts: dict[bytes, bytes] = {}
    header_boxes = list[bytes]()
    for kind, start, payload, stop in _boxes(meta, at=4):
        if kind in (b"pitm", b"iinf", b"iref", b"iprp", b"iloc", b"idat"):
            parts[kind] = meta[payload:stop]
        elif kind != b"free":
            header_boxes.append(meta[start:stop])
    if not parts.keys() >= {b"pitm", b"iinf", b"iprp", b"iloc"}:
        raise _DamageError("the header is not complete")
    places = _places(parts[b"iloc"])
    properties = _properties(parts[b"iprp"])
    items: dict[int, HeifItem] = {}
    room = len(data)
    for number, kind, content_type, entry in _entries(parts[b"iinf"], name=name):
        method, extents = places.get(number, (IN_FILE, []))
        if method not in (IN_FILE, IN_IDAT):
            raise UnsupportedError(f"{name}: items inside items are not supported; convert it to JPEG or PNG first")
        held = _gather(data if method == IN_FILE else parts.get(b"idat", b""), extents, room)
        # Crafted extents that overlap could add up to thousands of times the file.
        room -= len(held)
        items[number] = HeifItem(
            number, kind, content_type, entry, held, method == IN_IDAT, tuple(properties.get(number, ()))
        )
    reader = _Reader(parts[b"pitm"])
    primary = reader.number(4 if reader.full()[0] else 2)
    if primary not in items:
        raise _DamageError("there is no primary image")
    references = tuple(_references(parts[b"iref"])) if b"iref" in parts else ()
    return StillImage(brands, primary, items, references, tuple(header_boxes), tuple(other_boxes), data[end:])


def _entries(data: bytes, *, name: str) -> Iterator[tuple[int, bytes, bytes, bytes]]:
    reader = _Reader(data)
    reader.number(4 if reader.full()[0] else 2)
    for count, (kind, start, payload, end) in enumerate(_boxes(data, at=reader.at)):
        if count == _MOST:
            raise _DamageError("there are too many items")
        entry = _Reader(data[payload:end])
        version, _ = entry.full()
        if kind != b"infe" or version not in (2, 3):
            raise UnsupportedError(f"{name}: its list of items is of an old kind; convert it to JPEG or PNG first")
        number, protection = entry.number(2 if version == 2 else 4), entry.number(2)
        if protection:
            raise UnsupportedError(f"{name}: an encrypted image is not supported; save it without encryption")
        item_kind = entry.take(4)
        entry.text()
        yield number, item_kind, entry.text() if item_kind == b"mime" else b"", data[start:end]


def _places(data: bytes) -> dict[int, tuple[int, list[tuple[int, int]]]]:
    """Item -> (construction method, [(offset, length)])."""
    reader = _Reader(data)
    version, _ = reader.full()
    sizes = reader.number(2)
    offset_size, length_size, base_size = sizes >> 12, sizes >> 8 & 15, sizes >> 4 & 15
    index_size = sizes & 15 if version else 0
    if version > 2 or {offset_size, length_size, base_size, index_size} - {0, 4, 8}:
        raise _DamageError("the list of places is of an unknown kind")
    found: dict[int, tuple[int, list[tuple[int, int]]]] = {}
    # Places may take no bytes at all, so that a small file could list millions.
    together = 0
    for _ in range(_counted(reader.number(4 if version == 2 else 2))):
        number = reader.number(4 if version == 2 else 2)
        method = reader.number(2) & 15 if version else IN_FILE
        if reader.number(2):
            raise _DamageError("data lies in another file")
        base, extents = reader.number(base_size), list[tuple[int, int]]()
        pieces = _counted(reader.number(2))
        together = _counted(together + pieces, _MOST_TOGETHER)
        for _ in range(pieces):
            reader.take(index_size)
            extents.append((base + reader.number(offset_size), reader.number(length_size)))
        found[number] = method, extents
    return found


def _gather(data: bytes, extents: list[tuple[int, int]], room: int) -> bytes:
    pieces = []
    for offset, length in extents:
        # A length of 0 stands for all that follows (14496-12, 8.11.3).
        length = length or max(len(data) - offset, 0)
        room -= length
        if offset + length > len(data) or room < 0:
            raise _DamageError("an item's data lies outside the file, or overlaps")
        pieces.append(data[offset : offset + length])
    return b"".join(pieces)


def _references(data: bytes) -> Iterator[ItemReference]:
    version, _ = _Reader(data).full()
    size = 4 if version else 2
    together = 0
    for rows, (kind, _, payload, end) in enumerate(_boxes(data, at=4), 1):
        reader = _Reader(data[payload:end])
        source, count = reader.number(size), _counted(reader.number(2))
        together = _counted(together + count, _MOST_TOGETHER)
        _counted(rows)
        yield ItemReference(kind, source, tuple(reader.number(size) for _ in range(count)))


def _properties(data: bytes) -> dict[int, list[ItemProperty]]:
    known: list[tuple[bytes, bytes]] = []
    found: dict[int, list[ItemProperty]] = {}
    together = 0
    for kind, _, payload, end in _boxes(data):
        held = data[payload:end]
        if kind == b"ipco":
            if known:
                raise _DamageError("there are two lists of properties")
            known = [(k, held[p:e]) for k, _, p, e in _boxes(held)]
            _counted(len(known))
        elif kind == b"ipma":
            reader = _Reader(held)
            version, flags = reader.full()
            wide = flags & 1
            for _ in range(_counted(reader.number(4))):
                number = reader.number(4 if version else 2)
                count = reader.number(1)
                together = _counted(together + count, _MOST_TOGETHER)
                for _ in range(count):
                    value = reader.number(2 if wide else 1)
                    mark = 0x8000 if wide else 0x80
                    index = value & ~mark
                    if index > len(known):
                        raise _DamageError("an item has a property that is not there")
                    if index:
                        found.setdefault(number, []).append(ItemProperty(*known[index - 1], bool(value & mark)))
                _counted(len(found.get(number, ())), _MOST_PROPERTIES)
    return found


def _counted(count: int, most: int = _MOST) -> int:
    if count > most:
        raise _DamageError("there are too many items")
    return count


def build_still(still: StillImage) -> bytes:
    """Return the file: brands, header, item data in the items' order, other boxes."""
    inline = b"".join(item.data for item in still.items.values() if item.inline)
    named = {number for _, source, targets in still.references for number in (source, *targets)}
    wide = 4 if max(named | still.items.keys()) > 0xFFFF else 2

    def header(mdat: int) -> bytes:
        return _box(
            b"meta",
            bytes(4),
            *still.header_boxes,
            _box(b"pitm", bytes((wide == 4, 0, 0, 0)), still.primary.to_bytes(wide, "big")),
            _listed(still),
            _referring(still.references, wide),
            _described(still, wide),
            _box(b"idat", inline) if inline else b"",
            _placed(still, wide, mdat),
        )

    before = len(still.brands) + len(header(0))
    data = _box(b"mdat", *(item.data for item in still.items.values() if not item.inline))
    return b"".join((still.brands, header(before + 8), data, *(whole for _, whole in still.other_boxes), still.tail))


def _listed(still: StillImage) -> bytes:
    entries = [item.entry for item in still.items.values()]
    return _box(b"iinf", bytes(4), len(entries).to_bytes(2, "big"), *entries)


def _referring(references: tuple[ItemReference, ...], wide: int) -> bytes:
    if not references:
        return b""
    rows = (
        _box(
            kind,
            source.to_bytes(wide, "big"),
            len(targets).to_bytes(2, "big"),
            *(target.to_bytes(wide, "big") for target in targets),
        )
        for kind, source, targets in references
    )
    return _box(b"iref", bytes((wide == 4, 0, 0, 0)), *rows)


def _described(still: StillImage, wide: int) -> bytes:
    """The properties, each once, and which item has which."""
    known: dict[tuple[bytes, bytes], int] = {}
    rows = []
    for item in still.items.values():
        if not item.properties:
            continue
        row = item.number.to_bytes(wide, "big") + bytes((len(item.properties),))
        for kind, payload, essential in item.properties:
            index = known.setdefault((kind, payload), len(known) + 1)
            row += (index | essential << 15).to_bytes(2, "big")
        rows.append(row)
    held = _box(b"ipco", *(_box(kind, payload) for kind, payload in known))
    return _box(b"iprp", held, _box(b"ipma", bytes((wide == 4, 0, 0, 1)), len(rows).to_bytes(4, "big"), *rows))


def _placed(still: StillImage, wide: int, mdat: int) -> bytes:
    rows = []
    at = {True: 0, False: mdat}
    for item in still.items.values():
        extent = at[item.inline].to_bytes(4, "big") + len(item.data).to_bytes(4, "big")
        # An extent of length 0 would mean all of the file.
        count = 1 if item.data else 0
        rows.append(
            item.number.to_bytes(wide, "big")
            + (IN_IDAT if item.inline else IN_FILE).to_bytes(2, "big")
            + bytes(2)
            + count.to_bytes(2, "big")
            + extent * count
        )
        at[item.inline] += len(item.data)
    version = 2 if wide == 4 else 1
    return _box(b"iloc", bytes((version, 0, 0, 0, 0x44, 0)), len(rows).to_bytes(wide, "big"), *rows)


def _box(kind: bytes, *parts: bytes) -> bytes:
    """Return a box."""
    payload = b"".join(parts)
    return (8 + len(payload)).to_bytes(4, "big") + kind + payload
