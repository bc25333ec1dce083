"""`bench survival`: what is left of a protection after what services do, and what it cost, preset by preset.

The same photos are protected in memory under every preset, in their own format or as PNG. Receipts are made with Pillow
from the written bytes. Beside each stands uniform noise of the photo's own PSNR, written and served alike.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import avg_pool2d

from hashshield import imaging
from hashshield.attacks.presets import PRESETS
from hashshield.bench.environment import environment
from hashshield.bench.photos import as_png
from hashshield.bench.veils import VEILS, veiled
from hashshield.errors import UsageError
from hashshield.metrics.image import psnr_db
from hashshield.models.hash_files import upright_rgb
from hashshield.pipeline.execute import make_tools
from hashshield.pipeline.receipt import judge, read_again
from hashshield.pipeline.work import Result, Source, Tools, work
from hashshield.storage import digest, walk
from hashshield.types import CodeRow, GoalSpec, Progress, Receipt, Request, SurvivalRow
from hashshield.views import to_image

__all__ = ["flat_change", "run"]

NEAR = 2
"""Bits from the wanted code that count as still there."""
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
    files = [path for path in walk(photos) if imaging.sniff(path.read_bytes()[:64]) in imaging.SUPPORTED]
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
            survival=True,
            witness="none",
        )
        progress.photo(f"preset {name}")
        rows += _Preset(request, files, png, progress).rows()
    return rows


@dataclass(frozen=True, slots=True, eq=False)
class _One:
    """One photo, before and after, and noise of the same PSNR."""

    result: Result
    receipt: Receipt
    noise: Receipt
    flat: float | None
    """Mean change of flat pixels in levels; None where none is flat."""


class _Preset:
    """All photos under one preset."""

    def __init__(self, request: Request, files: Sequence[Path], png: bool, progress: Progress) -> None:
        self.request, self.tools = request, make_tools(request, _SECRET)
        sources = []
        for path in files:
            data = as_png(path) if png else path.read_bytes()
            sources.append(Source(str(path), data, digest(data), key=data))
        began = time.process_time()
        results = []
        # Survival is made afterwards, so that what is timed is the protection.
        for result in work(sources, replace(self.tools, survival=False)):
            results.append(result)
            progress.done(None)
        self.seconds = (time.process_time() - began) / len(files)
        self.refused = [result.source.name for result in results if result.data is None]
        worked = [result for result in results if result.data is not None]
        self.photos = [_measured(result, self.tools, request.seed or 0) for result in worked]

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
        kept = [[(row, _FILE, row.view) for row in photo.receipt.codes] for photo in self.photos]
        noisy = [[(row, _FILE, row.view) for row in photo.noise.codes] for photo in self.photos]
        yield from _by_place(common, kept, noisy)
        kept_later = [[(row, row.transform, row.view) for row in photo.receipt.survival] for photo in self.photos]
        noisy_later = [[(row, row.transform, row.view) for row in photo.noise.survival] for photo in self.photos]
        yield from _by_place(common, kept_later, noisy_later)


_Placed = tuple[CodeRow | SurvivalRow, str, str]


def _by_place(
    common: dict[str, Any], kept: Sequence[Sequence[_Placed]], noisy: Sequence[Sequence[_Placed]]
) -> Iterator[dict[str, Any]]:
    """One row for each transform and view, over all photos to which it applies."""
    for index, (_, transform, view) in enumerate(kept[0]):
        there = [rows[index][0] for rows in kept if rows[index][0].distance_to_goal is not None]
        noise = [rows[index][0] for rows in noisy if rows[index][0].distance_to_goal is not None]
        if not there:
            continue
        to_goal, from_own = _distances(there)
        yield {
            **common,
            "transform": transform,
            "view": view,
            "measured": len(there),
            "within_2": sum(distance <= NEAR for distance in to_goal),
            "median_to_goal": statistics.median(to_goal),
            "median_from_original": statistics.median(from_own),
            "noise_median_from_original": statistics.median(_distances(noise)[1]),
        }


def _distances(rows: Sequence[CodeRow | SurvivalRow]) -> tuple[list[int], list[int]]:
    """To the goal and from the original, of rows that were measured."""
    return [r.distance_to_goal or 0 for r in rows], [r.distance_from_original or 0 for r in rows]


def _measured(result: Result, tools: Tools, seed: int) -> _One:
    assert result.data is not None
    assert isinstance(result.source.key, bytes)
    name = result.source.name
    before = imaging.read(result.source.key, name=name)
    after = imaging.read(result.data, name=name)
    noisy, _ = veiled(before.pixels, VEILS["noise"][0], psnr_db(after.pixels, before.pixels), seed=seed)

    def receipt(data: bytes) -> Receipt:
        again = read_again(data, before, tools.looks, name=name, survival=True)
        return judge(
            again, result.marks, tools.looks, linf_applied=0, tolerance=tools.tolerance, lossless=before.lossless
        )

    flat = flat_change(upright_rgb(before), upright_rgb(after))
    return _One(result, receipt(result.data), receipt(imaging.write(before, noisy)), flat)


def flat_change(before: Pixels, after: Pixels) -> float | None:
    """Mean absolute change, in 8-bit levels, of the pixels of (H, W, 3) `before` around which luma is flat."""
    luma = (to_image(before) * torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(0)[None, None] * 255
    mean, square = (avg_pool2d(plane, 5, stride=1) for plane in (luma, luma.square()))
    flat = ((square - mean.square()).clamp_min(0).sqrt() < FLAT)[0, 0].numpy()
    change = np.abs(after.astype(np.int16) - before)[2:-2, 2:-2].mean(axis=2)
    return float(change[flat].mean()) if flat.any() else None
