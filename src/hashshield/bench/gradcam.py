"""Grad-CAM (Selvaraju et al. 2017) of a hash code: where in the picture it comes from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hashshield.errors import UsageError
from hashshield.models.leaky import true_gradients
from hashshield.models.load import OpenModel
from hashshield.transforms import pillow_view

__all__ = ["heat", "overlaid", "spread"]

Heat = NDArray[np.float32]
Pixels = NDArray[np.uint8]

_WARM = np.array([(0, 0, 128), (0, 96, 255), (64, 255, 191), (255, 191, 0), (128, 0, 0)], np.float32)
"""From cold to warm."""


def heat(opened: OpenModel, pixels: Pixels) -> Heat:
    """(h, w) in [0, 1] of upright pixels, under the card's view: what the code of the photo, sign by sign, rests on.

    The last activations with more than one place, weighted by the mean gradient of <code, sign(code)>. Raises
    UsageError for a network that has none.
    """
    image = pillow_view(pixels, opened.card.input)[None].to(opened.model.mean.device).requires_grad_()
    with _Last(opened.model.trunk) as last, true_gradients(opened.model):
        code = opened.model(image).code[0]
    if last.found is None:
        raise UsageError(f"{opened.name}: its layers keep no picture of more than one place; Grad-CAM needs one")
    (gradient,) = torch.autograd.grad((code * code.detach().sign()).sum(), last.found)
    weights = gradient.mean((2, 3), keepdim=True)
    seen = torch.relu((weights * last.found).sum(1))[0]
    # A map without anything warm stays cold.
    found: Heat = (seen / seen.amax().clamp_min(1e-12)).detach().float().cpu().numpy()
    return found


def overlaid(opened: OpenModel, pixels: Pixels, warmth: Heat) -> Pixels:
    """(crop, crop, 3): the card's view of the photo under its heat."""
    displayed = pillow_view(pixels, opened.card.input).permute(1, 2, 0).numpy() * 255
    size = displayed.shape[:2]
    wide = torch.nn.functional.interpolate(torch.from_numpy(warmth)[None, None], size, mode="bilinear")[0, 0].numpy()
    place = wide * (len(_WARM) - 1)
    below = np.clip(place.astype(int), 0, len(_WARM) - 2)
    share = (place - below)[..., None]
    colours = _WARM[below] * (1 - share) + _WARM[below + 1] * share
    mixed: Pixels = np.clip(0.5 * displayed + 0.5 * colours, 0, 255).astype(np.uint8)
    return mixed


def spread(warmth: Heat) -> float:
    """Entropy of the heat as a share of the largest possible: 0 when all is in one place, 1 when it is even."""
    total = float(warmth.sum())
    if total == 0:
        return 1.0
    shares = warmth.ravel() / total
    shares = shares[shares > 0]
    return float(-(shares * np.log(shares)).sum() / np.log(warmth.size))


class _Last:
    """Listens to all modules of a network and keeps the last output that is a picture of several places."""

    def __init__(self, network: nn.Module) -> None:
        self.found: Tensor | None = None
        self.network = network

    def __enter__(self) -> _Last:
        self.hooks = [module.register_forward_hook(self._hear) for module in self.network.modules()]
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self.hooks:
            hook.remove()

    def _hear(self, _module: nn.Module, _inputs: Sequence[Any], output: Any) -> None:
        if isinstance(output, Tensor) and output.ndim == 4 and output.shape[2] * output.shape[3] > 1:
            self.found = output
