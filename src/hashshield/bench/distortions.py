"""What people and services do to photos.

Changes of a given PSNR: traditional distortions, noise, and amplified changes. Defences of a service that expects
protected photos: filters, votes, detection, and learning from pairs.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image, ImageFilter
from torch import Tensor
from torch.nn.functional import mse_loss

from hashshield.arrays import Distances, Pixels
from hashshield.attacks.grid import levels_of
from hashshield.bench.experiment import Experiment
from hashshield.bench.results import Trial
from hashshield.metrics.image import psnr_db
from hashshield.metrics.visibility import visibility
from hashshield.models.hashing import FrozenHash
from hashshield.models.load import OpenModel
from hashshield.transforms import centre, pillow_view, resized, short_side, to_image
from hashshield.transforms.pillow import SERVICES, Transform, jpeg
from hashshield.types import Progress

__all__ = [
    "DISTORTIONS",
    "INPUT_DEFENCES",
    "MODEL_DEFENCES",
    "PAPER_DEFENCES",
    "Distortion",
    "amplified",
    "detection_auc",
    "distorted",
    "distorted_queries",
    "fine_tuned",
    "noise_of_psnr",
    "noise_of_visibility",
]

Distortion = Callable[[Pixels, float, np.random.Generator], Pixels]
"""(pixels, strength from 0 to 1, generator) -> pixels; a stronger distortion has a lower PSNR."""

_BISECTIONS = 24
_VISIBILITY_BISECTIONS = 12
"""The last bisection has a step of a sixteenth of a level."""
_MAX_FACTOR = 32.0
"""Largest factor by which a change is amplified."""


def _mosaic(pixels: Pixels, strength: float, _generator: np.random.Generator) -> Pixels:
    """Replace square blocks, of one pixel to half the short side, by their mean."""
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
"""Name -> (distortion, its PSNR in dB in figure 3 of the paper)."""


def distorted(pixels: Pixels, distortion: Distortion, wanted_db: float, *, seed: int) -> tuple[Pixels, float]:
    """Return the (H, W, 3) photo at the strength whose PSNR is nearest to `wanted_db`, and that strength.

    The strength is found by bisection. If even the strongest distortion has a higher PSNR, that one is used.
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
    """Return `before` with uniform noise of the PSNR that `after` has."""
    return distorted(before, _noise, psnr_db(after, before), seed=seed)[0]


def noise_of_visibility(before: Pixels, after: Pixels, *, seed: int) -> Pixels:
    """Return `before` with uniform noise that is as visible as the change to `after`, by `metrics.visibility`.

    The strength is found by bisection. If the change is more visible than the strongest noise, that one is used.
    """
    wanted = visibility(before, after)

    def at(strength: float) -> tuple[float, Pixels]:
        noisy = _noise(before, strength, np.random.default_rng(seed))
        return abs(visibility(before, noisy) - wanted), noisy

    low, high = 0.0, 1.0
    best_gap, best = at(1.0)
    for _ in range(_VISIBILITY_BISECTIONS):
        middle = (low + high) / 2
        gap, noisy = at(middle)
        if gap < best_gap:
            best_gap, best = gap, noisy
        low, high = (middle, high) if visibility(before, noisy) < wanted else (low, middle)
    return best


def distorted_queries(experiment: Experiment, progress: Progress) -> dict[str, list[Trial]]:
    """Return the picked queries with each distortion, at the paper's PSNR. They are fast to compute, so not cached."""
    found: dict[str, list[Trial]] = {}
    for name, (distortion, wanted) in DISTORTIONS.items():
        found[name] = []
        for row, photo in zip(experiment.picked, experiment.photos, strict=True):
            after, strength = distorted(photo, distortion, wanted, seed=experiment.seed * 100_003 + int(row))
            found[name].append(Trial(after, {"strength": strength}))
            progress.done(None)
    return found


def amplified(before: Pixels, after: Pixels, wanted_db: float, *, tau: float, seed: int) -> Pixels:
    """Return `before` with its change to `after` amplified until the PSNR is `wanted_db`, within the bound tau.

    This allows comparing goals that need changes of different size at one PSNR. A larger change is returned as it is.
    """
    if psnr_db(after, before) <= wanted_db:
        return after
    change, limit = after.astype(np.float32) - before, levels_of(tau)

    def enlarged(pixels: Pixels, strength: float, generator: np.random.Generator) -> Pixels:
        # Rounded up or down at random, as when photos are written.
        levels = np.floor(change * (strength * _MAX_FACTOR) + generator.random(change.shape, np.float32))
        found: Pixels = np.clip(pixels + np.clip(levels, -limit, limit), 0, 255).astype(np.uint8)
        return found

    return distorted(before, enlarged, wanted_db, seed=seed)[0]


_CROP_SCALE = 1.15
"""Size of the photo before taking crops, relative to the input."""
_NOISE_SIGMA, _VOTES = 0.06, 16
_STEPS, _RATE, _SAMPLE = 200, 1e-3, 256


def _transformed(transform: Transform) -> Callable[[Pixels], Pixels]:
    """Return a transform of the survival table as a function of upright pixels."""
    return lambda pixels: np.asarray(transform.done(Image.fromarray(pixels)))


def _blur(pixels: Pixels) -> Pixels:
    """Blur with a Gaussian of one pixel."""
    return np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(1)))


def _median(pixels: Pixels) -> Pixels:
    return np.asarray(Image.fromarray(pixels).filter(ImageFilter.MedianFilter(3)))


def _bilateral(pixels: Pixels) -> Pixels:
    """Average 5 x 5 neighbours, weighted by nearness in place (sigma 1.5 pixels) and colour (sigma 25 levels)."""
    values = pixels.astype(np.float32)
    padded = np.pad(values, ((2, 2), (2, 2), (0, 0)), mode="edge")
    total, weights = np.zeros_like(values), np.zeros((*values.shape[:2], 1), np.float32)
    for down in range(5):
        for across in range(5):
            near = padded[down : down + len(values), across : across + values.shape[1]]
            distance = ((down - 2) ** 2 + (across - 2) ** 2) / (2 * 1.5**2)
            colour = np.square(near - values).sum(axis=2, keepdims=True) / (2 * 25.0**2)
            weight = np.exp(-distance - colour)
            total += weight * near
            weights += weight
    filtered: Pixels = np.rint(total / weights).astype(np.uint8)
    return filtered


_SURVIVAL = {service.name: service for service in SERVICES}

INPUT_DEFENCES: dict[str, Callable[[Pixels], Pixels]] = {
    **{name: _transformed(_SURVIVAL[name]) for name in ("jpeg q90", "jpeg q75", "jpeg q50")},
    "jpeg q30": _transformed(jpeg(30)),
    "half size": _transformed(_SURVIVAL["half size"]),
    "median": _median,
    "bilateral": _bilateral,
    "blur": _blur,
}
"""Changes of upright pixels before they are hashed as usual."""

PAPER_DEFENCES = {"jpeg_q75": INPUT_DEFENCES["jpeg q75"], "blur": _blur}
"""The input defences of the untargeted table, by the keys of its rows."""


def _five_crops(opened: OpenModel, pixels: Pixels) -> Tensor:
    """Return the (K,) mean code of the centre and the four corners of a slightly larger copy."""
    size = opened.card.input
    small = resized(pixels, *short_side(pixels.shape[0], pixels.shape[1], round(size.resize * _CROP_SCALE)))
    height, width = small.shape[:2]
    tops, lefts = (0, height - size.crop), (0, width - size.crop)
    corners = [(slice(t, t + size.crop), slice(c, c + size.crop)) for t in tops for c in lefts]
    views = [to_image(small[rows, columns]) for rows, columns in (*corners, centre(height, width, size.crop))]
    code: Tensor = opened.model(torch.stack(views).to(opened.device)).code.mean(0)
    return code


def _noise_vote(opened: OpenModel, pixels: Pixels) -> Tensor:
    """Return the (K,) mean bits over Gaussian noise on the input (randomised smoothing; Cohen et al. 2019)."""
    image = pillow_view(pixels, opened.card.input)
    noise = torch.randn((_VOTES, *image.shape), generator=torch.Generator().manual_seed(0)) * _NOISE_SIGMA
    images = (image[None] + noise).clamp(0, 1).to(opened.device)
    vote: Tensor = opened.model(images).code.sign().mean(0)
    return vote


MODEL_DEFENCES: dict[str, Callable[[OpenModel, Pixels], Tensor]] = {
    "five crops": _five_crops,
    "vote under noise": _noise_vote,
}
"""Name -> another way to get a code from upright pixels."""


def fine_tuned(model: FrozenHash, protected: Tensor, clean: Tensor, index: Tensor, *, seed: int) -> FrozenHash:
    """Return a copy whose neck and code layer map (P, D) features of protected photos to the codes of the clean ones.

    Codes of the clean photos, from (P, D) features, and of `index`, (N, D) features, are kept the same, because a
    service does not index its database again. Without pairs the network is unchanged.
    """
    learner = copy.deepcopy(model).requires_grad_(False)
    if not len(protected):
        return learner
    layers = [*learner.neck.parameters(), *learner.head.parameters()]
    for parameter in layers:
        parameter.requires_grad_()
    with torch.no_grad():
        wanted, held = model.codes(clean).code, model.codes(index).code
    generator = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.Adam(layers, lr=_RATE)
    for _ in range(_STEPS):
        rows = torch.randperm(len(index), generator=generator)[:_SAMPLE].to(index.device)
        moves = mse_loss(learner.codes(protected).code, wanted)
        stays = mse_loss(learner.codes(torch.cat([clean, index[rows]])).code, torch.cat([wanted, held[rows]]))
        optimiser.zero_grad()
        torch.autograd.backward(moves + stays)
        optimiser.step()
    return learner.requires_grad_(False)


def detection_auc(clean: Distances, changed: Distances) -> float:
    """Return how well the (N,) distance to the nearest code of the database tells changed photos from clean ones.

    This is the area under the ROC curve: the probability that a changed photo is farther than a clean one, with ties
    counting half. 0.5 is chance.
    """
    farther = (changed[:, None] > clean[None]).mean()
    return float(farther + (changed[:, None] == clean[None]).mean() / 2)
