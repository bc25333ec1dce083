"""The small grid on which a photo of any size is searched, and how a change on it becomes levels of the full photo."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import hardtanh, interpolate

from hashshield.imaging import to_stored_orientation
from hashshield.transforms import resized, short_side, to_image
from hashshield.transforms.geometry import lines

__all__ = [
    "MOST_PIXELS",
    "SHORT_SIDE",
    "Band",
    "Grid",
    "apply_perturbation",
    "grid_size",
    "levels_of",
    "make_grid",
    "resampled",
    "uniform_noise",
]


@dataclass(frozen=True, slots=True, eq=False)
class Band:
    """A square matrix by its diagonals, and its transpose."""

    offsets: tuple[int, ...]
    weights: Tensor
    """(D, n): element (i, i + offset) in column i, zero outside the matrix."""
    transposed: Tensor
    """The same of the transpose."""

    @classmethod
    def of(cls, matrix: Tensor) -> Band:
        """The diagonals of a (n, n) matrix that hold anything, in it or in its transpose."""
        places = matrix.nonzero()
        found = set((places[:, 1] - places[:, 0]).tolist())
        offsets = tuple(sorted(found | {-offset for offset in found}))
        return cls(offsets, _diagonals(matrix, offsets), _diagonals(matrix.T, offsets))

    @classmethod
    def of_diagonals(cls, diagonals: Mapping[int, Tensor]) -> Band:
        """The same from the diagonals, each (n,): element (i, i + offset) at i, zero outside the matrix."""
        offsets = tuple(sorted({*diagonals, *(-offset for offset in diagonals)}))
        none = torch.zeros_like(next(iter(diagonals.values())))
        rows = [diagonals.get(offset, none) for offset in offsets]
        # Element (i, i + offset) of the transpose is (i + offset, i) of the matrix.
        turned = [diagonals.get(-offset, none).roll(-offset) for offset in offsets]
        return cls(offsets, torch.stack(rows), torch.stack(turned))

    def to(self, device: torch.device | str) -> Band:
        """The same on another device."""
        return Band(self.offsets, self.weights.to(device), self.transposed.to(device))


def _diagonals(matrix: Tensor, offsets: tuple[int, ...]) -> Tensor:
    weights = matrix.new_zeros(len(offsets), len(matrix))
    for row, offset in zip(weights, offsets, strict=True):
        first, count = max(0, -offset), len(matrix) - abs(offset)
        row[first : first + count] = torch.diagonal(matrix, offset)
    return weights


def _product(x: Tensor, offsets: tuple[int, ...], weights: Tensor, *, dim: int) -> Tensor:
    """Matrix times `x` along `dim`."""
    size = x.shape[dim]
    shape = [size if i == dim else 1 for i in range(x.ndim)]
    factors = {offset: row.view(shape) for offset, row in zip(offsets, weights, strict=True)}
    # The main diagonal starts the sum: one pass over memory less than from zeros.
    out: Tensor = x * factors.pop(0, x.new_zeros(shape))
    for offset, row in factors.items():
        first, count = max(0, -offset), size - abs(offset)
        out.narrow(dim, first, count).addcmul_(x.narrow(dim, first + offset, count), row.narrow(dim, first, count))
    return out


class _Resampled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, image: Tensor, rows: Band, columns: Band) -> Tensor:
        ctx.bands = rows, columns
        tall = _product(image, rows.offsets, rows.weights, dim=1)
        return _product(tall, columns.offsets, columns.weights, dim=2)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        rows, columns = ctx.bands
        wide = _product(gradients[0].contiguous(), columns.offsets, columns.transposed, dim=2)
        return _product(wide, rows.offsets, rows.transposed, dim=1), None, None


def resampled(image: Tensor, rows: Band, columns: Band) -> Tensor:
    """Rows @ image @ columns.T for a (C, h, w) image, with its gradient."""
    found: Tensor = _Resampled.apply(image, rows, columns)
    return found


SHORT_SIDE = 256

MOST_PIXELS = 500_000
"""Of a grid; a photo of more than 7.6 times its short side has a shorter one on it."""

_DENSE = 2048
"""Grid lines up to which the round trip is made as a matrix; only photos at `MOST_PIXELS` have longer sides."""

_BLOCK = 256
"""Of its columns, how many are made at once."""

_HAIR = 1e-6
"""How far beyond [0, 1] an image may be, so that its darkest and lightest pixels keep their gradient."""


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """A photo as the search sees it: displayed orientation, aspect kept, at most 0.5 MP; see `make_grid`.

    A change on the grid is upsampled to the photo and comes back through the service's downsampling; both are linear
    and separable, so `rows` (h, h) and `columns` (w, w) hold their product, and no full-size pixel is
    touched in the loop. Both are None where grid and photo are the same size.
    """

    image: Tensor
    """(3, h, w) in [0, 1]"""
    rows: Band | None
    columns: Band | None
    channels: int
    """3, or 1 for a picture without colour, whose change is one plane."""
    alpha: Tensor | None
    """(1, h, w) in [0, 1]: how much of a change shows; None for a photo without alpha."""
    written: Callable[[Tensor], Tensor] | None = None
    """What writing a change really gives: (C, h, w) -> (3, h, w) image in [0, 1], read back from the encoded bytes."""
    drift: Tensor | None = None
    """(3, h, w): by how much an earlier write missed the image that was meant, where writing is too slow to repeat."""

    def start(self) -> Tensor:
        """No change: (channels, h, w) zeros."""
        return self.image.new_zeros((self.channels, *self.image.shape[1:]))

    def changed(self, delta: Tensor, written: Tensor | None = None) -> Tensor:
        """(1, 3, h, w): what a service's downsampled copy will look like after `delta`.

        `written` is what `self.written` gives for it, where that is known already.
        """
        change = delta
        if self.alpha is not None:
            delta = delta * self.alpha
        if self.rows is not None and self.columns is not None:
            # The gradient of hardtanh is one pass over memory, that of clamp four; but it has none at its bounds.
            image = hardtanh(self.image + resampled(delta, self.rows, self.columns), -_HAIR, 1 + _HAIR)
        else:
            image = self.image + delta  # in [0, 1] as projected
        if self.drift is not None:
            image = (image + self.drift).clamp(0, 1)
        if self.written is not None:
            # Straight through the codec: what was written forwards, identity backwards.
            written = self.written(change.detach()) if written is None else written
            image = image + (written - image).detach()
        return image[None]

    @property
    def enlarged(self) -> bool:
        """Whether a change is enlarged on its way to the photo, which has more pixels than the grid."""
        return self.rows is not None

    def bounds(self, tau: float) -> tuple[Tensor, Tensor]:
        """Least and largest change of each pixel within tau that keeps the image in [0, 1]: two (channels, h, w)."""
        image = self.image[: self.channels]
        return (-image).clamp_min(-tau), (1 - image).clamp_max(tau)

    def to(self, device: torch.device | str) -> Grid:
        """The same grid on another device; to a GPU without waiting for the copy."""

        def moved(tensor: Tensor | None) -> Tensor | None:
            if tensor is None or torch.device(device).type != "cuda":
                return None if tensor is None else tensor.to(device)
            return tensor.pin_memory().to(device, non_blocking=True)

        image = moved(self.image)
        assert image is not None
        return replace(
            self,
            image=image,
            rows=None if self.rows is None else self.rows.to(device),
            columns=None if self.columns is None else self.columns.to(device),
            alpha=moved(self.alpha),
            drift=moved(self.drift),
        )


def grid_size(height: int, width: int, own_pixels: int = SHORT_SIDE) -> tuple[int, int]:
    """Return (height, width) of the grid of a photo shown at that size; see `make_grid`."""
    shortest = min(height, width)
    goal = short_side(height, width, shortest if shortest <= own_pixels else SHORT_SIDE)
    if goal[0] * goal[1] <= MOST_PIXELS:
        return goal
    share = math.sqrt(MOST_PIXELS / (height * width))
    # A side of one pixel leaves the other one less than its share.
    low, high = max(1, int(height * share)), max(1, int(width * share))
    return min(low, MOST_PIXELS // high), min(high, MOST_PIXELS // low)


def make_grid(
    pixels: NDArray[np.uint8],
    *,
    channels: int = 3,
    alpha: NDArray[np.uint8] | None = None,
    own_pixels: int = SHORT_SIDE,
) -> Grid:
    """Build the grid of upright (H, W, 3) `pixels`; `alpha` is the upright (H, W) alpha plane.

    A photo whose short side has at most `own_pixels` is its own grid; a larger one has a short side of 256 on it.
    """
    height, width = pixels.shape[:2]
    goal = grid_size(height, width, own_pixels)
    image = to_image(resized(pixels, *goal))
    seen = None
    if alpha is not None:
        plane = resized(np.repeat(alpha[..., None], 3, axis=2), *goal)[..., 0]
        seen = torch.from_numpy(np.ascontiguousarray(plane)).float()[None] / 255
    if goal == (height, width):
        return Grid(image, None, None, channels, seen)
    return Grid(image, _round_trip(goal[0], height), _round_trip(goal[1], width), channels, seen)


@lru_cache(maxsize=64)
def _round_trip(small: int, full: int) -> Band:
    """(small, small): bilinear upsampling to `full` and antialiased downsampling back, along one axis.

    Kept, because photos of one camera have one size.
    """
    # torch's antialiasing takes a single column for something else (2.10), so none is left over, or given to it alone.
    if small > _DENSE or small == 1:
        return _long_round_trip(small, full)
    matrix = torch.empty(small, small)
    for units, columns in zip(
        torch.eye(small).chunk(-(-small // _BLOCK), dim=1), matrix.chunk(-(-small // _BLOCK), dim=1), strict=True
    ):
        width = units.shape[1]
        up = interpolate(units[None, None], (full, width), mode="bilinear", align_corners=False)
        columns.copy_(interpolate(up, (small, width), mode="bilinear", align_corners=False, antialias=True)[0, 0])
    return Band.of(matrix)


def _long_round_trip(small: int, full: int) -> Band:
    """`_round_trip` by its diagonals, for sides whose matrix would take gigabytes."""
    down = lines(full, small, 0, small)
    places = np.arange(small)
    diagonals: dict[int, NDArray[np.float64]] = {}
    for tap, weights in enumerate(down.weights.T):
        # The full photo's line is a blend of two of the grid's lines; beyond the photo its weight is 0.
        centres = np.clip((np.minimum(down.first + tap, full - 1) + 0.5) * (small / full) - 0.5, 0, small - 1)
        lower = np.floor(centres).astype(np.int64)
        upper = np.minimum(lower + 1, small - 1)
        for source, shares in ((lower, 1 - (centres - lower)), (upper, centres - lower)):
            for offset in np.unique(source - places):
                row = diagonals.setdefault(int(offset), np.zeros(small))
                row += np.where(source - places == offset, weights * shares, 0)
    return Band.of_diagonals({offset: torch.from_numpy(row).float() for offset, row in diagonals.items() if row.any()})


_STRIP_VALUES = 4_000_000
"""Values whose random numbers are drawn at once; another size would draw other numbers for the same seed."""
_CACHED_VALUES = 300_000


def levels_of(tau: float) -> int:
    """Whole 8-bit levels that `tau` in [0, 1] units allows: floor(tau * 255)."""
    return math.floor(tau * 255 + 1e-9)


def apply_perturbation(
    pixels: NDArray[np.uint8],
    delta: Tensor,
    *,
    tau: float,
    orientation: int,
    generator: torch.Generator,
    alpha: NDArray[np.uint8] | None = None,
    noise_cache: dict[int, Tensor] | None = None,
) -> NDArray[np.uint8]:
    """Add `delta` (C, h, w), displayed orientation, [0, 1] units, to stored (H, W, C) `pixels`; one plane to all.

    The change is upsampled, clipped to tau, and rounded up or down at random in proportion to its fraction: plain
    rounding would erase a change below half a level, this keeps its mean. Pixels where `opaque` (stored (H, W)
    alpha) is 0 keep their values. `drawn` keeps the random numbers from one call to the next, which then draws none.
    """
    limit = levels_of(tau)
    grid = (
        torch.from_numpy(to_stored_orientation(delta.permute(1, 2, 0).cpu().numpy(), orientation).copy()).permute(
            2, 0, 1
        )
        * 255
    )
    height, width = pixels.shape[:2]
    # Picking lines and blending them is several times as quick as torch's own interpolation, above all along rows.
    wide = _bilinear(grid.transpose(1, 2).contiguous(), *_lines(grid.shape[2], width)).transpose(1, 2).contiguous()
    above, below, share = _lines(grid.shape[1], height)
    stored_pixels = torch.from_numpy(pixels)
    result = np.empty_like(pixels)
    step = max(1, _STRIP_VALUES // (width * pixels.shape[2]))
    for top in range(0, height, step):
        # The numbers drawn follow the large strip; the work on them runs in small ones, which stay in the cache.
        noise = None if noise_cache is None else noise_cache.get(top)
        if noise is None:
            noise = torch.rand((len(grid), min(step, height - top), width), generator=generator)
        if noise_cache is not None:
            noise_cache[top] = noise
        part = max(1, _CACHED_VALUES // (width * pixels.shape[2]))
        for first in range(0, noise.shape[1], part):
            some = noise[:, first : first + part]
            rows = slice(top + first, top + first + some.shape[1])
            levels = _bilinear(wide, above[rows], below[rows], share[rows])
            # Limited twice: the largest noise added to a whole level rounds to the next, about once in two million.
            levels.clamp_(-limit, limit).add_(some).floor_().clamp_max_(limit)
            whole = levels.to(torch.int16).permute(1, 2, 0)
            if alpha is not None:
                whole = whole * torch.from_numpy(alpha[rows, :, None] > 0)
            result[rows] = (stored_pixels[rows] + whole).clamp_(0, 255).numpy()
    return result


def uniform_noise(
    pixels: NDArray[np.uint8],
    *,
    tau: float,
    generator: torch.Generator,
    channels: int | None = None,
    alpha: NDArray[np.uint8] | None = None,
) -> NDArray[np.uint8]:
    """Add independent uniform noise in [-tau, tau], rounded to whole levels: the field's baseline.

    With one of `channels` (None: as many as `pixels` has) all values of a pixel change alike.
    """
    limit = levels_of(tau)
    result = np.empty_like(pixels)
    step = max(1, _STRIP_VALUES // pixels[0].size)
    for top in range(0, len(pixels), step):
        rows = slice(top, top + step)
        noise = torch.rand((*pixels[rows].shape[:2], channels or pixels.shape[2]), generator=generator).numpy() * 2 - 1
        levels = np.clip(np.rint(noise * tau * 255), -limit, limit)
        if alpha is not None:
            levels = np.where(alpha[rows, :, None] > 0, levels, 0)
        result[rows] = np.clip(pixels[rows] + levels, 0, 255).astype(np.uint8)
    return result


def _lines(small: int, full: int) -> tuple[Tensor, Tensor, Tensor]:
    """Bilinear interpolation along one axis: the two source lines of each line, and the second one's share."""
    centres = ((torch.arange(full, dtype=torch.float32) + 0.5) * (small / full) - 0.5).clamp(0, small - 1)
    first = centres.floor().long()
    return first, (first + 1).clamp_max(small - 1), centres - first


def _bilinear(lines: Tensor, first: Tensor, second: Tensor, share: Tensor) -> Tensor:
    """Blend (C, n, w) lines to (C, m, w)."""
    return lines.index_select(1, first).lerp_(lines.index_select(1, second), share[:, None])
