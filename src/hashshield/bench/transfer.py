"""`bench transfer`: what a network that the search never used still finds.

Each checkpoint is held out in turn: photos are protected on all the others together, and the one held out is asked, in
the ways and after the filters a service may think of. Beside each stands uniform noise of the same PSNR, which is
what a change that does not transfer amounts to.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hashshield.attacks.presets import PRESETS
from hashshield.bench.countermeasures import BEFORE
from hashshield.bench.judge import Judge
from hashshield.bench.measure import codes_of, quality
from hashshield.bench.pool import Trial
from hashshield.bench.protecting import run_goal
from hashshield.bench.results import result
from hashshield.bench.service import ASKING
from hashshield.bench.stage import Asked, Stage, set_stage
from hashshield.bench.targets import own_anchors
from hashshield.bench.veils import VEILS, veiled
from hashshield.errors import UsageError
from hashshield.metrics.hamming import bits_of
from hashshield.metrics.image import psnr_db
from hashshield.models.device import choose_device
from hashshield.models.load import OpenModel, open_models
from hashshield.types import GoalKind, Progress

__all__ = ["GOALS", "run"]

GOALS: tuple[GoalKind, ...] = ("away", "opposite")

Pixels = NDArray[np.uint8]


def run(
    asked: Asked, *, presets: Sequence[str] = (), goals: Sequence[GoalKind] = (), progress: Progress
) -> list[dict[str, Any]]:
    """One row per network held out, preset and goal; each network at one length, its longest unless another is named.

    Writes a result file for each network held out. Raises UsageError for less than two checkpoints and for those of
    different datasets, CheckpointError.
    """
    family = open_models(asked.models, device=choose_device(asked.device))
    _check(family)
    rows: list[dict[str, Any]] = []
    for held in family:
        stage = set_stage(replace(asked, models=(held.name,)), progress)
        searched = [opened for opened in family if opened is not held]
        rows += _held_out(stage, searched, tuple(presets) or tuple(PRESETS), tuple(goals) or GOALS, progress)
    return rows


def _check(family: Sequence[OpenModel]) -> None:
    names = [opened.name for opened in family]
    if len({name.rpartition(":")[0] for name in names}) < max(2, len(names)):
        raise UsageError(
            f"one network is held out and others are searched on: name at least two checkpoints, each once, with "
            f"--model (found {', '.join(names)}); `hashshield models list` shows what is here"
        )
    datasets = {opened.card.dataset for opened in family}
    if len(datasets) > 1:
        raise UsageError(f"these networks know different datasets ({', '.join(sorted(datasets))}); name those of one")


def _held_out(
    stage: Stage, searched: Sequence[OpenModel], presets: Sequence[str], goals: Sequence[GoalKind], progress: Progress
) -> list[dict[str, Any]]:
    count = len(stage.picked)
    progress.start(count * len(presets) * len(goals))
    names = [opened.name for opened in searched]
    with result(
        "transfer", stage, stage.asked.output, tau=stage.asked.tau, searched=names, presets=list(presets)
    ) as to:
        seen = _HeldOut(stage)
        to.rows.append({**seen.base, "preset": "none", "goal": "none", **seen.row(seen.clean)})
        for preset in presets:
            for goal in goals:
                trials = run_goal(
                    stage,
                    seen.length,
                    goal,
                    tau=stage.asked.tau,
                    count=count,
                    searched=searched,
                    preset=preset,
                    progress=progress,
                )
                to.rows += seen.rows(preset, goal, trials)
    return to.rows


class _HeldOut:
    """The network that the search does not use, and what it is asked."""

    def __init__(self, stage: Stage) -> None:
        self.stage, (self.length,) = stage, stage.lengths
        self.clean = [stage.pixels[int(row)] for row in stage.picked]
        self.judge = Judge(stage, self.length, stage.queries.labels[stage.picked])
        self.original_bits = stage.queries.bits(self.length)[stage.picked]
        anchors = own_anchors(stage, self.length, len(self.clean)).astype(np.float32)
        self.base = {
            "held_out": stage.models[0].name,
            "bits": self.length,
            "photos": len(self.clean),
            "map_ceiling": self.judge.map(anchors),
        }

    def rows(self, preset: str, goal: str, trials: Sequence[Trial]) -> Iterator[dict[str, Any]]:
        """The protected photos, and uniform noise of the PSNR that each of them has."""
        common = {**self.base, "preset": preset, "goal": goal}
        reached = sum(trial.record["passed"] for trial in trials) / len(trials)
        changed = self.row([trial.pixels for trial in trials])
        yield {**common, **changed, **quality(self.stage, trials), "share_reached_where_searched": round(reached, 4)}
        seed = self.stage.seed
        noisy = [
            Trial(veiled(before, VEILS["noise"][0], psnr_db(trial.pixels, before), seed=seed + i)[0], trial.record)
            for i, (before, trial) in enumerate(zip(self.clean, trials, strict=True))
        ]
        unlike = self.row([trial.pixels for trial in noisy])
        yield {**common, "preset": f"noise as {preset}", **unlike, **quality(self.stage, noisy)}

    def row(self, photos: Sequence[Pixels]) -> dict[str, Any]:
        """MAP in every way of asking and after every filter, and how far the codes are from the photos' own."""
        codes = codes_of(self.stage, self.length, photos)
        distances = (bits_of(codes) != self.original_bits).sum(1)
        return {
            **self.judge.scores(codes),
            **{f"map_{way}": self.judge.map(codes, asking=way) for way in ASKING if way != "symmetric"},
            **{
                f"map_{name.replace(' ', '_')}": self.judge.map(codes_of(self.stage, self.length, photos, change))
                for name, change in BEFORE.items()
            },
            "mean_distance_from_original": round(float(distances.mean()), 2),
            "least_distance_from_original": int(distances.min()),
        }
