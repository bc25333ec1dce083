"""Goals, measured by retrieval instead of flipped bits.

`bench goals` protects photos as PNG, then decodes and hashes them as a service would: the service ranks its database
for the protected photo in every query mode, and by the features of the network's trunk.

`bench adaptive` tests goals against a service that knows of them and adapts after photos were protected. Photos are
protected once, as PNG, for one network. The service then queries its database in other ways, filters photos before
hashing, uses another network or both, detects photos far from the nearest code, or fine-tunes its code layer on pairs
of protected and clean photos and is tested on the others.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from hashshield import imaging
from hashshield.arrays import Distances, Features, Pixels, RelaxedCodes, Relevance
from hashshield.attacks.goals import GOALS
from hashshield.bench.config import AdaptiveConfig, BenchConfig, GoalsConfig
from hashshield.bench.distortions import INPUT_DEFENCES, MODEL_DEFENCES, amplified, detection_auc, fine_tuned
from hashshield.bench.evaluation import (
    QUERY_MODES,
    RetrievalEvaluator,
    codes_of,
    cosine,
    features_of,
    image_quality,
    pixels_of,
    with_interval,
)
from hashshield.bench.experiment import Experiment, anchor_codes, database_features, open_experiment, open_protocol
from hashshield.bench.protecting import SECRET, protect_copies, protect_queries
from hashshield.bench.results import Trial, environment
from hashshield.errors import UsageError
from hashshield.metrics.retrieval import average_precision, bits_of, hamming, map_floor, relevance
from hashshield.models.hashing import displayed_rgb, feature_files
from hashshield.models.load import OpenModel
from hashshield.pipeline.execute import make_context
from hashshield.pipeline.targets import refuse_foreign
from hashshield.pipeline.work import Result
from hashshield.types import Progress, Request

__all__ = ["COLUMNS", "SHARES", "run_adaptive", "run_goals"]

COLUMNS: dict[str, tuple[str, ...]] = {
    "goals": (
        *("goal", "passed", "median_psnr_db", "map_symmetric", "map_complement", "map_predicted_flip"),
        *("map_real_valued", "rank_features"),
    ),
    "adaptive": (
        *("bits", "goal", "against", "photos", "map", "map_low", "map_high", "map_random", "map_reference", "auc"),
        "median_psnr_db",
    ),
}

_BATCH = 32
SHARES = (0.0, 0.01, 0.1, 0.5)
"""Shares of the protected photos of which the service has pairs; it is tested on the half of which it never has."""
_INDEX_PHOTOS = 2000
"""Number of database photos whose codes must not change when the service fine-tunes."""


def run_goals(config: GoalsConfig, progress: Progress) -> list[dict[str, Any]]:
    """Return a row per goal over random queries of the card's split, and one for the unprotected photos.

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
    """Return the smallest distance between the target bits of two photos, as a share of the code length."""
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


def run_adaptive(config: AdaptiveConfig, progress: Progress) -> list[dict[str, Any]]:
    """Return a row per code length, goal and defence. Raise UsageError, CheckpointError, GoalError."""
    experiment = open_experiment(config, progress, goals=config.goals)
    services = [_other_network(experiment, config, name, progress) for name in config.services]
    count = len(experiment.picked)
    progress.start(count * len(config.goals) * len(experiment.lengths))
    features = database_features(experiment, progress)
    settings = {"services": list(config.services), "psnr": config.psnr, "kept": _INDEX_PHOTOS}
    with experiment.recording("adaptive", searches=["invisible"], tau=config.tau, **settings) as result:
        for length in experiment.lengths:
            service = _Service(experiment, length, services, features)
            base = {**service.base("none", count)}
            result.rows += [{**base, **row} for row in service.rows(experiment.photos)]
            for goal in config.goals:
                trials = protect_queries(experiment, length, goal, tau=config.tau, progress=progress)
                if config.psnr is not None:
                    trials = _amplified(experiment, trials, config.psnr)
                base = {**service.base(goal, count), **image_quality(experiment, trials)}
                result.rows += [{**base, **row} for row in service.rows(pixels_of(trials))]
    return result.rows


def _amplified(experiment: Experiment, trials: Sequence[Trial], psnr: float) -> list[Trial]:
    tau, seed = experiment.config.tau, experiment.seed
    return [
        Trial(amplified(before, trial.pixels, psnr, tau=tau, seed=seed), trial.record)
        for before, trial in zip(experiment.photos, trials, strict=True)
    ]


def _other_network(experiment: Experiment, config: BenchConfig, name: str, progress: Progress) -> Experiment:
    """Open another network on the same split. Raise UsageError if its card names another one."""
    found = open_experiment(replace(config, models=(name,)), progress)
    same = found.files.paths == experiment.files.paths and np.array_equal(found.split.queries, experiment.split.queries)
    if not same or not np.array_equal(found.split.database, experiment.split.database):
        raise UsageError(
            f"{name}: its card splits {found.files.name} differently from that of {experiment.name}; a service "
            "would have learnt from the queries, so name a network of the same split"
        )
    return found


class _Service:
    """A service with one code length, and all its defences."""

    def __init__(
        self, experiment: Experiment, length: int, other_networks: Sequence[Experiment], features: Features
    ) -> None:
        self.experiment, self.length = experiment, length
        self.other_networks, self.features = other_networks, features
        self.opened = experiment.model(length)
        self.labels = experiment.labels
        self.evaluator = RetrievalEvaluator(experiment, length, self.labels)
        floor = map_floor(self.evaluator.relevant)
        self.bounds = {
            "map_random": round(floor.random, 4),
            "map_lowest": round(floor.lowest, 4),
            "map_reference": self.evaluator.map_of_bits(anchor_codes(experiment, length)),
        }
        self.clean_features = features_of(self.opened, experiment.photos)
        self.clean_nearest = self._nearest(codes_of(self.opened, experiment.photos))

    def base(self, goal: str, count: int) -> dict[str, Any]:
        """Return the entries that all rows of a goal share."""
        return {"bits": self.length, "goal": goal, "photos": count, **self.bounds}

    def rows(self, photos: Sequence[Pixels]) -> Iterator[dict[str, Any]]:
        """Yield a row per defence: `map`, or `auc` for detection."""
        codes = codes_of(self.opened, photos)
        for name in QUERY_MODES:
            yield {"against": name, **self.evaluator.interval(codes, mode=name)}
        features = features_of(self.opened, photos)
        by_features = average_precision(-cosine(features, self.features), self.evaluator.relevant)
        yield {"against": "features", **with_interval("map", by_features, seed=self.experiment.seed)}
        for name, change in INPUT_DEFENCES.items():
            yield {"against": name, **self.evaluator.interval(codes_of(self.opened, photos, change))}
        with torch.inference_mode():
            for name, hashed in MODEL_DEFENCES.items():
                rows = [hashed(self.opened, pixels).float().cpu().numpy() for pixels in photos]
                yield {"against": name, **self.evaluator.interval(np.stack(rows))}
        yield from self._other_network_rows(photos, codes)
        yield {"against": "detection", "auc": round(detection_auc(self.clean_nearest, self._nearest(codes)), 4)}
        yield from self._fine_tuned_rows(features)

    def _other_network_rows(self, photos: Sequence[Pixels], codes: RelaxedCodes) -> Iterator[dict[str, Any]]:
        """Yield rows of another network alone, and of both together: distances, as shares of the code length, added."""
        distances = hamming(bits_of(codes), self.evaluator.database) / self.length
        for other in self.other_networks:
            length = other.lengths[-1]
            other_codes = codes_of(other.model(length), photos)
            evaluator = RetrievalEvaluator(other, length, self.labels)
            yield {"against": f"network {other.name}", **evaluator.interval(other_codes)}
            both = distances + hamming(bits_of(other_codes), evaluator.database) / length
            scores = average_precision(both, self.evaluator.relevant)
            yield {"against": f"with {other.name}", **with_interval("map", scores, seed=self.experiment.seed)}

    def _fine_tuned_rows(self, features: Features) -> Iterator[dict[str, Any]]:
        """Yield rows of code layers fine-tuned on a share of all photos from one half, tested on the other half."""
        half = len(features) // 2
        evaluator = RetrievalEvaluator(self.experiment, self.length, self.labels[:half])
        device, seed = self.opened.device, self.experiment.seed
        rows = np.random.default_rng(seed).permutation(len(self.features))[:_INDEX_PHOTOS]
        index = torch.from_numpy(self.features[rows]).to(device)
        for share in SHARES:
            pairs = slice(half, half + (max(1, round(share * len(features))) if share else 0))
            protected, clean = (torch.from_numpy(f[pairs]).to(device) for f in (features, self.clean_features))
            learner = fine_tuned(self.opened.model, protected, clean, index, seed=seed)
            with torch.inference_mode():
                codes = learner.codes(torch.from_numpy(features[:half]).to(device)).code.float().cpu().numpy()
            yield {
                "against": f"fine-tuned on {share:.0%}",
                "pairs": len(protected),
                "photos": half,
                **evaluator.interval(codes),
            }

    def _nearest(self, codes: RelaxedCodes) -> Distances:
        """Return the (n,) distances to the nearest code of the database."""
        found: Distances = hamming(bits_of(codes), self.evaluator.database).min(axis=1)
        return found
