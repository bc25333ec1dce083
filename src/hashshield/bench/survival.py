"""`bench survival`: how often a protection survives the transforms of services, and how visible it is, by preset.

The same photos are protected in memory under every preset, in their own format or as PNG. Receipts are measured on the
written bytes, with Pillow. For comparison, the originals with uniform noise of the same PSNR are written and
transformed in the same way.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import avg_pool2d

from hashshield import imaging
from hashshield.arrays import Pixels
from hashshield.attacks.presets import PRESETS
from hashshield.bench.config import SurvivalConfig
from hashshield.bench.distortions import noise_of_psnr
from hashshield.bench.protecting import SECRET, as_png, photos_below
from hashshield.bench.results import environment
from hashshield.errors import UsageError
from hashshield.models.hashing import displayed_rgb
from hashshield.pipeline.execute import make_context
from hashshield.pipeline.receipt import build_receipt, measure_written
from hashshield.pipeline.targets import CodeTarget
from hashshield.pipeline.work import ProtectContext, Result, Source, work
from hashshield.storage import digest
from hashshield.transforms import to_image
from hashshield.types import CodeRow, Progress, Receipt, Request, SurvivalRow

__all__ = ["COLUMNS", "flat_change", "run_survival"]

COLUMNS: dict[str, tuple[str, ...]] = {
    "survival": (
        *("preset", "transform", "view", "measured", "goal_met", "goal_met_in_every_view", "within_2"),
        *("median_to_goal", "median_from_original", "noise_median_from_original", "median_psnr_db"),
    ),
}

_NEAR = 2
"""Greatest distance from the target, in bits, at which a protection counts as kept; for `away` the band decides."""
_FLAT_LUMA = 2.0
"""A place is flat if the standard deviation of luma over 5 x 5 pixels is below this, in 8-bit levels."""
_FILE = "the file"


def run_survival(config: SurvivalConfig, progress: Progress) -> list[dict[str, Any]]:
    """Return a row per preset, transform of the written photos, and view.

    Photos are protected as copies in memory. Raise UsageError, CheckpointError, GoalError.
    """
    files = photos_below(config.photos)
    if config.count is not None and config.count < len(files):
        files = [files[i * len(files) // config.count] for i in range(config.count)]
    presets = config.presets or tuple(PRESETS)
    progress.start(len(files) * len(presets))
    rows: list[dict[str, Any]] = []
    for name in presets:
        request = Request(
            models=(config.model,),
            goal=config.goal,
            preset=name,
            tau=config.tau,
            steps=config.steps,
            seed=config.seed,
            device=config.device,
            witness="none",
        )
        progress.photo(f"preset {name}")
        rows += _PresetTrials(request, files, config.png, progress).rows()
    return rows


@dataclass(frozen=True, slots=True, eq=False)
class _ProtectedPhoto:
    """One protected photo, and the original with noise of the same PSNR."""

    receipt: Receipt
    noise_receipt: Receipt
    target: CodeTarget
    """Target of the first network."""
    flat_change: float | None
    """Mean change of flat pixels in 8-bit levels; None if none is flat."""


class _PresetTrials:
    """All photos under one preset."""

    def __init__(self, request: Request, files: Sequence[Path], png: bool, progress: Progress) -> None:
        self.request, self.context = request, make_context(request, SECRET)
        sources = []
        for path in files:
            data = as_png(path) if png else path.read_bytes()
            sources.append(Source(str(path), data, digest(data), key=data))
        began = time.process_time()
        results = []
        # The survival table is measured afterwards, so that only the protection is timed.
        for result in work(sources, self.context):
            results.append(result)
            progress.done(None)
        self.seconds = (time.process_time() - began) / len(files)
        self.refused = [result.source.name for result in results if result.data is None]
        worked = [result for result in results if result.data is not None]
        self.photos = [_measured(result, self.context, request.seed or 0) for result in worked]

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield the rows of the written file, then of each transform."""
        if not self.photos:
            raise UsageError(f"none of the photos could be worked on ({', '.join(self.refused[:3])})")
        flat = [photo.flat_change for photo in self.photos if photo.flat_change is not None]
        common = {
            "preset": self.request.preset,
            "model": self.request.models[0],
            "goal": self.request.goal.value or self.request.goal.kind,
            "photos": len(self.photos),
            "refused": len(self.refused),
            "share_protected": round(sum(photo.receipt.passed for photo in self.photos) / len(self.photos), 4),
            "median_psnr_db": round(statistics.median(photo.receipt.psnr_db for photo in self.photos), 2),
            "lowest_psnr_db": round(min(photo.receipt.psnr_db for photo in self.photos), 2),
            "median_ssim": round(statistics.median(photo.receipt.ssim for photo in self.photos), 5),
            "median_flat_change_levels": round(statistics.median(flat), 3) if flat else None,
            "photos_with_flat_parts": len(flat),
            "processor_seconds_per_photo": round(self.seconds, 3),
            "environment": environment(
                searches=[self.request.preset],
                seed=self.request.seed,
                tau=self.request.tau,
                steps=self.request.steps,
            ),
        }
        protected, noisy = (
            [(*receipt.codes, *receipt.survival) for receipt in receipts]
            for receipts in ([photo.receipt for photo in self.photos], [photo.noise_receipt for photo in self.photos])
        )
        targets = [photo.target for photo in self.photos]
        everywhere: dict[str, set[int]] = {}
        summaries = []
        # Receipts of one preset have the same rows in the same order.
        for rows, noise_rows in zip(zip(*protected, strict=True), zip(*noisy, strict=True), strict=True):
            if any(row.distance_to_goal is not None for row in rows):
                summary, met = _summary(rows, noise_rows, targets)
                summaries.append(summary)
                everywhere.setdefault(summary["transform"], met).intersection_update(met)
        for summary in summaries:
            met_everywhere = len(everywhere[summary["transform"]])
            yield {**common, **summary, "goal_met_in_every_view": met_everywhere}


def _summary(
    rows: Sequence[CodeRow | SurvivalRow], noise_rows: Sequence[CodeRow | SurvivalRow], targets: Sequence[CodeTarget]
) -> tuple[dict[str, Any], set[int]]:
    """Summarise one transform and view over the photos it applies to; also return the indices of those at the goal."""
    to_goal, from_original = _distances(rows)
    met = {
        number
        for number, (row, target) in enumerate(zip(rows, targets, strict=True))
        if row.distance_from_original is not None
        and row.distance_to_goal is not None
        and target.meets(row.distance_from_original, row.distance_to_goal, _NEAR)
    }
    summary = {
        "transform": getattr(rows[0], "transform", _FILE),
        "view": rows[0].view,
        "measured": len(to_goal),
        "goal_met": len(met),
        "within_2": sum(distance <= _NEAR for distance in to_goal),
        "median_to_goal": statistics.median(to_goal),
        "median_from_original": statistics.median(from_original),
        "noise_median_from_original": statistics.median(_distances(noise_rows)[1]),
    }
    return summary, met


def _distances(rows: Sequence[CodeRow | SurvivalRow]) -> tuple[list[int], list[int]]:
    """Return the distances to the goal and from the original of all measured rows."""
    return (
        [row.distance_to_goal for row in rows if row.distance_to_goal is not None],
        [row.distance_from_original for row in rows if row.distance_from_original is not None],
    )


def _measured(result: Result, context: ProtectContext, seed: int) -> _ProtectedPhoto:
    assert result.data is not None
    assert isinstance(result.source.key, bytes)
    name = result.source.name
    before = imaging.read(result.source.key, name=name)
    after = imaging.read(result.data, name=name)
    noisy = noise_of_psnr(before.pixels, after.pixels, seed=seed)

    def receipt(data: bytes) -> Receipt:
        again = measure_written(data, before, context.promised_views, name=name, survival=True)
        return build_receipt(
            again,
            result.targets,
            context.promised_views,
            linf_applied=0,
            tolerance=context.tolerance,
            lossless=before.lossless,
        )

    flat = flat_change(displayed_rgb(before), displayed_rgb(after))
    return _ProtectedPhoto(receipt(result.data), receipt(imaging.write(before, noisy)), result.targets[0], flat)


def flat_change(before: Pixels, after: Pixels) -> float | None:
    """Return the mean absolute change, in 8-bit levels, of pixels of (H, W, 3) `before` around which luma is flat.

    None if no place is flat.
    """
    luma = (to_image(before) * torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(0)[None, None] * 255
    mean, square = (avg_pool2d(plane, 5, stride=1) for plane in (luma, luma.square()))
    flat = ((square - mean.square()).clamp_min(0).sqrt() < _FLAT_LUMA)[0, 0].numpy()
    change = np.abs(after.astype(np.int16) - before)[2:-2, 2:-2].mean(axis=2)
    return float(change[flat].mean()) if flat.any() else None
