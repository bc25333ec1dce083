"""A HEIC or AVIF picture as a set of items: the coded image, its tiles, and whatever else the file holds."""

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
    "is_c2pa",
    "is_image",
    "item_size",
    "name_copies",
    "read_grid",
]

IN_FILE, IN_IDAT = 0, 1
"""Where an item's data lies: in the file, or inside the header (14496-12, 8.11.3)."""


class ItemProperty(NamedTuple):
    """A property as one item has it."""

    kind: bytes
    payload: bytes
    essential: bool


class ItemReference(NamedTuple):
    """What one item says of others."""

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
    """Of 'mime' items."""
    entry: bytes
    """Its box in the item list."""
    data: bytes
    inline: bool
    """Whether its data lies inside the header."""
    properties: tuple[ItemProperty, ...]

    def find(self, kind: bytes) -> bytes | None:
        """Return the payload of the first property of a kind."""
        return next((item.payload for item in self.properties if item.kind == kind), None)


@dataclass(frozen=True, slots=True)
class StillImage:
    """A file."""

    brands: bytes
    """The first box."""
    primary: int
    items: dict[int, HeifItem]
    references: tuple[ItemReference, ...]
    header_boxes: tuple[bytes, ...]
    """Other boxes of the header."""
    other_boxes: tuple[tuple[bytes, bytes], ...]
    """Kind and bytes of other boxes of the file, fillers apart."""
    tail: bytes
    """What follows the last box."""

    def targets(self, kind: bytes, source: int) -> tuple[int, ...]:
        """Return what an item refers to, in order."""
        return tuple(t for r in self.references if (r.kind, r.source) == (kind, source) for t in r.targets)

    def tree(self, *numbers: int) -> tuple[int, ...]:
        """Return items and what they are derived from; items that are not there are left out."""
        derived: dict[int, list[int]] = {}
        for kind, source, targets in self.references:
            if kind == b"dimg":
                derived.setdefault(source, []).extend(targets)
        found: dict[int, None] = {}
        waiting = deque(numbers)
        while waiting:
            following = waiting.popleft()
            if following in self.items and following not in found:
                found[following] = None
                waiting += derived.get(following, ())
        return tuple(found)

    def only(self, item_numbers: Iterable[int]) -> StillImage:
        """Leave out all other items, and what is said of them."""
        kept = set(item_numbers)
        references = [r._replace(targets=tuple(t for t in r.targets if t in kept)) for r in self.references]
        return replace(
            self,
            items={number: item for number, item in self.items.items() if number in kept},
            references=tuple(r for r in references if r.source in kept and r.targets),
        )


class TileGrid(NamedTuple):
    """A picture cut into tiles of one size; those at the right and bottom may reach beyond it."""

    rows: int
    columns: int
    width: int
    height: int
    tile_width: int
    tile_height: int


def item_size(item: HeifItem, *, name: str) -> tuple[int, int]:
    """Return the width and height an item says it has; raises BrokenPhotoError."""
    payload = item.find(b"ispe") or b""
    if len(payload) < 12:
        raise BrokenPhotoError(f"{name}: its picture has no size; get the file again from its source")
    return int.from_bytes(payload[4:8], "big"), int.from_bytes(payload[8:12], "big")


def read_grid(still: StillImage, *, name: str) -> TileGrid:
    """Read the primary item as a grid; raises BrokenPhotoError."""
    data = still.items[still.primary].data
    number = 4 if data[1:2] and data[1] & 1 else 2
    tiles = still.targets(b"dimg", still.primary)
    if len(data) < 4 + 2 * number or any(tile not in still.items for tile in tiles):
        raise BrokenPhotoError(f"{name}: its grid of tiles is not complete; get the file again from its source")
    rows, columns = data[2] + 1, data[3] + 1
    width, height = (int.from_bytes(data[at : at + number], "big") for at in (4, 4 + number))
    sizes = {item_size(still.items[tile], name=name) for tile in tiles}
    if len(sizes) != 1 or len(set(tiles)) != rows * columns or len(tiles) != rows * columns:
        raise BrokenPhotoError(f"{name}: its tiles do not make up a grid; get the file again from its source")
    ((across, down),) = sizes
    if not ((columns - 1) * across < width <= columns * across and (rows - 1) * down < height <= rows * down):
        raise BrokenPhotoError(f"{name}: its tiles do not cover the picture; get the file again from its source")
    return TileGrid(rows, columns, width, height, across, down)


def cut_tiles(pixels: Pixels, grid: TileGrid | None) -> Iterator[Pixels]:
    """Cut a picture into tiles, row by row, its edges repeated where a tile reaches beyond it."""
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


def name_copies(still: StillImage, rewritten: frozenset[int]) -> Iterator[str]:
    """Name the images that stay as they are."""
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
            shown = kind.decode("ascii") if kind.isalnum() else "unknown"
            yield f"data in a box of the kind {shown} ({len(whole)} bytes)"
    if still.tail.strip(b"\0"):
        yield f"trailing data ({len(still.tail)} bytes)"


def _kind(still: StillImage, number: int) -> bytes:
    return still.items[number].kind if number in still.items else b""


def is_image(item: HeifItem) -> bool:
    """Tell images from metadata."""
    return item.find(b"ispe") is not None or item.kind in (b"grid", b"iden", b"iovl", b"tmap")


def is_c2pa(whole: bytes) -> bool:
    """Tell whether a box holds a C2PA manifest."""
    return whole[4:24] == _C2PA
