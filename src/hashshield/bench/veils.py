"""What people did to photos before: mosaic, brightness, transparency and noise, as strong as a given PSNR."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hashshield.attacks.perturbation import levels_of
from hashshield.metrics.image import psnr_db

__all__ = ["VEILS", "Veil", "amplified", "veiled"]

Pixels = NDArray[np.uint8]
Veil = Callable[[Pixels, float, np.random.Generator], Pixels]
"""Pixels, strength from 0 to 1, randomness -> pixels; stronger means a lower PSNR."""

_HALVINGS = 24
_MOST = 32.0
"""Largest factor by which a change is amplified."""


def _mosaic(pixels: Pixels, strength: float, _generator: np.random.Generator) -> Pixels:
    """Square blocks of their mean, from one pixel to half of the short side."""
    height, width = pixels.shape[:2]
    block = 1 + round(strength * (min(height, width) / 2 - 1))
    small = Image.fromarray(pixels).resize(
        (max(1, -(-width // block)), max(1, -(-height // block))), Image.Resampling.BOX
    )
    return np.asarray(small.resize((width, height), Image.Resampling.NEAREST))


def _brightness(pixels: Pixels, strength: float, _generator: np.random.Generator) -> Pixels:
    """Every value raised by the same number of levels."""
    raised: Pixels = np.clip(np.rint(pixels + strength * 255.0), 0, 255).astype(np.uint8)
    return raised


def _transparency(pixels: Pixels, strength: float, _generator: np.random.Generator) -> Pixels:
    """Blended with white."""
    return np.rint(pixels + strength * (255.0 - pixels)).astype(np.uint8)


def _noise(pixels: Pixels, strength: float, generator: np.random.Generator) -> Pixels:
    """Independent uniform noise."""
    noise = generator.uniform(-1, 1, pixels.shape) * strength * 255
    return np.clip(np.rint(pixels + noise), 0, 255).astype(np.uint8)


VEILS: dict[str, tuple[Veil, float]] = {
    "mosaic": (_mosaic, 16.66),
    "brightness": (_brightness, 13.02),
    "transparency": (_transparency, 18.28),
    "noise": (_noise, 24.53),
}
"""By name, with the PSNR in dB that the paper's figure 3 gives each."""


def veiled(pixels: Pixels, veil: Veil, wanted_db: float, *, seed: int) -> tuple[Pixels, float]:
    """The (H, W, 3) photo at the strength whose PSNR is nearest to what is wanted, and that strength.

    The strength is halved towards; a photo that cannot be changed so much gets the strongest.
    """

    def at(strength: float) -> tuple[float, Pixels]:
        after = veil(pixels, strength, np.random.default_rng(seed))
        return psnr_db(after, pixels), after

    low, high = 0.0, 1.0
    best, best_gap, best_strength = at(1.0)[1], abs(at(1.0)[0] - wanted_db), 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        found, after = at(middle)
        if abs(found - wanted_db) < best_gap:
            best, best_gap, best_strength = after, abs(found - wanted_db), middle
        low, high = (middle, high) if found > wanted_db else (low, middle)
    return best, best_strength


def amplified(before: Pixels, after: Pixels, wanted_db: float, *, tau: float, seed: int) -> Pixels:
    """The change from `before` to `after`, made larger until its PSNR is what is wanted, as far as tau allows.

    So that goals which need changes of different size can be compared at one. A change that is larger already stays.
    """
    if psnr_db(after, before) <= wanted_db:
        return after
    change, limit = after.astype(np.float32) - before, levels_of(tau)

    def larger(pixels: Pixels, strength: float, generator: np.random.Generator) -> Pixels:
        # Rounded up or down at random, in proportion, as small changes are when photos are written.
        levels = np.floor(change * (strength * _MOST) + generator.random(change.shape, np.float32))
        found: Pixels = np.clip(pixels + np.clip(levels, -limit, limit), 0, 255).astype(np.uint8)
        return found

    return veiled(before, larger, wanted_db, seed=seed)[0]
