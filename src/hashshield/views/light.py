"""Noise, blur, brightness and contrast as views."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import conv2d
from torch.nn.functional import pad as padded_with

from hashshield.types import View

__all__ = ["blur", "brightness", "contrast", "noise"]


def noise(sigma: float, generator: np.random.Generator) -> View:
    """Gaussian noise of that standard deviation, in [0, 1] units, drawn anew for each call; not clipped."""

    def view(images: Tensor) -> Tensor:
        drawn = generator.standard_normal(tuple(images.shape), dtype=np.float32)
        return images + sigma * torch.from_numpy(drawn).to(images.device, images.dtype)

    return view


def blur(sigma: float) -> View:
    """Gaussian blur, `sigma` in pixels; edges are repeated. Pillow's own is three box blurs of that sigma together."""

    def view(images: Tensor) -> Tensor:
        weights = _gaussian(sigma).to(images.device, images.dtype)
        reach = len(weights) // 2
        channels = images.shape[1]
        rows = weights.view(1, 1, -1, 1).expand(channels, 1, -1, 1)
        columns = weights.view(1, 1, 1, -1).expand(channels, 1, 1, -1)
        wider = padded_with(images, (reach,) * 4, mode="replicate")
        return conv2d(conv2d(wider, rows, groups=channels), columns, groups=channels)

    return view


def brightness(factor: float) -> View:
    """Every value times `factor`, clipped to [0, 1]."""
    return lambda images: (images * factor).clamp(0, 1)


def contrast(factor: float) -> View:
    """Every value's distance from the photo's mean grey times `factor`, clipped to [0, 1]."""

    def view(images: Tensor) -> Tensor:
        grey = 0.299 * images[:, :1] + 0.587 * images[:, 1:2] + 0.114 * images[:, 2:]
        mean = grey.mean((-3, -2, -1), keepdim=True)
        return (mean + (images - mean) * factor).clamp(0, 1)

    return view


@lru_cache(maxsize=32)
def _gaussian(sigma: float) -> Tensor:
    reach = max(1, round(3 * sigma))
    weights = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / sigma).square())
    return weights / weights.sum()
