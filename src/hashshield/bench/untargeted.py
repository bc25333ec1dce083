"""`bench untargeted`: table 3 of the paper, MAP after a change, and after what a service might do against it.

The paper's Tanh and RNM aim at the code of a photo of another kind; HAG at the opposite of the photo's own code; SAAT's
goal is the opposite of its mainstay code, searched for here as `rnm` searches. Ours are run as `protect` runs them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hashshield.bench.judge import Judge
from hashshield.bench.measure import codes_of, quality
from hashshield.bench.pool import Trial
from hashshield.bench.protecting import run_goal
from hashshield.bench.results import result
from hashshield.bench.service import ASKING, SIMPLE
from hashshield.bench.stage import Asked, Stage, set_stage
from hashshield.bench.targets import ANCHOR, draw_targets, mainstay, own_anchors
from hashshield.bench.trials import PAPER_STEPS, Attack, attacks_of, run_searches, units
from hashshield.metrics.hamming import bits_of
from hashshield.types import GoalKind, Progress

__all__ = ["GOALS", "run"]

GOALS: tuple[GoalKind, ...] = ("away", "opposite", "decoy")
_POINTS = ("tanh", "rnm-paper", "rnm-paper-free")

Bits = NDArray[np.int8]


def run(
    asked: Asked, *, rival_queries: int, limit: int = PAPER_STEPS, anchor: int = ANCHOR, progress: Progress
) -> list[dict[str, Any]]:
    """One row per length and method. Raises UsageError, CheckpointError, GoalError."""
    stage = set_stage(asked, progress)
    targets = draw_targets(stage, anchor=anchor)
    everyone, rivals = len(stage.picked), min(rival_queries, len(stage.picked))
    noise, mainstays, hag, *points = attacks_of(("noise", "rnm", "hag", *_POINTS), asked, limit)
    total = units([noise, mainstays], everyone) + units([hag, *points], rivals) + len(GOALS) * everyone
    progress.start(total * len(stage.lengths))
    with result(
        "untargeted", stage, asked.output, tau=asked.tau, rival_queries=rivals, limit=limit, anchor=anchor
    ) as to:
        for length in stage.lengths:
            table = _Table(stage, length, rivals)
            to.rows.append(table.row("original", [stage.pixels[int(row)] for row in stage.picked]))

            def searched(attack: Attack, wanted: Bits, length: int = length) -> Sequence[Trial]:
                return run_searches(stage, length, attack, wanted, tau=asked.tau, progress=progress)

            original_bits = stage.queries.bits(length)[stage.picked]
            to.rows.append(table.changed("noise", searched(noise, original_bits)))
            for attack in points:
                wanted = targets.point(stage.database, length)[:rivals]
                to.rows.append(table.changed(f"{attack.name}, P2P", searched(attack, wanted)))
            to.rows.append(table.changed("hag", searched(hag, -original_bits[:rivals])))
            away_from = -mainstay(stage, length, everyone)
            to.rows.append(table.changed("saat's goal, rnm", searched(mainstays, away_from)))
            for goal in GOALS:
                trials = run_goal(stage, length, goal, tau=asked.tau, count=everyone, progress=progress)
                to.rows.append(table.changed(goal, trials))
    return to.rows


class _Table:
    """The rows of one code length."""

    def __init__(self, stage: Stage, length: int, rivals: int) -> None:
        self.stage, self.length, self.rivals = stage, length, rivals
        self.labels = stage.queries.labels[stage.picked]
        self.original_bits = stage.queries.bits(length)[stage.picked]
        self.anchors = own_anchors(stage, length, len(stage.picked)).astype(np.float32)

    def row(self, name: str, photos: Sequence[NDArray[np.uint8]]) -> dict[str, Any]:
        """MAP by every way of asking and after what is done to the photos first."""
        codes, count = codes_of(self.stage, self.length, photos), len(photos)
        judge = Judge(self.stage, self.length, self.labels[:count])
        asked = {f"map_{way}": judge.map(codes, asking=way) for way in ASKING if way != "symmetric"}
        done = {
            f"map_{way}": judge.map(codes_of(self.stage, self.length, photos, change)) for way, change in SIMPLE.items()
        }
        return {
            "bits": self.length,
            "method": name,
            "photos": count,
            **judge.scores(codes),
            "map_ceiling": judge.map(self.anchors[:count]),
            **asked,
            **done,
            "mean_distance_from_original": round(
                float((bits_of(codes) != self.original_bits[:count]).sum(1).mean()), 2
            ),
        }

    def changed(self, name: str, trials: Sequence[Trial]) -> dict[str, Any]:
        """A row with how far the photos were changed, on all of them and on those the slow methods ran on."""
        row = {**self.row(name, [trial.pixels for trial in trials]), **quality(self.stage, trials)}
        if len(trials) > self.rivals:
            few = quality(self.stage, trials[: self.rivals])
            row["median_psnr_db_on_rival_photos"] = few["median_psnr_db"]
        return row
