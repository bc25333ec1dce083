"""Trials, measured on the pixels as they were written and read again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hashshield.bench.pool import Trial
from hashshield.bench.stage import Stage
from hashshield.metrics.hamming import bits_of
from hashshield.metrics.image import linf_levels, psnr_db, ssim
from hashshield.transforms import pillow_view

__all__ = ["closeness", "codes_of", "features_of", "quality"]

_BATCH = 32

Codes = NDArray[np.float32]
Pixels = NDArray[np.uint8]


@torch.inference_mode()
def codes_of(
    stage: Stage, length: int, photos: Sequence[Pixels], change: Callable[[Pixels], Pixels] | None = None
) -> Codes:
    """Relaxed (n, K) codes of upright pixels, after `change` where one is given."""
    opened, rows = stage.model(length), []
    for first in range(0, len(photos), _BATCH):
        some = [photo if change is None else change(photo) for photo in photos[first : first + _BATCH]]
        images = torch.stack([pillow_view(pixels, opened.card.input) for pixels in some])
        rows.append(opened.model(images.to(opened.model.mean.device)).code.float().cpu().numpy())
    return np.concatenate(rows)


@torch.inference_mode()
def features_of(stage: Stage, length: int, photos: Sequence[Pixels]) -> NDArray[np.float32]:
    """(n, D) features of upright pixels."""
    opened, rows = stage.model(length), []
    for first in range(0, len(photos), _BATCH):
        images = torch.stack([pillow_view(pixels, opened.card.input) for pixels in photos[first : first + _BATCH]])
        rows.append(opened.model.features(images.to(opened.model.mean.device)).float().cpu().numpy())
    return np.concatenate(rows)


def quality(stage: Stage, trials: Sequence[Trial]) -> dict[str, Any]:
    """How far the changed photos are from the originals: PSNR, SSIM, largest change in levels."""
    pairs = [(trial.pixels, stage.pixels[int(row)]) for trial, row in zip(trials, stage.picked, strict=False)]
    noise = [psnr_db(after, before) for after, before in pairs]
    return {
        "photos": len(trials),
        "median_psnr_db": round(float(np.median(noise)), 2),
        "lowest_psnr_db": round(min(noise), 2),
        "median_ssim": round(float(np.median([ssim(after, before) for after, before in pairs])), 5),
        "largest_levels": max(linf_levels(after, before) for after, before in pairs),
    }


def closeness(codes: Codes, wanted: NDArray[np.int8]) -> dict[str, Any]:
    """How near (n, K) codes came to their wanted bits."""
    distances = (bits_of(codes) != wanted).sum(axis=1)
    return {
        "mean_distance_to_target": round(float(distances.mean()), 3),
        "share_at_target": round(float((distances == 0).mean()), 4),
    }
