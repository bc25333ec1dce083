"""`bench goals`: what a goal is worth, judged by retrieval instead of by flipped bits.

Photos are protected as PNG, written, read and hashed again. Then a service is played: it ranks its database for the
protected photo in every query mode, and by the features of the network's trunk.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from hashshield import imaging
from hashshield.arrays import Features, RelaxedCodes, Relevance
from hashshield.attacks.goals import GOALS
from hashshield.bench.config import GoalsConfig
from hashshield.bench.evaluation import QUERY_MODES, cosine
from hashshield.bench.experiment import open_protocol
from hashshield.bench.protecting import SECRET, protect_copies
from hashshield.bench.results import environment
from hashshield.errors import UsageError
from hashshield.metrics.retrieval import average_precision, bits_of, hamming, map_floor, relevance
from hashshield.models.hashing import displayed_rgb, feature_files
from hashshield.models.load import OpenModel
from hashshield.pipeline.execute import make_context
from hashshield.pipeline.targets import refuse_foreign
from hashshield.pipeline.work import Result
from hashshield.types import Progress, Request

__all__ = ["COLUMNS", "run_goals"]

COLUMNS: dict[str, tuple[str, ...]] = {
    "goals": (
        *("goal", "passed", "median_psnr_db", "map_symmetric", "map_complement", "map_predicted_flip"),
        *("map_real_valued", "rank_features"),
    ),
}

_BATCH = 32


def run_goals(config: GoalsConfig, progress: Progress) -> list[dict[str, Any]]:
    """Return a row per goal over random queries of the card's split, and one for the photos before.

    Raise UsageError, CheckpointError, and GoalError for a network that may not serve a goal.
    """
    request = Request(
        models=(config.model,),
        preset=config.preset,
        steps=config.steps,
        tau=config.tau,
        seed=config.seed,
        device=config.device,
        witness="none",
    )
    context = make_context(request, SECRET)
    (opened,) = context.models
    for goal in config.goals:
        refuse_foreign(context.models, goal)
    files, split = open_protocol(opened, config.data)
    queries = split.sample(config.photos, seed=config.seed)
    paths, gallery = ([files.root / files.paths[i] for i in rows] for rows in (queries, split.database))
    progress.start(-(-len(gallery) // _BATCH) + len(config.goals) * len(paths))
    database = feature_files(opened.model, opened.card.input, gallery, tick=lambda _n: progress.done(None))
    clean = feature_files(opened.model, opened.card.input, paths)
    relevant = relevance(files.labels[queries], files.labels[split.database])
    ranking = _Ranking(opened, database, clean, relevant)
    rows = [{"goal": "none", "photos": len(paths), **ranking.scores(clean)}]
    for goal in config.goals:
        made = dict(protect_copies(paths, replace(context, goal=GOALS[goal]), progress))
        results = [made[place] for place in range(len(paths))]
        scores = ranking.scores(_features_of_files(results, opened))
        rows.append({"goal": goal, "preset": config.preset, **_summary(results), **scores})
    floor = map_floor(relevant)
    settings = {"steps": context.method.steps, "tau": config.tau, "seed": config.seed, "queries": len(paths)}
    base = {
        "map_random": round(floor.random, 4),
        "map_lowest": round(floor.lowest, 4),
        "environment": environment(searches=[config.preset], model=opened.name, **settings),
    }
    return [{**row, **base} for row in rows]


class _Ranking:
    """A database of codes and features, ranked in every query mode."""

    def __init__(self, opened: OpenModel, database: Features, clean: Features, relevant: Relevance) -> None:
        self.opened, self.relevant = opened, relevant
        self.database, self.clean = database, clean
        self.database_bits = bits_of(self._codes(database))
        self.original_bits = bits_of(self._codes(clean))

    def scores(self, features: Features) -> dict[str, Any]:
        """Return the MAP in every query mode and by features, and the median rank of the photo's own original."""
        codes = self._codes(features)
        to_database = {name: mode(codes, self.database_bits) for name, mode in QUERY_MODES.items()}
        to_originals = {name: mode(codes, self.original_bits) for name, mode in QUERY_MODES.items()}
        to_database["features"] = -cosine(features, self.database)
        to_originals["features"] = -cosine(features, self.clean)
        found: dict[str, Any] = {}
        for name, distances in to_database.items():
            found[f"map_{name}"] = round(float(average_precision(distances, self.relevant).mean()), 4)
            ranks = 1 + (distances < np.diag(to_originals[name])[:, None]).sum(axis=1)
            found[f"rank_{name}"] = int(np.median(ranks))
        return found

    @torch.inference_mode()
    def _codes(self, features: Features) -> RelaxedCodes:
        codes = self.opened.model.codes(torch.from_numpy(features).to(self.opened.device)).code
        found: RelaxedCodes = codes.cpu().numpy()
        return found


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
        **_nearest_pair(results),
    }


def _nearest_pair(results: Sequence[Result]) -> dict[str, Any]:
    """Return how near the wanted codes of two photos come to each other, as a share of the code length."""
    wanted = np.stack([r.targets[0].wanted for r in results])
    distances = hamming(wanted, wanted)[~np.eye(len(wanted), dtype=bool)]
    return {"nearest_pair_share": round(float(distances.min()) / wanted.shape[1], 3)} if len(results) > 1 else {}


def _features_of_files(results: Sequence[Result], opened: OpenModel) -> Features:
    """Return the features of the written bytes. Raise UsageError for a photo that could not be protected."""
    rows = []
    for result in results:
        if result.data is None:
            raise UsageError(f"{result.source.name}: cannot be protected ({result.reason})")
        pixels = displayed_rgb(imaging.read(result.data, name=result.source.name))
        rows.append(opened.hash(pixels).features.float().cpu().numpy())
    return np.stack(rows)
