"""`bench goals`: what a goal is worth, judged by retrieval instead of by flipped bits.

Photos are protected as PNG, written, read and hashed again. Then a service is played: it ranks its database for the
protected photo by Hamming distance, by the complement of the query, by the query with its least certain bits flipped
back, by real-valued codes, and by the backbone's features.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hashshield import imaging
from hashshield.attacks.goals import GOALS
from hashshield.bench.environment import environment
from hashshield.bench.map import open_protocol
from hashshield.bench.photos import protect_all
from hashshield.bench.service import ASKING, cosine
from hashshield.metrics.hamming import bits_of, hamming
from hashshield.metrics.retrieval import average_precision, map_floor, relevance
from hashshield.models.hash_files import displayed_rgb, feature_files
from hashshield.models.load import OpenModel
from hashshield.pipeline.execute import make_context
from hashshield.pipeline.work import Result
from hashshield.transforms import pillow_view
from hashshield.types import GoalKind, Progress, Request

__all__ = ["run"]

_SECRET = b"bench"
Array = NDArray[np.float32]


def run(
    *,
    model: str,
    data: Path,
    goals: Sequence[GoalKind],
    preset: str = "invisible",
    photos: int = 100,
    steps: int | None = None,
    seed: int = 0,
    tau: float = 0.032,
    device: str = "auto",
    progress: Progress,
) -> list[dict[str, Any]]:
    """One row per goal over `photos` random queries of the card's split. Raises UsageError, CheckpointError."""
    request = Request(models=(model,), preset=preset, steps=steps, tau=tau, seed=seed, device=device, witness="none")
    context = make_context(request, _SECRET)
    opened = context.models[0]
    files, split = open_protocol(opened, data)
    queries = split.sample(photos, seed=seed)
    progress.start(-(-len(split.database) // 32) + len(goals) * len(queries))
    size = opened.card.input
    database = feature_files(
        opened.model, size, [files.root / files.paths[i] for i in split.database], tick=lambda _n: progress.done(None)
    )
    paths = [files.root / files.paths[i] for i in queries]
    clean = feature_files(opened.model, size, paths)
    relevant = relevance(files.labels[queries], files.labels[split.database])
    service = _Service(opened, database, clean, relevant)
    rows = [{"goal": "none", "photos": len(paths), **service.scores(clean)}]
    for goal in goals:
        results = protect_all(paths, replace(context, goal=GOALS[goal]), progress)
        rows.append(
            {"goal": goal, "preset": preset, **_summary(results), **service.scores(_features_of(results, opened))}
        )
    floor = map_floor(relevant)
    known = environment(model=opened.name, steps=context.search.steps, tau=tau, seed=seed, queries=len(paths))
    base = {"map_random": round(floor.random, 4), "map_lowest": round(floor.lowest, 4), "environment": known}
    return [{**row, **base} for row in rows]


class _Service:
    """A database of codes and features, and the ways it can be asked."""

    def __init__(self, model: OpenModel, database: Array, clean: Array, relevant: NDArray[np.bool_]) -> None:
        self.model, self.relevant = model, relevant
        self.database, self.clean = database, clean
        self.codes = self._codes(database)
        self.original_bits = self._codes(clean)

    def scores(self, features: Array) -> dict[str, Any]:
        """MAP per way of asking, and where the photo's own original ranks."""
        codes = self._codes(features)
        asked = {name: ask(codes, bits_of(self.codes)) for name, ask in ASKING.items()}
        to_own = {name: ask(codes, bits_of(self.original_bits)) for name, ask in ASKING.items()}
        asked["features"] = -cosine(features, self.database)
        to_own["features"] = -cosine(features, self.clean)
        found: dict[str, Any] = {}
        for name, distances in asked.items():
            found[f"map_{name}"] = round(float(average_precision(distances, self.relevant).mean()), 4)
            ranks = 1 + (distances < np.diag(to_own[name])[:, None]).sum(axis=1)
            found[f"rank_{name}"] = int(np.median(ranks))
        return found

    @torch.inference_mode()
    def _codes(self, features: Array) -> Array:
        codes: Array = (
            self.model.model.codes(torch.from_numpy(features).to(self.model.model.mean.device)).code.cpu().numpy()
        )
        return codes


def _summary(results: Sequence[Result]) -> dict[str, Any]:
    receipts = [r.receipt for r in results if r.receipt is not None]
    rows = [receipt.codes[0] for receipt in receipts]
    return {
        "photos": len(results),
        "passed": sum(receipt.passed for receipt in receipts),
        "median_psnr_db": round(statistics.median(receipt.psnr_db for receipt in receipts), 2),
        "median_ssim": round(statistics.median(receipt.ssim for receipt in receipts), 4),
        "mean_distance_from_original": round(statistics.mean(row.distance_from_original for row in rows), 2),
        "mean_distance_to_goal": round(statistics.mean(row.distance_to_goal for row in rows), 2),
        "largest_levels": max(receipt.linf_levels for receipt in receipts),
        "mean_steps": round(statistics.mean(r.steps for r in results), 1),
        **_unlinked(results),
    }


def _unlinked(results: Sequence[Result]) -> dict[str, Any]:
    """How near protected photos come to one another, as a share of the code."""
    wanted = np.stack([r.targets[0].wanted for r in results])
    distances = hamming(wanted, wanted)[~np.eye(len(wanted), dtype=bool)]
    return {"nearest_pair_share": round(float(distances.min()) / wanted.shape[1], 3)} if len(results) > 1 else {}


@torch.inference_mode()
def _features_of(results: Sequence[Result], model: OpenModel) -> Array:
    """Hash what was written, from its bytes."""
    rows = []
    for result in results:
        assert result.data is not None
        displayed = displayed_rgb(imaging.read(result.data, name=result.source.name))
        image = pillow_view(displayed, model.card.input)[None].to(model.model.mean.device)
        rows.append(model.model.features(image)[0].float().cpu().numpy())
    return np.stack(rows)
