"""The items of a still image in HEIC or AVIF (ISO/IEC 23008-12): its picture, its tiles, and other images."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from hashshield.arrays import Pixels
from hashshield.errors import BrokenPhotoError

__all__ = [
    "IN_FILE",
    "IN_IDAT",
    "HeifItem",
    "ItemProperty",
    "ItemReference",
    "StillImage",
    "TileGrid",
    "cut_tiles",
    "describe_copies",
    "is_c2pa",
    "is_image",
    "item_size",
    "read_grid",
]

IN_FILE, IN_IDAT = 0, 1
"""Location of an item's data: in the file, or inside the header (14496-12, 8.11.3)."""


class ItemProperty(NamedTuple):
    """A property and its association with one item."""

    kind: bytes
    payload: bytes
    essential: bool


class ItemReference(NamedTuple):
    """A reference from one item to others."""

    kind: bytes
    source: int
    targets: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class HeifItem:
    """One item: a coded or derived image, or metadata."""

    number: int
    kind: bytes
    """'hvc1', 'av01', 'grid', 'Exif', 'mime', ..."""
    content_type: bytes
    """MIME type of a 'mime' item, else empty."""
    entry: bytes
    """The item's box in the list of items."""
    data: bytes
    inline: bool
    """True if its data lies inside the header."""
    properties: tuple[ItemProperty, ...]

    def find(self, kind: bytes) -> bytes | None:
        """Return the payload of the first property of a kind, or None."""
        return next((item.payload for item in self.properties if item.kind == kind), None)


@dataclass(frozen=True, slots=True)
class StillImage:
    """The parts of a file with a primary image."""

    brands: bytes
    """The ftyp box."""
    primary: int
    items: dict[int, HeifItem]
    references: tuple[ItemReference, ...]
    header_boxes: tuple[bytes, ...]
    """Boxes of the header besides those that list and locate items."""
    other_boxes: tuple[tuple[bytes, bytes], ...]
    """(kind, bytes) of all other boxes of the file except fillers."""
    tail: bytes
    """The bytes after the last box."""

    def targets(self, kind: bytes, source: int) -> tuple[int, ...]:
        """Return the items that `source` refers to by references of a kind, in order."""
        return tuple(t for r in self.references if (r.kind, r.source) == (kind, source) for t in r.targets)

    def tree(self, *item_numbers: int) -> tuple[int, ...]:
        """Return these items and all that they are derived from, without items that are missing."""
        derived: dict[int, list[int]] = {}
        for kind, source, targets in self.references:
            if kind == b"dimg":
                derived.setdefault(source, []).extend(targets)
        reached: dict[int, None] = {}
        waiting = deque(item_numbers)
        while waiting:
            following = waiting.popleft()
            if following in self.items and following not in reached:
                reached[following] = None
                waiting += derived.get(following, ())
        return tuple(reached)

    def only(self, item_numbers: Iterable[int]) -> StillImage:
        """Return the file without all other items and the references to them."""
        remaining = set(item_numbers)
        references = [r._replace(targets=tuple(t for t in r.targets if t in remaining)) for r in self.references]
        return replace(
            self,
            items={number: item for number, item in self.items.items() if number in remaining},
            references=tuple(r for r in references if r.source in remaining and r.targets),
        )


class TileGrid(NamedTuple):
    """A picture cut into tiles of equal size (23008-12, 6.6.2.3), in pixels; the last tiles may reach beyond it."""

    rows: int
    columns: int
    width: int
    height: int
    tile_width: int
    tile_height: int


def item_size(item: HeifItem, *, name: str) -> tuple[int, int]:
    """Return the width and height that an item states; raises BrokenPhotoError if there is none."""
    payload = item.find(b"ispe") or b""
    if len(payload) < 12:
        raise BrokenPhotoError(f"{name}: its picture has no size; get the file again from its source")
    return int.from_bytes(payload[4:8], "big"), int.from_bytes(payload[8:12], "big")


def read_grid(still: StillImage, *, name: str) -> TileGrid:
    """Return the grid that is the primary item; raises BrokenPhotoError."""
    data = still.items[still.primary].data
    number = 4 if data[1:2] and data[1] & 1 else 2
    tiles = still.targets(b"dimg", still.primary)
    if len(data) < 4 + 2 * number or any(tile not in still.items for tile in tiles):
        raise BrokenPhotoError(f"{name}: its grid of tiles is incomplete; get the file again from its source")
    rows, columns = data[2] + 1, data[3] + 1
    width, height = (int.from_bytes(data[at : at + number], "big") for at in (4, 4 + number))
    sizes = {item_size(still.items[tile], name=name) for tile in tiles}
    if len(sizes) != 1 or len(set(tiles)) != rows * columns or len(tiles) != rows * columns:
        raise BrokenPhotoError(f"{name}: its tiles do not form a grid; get the file again from its source")
    ((across, down),) = sizes
    if not ((columns - 1) * across < width <= columns * across and (rows - 1) * down < height <= rows * down):
        raise BrokenPhotoError(f"{name}: its tiles do not cover the picture; get the file again from its source")
    return TileGrid(rows, columns, width, height, across, down)


def cut_tiles(pixels: Pixels, grid: TileGrid | None) -> Iterator[Pixels]:
    """Yield the tiles of a picture, row by row, with its edges repeated where a tile reaches beyond it."""
    if grid is None:
        yield pixels
        return
    for top in range(0, grid.rows * grid.tile_height, grid.tile_height):
        for left in range(0, grid.columns * grid.tile_width, grid.tile_width):
            tile = pixels[top : top + grid.tile_height, left : left + grid.tile_width]
            below, beside = grid.tile_height - tile.shape[0], grid.tile_width - tile.shape[1]
            yield np.ascontiguousarray(np.pad(tile, ((0, below), (0, beside), (0, 0)), mode="edge"))


_AUXILIARY = (
    (b"hdrgainmap", "gain map"),
    (b"auxid:2", "depth map"),
    (b"depth", "depth map"),
    (b"disparity", "depth map"),
)
_C2PA = b"uuid" + bytes.fromhex("d8fec3d61b0e483c92975828877ec481")


def describe_copies(still: StillImage, rewritten: frozenset[int]) -> Iterator[str]:
    """Describe each image, box, and trailing data that stays unprotected; `rewritten` items are left out."""
    parts = {t for r in still.references if r.kind == b"dimg" for t in r.targets if _kind(still, r.source) != b"tmap"}
    mapped = {t for r in still.references if r.kind == b"dimg" for t in r.targets if _kind(still, r.source) == b"tmap"}
    auxiliary = {r.source for r in still.references if r.kind == b"auxl"}
    thumbnails = {r.source for r in still.references if r.kind == b"thmb"}
    for number, item in still.items.items():
        if number in rewritten or number in parts or not is_image(item) or item.kind == b"tmap":
            continue
        payload = item.find(b"ispe") or bytes(12)
        size = f"{int.from_bytes(payload[4:8], 'big')}x{int.from_bytes(payload[8:12], 'big')}"
        label = "second image"
        if number in mapped:
            label = "gain map"
        elif number in auxiliary:
            urn = item.find(b"auxC") or b""
            label = next((text for mark, text in _AUXILIARY if mark in urn), "auxiliary image")
        elif number in thumbnails:
            label = "thumbnail"
        yield f"{label} ({size})"
    for kind, whole in still.other_boxes:
        if not is_c2pa(whole):
            label = kind.decode("ascii") if kind.isalnum() else "unknown"
            yield f"data in a box of the kind {label} ({len(whole)} bytes)"
    if still.tail.strip(b"\0"):
        yield f"trailing data ({len(still.tail)} bytes)"


def _kind(still: StillImage, number: int) -> bytes:
    return still.items[number].kind if number in still.items else b""


def is_image(item: HeifItem) -> bool:
    """Return True for an image, False for metadata."""
    return item.find(b"ispe") is not None or item.kind in (b"grid", b"iden", b"iovl", b"tmap")


def is_c2pa(whole: bytes) -> bool:
    """Return True if a box holds a C2PA manifest."""
    return whole[4:24] == _C2PA
