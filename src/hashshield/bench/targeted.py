"""`bench targeted`: table 1 of the paper, the t-MAP of targeted methods beside the MAP of unchanged photos.

Every method aims at the same target for a photo: the code of one photo of another kind (P2P), or the component vote
over nine of them (P2S). Published methods run by their own rules, `rnm` as `protect` runs it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hashshield.bench.judge import Judge
from hashshield.bench.measure import closeness, codes_of, quality
from hashshield.bench.pool import Trial
from hashshield.bench.results import result
from hashshield.bench.stage import Asked, Stage, set_stage
from hashshield.bench.targets import ANCHOR, Targets, draw_targets, own_anchors
from hashshield.bench.trials import PAPER_STEPS, Attack, attacks_of, run_searches, units
from hashshield.types import Progress

__all__ = ["METHODS", "OURS", "Shown", "run", "towards"]

METHODS = ("noise", "tanh", "rnm-paper", "rnm-paper-free", "rnm")
OURS = ("noise", "rnm")
"""Methods that are quick enough for all queries; the others run on fewer."""

Bits = NDArray[np.int8]


def run(
    asked: Asked, *, rival_queries: int, limit: int = PAPER_STEPS, anchor: int = ANCHOR, progress: Progress
) -> list[dict[str, Any]]:
    """One row per length and method. Raises UsageError, CheckpointError."""
    stage = set_stage(asked, progress)
    targets = draw_targets(stage, anchor=anchor)
    attacks = attacks_of(METHODS, asked, limit)
    rivals = min(rival_queries, len(stage.picked))
    counts = {attack.name: len(stage.picked) if attack.name in OURS else rivals for attack in attacks}
    rounds = {attack.name: 1 if attack.method.noise else 2 for attack in attacks}
    progress.start(sum(units([a], counts[a.name] * rounds[a.name]) for a in attacks) * len(stage.lengths))
    with result("targeted", stage, asked.output, tau=asked.tau, rival_queries=rivals, limit=limit, anchor=anchor) as to:
        for length in stage.lengths:
            to.rows.append(_original(stage, length))
            for attack in attacks:
                objectives = ("point", "anchor") if rounds[attack.name] == 2 else ("anchor",)
                for displayed in towards(
                    stage,
                    length,
                    attack,
                    targets,
                    objectives,
                    count=counts[attack.name],
                    tau=asked.tau,
                    progress=progress,
                ):
                    to.rows.append(displayed.row(rivals))
    return to.rows


@dataclass(frozen=True, slots=True, eq=False)
class Shown:
    """The trials of one method towards one sort of target, and what they are judged by."""

    stage: Stage
    length: int
    name: str
    attack: Attack
    targets: Targets
    wanted: Bits
    trials: Sequence[Trial]

    def row(self, rivals: int) -> dict[str, Any]:
        """All figures; where it ran on more photos than the `rivals`, the main ones on those too."""
        codes = codes_of(self.stage, self.length, [trial.pixels for trial in self.trials])
        judge = Judge(self.stage, self.length, self.targets.labels[: len(codes)])
        row = {
            "bits": self.length,
            "method": self.name,
            "steps": self.attack.steps,
            **judge.scores(codes),
            "map_ceiling": judge.map(self.wanted.astype(np.float32)),
            **closeness(codes, self.wanted),
            **quality(self.stage, self.trials),
        }
        if len(codes) > rivals:
            few = Judge(self.stage, self.length, self.targets.labels[:rivals])
            row["map_on_rival_photos"] = few.map(codes[:rivals])
            row["median_psnr_db_on_rival_photos"] = quality(self.stage, self.trials[:rivals])["median_psnr_db"]
        return row


def towards(
    stage: Stage,
    length: int,
    attack: Attack,
    targets: Targets,
    objectives: Sequence[str],
    *,
    count: int,
    tau: float,
    progress: Progress,
) -> list[Shown]:
    """Run a method on the first `count` picked queries towards the `point`, the `anchor` or both of their targets."""
    wanted = [
        (targets.point if objective == "point" else targets.anchor)(stage.database, length)[:count]
        for objective in objectives
    ]
    every = np.concatenate(wanted)
    trials = run_searches(stage, length, attack, every, tau=tau, times=len(objectives), progress=progress)
    return [
        Shown(
            stage,
            length,
            attack.name if attack.method.noise else f"{attack.name}, {'P2P' if objective == 'point' else 'P2S'}",
            attack,
            targets,
            bits,
            trials[count * place : count * (place + 1)],
        )
        for place, (objective, bits) in enumerate(zip(objectives, wanted, strict=True))
    ]


def _original(stage: Stage, length: int) -> dict[str, Any]:
    """The unchanged photos, by their own labels."""
    judge = Judge(stage, length, stage.queries.labels[stage.picked])
    ceiling = judge.map(own_anchors(stage, length, len(stage.picked)).astype(np.float32))
    return {
        "bits": length,
        "method": "original",
        **judge.scores(stage.queries.codes[length][stage.picked]),
        "map_ceiling": ceiling,
        "photos": len(stage.picked),
    }
