"""Still images in ISO base media files (ISO/IEC 14496-12, 23008-12): put together from items.

Item data, item entries and property payloads pass through byte for byte; what is written anew is where they lie.
"""

from __future__ import annotations

from hashshield.imaging.isobmff import IN_FILE, IN_IDAT, Reference, Still

__all__ = ["build"]


def build(still: Still) -> bytes:
    """Return the file: brands, header, item data in the items' order, other boxes."""
    inline = b"".join(item.data for item in still.items.values() if item.inline)
    named = {number for _, source, targets in still.references for number in (source, *targets)}
    wide = 4 if max(named | still.items.keys()) > 0xFFFF else 2

    def header(mdat: int) -> bytes:
        return _box(
            b"meta",
            bytes(4),
            *still.notes,
            _box(b"pitm", bytes((wide == 4, 0, 0, 0)), still.primary.to_bytes(wide, "big")),
            _listed(still),
            _referring(still.references, wide),
            _described(still, wide),
            _box(b"idat", inline) if inline else b"",
            _placed(still, wide, mdat),
        )

    before = len(still.brands) + len(header(0))
    data = _box(b"mdat", *(item.data for item in still.items.values() if not item.inline))
    return b"".join((still.brands, header(before + 8), data, *(whole for _, whole in still.others), still.tail))


def _listed(still: Still) -> bytes:
    entries = [item.entry for item in still.items.values()]
    return _box(b"iinf", bytes(4), len(entries).to_bytes(2, "big"), *entries)


def _referring(references: tuple[Reference, ...], wide: int) -> bytes:
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


def _described(still: Still, wide: int) -> bytes:
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


def _placed(still: Still, wide: int, mdat: int) -> bytes:
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
