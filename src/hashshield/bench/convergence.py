"""`bench convergence`: figure 2 of the paper, mean Hamming distance to the anchor code against the step.

A search that has ended keeps its last distance. The curve of `rnm` goes on after its goal is reached, while it makes
the change smaller.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hashshield.bench.draw import Line, Panel, line_chart
from hashshield.bench.pool import Trial
from hashshield.bench.results import result
from hashshield.bench.stage import Asked, set_stage
from hashshield.bench.targeted import towards
from hashshield.bench.targets import ANCHOR, draw_targets
from hashshield.bench.trials import PAPER_STEPS, attacks_of, units
from hashshield.types import Progress

__all__ = ["METHODS", "run"]

METHODS = ("tanh", "rnm-paper", "rnm-paper-free", "rnm-first", "rnm")
_NEAR = 0.1
"""Mean distance in bits that counts as arrived."""
_SHOWN = (0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000)


def run(asked: Asked, *, limit: int = PAPER_STEPS, anchor: int = ANCHOR, progress: Progress) -> list[dict[str, Any]]:
    """One row per length and method; the curves go into the result file. Raises UsageError, CheckpointError."""
    stage = set_stage(asked, progress)
    targets = draw_targets(stage, anchor=anchor)
    attacks = attacks_of(METHODS, asked, limit)
    progress.start(units(attacks, len(stage.picked)) * len(stage.lengths))
    panels = []
    with result("convergence", stage, asked.output, tau=asked.tau, limit=limit, anchor=anchor) as to:
        curves: list[dict[str, Any]] = []
        for length in stage.lengths:
            lines = []
            for attack in attacks:
                count = len(stage.picked)
                (displayed,) = towards(
                    stage, length, attack, targets, ["anchor"], count=count, tau=asked.tau, progress=progress
                )
                curve = mean_curve(displayed.trials, limit)
                to.rows.append({"bits": length, "method": displayed.name, "photos": count, **_figures(curve, limit)})
                steps = _thinned(limit)
                curves.append({"bits": length, "method": displayed.name, "step": steps, "mean": curve[steps].tolist()})
                lines.append(Line(displayed.name, steps, curves[-1]["mean"]))
            panels.append(Panel(f"{length} bits", lines))
        to.more["curves"] = curves
        line_chart(panels, to.picture, x_label="step", y_label="distance", log_x=True)
    return to.rows


def mean_curve(trials: Sequence[Trial], limit: int) -> NDArray[np.float64]:
    """(limit + 1,): mean distance to the target after so many steps."""
    total = np.zeros(limit + 1)
    for trial in trials:
        steps, distances = np.array(trial.record["distances"]).T
        held = np.searchsorted(steps, np.arange(limit + 1), side="right") - 1
        total += distances[held]
    rounded: NDArray[np.float64] = np.round(total / len(trials), 4)
    return rounded


def _figures(curve: NDArray[np.float64], limit: int) -> dict[str, Any]:
    near = np.flatnonzero(curve < _NEAR)
    return {
        "steps_to_0.1": int(near[0]) if len(near) else f"> {limit}",
        **{f"distance_at_{step}": float(curve[step]) for step in _SHOWN if step <= limit},
        "distance_at_end": float(curve[-1]),
    }


def _thinned(limit: int) -> list[int]:
    """Every step at first, then evenly on a logarithmic axis."""
    spread = np.geomspace(1, limit, 200).round().astype(int)
    return sorted({*range(min(limit, 50) + 1), *spread.tolist()})
