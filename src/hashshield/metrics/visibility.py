"""Visibility of a change between two pictures: one number, on the scale of butteraugli's 3-norm.

The model measures contrast in frequency bands (Watson 1993; Daly 1993). Both pictures are converted to logarithms of
cone responses, because eyes see ratios, and to opponent colours: luminance, red-green and blue-yellow. Their difference
is split into octaves. In each octave the picture's own contrast nearby hides a part of the difference: grass and hair
hide more than sky or skin. Octaves and colours add up as energies, and the resulting map is pooled by norms in which
the worst places count most.

The constants are fitted to butteraugli of libjxl 0.7 (80 nits), on photos changed by searches, JPEG, noise and blur.
`benchmarks/visibility.py` fits them and measures the error on other photos. No search depends on this module, and
measuring does not need butteraugli.
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
"""Number of octaves: details of one, two, four and eight pixels, and everything coarser."""
_HIDING = 3
"""Number of finest octaves whose contrast hides changes."""
_TILE, _HALO = 768, 48
"""Side of a tile, and the margin around it that filters need, in pixels; multiples of 2 ** (LEVELS - 1)."""
_BINOMIAL = (0.0625, 0.25, 0.375, 0.25, 0.0625)
_DARK = 0.06
"""Added to the screen's light, as a share of white, because ratios are less visible in the dark."""
_CONES = ((0.297, 0.627, 0.076), (0.218, 0.684, 0.098), (0.082, 0.082, 0.836))
"""Long, middle and short cone responses from linear sRGB; rows add up to 1. The first two overlap, as in the eye."""
_CUBIC = (0.3053, 0.6822, 0.0125)
"""Coefficients of the cubic from an sRGB level in [0, 1] to light: cube, square, linear."""
_FLOOR = 1e-9
"""Added under the square root, whose slope at zero is infinite."""


class Constants(NamedTuple):
    """The fitted constants."""

    gain: Tensor
    """(3, LEVELS): natural logarithm of the sensitivity to each colour and octave in flat areas."""
    masked: Tensor
    """(3, LEVELS): natural logarithm of how strongly contrast nearby reduces it."""
    activity: Tensor
    """(3,): natural logarithm of the weight of the picture's octaves, from the finest, in the contrast."""
    exponent: Tensor
    """(): exponent of the contrast."""


class Features(NamedTuple):
    """Measurements of two pictures that do not depend on the fitted constants."""

    squares: list[Tensor]
    """Per octave: (3, h, w) squared differences of the pictures; the finest as means over 2 x 2 pixels."""
    contrast: Tensor
    """(3, h, w): the first picture's local luminance contrast per octave, at half its size."""


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
    """Return the visibility at 100% of the difference of two (H, W, C) sRGB pictures, C = 1 or 3; 0 if equal.

    Up to about 0.35 nobody notices a change; JPEG of quality 90 changes a photo of half a megapixel by 0.8. Raises
    ValueError if the shapes differ or are not those of a picture.
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
    """Return the model's measurements of two (H, W, 1 or 3) pictures."""
    first = _opponent(before)
    difference = _octaves(_opponent(after) - first, LEVELS)
    squares = [octave.square_() for octave in difference]
    squares[0] = _halved(squares[0])
    return Features(squares, _contrast(first[:1]))


def visible_map(taken: Features, constants: Constants) -> Tensor:
    """Return the (h, w) map of the visible difference, at half the pictures' size; differentiable in the constants."""
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
    """Return the mean of 3-, 6- and 12-norm, as in butteraugli's `3-norm`, from the sums of these powers."""
    powers = torch.tensor([3, 6, 12], dtype=torch.float64)
    return float(((sums / places) ** (1 / powers)).mean())


def _power_sums(plane: Tensor) -> Tensor:
    cubes = plane**3
    squares = cubes.double().square()
    return torch.stack([cubes.sum(dtype=torch.float64), squares.sum(), squares.square().sum()])


def _tiles(height: int, width: int) -> Iterator[tuple[tuple[slice, slice], tuple[slice, slice]]]:
    """Yield (tile with margin, tile within that): rows and columns of the picture, and of the part with margin."""
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
    """Return (3, h, w) opponent colours of logarithmic cone responses: luminance, red-green, blue-yellow."""
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
    # A cubic, because a table lookup would take half as long as all that follows.
    return (level * _CUBIC[0]).add_(_CUBIC[1]).mul_(level).add_(_CUBIC[2]).mul_(level)


def _octaves(planes: Tensor, count: int) -> list[Tensor]:
    """Return `count` planes: the bands of the octaves, each at half the size of the one before, then the residual."""
    found = []
    for _ in range(count - 1):
        smooth = _smoothed(planes)
        found.append(planes - smooth)
        planes = smooth[:, ::2, ::2]
    return [*found, planes.clone()]


def _contrast(light: Tensor) -> Tensor:
    """Return (3, h, w): the local contrast per octave of (1, H, W) luminance, at half the size."""
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
    """Return (C, h, w) planes smoothed by a 5 x 5 binomial filter, edges repeated; close to a Gaussian of sigma 1."""
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
    """Return (C, h, w) planes at twice their size, cropped to `size`; unchanged if they have that size."""
    if planes.shape[1:] == size:
        return planes
    twice = interpolate(planes[None], scale_factor=2, mode="bilinear", align_corners=False)[0]
    return twice[:, : size[0], : size[1]]


def _reduced(planes: Tensor, size: torch.Size) -> Tensor:
    """Return (1, h, w) planes halved until they have `size`, that of a coarser octave."""
    while planes.shape[1:] != size:
        planes = _halved(planes)
    return planes
