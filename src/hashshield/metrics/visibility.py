"""How visible a change between two pictures is: one number, which reads like butteraugli's 3-norm.

The model is one of contrast in bands of frequency (Watson 1993; Daly 1993). Both pictures become logarithms of cone
responses, because eyes see ratios, and opponent colours: light, red against green, blue against both. Their difference
is taken apart into octaves. In each, what is seen of it falls with the contrast that the picture itself has nearby:
grass and hair hide what a clear sky or skin does not. Octaves and colours add up as energies, and the map of what is
seen is pooled by norms in which the worst places count most.

The numbers of the model are fitted to butteraugli of libjxl 0.7 (80 nits), on photos changed by searches, JPEG, noise
and blur: `benchmarks/visibility.py` fits them, and measures on other photos how well they do. Nothing here is part
of a search, and butteraugli is not needed to measure.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate, pad

from hashshield.arrays import Pixels

__all__ = ["FITTED", "LEVELS", "Constants", "Features", "features", "pooled", "visibility", "visible_map"]

LEVELS = 5
"""Octaves, the last of which holds all that is coarser; a pixel, two, four, eight and more across."""
_HIDING = 3
"""Octaves of the picture's own contrast that hide changes."""
_TILE, _HALO = 768, 48
"""Pixels of a tile's side, and around it as far as filters reach; multiples of 2 ** (LEVELS - 1)."""
_BINOMIAL = (0.0625, 0.25, 0.375, 0.25, 0.0625)
_DARK = 0.06
"""Light that eyes add to that of the screen, as a share of white: in the dark, ratios are seen less."""
_CONES = ((0.297, 0.627, 0.076), (0.218, 0.684, 0.098), (0.082, 0.082, 0.836))
"""Long, middle and short cones from linear sRGB; rows add up to 1. The first two overlap, as those of eyes do."""
_CUBIC = (0.3053, 0.6822, 0.0125)
"""Light from a level in [0, 1]: the factors of its cube, its square and itself."""
_FLOOR = 1e-9
"""Added to squares under a root, whose slope at zero is infinite."""


class Constants(NamedTuple):
    """The fitted numbers."""

    gain: Tensor
    """(3, LEVELS): natural logarithm of how strongly each colour and octave is seen on flat ground."""
    masked: Tensor
    """(3, LEVELS): natural logarithm of how much contrast nearby takes from that."""
    activity: Tensor
    """(3,): natural logarithm of what the picture's octaves, from the finest, count as contrast."""
    exponent: Tensor
    """(): to which the contrast is raised."""


class Features(NamedTuple):
    """What is taken of two pictures before any fitted number comes in."""

    squares: list[Tensor]
    """Per octave: (3, h, w) squared differences of the pictures; the finest in means over 2 x 2 pixels."""
    contrast: Tensor
    """(3, h, w): the first picture's contrast of light per octave, over a neighbourhood, at half of its size."""


FITTED = Constants(
    gain=torch.tensor(
        [
            [4.00, 5.33, 5.65, 4.85, 4.91],
            [4.91, 4.14, 5.70, 5.53, 5.71],
            [2.16, 0.57, 1.23, 2.97, 3.97],
        ]
    ),
    masked=torch.tensor(
        [
            [1.01, 1.36, 0.97, -1.21, 0.51],
            [0.87, 1.55, 1.14, -0.46, -2.52],
            [0.63, 1.47, 1.42, 0.20, 0.72],
        ]
    ),
    activity=torch.tensor([2.03, 1.89, -1.20]),
    exponent=torch.tensor(0.543),
)


def visibility(before: Pixels, after: Pixels) -> float:
    """Return how visible the difference of two (H, W, C) pictures is at 100%, 0 for equal ones; C is 1 or 3, sRGB.

    About 0.35 is the most that nobody notices, and 0.8 what JPEG of quality 90 does to a photo of half a megapixel.
    Raises ValueError if their shapes differ or are no picture's.
    """
    if before.shape != after.shape or before.ndim != 3 or before.shape[2] not in (1, 3) or not before.size:
        raise ValueError(f"two (H, W, 1 or 3) pictures of one size are needed, found {before.shape} and {after.shape}")
    sums, places = torch.zeros(3, dtype=torch.float64), 0
    with torch.inference_mode():
        for outer, inner in _tiles(before.shape[0], before.shape[1]):
            one, other = before[outer], after[outer]
            place = tuple(slice(side.start // 2, -(-side.stop // 2)) for side in inner)
            if np.array_equal(one, other):
                places += math.prod(side.stop - side.start for side in place)
                continue
            map_of_tile = visible_map(features(one, other), FITTED)[place]
            sums += _power_sums(map_of_tile)
            places += map_of_tile.numel()
    return _norm(sums, places)


def features(before: Pixels, after: Pixels) -> Features:
    """Return what the model takes of two (H, W, 1 or 3) pictures."""
    first = _opponent(before)
    difference = _octaves(_opponent(after) - first, LEVELS)
    squares = [octave.square_() for octave in difference]
    squares[0] = _halved(squares[0])
    return Features(squares, _contrast(first[:1]))


def visible_map(taken: Features, constants: Constants) -> Tensor:
    """Return the (h, w) map of what is seen, at half of the pictures' size; differentiable in the constants."""
    contrast = torch.einsum("k,khw->hw", constants.activity.exp(), taken.contrast)[None]
    hiding = (contrast + 1e-6) ** constants.exponent
    total: Tensor | None = None
    for level in reversed(range(LEVELS)):
        squares = taken.squares[level]
        if total is not None:
            total = _enlarged(total, squares.shape[1:])
        hidden = _reduced(hiding, squares.shape[1:])
        weight = constants.gain[:, level].exp()[:, None, None] / (
            1 + constants.masked[:, level].exp()[:, None, None] * hidden
        )
        energy = (squares * weight.square()).sum(0, keepdim=True)
        total = energy if total is None else total + energy
    assert total is not None
    return (total[0] + _FLOOR).sqrt()


def pooled(plane: Tensor) -> Tensor:
    """Return the visibility of an (h, w) map; differentiable."""
    return torch.stack([(plane**power).mean() ** (1 / power) for power in (3, 6, 12)]).mean()


def _norm(sums: Tensor, places: int) -> float:
    """Return the mean of the 3-, 6- and 12-norm, as butteraugli's `3-norm` has it, from sums of these powers."""
    powers = torch.tensor([3, 6, 12], dtype=torch.float64)
    return float(((sums / places) ** (1 / powers)).mean())


def _power_sums(plane: Tensor) -> Tensor:
    cubes = plane**3
    squares = cubes.double().square()
    return torch.stack([cubes.sum(dtype=torch.float64), squares.sum(), squares.square().sum()])


def _tiles(height: int, width: int) -> Iterator[tuple[tuple[slice, slice], tuple[slice, slice]]]:
    """Yield each tile with its surroundings as rows and columns of the picture, and the tile's place within these."""
    for top in range(0, height, _TILE):
        for left in range(0, width, _TILE):
            sides = [
                (max(first - _HALO, 0), first, min(first + _TILE, size), min(first + _TILE + _HALO, size))
                for first, size in ((top, height), (left, width))
            ]
            yield (
                (slice(sides[0][0], sides[0][3]), slice(sides[1][0], sides[1][3])),
                (
                    slice(sides[0][1] - sides[0][0], sides[0][2] - sides[0][0]),
                    slice(sides[1][1] - sides[1][0], sides[1][2] - sides[1][0]),
                ),
            )


def _opponent(pixels: Pixels) -> Tensor:
    """Return (3, h, w): light, red against green, blue against both, of responses that are logarithms."""
    red, green, blue = _light(pixels).expand(3, -1, -1)
    long, middle, short = ((red * r).add_(green, alpha=g).add_(blue, alpha=b).add_(_DARK).log_() for r, g, b in _CONES)
    planes = torch.stack([long + middle, long, short])
    planes[0] *= 0.5
    planes[1] -= middle
    planes[2] -= planes[0]
    return planes


def _light(pixels: Pixels) -> Tensor:
    """Return the (C, h, w) light of 8-bit levels as a share of white, within 0.003 of sRGB's (IEC 61966-2-1)."""
    level = torch.from_numpy(pixels.transpose(2, 0, 1).astype(np.float32, order="C")).div_(255)
    # A cubic, because looking each level up takes half of the time of all that follows.
    return (level * _CUBIC[0]).add_(_CUBIC[1]).mul_(level).add_(_CUBIC[2]).mul_(level)


def _octaves(planes: Tensor, count: int) -> list[Tensor]:
    """Return the band of each octave, each at half of the size of the one before, and what is left, as the last."""
    found = []
    for _ in range(count - 1):
        smooth = _smoothed(planes)
        found.append(planes - smooth)
        planes = smooth[:, ::2, ::2]
    return [*found, planes.clone()]


def _contrast(light: Tensor) -> Tensor:
    """Return (3, h, w): the contrast of (1, H, W) light per octave, as neighbourhoods have it, at half of the size."""
    found = []
    for level, octave in enumerate(_octaves(light, _HIDING + 1)[:_HIDING]):
        strength = octave.abs_()
        if level == 0:
            strength = _halved(strength)
        strength = _smoothed(strength if level == 2 else _smoothed(strength))
        found.append(strength)
    size = found[0].shape[1:]
    return torch.cat([_enlarged(strength, size) for strength in found])


def _smoothed(planes: Tensor) -> Tensor:
    """Return the binomial mean over 5 x 5 pixels of (C, h, w) planes, edges repeated; a Gaussian of one pixel."""
    planes = pad(planes[None], (2, 2, 2, 2), mode="replicate")[0]
    for axis in (1, 2):
        size = planes.shape[axis] - 4
        total = planes.narrow(axis, 0, size) * _BINOMIAL[0]
        for k in range(1, 5):
            total.add_(planes.narrow(axis, k, size), alpha=_BINOMIAL[k])
        planes = total
    return planes


def _halved(planes: Tensor) -> Tensor:
    return avg_pool2d(planes[None], 2, ceil_mode=True)[0]


def _enlarged(planes: Tensor, size: torch.Size) -> Tensor:
    """Return (C, h, w) planes at twice their size, cut to `size`; as they are if they have it."""
    if planes.shape[1:] == size:
        return planes
    twice = interpolate(planes[None], scale_factor=2, mode="bilinear", align_corners=False)[0]
    return twice[:, : size[0], : size[1]]


def _reduced(planes: Tensor, size: torch.Size) -> Tensor:
    """Return (1, h, w) planes at the size of a coarser octave."""
    while planes.shape[1:] != size:
        planes = _halved(planes)
    return planes
