"""`bench survival`: what is left of a protection after what services do, and what it cost, preset by preset.

The same photos are protected in memory under every preset, in their own format or as PNG. Receipts are made with Pillow
from the written bytes. Beside each stands uniform noise of the photo's own PSNR, written and served alike.
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
from numpy.typing import NDArray
from torch.nn.functional import avg_pool2d

from hashshield import imaging
from hashshield.attacks.presets import PRESETS
from hashshield.bench.environment import environment
from hashshield.bench.photos import as_png, files_below
from hashshield.bench.veils import VEILS, veiled
from hashshield.errors import UsageError
from hashshield.metrics.image import psnr_db
from hashshield.models.hash_files import displayed_rgb
from hashshield.pipeline.execute import make_context
from hashshield.pipeline.receipt import build_receipt, measure_written
from hashshield.pipeline.targets import CodeTarget
from hashshield.pipeline.work import ProtectContext, Result, Source, work
from hashshield.storage import digest
from hashshield.transforms import to_image
from hashshield.types import CodeRow, GoalSpec, Progress, Receipt, Request, SurvivalRow

__all__ = ["flat_change", "run"]

NEAR = 2
"""Bits from the wanted code that count as still there; `away` asks for its band in place of a code."""
FLAT = 2.0
"""Standard deviation of luma, in 8-bit levels over 5 x 5 pixels, below which a place is flat."""
_FILE = "the file"
_SECRET = b"bench"

Pixels = NDArray[np.uint8]


def run(
    *,
    photos: Path,
    model: str,
    presets: Sequence[str] = (),
    goal: GoalSpec | None = None,
    png: bool = False,
    count: int | None = None,
    steps: int | None = None,
    tau: float = 0.032,
    seed: int = 0,
    device: str = "auto",
    progress: Progress,
) -> list[dict[str, Any]]:
    """One row per preset, what was done to the written photos, and view. Raises UsageError, CheckpointError, GoalError.

    At most `count` of the photos below the folder `photos`, evenly over all; copies in memory, as PNG with `png`.
    """
    files = files_below(photos)
    if not files:
        raise UsageError(f"{photos}: holds no photos; name a folder with some")
    if count is not None and count < len(files):
        files = [files[i * len(files) // count] for i in range(count)]
    presets = tuple(presets) or tuple(PRESETS)
    progress.start(len(files) * len(presets))
    rows: list[dict[str, Any]] = []
    for name in presets:
        request = Request(
            models=(model,),
            goal=goal or GoalSpec(),
            preset=name,
            tau=tau,
            steps=steps,
            seed=seed,
            device=device,
            witness="none",
        )
        progress.photo(f"preset {name}")
        rows += _Preset(request, files, png, progress).rows()
    return rows


@dataclass(frozen=True, slots=True, eq=False)
class _One:
    """One photo, before and after, and noise of the same PSNR."""

    receipt: Receipt
    noise: Receipt
    target: CodeTarget
    """Of the first network."""
    flat: float | None
    """Mean change of flat pixels in levels; None where none is flat."""


class _Preset:
    """All photos under one preset."""

    def __init__(self, request: Request, files: Sequence[Path], png: bool, progress: Progress) -> None:
        self.request, self.context = request, make_context(request, _SECRET)
        sources = []
        for path in files:
            data = as_png(path) if png else path.read_bytes()
            sources.append(Source(str(path), data, digest(data), key=data))
        began = time.process_time()
        results = []
        # Without the survival table, which is made afterwards: what is timed is the protection.
        for result in work(sources, self.context):
            results.append(result)
            progress.done(None)
        self.seconds = (time.process_time() - began) / len(files)
        self.refused = [result.source.name for result in results if result.data is None]
        worked = [result for result in results if result.data is not None]
        self.photos = [_measured(result, self.context, request.seed or 0) for result in worked]

    def rows(self) -> Iterator[dict[str, Any]]:
        """The written file, then each service."""
        if not self.photos:
            raise UsageError(f"none of the photos could be worked on ({', '.join(self.refused[:3])})")
        flat = [photo.flat for photo in self.photos if photo.flat is not None]
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
            "environment": environment(seed=self.request.seed, tau=self.request.tau, steps=self.request.steps),
        }
        kept, noisy = (
            [(*receipt.codes, *receipt.survival) for receipt in receipts]
            for receipts in ([photo.receipt for photo in self.photos], [photo.noise for photo in self.photos])
        )
        targets = [photo.target for photo in self.photos]
        everywhere: dict[str, set[int]] = {}
        summaries = []
        # Receipts of one preset have the same rows in the same order.
        for same, alike in zip(zip(*kept, strict=True), zip(*noisy, strict=True), strict=True):
            if any(row.distance_to_goal is not None for row in same):
                summary, met = _summary(same, alike, targets)
                summaries.append(summary)
                everywhere.setdefault(summary["transform"], met).intersection_update(met)
        for summary in summaries:
            met_everywhere = len(everywhere[summary["transform"]])
            yield {**common, **summary, "goal_met_in_every_view": met_everywhere}


def _summary(
    same: Sequence[CodeRow | SurvivalRow], noise: Sequence[CodeRow | SurvivalRow], targets: Sequence[CodeTarget]
) -> tuple[dict[str, Any], set[int]]:
    """One transform and view, over all photos to which it applies, beside noise after the same; who met the goal."""
    to_goal, from_own = _distances(same)
    met = {
        number
        for number, (row, target) in enumerate(zip(same, targets, strict=True))
        if row.distance_from_original is not None
        and row.distance_to_goal is not None
        and target.meets(row.distance_from_original, row.distance_to_goal, NEAR)
    }
    summary = {
        "transform": getattr(same[0], "transform", _FILE),
        "view": same[0].view,
        "measured": len(to_goal),
        "goal_met": len(met),
        "within_2": sum(distance <= NEAR for distance in to_goal),
        "median_to_goal": statistics.median(to_goal),
        "median_from_original": statistics.median(from_own),
        "noise_median_from_original": statistics.median(_distances(noise)[1]),
    }
    return summary, met


def _distances(rows: Sequence[CodeRow | SurvivalRow]) -> tuple[list[int], list[int]]:
    """To the goal and from the original, of the rows that were measured."""
    return (
        [row.distance_to_goal for row in rows if row.distance_to_goal is not None],
        [row.distance_from_original for row in rows if row.distance_from_original is not None],
    )


def _measured(result: Result, context: ProtectContext, seed: int) -> _One:
    assert result.data is not None
    assert isinstance(result.source.key, bytes)
    name = result.source.name
    before = imaging.read(result.source.key, name=name)
    after = imaging.read(result.data, name=name)
    noisy, _ = veiled(before.pixels, VEILS["noise"][0], psnr_db(after.pixels, before.pixels), seed=seed)

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
    return _One(receipt(result.data), receipt(imaging.write(before, noisy)), result.targets[0], flat)


def flat_change(before: Pixels, after: Pixels) -> float | None:
    """Mean absolute change, in 8-bit levels, of the pixels of (H, W, 3) `before` around which luma is flat."""
    luma = (to_image(before) * torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(0)[None, None] * 255
    mean, square = (avg_pool2d(plane, 5, stride=1) for plane in (luma, luma.square()))
    flat = ((square - mean.square()).clamp_min(0).sqrt() < FLAT)[0, 0].numpy()
    change = np.abs(after.astype(np.int16) - before)[2:-2, 2:-2].mean(axis=2)
    return float(change[flat].mean()) if flat.any() else None
