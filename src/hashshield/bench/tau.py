"""`bench tau`: table 2 of the paper, t-MAP of P2P against the bound on the change."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hashshield.bench.results import result
from hashshield.bench.stage import Asked, set_stage
from hashshield.bench.targeted import METHODS, OURS, towards
from hashshield.bench.targets import ANCHOR, draw_targets
from hashshield.bench.trials import PAPER_STEPS, attacks_of, units
from hashshield.types import Progress

__all__ = ["TAUS", "run"]

TAUS = (0.01, 0.02, 0.03, 0.04, 0.05)


def run(
    asked: Asked,
    *,
    rival_queries: int,
    limit: int = PAPER_STEPS,
    anchor: int = ANCHOR,
    taus: Sequence[float] = (),
    progress: Progress,
) -> list[dict[str, Any]]:
    """One row per length, method and bound; the paper's bounds unless others are given.

    Raises UsageError, CheckpointError.
    """
    taus = taus or TAUS
    stage = set_stage(asked, progress)
    targets = draw_targets(stage, anchor=anchor)
    rivals = min(rival_queries, len(stage.picked))
    attacks = attacks_of(METHODS, asked, limit)
    counts = {attack.name: len(stage.picked) if attack.name in OURS else rivals for attack in attacks}
    progress.start(sum(units([a], counts[a.name]) for a in attacks) * len(stage.lengths) * len(taus))
    with result("tau", stage, asked.output, taus=list(taus), rival_queries=rivals, limit=limit, anchor=anchor) as to:
        for length in stage.lengths:
            for attack in attacks:
                for tau in taus:
                    count = counts[attack.name]
                    (displayed,) = towards(
                        stage, length, attack, targets, ["point"], count=count, tau=tau, progress=progress
                    )
                    to.rows.append({"tau": tau, **displayed.row(rivals)})
    return to.rows
