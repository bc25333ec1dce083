"""Parse ISO base media files (ISO/IEC 14496-12, 23008-12) into the items of a still image, and build them again.

Item data, item entries and property payloads pass through byte for byte; only their locations are new.
"""

from __future__ import annotations

from collections.abc import Iterator

from hashshield.errors import BrokenPhotoError, UnsupportedError
from hashshield.imaging.heif.items import IN_FILE, IN_IDAT, HeifItem, ItemProperty, ItemReference, StillImage

__all__ = ["build_still", "parse_still"]

_MAX_COUNT = 2000
"""Most items, references, and properties; the largest grids of phones have about 400 items."""
_MAX_TOTAL = 20_000
"""Most boxes of one level, and most extents, reference targets, and properties of all items together."""
_MAX_PROPERTIES = 255
"""Most properties of one item; the format counts them in a byte."""


class _DamageError(Exception):
    """The structure of the boxes contradicts itself."""


class _Reader:
    """Reads the fields of one box in order; raises _DamageError past its end."""

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
        """Read a string up to a zero byte, or to the end."""
        end = self.data.find(b"\0", self.at)
        end = len(self.data) if end < 0 else end
        string = self.data[self.at : end]
        self.at = min(end + 1, len(self.data))
        return string

    def full(self) -> tuple[int, int]:
        """Read version and flags."""
        return self.number(1), self.number(3)


def _boxes(data: bytes, *, at: int = 0, loose: bool = False) -> Iterator[tuple[bytes, int, int, int]]:
    """Yield kind, start, start of the payload, and end of each box; if `loose`, stop at bytes that are not a box."""
    count = 0
    while at < len(data):
        count += 1
        if count > _MAX_TOTAL:
            raise _DamageError("there are too many boxes")
        size, head = int.from_bytes(data[at : at + 4], "big"), 8
        if size == 1:
            size, head = int.from_bytes(data[at + 8 : at + 16], "big"), 16
        elif size == 0:
            size = len(data) - at
        if size < head or at + size > len(data):
            # A truncated picture must not be mistaken for trailing data, which is kept.
            if loose and data[at + 4 : at + 8] != b"mdat":
                return
            raise _DamageError("a box runs past the end")
        yield data[at + 4 : at + 8], at, at + head, at + size
        at += size


def parse_still(data: bytes, *, name: str) -> StillImage:
    """Parse a file into a still image; raises UnsupportedError or BrokenPhotoError."""
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
        raise _DamageError("the header is incomplete")
    locations = _read_locations(parts[b"iloc"])
    properties = _read_properties(parts[b"iprp"])
    items: dict[int, HeifItem] = {}
    remaining = len(data)
    for number, kind, content_type, entry in _read_item_infos(parts[b"iinf"], name=name):
        method, extents = locations.get(number, (IN_FILE, []))
        if method not in (IN_FILE, IN_IDAT):
            raise UnsupportedError(f"{name}: items inside items are not supported; convert it to JPEG or PNG first")
        held = _join_extents(data if method == IN_FILE else parts.get(b"idat", b""), extents, remaining)
        # In a crafted file, overlapping extents could add up to thousands of times its size.
        remaining -= len(held)
        items[number] = HeifItem(
            number, kind, content_type, entry, held, method == IN_IDAT, tuple(properties.get(number, ()))
        )
    reader = _Reader(parts[b"pitm"])
    primary = reader.number(4 if reader.full()[0] else 2)
    if primary not in items:
        raise _DamageError("there is no primary image")
    references = tuple(_read_references(parts[b"iref"])) if b"iref" in parts else ()
    return StillImage(brands, primary, items, references, tuple(header_boxes), tuple(other_boxes), data[end:])


def _read_item_infos(data: bytes, *, name: str) -> Iterator[tuple[int, bytes, bytes, bytes]]:
    reader = _Reader(data)
    reader.number(4 if reader.full()[0] else 2)
    for count, (kind, start, payload, end) in enumerate(_boxes(data, at=reader.at)):
        if count == _MAX_COUNT:
            raise _DamageError("there are too many items")
        entry = _Reader(data[payload:end])
        version, _ = entry.full()
        if kind != b"infe" or version not in (2, 3):
            raise UnsupportedError(f"{name}: its list of items has an old version; convert it to JPEG or PNG first")
        number, protection = entry.number(2 if version == 2 else 4), entry.number(2)
        if protection:
            raise UnsupportedError(f"{name}: an encrypted image is not supported; save it without encryption")
        item_kind = entry.take(4)
        entry.text()
        yield number, item_kind, entry.text() if item_kind == b"mime" else b"", data[start:end]


def _read_locations(data: bytes) -> dict[int, tuple[int, list[tuple[int, int]]]]:
    """Return for each item its construction method and extents: {item: (method, [(offset, length)])}."""
    reader = _Reader(data)
    version, _ = reader.full()
    sizes = reader.number(2)
    offset_size, length_size, base_size = sizes >> 12, sizes >> 8 & 15, sizes >> 4 & 15
    index_size = sizes & 15 if version else 0
    if version > 2 or {offset_size, length_size, base_size, index_size} - {0, 4, 8}:
        raise _DamageError("the list of item locations has an unknown version")
    locations: dict[int, tuple[int, list[tuple[int, int]]]] = {}
    # Extents may take no bytes at all, so a small file could list millions of them.
    total = 0
    for _ in range(_check_count(reader.number(4 if version == 2 else 2))):
        number = reader.number(4 if version == 2 else 2)
        method = reader.number(2) & 15 if version else IN_FILE
        if reader.number(2):
            raise _DamageError("data lies in another file")
        base, extents = reader.number(base_size), list[tuple[int, int]]()
        extent_count = _check_count(reader.number(2))
        total = _check_count(total + extent_count, _MAX_TOTAL)
        for _ in range(extent_count):
            reader.take(index_size)
            extents.append((base + reader.number(offset_size), reader.number(length_size)))
        locations[number] = method, extents
    return locations


def _join_extents(data: bytes, extents: list[tuple[int, int]], remaining: int) -> bytes:
    parts = []
    for offset, length in extents:
        # A length of 0 means the rest of the file (14496-12, 8.11.3).
        length = length or max(len(data) - offset, 0)
        remaining -= length
        if offset + length > len(data) or remaining < 0:
            raise _DamageError("an item's data lies outside the file, or overlaps")
        parts.append(data[offset : offset + length])
    return b"".join(parts)


def _read_references(data: bytes) -> Iterator[ItemReference]:
    version, _ = _Reader(data).full()
    size = 4 if version else 2
    total = 0
    for rows, (kind, _, payload, end) in enumerate(_boxes(data, at=4), 1):
        reader = _Reader(data[payload:end])
        source, count = reader.number(size), _check_count(reader.number(2))
        total = _check_count(total + count, _MAX_TOTAL)
        _check_count(rows)
        yield ItemReference(kind, source, tuple(reader.number(size) for _ in range(count)))


def _read_properties(data: bytes) -> dict[int, list[ItemProperty]]:
    known: list[tuple[bytes, bytes]] = []
    properties: dict[int, list[ItemProperty]] = {}
    total = 0
    for kind, _, payload, end in _boxes(data):
        held = data[payload:end]
        if kind == b"ipco":
            if known:
                raise _DamageError("there are two lists of properties")
            known = [(k, held[p:e]) for k, _, p, e in _boxes(held)]
            _check_count(len(known))
        elif kind == b"ipma":
            reader = _Reader(held)
            version, flags = reader.full()
            wide = flags & 1
            for _ in range(_check_count(reader.number(4))):
                number = reader.number(4 if version else 2)
                count = reader.number(1)
                total = _check_count(total + count, _MAX_TOTAL)
                for _ in range(count):
                    value = reader.number(2 if wide else 1)
                    mark = 0x8000 if wide else 0x80
                    index = value & ~mark
                    if index > len(known):
                        raise _DamageError("an item refers to a missing property")
                    if index:
                        properties.setdefault(number, []).append(ItemProperty(*known[index - 1], bool(value & mark)))
                _check_count(len(properties.get(number, ())), _MAX_PROPERTIES)
    return properties


def _check_count(count: int, most: int = _MAX_COUNT) -> int:
    if count > most:
        raise _DamageError("there are too many items")
    return count


def build_still(still: StillImage) -> bytes:
    """Return the file of a still image: brands, header, item data in the order of items, other boxes, and tail."""
    inline = b"".join(item.data for item in still.items.values() if item.inline)
    named = {number for _, source, targets in still.references for number in (source, *targets)}
    wide = 4 if max(named | still.items.keys()) > 0xFFFF else 2

    def header(mdat: int) -> bytes:
        return _box(
            b"meta",
            bytes(4),
            *still.header_boxes,
            _box(b"pitm", bytes((wide == 4, 0, 0, 0)), still.primary.to_bytes(wide, "big")),
            _item_info_box(still),
            _reference_box(still.references, wide),
            _property_box(still, wide),
            _box(b"idat", inline) if inline else b"",
            _location_box(still, wide, mdat),
        )

    before = len(still.brands) + len(header(0))
    data = _box(b"mdat", *(item.data for item in still.items.values() if not item.inline))
    return b"".join((still.brands, header(before + 8), data, *(whole for _, whole in still.other_boxes), still.tail))


def _item_info_box(still: StillImage) -> bytes:
    entries = [item.entry for item in still.items.values()]
    return _box(b"iinf", bytes(4), len(entries).to_bytes(2, "big"), *entries)


def _reference_box(references: tuple[ItemReference, ...], wide: int) -> bytes:
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


def _property_box(still: StillImage, wide: int) -> bytes:
    """Return the box of all properties, each once, and of their associations with items."""
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


def _location_box(still: StillImage, wide: int, mdat: int) -> bytes:
    rows = []
    at = {True: 0, False: mdat}
    for item in still.items.values():
        extent = at[item.inline].to_bytes(4, "big") + len(item.data).to_bytes(4, "big")
        # An extent of length 0 would mean the whole file.
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
    """Return a box with this payload."""
    payload = b"".join(parts)
    return (8 + len(payload)).to_bytes(4, "big") + kind + payload
