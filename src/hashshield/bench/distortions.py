"""Changes of pixels as strong as a given PSNR: what people did to photos before, noise, and amplified changes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image

from hashshield.arrays import Pixels
from hashshield.attacks.perturbation import levels_of
from hashshield.bench.experiment import Experiment
from hashshield.bench.results import Trial
from hashshield.metrics.image import psnr_db
from hashshield.types import Progress

__all__ = ["DISTORTIONS", "Distortion", "amplified", "distorted", "distorted_queries", "noise_of_psnr"]

Distortion = Callable[[Pixels, float, np.random.Generator], Pixels]
"""Pixels, strength from 0 to 1, randomness -> pixels; a stronger distortion has a lower PSNR."""

_BISECTIONS = 24
_MAX_FACTOR = 32.0
"""Largest factor by which a change is amplified."""


def _mosaic(pixels: Pixels, strength: float, _generator: np.random.Generator) -> Pixels:
    """Replace square blocks, from one pixel to half of the short side, by their mean."""
    height, width = pixels.shape[:2]
    block = 1 + round(strength * (min(height, width) / 2 - 1))
    small = Image.fromarray(pixels).resize(
        (max(1, -(-width // block)), max(1, -(-height // block))), Image.Resampling.BOX
    )
    return np.asarray(small.resize((width, height), Image.Resampling.NEAREST))


def _brightness(pixels: Pixels, strength: float, _generator: np.random.Generator) -> Pixels:
    """Raise every value by the same number of levels."""
    raised: Pixels = np.clip(np.rint(pixels + strength * 255.0), 0, 255).astype(np.uint8)
    return raised


def _transparency(pixels: Pixels, strength: float, _generator: np.random.Generator) -> Pixels:
    """Blend with white."""
    return np.rint(pixels + strength * (255.0 - pixels)).astype(np.uint8)


def _noise(pixels: Pixels, strength: float, generator: np.random.Generator) -> Pixels:
    """Add independent uniform noise."""
    noise = generator.uniform(-1, 1, pixels.shape) * strength * 255
    return np.clip(np.rint(pixels + noise), 0, 255).astype(np.uint8)


DISTORTIONS: dict[str, tuple[Distortion, float]] = {
    "mosaic": (_mosaic, 16.66),
    "brightness": (_brightness, 13.02),
    "transparency": (_transparency, 18.28),
    "noise": (_noise, 24.53),
}
"""By name, each with the PSNR in dB that figure 3 of the paper gives it."""


def distorted(pixels: Pixels, distortion: Distortion, wanted_db: float, *, seed: int) -> tuple[Pixels, float]:
    """Return the (H, W, 3) photo at the strength whose PSNR is nearest to `wanted_db`, and that strength.

    The strength is found by bisection. A photo that cannot be changed so much gets the strongest distortion.
    """

    def at(strength: float) -> tuple[float, Pixels]:
        after = distortion(pixels, strength, np.random.default_rng(seed))
        return psnr_db(after, pixels), after

    low, high = 0.0, 1.0
    found, best = at(1.0)
    best_gap, best_strength = abs(found - wanted_db), 1.0
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        found, after = at(middle)
        if abs(found - wanted_db) < best_gap:
            best, best_gap, best_strength = after, abs(found - wanted_db), middle
        low, high = (middle, high) if found > wanted_db else (low, middle)
    return best, best_strength


def noise_of_psnr(before: Pixels, after: Pixels, *, seed: int) -> Pixels:
    """Return `before` under uniform noise of the PSNR that `after` has."""
    return distorted(before, _noise, psnr_db(after, before), seed=seed)[0]


def distorted_queries(experiment: Experiment, progress: Progress) -> dict[str, list[Trial]]:
    """Return the picked queries under each distortion, at the paper's PSNR. They are quick to make, so not cached."""
    found: dict[str, list[Trial]] = {}
    for name, (distortion, wanted) in DISTORTIONS.items():
        found[name] = []
        for row, photo in zip(experiment.picked, experiment.photos, strict=True):
            after, strength = distorted(photo, distortion, wanted, seed=experiment.seed * 100_003 + int(row))
            found[name].append(Trial(after, {"strength": strength}))
            progress.done(None)
    return found


def amplified(before: Pixels, after: Pixels, wanted_db: float, *, tau: float, seed: int) -> Pixels:
    """Return `before` with its change to `after` enlarged until the PSNR is `wanted_db`, as far as tau allows.

    Goals that need changes of different size can then be compared at one PSNR. A change that is larger already stays.
    """
    if psnr_db(after, before) <= wanted_db:
        return after
    change, limit = after.astype(np.float32) - before, levels_of(tau)

    def enlarged(pixels: Pixels, strength: float, generator: np.random.Generator) -> Pixels:
        # Rounded up or down at random, in proportion, as small changes are when photos are written.
        levels = np.floor(change * (strength * _MAX_FACTOR) + generator.random(change.shape, np.float32))
        found: Pixels = np.clip(pixels + np.clip(levels, -limit, limit), 0, 255).astype(np.uint8)
        return found

    return distorted(before, enlarged, wanted_db, seed=seed)[0]
