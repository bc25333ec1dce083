"""Pictures laid out as a grid of tiles, as phones write them (HEIF, ISO/IEC 23008-12, 6.6.2.3)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from hashshield.errors import BrokenPhotoError
from hashshield.imaging.isobmff import Item, Still
from hashshield.imaging.photo import Pixels

__all__ = ["Grid", "grid_of", "pieces", "size_of"]


class Grid(NamedTuple):
    """A picture cut into tiles of one size; those at the right and bottom may reach beyond it."""

    rows: int
    columns: int
    width: int
    height: int
    tile_width: int
    tile_height: int


def size_of(item: Item, *, name: str) -> tuple[int, int]:
    """Return the width and height an item says it has; raises BrokenPhotoError."""
    payload = item.find(b"ispe") or b""
    if len(payload) < 12:
        raise BrokenPhotoError(f"{name}: its picture has no size; get the file again from its source")
    return int.from_bytes(payload[4:8], "big"), int.from_bytes(payload[8:12], "big")


def grid_of(still: Still, *, name: str) -> Grid:
    """Read the primary item as a grid; raises BrokenPhotoError."""
    data = still.items[still.primary].data
    number = 4 if data[1:2] and data[1] & 1 else 2
    tiles = still.targets(b"dimg", still.primary)
    if len(data) < 4 + 2 * number or any(tile not in still.items for tile in tiles):
        raise BrokenPhotoError(f"{name}: its grid of tiles is not complete; get the file again from its source")
    rows, columns = data[2] + 1, data[3] + 1
    width, height = (int.from_bytes(data[at : at + number], "big") for at in (4, 4 + number))
    sizes = {size_of(still.items[tile], name=name) for tile in tiles}
    if len(sizes) != 1 or len(set(tiles)) != rows * columns or len(tiles) != rows * columns:
        raise BrokenPhotoError(f"{name}: its tiles do not make up a grid; get the file again from its source")
    ((across, down),) = sizes
    if not ((columns - 1) * across < width <= columns * across and (rows - 1) * down < height <= rows * down):
        raise BrokenPhotoError(f"{name}: its tiles do not cover the picture; get the file again from its source")
    return Grid(rows, columns, width, height, across, down)


def pieces(pixels: Pixels, grid: Grid | None) -> Iterator[Pixels]:
    """Cut a picture into tiles, row by row, its edges repeated where a tile reaches beyond it."""
    if grid is None:
        yield pixels
        return
    for top in range(0, grid.rows * grid.tile_height, grid.tile_height):
        for left in range(0, grid.columns * grid.tile_width, grid.tile_width):
            tile = pixels[top : top + grid.tile_height, left : left + grid.tile_width]
            below, beside = grid.tile_height - tile.shape[0], grid.tile_width - tile.shape[1]
            yield np.ascontiguousarray(np.pad(tile, ((0, below), (0, beside), (0, 0)), mode="edge"))
