"""What a service that expects protected photos may do before it hashes one, and how it may learn from some."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from torch import Tensor
from torch.nn.functional import mse_loss

from hashshield.bench.service import blurred, transformed
from hashshield.models.hashing import FrozenHash
from hashshield.models.load import OpenModel
from hashshield.transforms import centre, pillow_view, resized, short_side, to_image
from hashshield.transforms.pillow import SERVICES, jpeg

__all__ = ["BEFORE", "INSIDE", "adapted", "detection_auc"]

Pixels = NDArray[np.uint8]
Codes = NDArray[np.float32]

_CROPS = 1.15
"""How much larger than the input a photo is made before crops are taken."""
_NOISE, _VOTES = 0.06, 16
_STEPS, _RATE, _SAMPLE = 200, 1e-3, 256


def _median(pixels: Pixels) -> Pixels:
    return np.asarray(Image.fromarray(pixels).filter(ImageFilter.MedianFilter(3)))


def _bilateral(pixels: Pixels) -> Pixels:
    """Mean over 5 x 5 neighbours, weighted by nearness in place (sigma 1.5) and in colour (sigma 25 levels)."""
    values = pixels.astype(np.float32)
    padded = np.pad(values, ((2, 2), (2, 2), (0, 0)), mode="edge")
    total, weights = np.zeros_like(values), np.zeros((*values.shape[:2], 1), np.float32)
    for down in range(5):
        for across in range(5):
            near = padded[down : down + len(values), across : across + values.shape[1]]
            place = ((down - 2) ** 2 + (across - 2) ** 2) / (2 * 1.5**2)
            colour = np.square(near - values).sum(axis=2, keepdims=True) / (2 * 25.0**2)
            weight = np.exp(-place - colour)
            total += weight * near
            weights += weight
    filtered: Pixels = np.rint(total / weights).astype(np.uint8)
    return filtered


_SURVIVAL = {service.name: service for service in SERVICES}

BEFORE: dict[str, Callable[[Pixels], Pixels]] = {
    **{name: transformed(_SURVIVAL[name]) for name in ("jpeg q90", "jpeg q75", "jpeg q50")},
    "jpeg q30": transformed(jpeg(30)),
    "half size": transformed(_SURVIVAL["half size"]),
    "median": _median,
    "bilateral": _bilateral,
    "blur": blurred,
}
"""What is done to upright pixels before they are hashed as usual."""


def _several_crops(opened: OpenModel, pixels: Pixels) -> Tensor:
    """(K,): mean code of the centre and the four corners of a slightly larger copy."""
    size = opened.card.input
    small = resized(pixels, *short_side(pixels.shape[0], pixels.shape[1], round(size.resize * _CROPS)))
    height, width = small.shape[:2]
    tops, lefts = (0, height - size.crop), (0, width - size.crop)
    places = [(slice(t, t + size.crop), slice(c, c + size.crop)) for t in tops for c in lefts]
    views = [to_image(small[rows, columns]) for rows, columns in (*places, centre(height, width, size.crop))]
    code: Tensor = opened.model(torch.stack(views).to(opened.model.mean.device)).code.mean(0)
    return code


def _smoothed(opened: OpenModel, pixels: Pixels) -> Tensor:
    """(K,): vote of the bits under Gaussian noise at the input (randomised smoothing; Cohen et al. 2019)."""
    image = pillow_view(pixels, opened.card.input)
    noise = torch.randn((_VOTES, *image.shape), generator=torch.Generator().manual_seed(0)) * _NOISE
    images = (image[None] + noise).clamp(0, 1).to(opened.model.mean.device)
    vote: Tensor = opened.model(images).code.sign().mean(0)
    return vote


INSIDE: dict[str, Callable[[OpenModel, Pixels], Tensor]] = {"five crops": _several_crops, "vote under noise": _smoothed}
"""Other ways to come from pixels to a relaxed code."""


def adapted(model: FrozenHash, protected: Tensor, clean: Tensor, kept: Tensor, *, seed: int) -> FrozenHash:
    """The network with neck and code layer fine-tuned so that (P, D) features of protected photos get the clean codes.

    The clean photos' (P, D) and the `kept` (N, D) features keep the codes they have: no index is made anew for this.
    Without pairs nothing is learnt.
    """
    learner = copy.deepcopy(model).requires_grad_(False)
    if not len(protected):
        return learner
    layers = [*learner.neck.parameters(), *learner.head.parameters()]
    for parameter in layers:
        parameter.requires_grad_()
    with torch.no_grad():
        wanted, holds = model.codes(clean).code, model.codes(kept).code
    generator = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.Adam(layers, lr=_RATE)
    for _ in range(_STEPS):
        rows = torch.randperm(len(kept), generator=generator)[:_SAMPLE].to(kept.device)
        moves = mse_loss(learner.codes(protected).code, wanted)
        stays = mse_loss(learner.codes(torch.cat([clean, kept[rows]])).code, torch.cat([wanted, holds[rows]]))
        optimiser.zero_grad()
        torch.autograd.backward(moves + stays)
        optimiser.step()
    return learner.requires_grad_(False)


def detection_auc(clean: NDArray[np.int64], changed: NDArray[np.int64]) -> float:
    """How well the (N,) distance to the nearest code of the database tells changed photos from clean ones.

    The chance that a changed photo is farther than a clean one, a tie counting half: 0.5 tells nothing.
    """
    farther = (changed[:, None] > clean[None]).mean()
    return float(farther + (changed[:, None] == clean[None]).mean() / 2)
