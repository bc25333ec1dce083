"""Defences of a service that expects protected photos: filters, votes, detection, and learning from pairs."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image, ImageFilter
from torch import Tensor
from torch.nn.functional import mse_loss

from hashshield.arrays import Distances, Pixels
from hashshield.models.hashing import FrozenHash
from hashshield.models.load import OpenModel
from hashshield.transforms import centre, pillow_view, resized, short_side, to_image
from hashshield.transforms.pillow import SERVICES, Transform, jpeg

__all__ = ["INPUT_DEFENCES", "MODEL_DEFENCES", "PAPER_DEFENCES", "detection_auc", "fine_tuned"]

_CROP_SCALE = 1.15
"""How much larger than the input a photo is made before crops are taken."""
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
    """Return the (K,) mean bits under Gaussian noise at the input (randomised smoothing; Cohen et al. 2019)."""
    image = pillow_view(pixels, opened.card.input)
    noise = torch.randn((_VOTES, *image.shape), generator=torch.Generator().manual_seed(0)) * _NOISE_SIGMA
    images = (image[None] + noise).clamp(0, 1).to(opened.device)
    vote: Tensor = opened.model(images).code.sign().mean(0)
    return vote


MODEL_DEFENCES: dict[str, Callable[[OpenModel, Pixels], Tensor]] = {
    "five crops": _five_crops,
    "vote under noise": _noise_vote,
}
"""Other ways to get a relaxed code from upright pixels."""


def fine_tuned(model: FrozenHash, protected: Tensor, clean: Tensor, index: Tensor, *, seed: int) -> FrozenHash:
    """Return a copy whose neck and code layer give (P, D) features of protected photos the codes of the clean ones.

    The (P, D) features of the clean photos and the (N, D) features `index` hold the codes they have, because a service
    does not index its database again for this. Without pairs nothing is learnt.
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
    counting half. 0.5 tells nothing.
    """
    farther = (changed[:, None] > clean[None]).mean()
    return float(farther + (changed[:, None] == clean[None]).mean() / 2)
