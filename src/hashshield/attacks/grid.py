"""The grid: the small copy of a photo on which the search runs, and the way from a change on it to 8-bit levels.

`make_grid` builds it, `Grid.changed` gives the networks' input, and `apply_perturbation` writes the change into the
full photo.
"""

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
    """A square band matrix and its transpose, stored by diagonals."""

    offsets: tuple[int, ...]
    """Column minus row of each of the D diagonals, ascending."""
    weights: Tensor
    """(D, n): element (i, i + offset) in column i, zero outside the matrix."""
    transposed: Tensor
    """(D, n): the same for the transpose."""

    @classmethod
    def of(cls, matrix: Tensor) -> Band:
        """Return the nonzero diagonals of an (n, n) matrix and of its transpose."""
        places = matrix.nonzero()
        found = set((places[:, 1] - places[:, 0]).tolist())
        offsets = tuple(sorted(found | {-offset for offset in found}))
        return cls(offsets, _diagonals(matrix, offsets), _diagonals(matrix.T, offsets))

    @classmethod
    def of_diagonals(cls, diagonals: Mapping[int, Tensor]) -> Band:
        """Return the band of diagonals given as offset -> (n,): element (i, i + offset) at i, zero outside."""
        offsets = tuple(sorted({*diagonals, *(-offset for offset in diagonals)}))
        none = torch.zeros_like(next(iter(diagonals.values())))
        rows = [diagonals.get(offset, none) for offset in offsets]
        # Element (i, i + offset) of the transpose is (i + offset, i) of the matrix.
        turned = [diagonals.get(-offset, none).roll(-offset) for offset in offsets]
        return cls(offsets, torch.stack(rows), torch.stack(turned))

    def to(self, device: torch.device | str) -> Band:
        """Return the band on another device."""
        return Band(self.offsets, self.weights.to(device), self.transposed.to(device))


def _diagonals(matrix: Tensor, offsets: tuple[int, ...]) -> Tensor:
    weights = matrix.new_zeros(len(offsets), len(matrix))
    for row, offset in zip(weights, offsets, strict=True):
        first, count = max(0, -offset), len(matrix) - abs(offset)
        row[first : first + count] = torch.diagonal(matrix, offset)
    return weights


def _product(x: Tensor, offsets: tuple[int, ...], weights: Tensor, *, dim: int) -> Tensor:
    """Return the matrix of these diagonals times `x` along `dim`."""
    size = x.shape[dim]
    shape = [size if i == dim else 1 for i in range(x.ndim)]
    factors = {offset: row.view(shape) for offset, row in zip(offsets, weights, strict=True)}
    # Starting the sum with the main diagonal saves a pass over memory.
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
    """Return rows @ image @ columns.T for a (C, h, w) image; differentiable."""
    found: Tensor = _Resampled.apply(image, rows, columns)
    return found


SHORT_SIDE = 256

MOST_PIXELS = 500_000
"""Most pixels of a grid. A photo longer than 7.6 times its short side gets a grid with a short side below 256."""

_DENSE = 2048
"""Longest side of a grid, in pixels, whose round trip is computed as a dense matrix."""

_BLOCK = 256
"""Columns of that matrix computed at once."""

_HAIR = 1e-6
"""Tolerance around [0, 1] when clamping, so that black and white pixels keep their gradient."""


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """A photo as the search sees it: displayed orientation, aspect kept, at most 0.5 MP; see `make_grid`.

    A change on the grid is upsampled to the photo, and a service downsamples the photo again. Both are linear and
    separable, so `rows` (h, h) and `columns` (w, w) hold their product, and the loop never touches a full-size pixel.
    Both are None if grid and photo have the same size.
    """

    image: Tensor
    """(3, h, w) in [0, 1]"""
    rows: Band | None
    columns: Band | None
    channels: int
    """Planes of a change: 3, or 1 for a greyscale photo."""
    alpha: Tensor | None
    """(1, h, w) in [0, 1]: opacity, by which a change is multiplied; None for a photo without alpha."""
    written: Callable[[Tensor], Tensor] | None = None
    """Encode the photo with a (C, h, w) change and decode it: (3, h, w) in [0, 1]. None: too slow for every step."""
    drift: Tensor | None = None
    """(3, h, w): last written image minus the intended one, added instead of encoding at every step."""

    def start(self) -> Tensor:
        """Return the zero change, (channels, h, w)."""
        return self.image.new_zeros((self.channels, *self.image.shape[1:]))

    def changed(self, delta: Tensor, written: Tensor | None = None) -> Tensor:
        """Return what a service sees after `delta`, downsampled to the grid: (1, 3, h, w) in [0, 1].

        `written` is the result of `self.written(delta)`, if already computed.
        """
        change = delta
        if self.alpha is not None:
            delta = delta * self.alpha
        if self.rows is not None and self.columns is not None:
            # The gradient of hardtanh takes one pass over memory, that of clamp four; but it is 0 at the bounds.
            image = hardtanh(self.image + resampled(delta, self.rows, self.columns), -_HAIR, 1 + _HAIR)
        else:
            image = self.image + delta  # in [0, 1] as projected
        if self.drift is not None:
            image = (image + self.drift).clamp(0, 1)
        if self.written is not None:
            # Straight-through gradient: the written image forwards, identity backwards.
            written = self.written(change.detach()) if written is None else written
            image = image + (written - image).detach()
        return image[None]

    @property
    def enlarged(self) -> bool:
        """Whether the photo has more pixels than the grid, so that a change is enlarged on its way to the pixels."""
        return self.rows is not None

    def bounds(self, tau: float) -> tuple[Tensor, Tensor]:
        """Return the least and largest change within tau that keep the image in [0, 1]: two (channels, h, w)."""
        image = self.image[: self.channels]
        return (-image).clamp_min(-tau), (1 - image).clamp_max(tau)

    def to(self, device: torch.device | str) -> Grid:
        """Return the grid on another device; a copy to a GPU is asynchronous."""

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
    """Return (height, width) of the grid for a photo displayed at that size; see `make_grid`."""
    shortest = min(height, width)
    goal = short_side(height, width, shortest if shortest <= own_pixels else SHORT_SIDE)
    if goal[0] * goal[1] <= MOST_PIXELS:
        return goal
    share = math.sqrt(MOST_PIXELS / (height * width))
    # If one side is rounded up to 1 pixel, the other has to be shorter than its share.
    low, high = max(1, int(height * share)), max(1, int(width * share))
    return min(low, MOST_PIXELS // high), min(high, MOST_PIXELS // low)


def make_grid(
    pixels: NDArray[np.uint8],
    *,
    channels: int = 3,
    alpha: NDArray[np.uint8] | None = None,
    own_pixels: int = SHORT_SIDE,
) -> Grid:
    """Return the grid of upright (H, W, 3) `pixels`; `alpha` is the upright (H, W) alpha plane.

    A photo whose short side has at most `own_pixels` keeps its size; a larger one is reduced to a short side of 256.
    Either way a grid has at most `MOST_PIXELS`.
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
    """Return the (small, small) matrix of bilinear upsampling to `full` and antialiased downsampling, along one axis.

    Cached, because photos from the same camera have the same size.
    """
    # torch 2.10 treats a single column wrongly when antialiasing, so no chunk may have just one.
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
    """Return what `_round_trip` does, computed by diagonals, for sides whose dense matrix would take gigabytes."""
    down = lines(full, small, 0, small)
    places = np.arange(small)
    diagonals: dict[int, NDArray[np.float64]] = {}
    for tap, weights in enumerate(down.weights.T):
        # Each line of the full photo blends two lines of the grid. Taps beyond the photo have weight 0.
        centres = np.clip((np.minimum(down.first + tap, full - 1) + 0.5) * (small / full) - 0.5, 0, small - 1)
        lower = np.floor(centres).astype(np.int64)
        upper = np.minimum(lower + 1, small - 1)
        for source, shares in ((lower, 1 - (centres - lower)), (upper, centres - lower)):
            for offset in np.unique(source - places):
                row = diagonals.setdefault(int(offset), np.zeros(small))
                row += np.where(source - places == offset, weights * shares, 0)
    return Band.of_diagonals({offset: torch.from_numpy(row).float() for offset, row in diagonals.items() if row.any()})


_STRIP_VALUES = 4_000_000
"""Random numbers drawn at once. Changing it changes the numbers that a seed gives."""
_CACHED_VALUES = 300_000
"""Values processed at once, few enough for the CPU cache."""


def levels_of(tau: float) -> int:
    """Return the whole 8-bit levels that `tau`, in [0, 1] units, allows: floor(tau * 255)."""
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
    """Return stored (H, W, C) `pixels` plus `delta`, a (C, h, w) change in [0, 1] units in displayed orientation.

    The change is turned to the stored orientation (EXIF `orientation`, 1 to 8), upsampled, clipped to tau, and rounded
    up or down at random in proportion to its fraction. Plain rounding would erase a change below half a level; random
    rounding keeps its mean. A `delta` of one plane is added to all channels. Pixels where `alpha`, stored (H, W), is 0
    keep their values. Calls that share a `noise_cache` reuse the random numbers that the first one drew.
    """
    limit = levels_of(tau)
    grid = (
        torch.from_numpy(to_stored_orientation(delta.permute(1, 2, 0).cpu().numpy(), orientation).copy()).permute(
            2, 0, 1
        )
        * 255
    )
    height, width = pixels.shape[:2]
    # Selecting and blending lines is several times as fast as torch's own interpolation, above all along rows.
    wide = _bilinear(grid.transpose(1, 2).contiguous(), *_lines(grid.shape[2], width)).transpose(1, 2).contiguous()
    above, below, share = _lines(grid.shape[1], height)
    stored_pixels = torch.from_numpy(pixels)
    result = np.empty_like(pixels)
    step = max(1, _STRIP_VALUES // (width * pixels.shape[2]))
    for top in range(0, height, step):
        # Random numbers are drawn per large strip, and used in small parts that fit the CPU cache.
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
            # Clamp again: about once in two million the noise lifts a whole level to the next in float arithmetic.
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
    """Return (H, W, C) `pixels` plus independent uniform noise in [-tau, tau], rounded to whole levels.

    This is the field's baseline. `channels` is the number of noise planes (None: C); one plane is added to all
    channels. Pixels where `alpha`, (H, W), is 0 keep their values.
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
    """Return, for bilinear interpolation along one axis, each line's two source lines and the second one's weight."""
    centres = ((torch.arange(full, dtype=torch.float32) + 0.5) * (small / full) - 0.5).clamp(0, small - 1)
    first = centres.floor().long()
    return first, (first + 1).clamp_max(small - 1), centres - first


def _bilinear(lines: Tensor, first: Tensor, second: Tensor, share: Tensor) -> Tensor:
    """Return (C, m, w) lines, each blended from two of the (C, n, w) `lines`."""
    return lines.index_select(1, first).lerp_(lines.index_select(1, second), share[:, None])
