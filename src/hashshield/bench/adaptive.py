"""`bench adaptive`: goals against a service that knows of them, and that adapts after photos were protected.

Photos are protected once, as PNG, for one network. Then the service asks its database in other ways, treats pictures
before it hashes them, looks with another network or with both, looks at how far the nearest code is, or fine-tunes its
code layer on pairs of protected and clean photos and is asked about the others.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hashshield.bench.countermeasures import BEFORE, INSIDE, adapted, detection_auc
from hashshield.bench.judge import Judge
from hashshield.bench.measure import codes_of, features_of, quality
from hashshield.bench.pool import Trial
from hashshield.bench.protecting import run_goal
from hashshield.bench.results import result
from hashshield.bench.service import ASKING, cosine
from hashshield.bench.stage import Asked, Stage, database_features, set_stage
from hashshield.bench.targets import own_anchors
from hashshield.bench.veils import amplified
from hashshield.errors import UsageError
from hashshield.metrics.hamming import bits_of, hamming
from hashshield.metrics.retrieval import map_floor, mean_average_precision
from hashshield.types import GoalKind, Progress

__all__ = ["GOALS", "SHARES", "run"]

GOALS: tuple[GoalKind, ...] = ("away", "opposite", "decoy", "center")
SHARES = (0.0, 0.01, 0.1, 0.5)
"""Of the protected photos, how many the service has as pairs; it is judged on the half that is never among them."""
_KEPT = 2000
"""Photos of the database whose codes must stay what they are."""

Pixels = NDArray[np.uint8]
Features = NDArray[np.float32]


def run(
    asked: Asked,
    *,
    goals: Sequence[GoalKind] = (),
    services: Sequence[str] = (),
    psnr: float | None = None,
    progress: Progress,
) -> list[dict[str, Any]]:
    """One row per length, goal and countermeasure; all goals that need no target unless some are given.

    With `psnr` (dB) changes that are smaller are made as large as that, so that goals are compared at an equal price.
    Raises UsageError, CheckpointError, GoalError.
    """
    goals = goals or GOALS
    stage = set_stage(asked, progress)
    other_view_bits = [_other(stage, asked, name, progress) for name in services]
    count = len(stage.picked)
    progress.start(count * len(goals) * len(stage.lengths))
    features = database_features(stage, progress)
    with result("adaptive", stage, asked.output, tau=asked.tau, services=list(services), psnr=psnr, kept=_KEPT) as to:
        for length in stage.lengths:
            service = _Service(stage, length, other_view_bits, features)
            clean = [stage.pixels[int(row)] for row in stage.picked]
            to.rows += [{**service.base("none", count), **row} for row in service.rows(clean)]
            for goal in goals:
                trials = run_goal(stage, length, goal, tau=asked.tau, count=count, progress=progress)
                if psnr is not None:
                    trials = [
                        Trial(amplified(before, trial.pixels, psnr, tau=asked.tau, seed=asked.seed), trial.record)
                        for before, trial in zip(clean, trials, strict=True)
                    ]
                base = {**service.base(goal, count), **quality(stage, trials)}
                to.rows += [{**base, **row} for row in service.rows([trial.pixels for trial in trials])]
    return to.rows


def _other(stage: Stage, asked: Asked, name: str, progress: Progress) -> Stage:
    """Another network over the same split. Raises UsageError where its card names another."""
    found = set_stage(replace(asked, models=(name,)), progress)
    same = found.files.paths == stage.files.paths and np.array_equal(found.split.queries, stage.split.queries)
    if not same or not np.array_equal(found.split.database, stage.split.database):
        raise UsageError(
            f"{name}: its card splits {found.files.name} otherwise than that of {stage.name}; a service would have "
            "learnt from the queries, name a network of the same split"
        )
    return found


class _Service:
    """One code length of the service, and all it may do."""

    def __init__(self, stage: Stage, length: int, other_view_bits: Sequence[Stage], features: Features) -> None:
        self.stage, self.length, self.other_view_bits, self.features = stage, length, other_view_bits, features
        self.opened = stage.model(length)
        self.labels = stage.queries.labels[stage.picked]
        self.judge = Judge(stage, length, self.labels)
        floor = map_floor(self.judge.relevant)
        self.bounds = {
            "map_random": round(floor.random, 4),
            "map_lowest": round(floor.lowest, 4),
            "map_ceiling": self.judge.map(own_anchors(stage, length, len(self.labels)).astype(np.float32)),
        }
        clean = [stage.pixels[int(row)] for row in stage.picked]
        self.clean_features = features_of(stage, length, clean)
        self.clean_nearest = self._nearest(codes_of(stage, length, clean))

    def base(self, goal: str, count: int) -> dict[str, Any]:
        """What all rows of a goal begin with."""
        return {"bits": self.length, "goal": goal, "photos": count, **self.bounds}

    def rows(self, photos: Sequence[Pixels]) -> Iterator[dict[str, Any]]:
        """A row per countermeasure: `map`, or `auc` for detection."""
        codes = codes_of(self.stage, self.length, photos)
        for name in ASKING:
            yield {"against": name, "map": self.judge.map(codes, asking=name)}
        features = features_of(self.stage, self.length, photos)
        by_features = mean_average_precision(-cosine(features, self.features), self.judge.relevant)
        yield {"against": "features", "map": round(by_features, 4)}
        for name, change in BEFORE.items():
            yield {"against": name, "map": self.judge.map(codes_of(self.stage, self.length, photos, change))}
        with torch.inference_mode():
            for name, look in INSIDE.items():
                rows = [look(self.opened, pixels).float().cpu().numpy() for pixels in photos]
                yield {"against": name, "map": self.judge.map(np.stack(rows))}
        yield from self._networks(photos, codes)
        yield {"against": "detection", "auc": round(detection_auc(self.clean_nearest, self._nearest(codes)), 4)}
        yield from self._adapting(features)

    def _networks(self, photos: Sequence[Pixels], codes: Features) -> Iterator[dict[str, Any]]:
        original_bits = hamming(bits_of(codes), self.judge.database) / self.length
        for other in self.other_view_bits:
            length = other.lengths[-1]
            theirs = codes_of(other, length, photos)
            judge = Judge(other, length, self.labels)
            yield {"against": f"network {other.name}", "map": judge.map(theirs)}
            both = original_bits + hamming(bits_of(theirs), judge.database) / length
            yield {
                "against": f"with {other.name}",
                "map": round(mean_average_precision(both, self.judge.relevant), 4),
            }

    def _adapting(self, features: Features) -> Iterator[dict[str, Any]]:
        """Codes of the half that is judged, from a code layer that learnt of a share of all from the other half."""
        half = len(features) // 2
        judge = Judge(self.stage, self.length, self.labels[:half])
        device = self.opened.model.mean.device
        rows = np.random.default_rng(self.stage.seed).permutation(len(self.features))[:_KEPT]
        kept = torch.from_numpy(self.features[rows]).to(device)
        for share in SHARES:
            pairs = slice(half, half + (max(1, round(share * len(features))) if share else 0))
            protected, clean = (torch.from_numpy(f[pairs]).to(device) for f in (features, self.clean_features))
            learnt = adapted(self.opened.model, protected, clean, kept, seed=self.stage.seed)
            with torch.inference_mode():
                codes = learnt.codes(torch.from_numpy(features[:half]).to(device)).code.float().cpu().numpy()
            yield {
                "against": f"fine-tuned on {share:.0%}",
                "pairs": len(protected),
                "photos": half,
                "map": judge.map(codes),
            }

    def _nearest(self, codes: Features) -> NDArray[np.int64]:
        found: NDArray[np.int64] = hamming(bits_of(codes), self.judge.database).min(axis=1)
        return found
