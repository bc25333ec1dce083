"""From a change on the grid to 8-bit levels at full resolution, in strips."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hashshield.imaging import to_stored_orientation

__all__ = ["apply_perturbation", "levels_of", "uniform_noise"]

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
