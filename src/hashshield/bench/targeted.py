"""Targeted methods: tables 1 and 2 and figure 2 of the paper.

Every method aims at the same target for a photo: the code of one photo of another kind (P2P), or the component vote
over nine of them (P2S). `bench targeted` gives the t-MAP at every code length, `bench tau` that of P2P against the
bound on the change, `bench convergence` the mean distance to the anchor code against the step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hashshield.arrays import Bits
from hashshield.bench.config import BaselineConfig, ConvergenceConfig, TauConfig
from hashshield.bench.evaluation import RetrievalEvaluator, codes_of, image_quality, pixels_of, target_distances
from hashshield.bench.experiment import Experiment, Targets, anchor_codes, draw_targets, open_experiment
from hashshield.bench.plots import Curve, Panel, line_chart, require_matplotlib
from hashshield.bench.results import Trial
from hashshield.bench.searches import Attack, attacks_of, progress_units, run_searches
from hashshield.types import Progress

__all__ = [
    "COLUMNS",
    "CONVERGENCE_METHODS",
    "METHODS",
    "TargetedResult",
    "mean_curve",
    "run_convergence",
    "run_targeted",
    "run_tau",
]

COLUMNS: dict[str, tuple[str, ...]] = {
    "targeted": (
        *("bits", "method", "photos", "map", "map_low", "map_high", "map_random", "map_ceiling", "map_unseen"),
        *("map_index", "share_at_target", "median_psnr_db"),
    ),
    "tau": (
        *("bits", "method", "tau", "photos", "map", "map_random", "map_ceiling", "share_at_target", "median_psnr_db"),
    ),
    "convergence": (
        *("bits", "method", "photos", "steps_to_0.1", "distance_at_10", "distance_at_20", "distance_at_100"),
        "distance_at_end",
    ),
}

METHODS = ("noise", "tanh", "rnm-paper", "rnm-paper-free", "rnm")
CONVERGENCE_METHODS = ("tanh", "rnm-paper", "rnm-paper-free", "rnm-first", "rnm")

_QUICK_METHODS = ("noise", "rnm")
"""Methods that run on all queries; the others are slow and run on fewer."""
_NEAR = 0.1
"""Mean distance in bits that counts as arrived."""
_TABLE_STEPS = (0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000)
"""Steps whose distances stand in the rows of `bench convergence`."""

TargetKind = Literal["point", "anchor"]
_LABELS: dict[TargetKind, str] = {"point": "P2P", "anchor": "P2S"}


@dataclass(frozen=True, slots=True, eq=False)
class TargetedResult:
    """The trials of one method towards one kind of target."""

    experiment: Experiment
    length: int
    name: str
    """Of the method and the kind of target."""
    attack: Attack
    targets: Targets
    wanted: Bits
    """(n, K) codes that the photos should get."""
    trials: Sequence[Trial]

    def row(self, baseline_count: int) -> dict[str, Any]:
        """Return all figures; of a method that ran on more photos, the main ones for the first `baseline_count` too."""
        opened = self.experiment.model(self.length)
        codes = codes_of(opened, pixels_of(self.trials))
        evaluator = RetrievalEvaluator(self.experiment, self.length, self.targets.labels[: len(codes)])
        row = {
            "bits": self.length,
            "method": self.name,
            "steps": self.attack.steps,
            **evaluator.scores(codes),
            "map_ceiling": evaluator.map_of_bits(self.wanted),
            **target_distances(codes, self.wanted),
            **image_quality(self.experiment, self.trials),
        }
        if len(codes) > baseline_count:
            few = RetrievalEvaluator(self.experiment, self.length, self.targets.labels[:baseline_count])
            quality = image_quality(self.experiment, self.trials[:baseline_count])
            row["map_on_rival_photos"] = few.map(codes[:baseline_count])
            row["median_psnr_db_on_rival_photos"] = quality["median_psnr_db"]
        return row


def run_targeted(config: BaselineConfig, progress: Progress) -> list[dict[str, Any]]:
    """Return a row per code length and method, and one for the unchanged photos. Raise UsageError, CheckpointError."""
    experiment = open_experiment(config, progress)
    targets = draw_targets(experiment, anchor=config.anchor)
    attacks = attacks_of(METHODS, config.steps, config.limit)
    baselines, counts = _photo_counts(config, experiment, attacks)
    kinds: dict[str, Sequence[TargetKind]] = {
        attack.name: ("anchor",) if attack.method.noise else ("point", "anchor") for attack in attacks
    }
    units = sum(progress_units([a], counts[a.name] * len(kinds[a.name])) for a in attacks)
    progress.start(units * len(experiment.lengths))
    settings = {"rival_queries": baselines, "limit": config.limit, "anchor": config.anchor}
    with experiment.recording("targeted", tau=config.tau, **settings) as result:
        for length in experiment.lengths:
            result.rows.append(_original_row(experiment, length))
            for attack in attacks:
                found = _aimed(
                    experiment, length, attack, targets, kinds[attack.name], counts[attack.name], config.tau, progress
                )
                result.rows += [trials.row(baselines) for trials in found]
    return result.rows


def run_tau(config: TauConfig, progress: Progress) -> list[dict[str, Any]]:
    """Return a row per code length, method and bound. Raise UsageError, CheckpointError."""
    experiment = open_experiment(config, progress)
    targets = draw_targets(experiment, anchor=config.anchor)
    attacks = attacks_of(METHODS, config.steps, config.limit)
    baselines, counts = _photo_counts(config, experiment, attacks)
    units = sum(progress_units([attack], counts[attack.name]) for attack in attacks)
    progress.start(units * len(experiment.lengths) * len(config.taus))
    settings = {"rival_queries": baselines, "limit": config.limit, "anchor": config.anchor}
    with experiment.recording("tau", taus=list(config.taus), **settings) as result:
        for length in experiment.lengths:
            for attack in attacks:
                for tau in config.taus:
                    (found,) = _aimed(
                        experiment, length, attack, targets, ["point"], counts[attack.name], tau, progress
                    )
                    result.rows.append({"tau": tau, **found.row(baselines)})
    return result.rows


def run_convergence(config: ConvergenceConfig, progress: Progress) -> list[dict[str, Any]]:
    """Return a row per code length and method; the curves go into the result file.

    A search that has ended keeps its last distance. The curve of `rnm` goes on after its goal is reached, while the
    change gets smaller. Raise UsageError, CheckpointError.
    """
    require_matplotlib()
    experiment = open_experiment(config, progress)
    targets, count = draw_targets(experiment, anchor=config.anchor), len(experiment.picked)
    attacks = attacks_of(CONVERGENCE_METHODS, config.steps, config.limit)
    progress.start(progress_units(attacks, count) * len(experiment.lengths))
    panels = []
    with experiment.recording("convergence", tau=config.tau, limit=config.limit, anchor=config.anchor) as result:
        curves: list[dict[str, Any]] = []
        for length in experiment.lengths:
            lines = []
            for attack in attacks:
                (found,) = _aimed(experiment, length, attack, targets, ["anchor"], count, config.tau, progress)
                curve, steps = mean_curve(found.trials, config.limit), _plotted_steps(config.limit)
                key = {"bits": length, "method": found.name}
                result.rows.append({**key, "photos": count, **_curve_figures(curve, config.limit)})
                curves.append({**key, "step": steps, "mean": curve[steps].tolist()})
                lines.append(Curve(found.name, steps, curves[-1]["mean"]))
            panels.append(Panel(f"{length} bits", lines))
        result.extra["curves"] = curves
        line_chart(panels, result.plot, x_label="step", y_label="distance in bits", log_x=True)
    return result.rows


def _photo_counts(
    config: BaselineConfig, experiment: Experiment, attacks: Sequence[Attack]
) -> tuple[int, dict[str, int]]:
    """Return the number of photos for slow methods, and that of every attack by name."""
    few = min(config.baseline_queries, len(experiment.picked))
    return few, {a.name: len(experiment.picked) if a.name in _QUICK_METHODS else few for a in attacks}


def _aimed(
    experiment: Experiment,
    length: int,
    attack: Attack,
    targets: Targets,
    kinds: Sequence[TargetKind],
    count: int,
    tau: float,
    progress: Progress,
) -> list[TargetedResult]:
    """Run an attack on the first `count` picked queries towards their targets of each kind."""
    wanted = [
        (targets.point if kind == "point" else targets.anchor)(experiment.database, length)[:count] for kind in kinds
    ]
    trials = run_searches(
        experiment, length, attack, np.concatenate(wanted), tau=tau, times=len(kinds), progress=progress
    )
    names = [attack.name if attack.method.noise else f"{attack.name}, {_LABELS[kind]}" for kind in kinds]
    return [
        TargetedResult(experiment, length, name, attack, targets, bits, trials[count * place : count * (place + 1)])
        for place, (name, bits) in enumerate(zip(names, wanted, strict=True))
    ]


def _original_row(experiment: Experiment, length: int) -> dict[str, Any]:
    """Return the row of the unchanged photos, by their own labels."""
    evaluator = RetrievalEvaluator(experiment, length, experiment.labels)
    return {
        "bits": length,
        "method": "original",
        **evaluator.scores(experiment.queries.codes[length][experiment.picked]),
        "map_ceiling": evaluator.map_of_bits(anchor_codes(experiment, length)),
        "photos": len(experiment.picked),
    }


def mean_curve(trials: Sequence[Trial], limit: int) -> NDArray[np.float64]:
    """Return the (limit + 1,) mean distances to the target in bits, by the number of steps taken."""
    total = np.zeros(limit + 1)
    for trial in trials:
        steps, distances = np.array(trial.record["distances"]).T
        last = np.searchsorted(steps, np.arange(limit + 1), side="right") - 1
        total += distances[last]
    rounded: NDArray[np.float64] = np.round(total / len(trials), 4)
    return rounded


def _curve_figures(curve: NDArray[np.float64], limit: int) -> dict[str, Any]:
    near = np.flatnonzero(curve < _NEAR)
    return {
        "steps_to_0.1": int(near[0]) if len(near) else f"> {limit}",
        **{f"distance_at_{step}": float(curve[step]) for step in _TABLE_STEPS if step <= limit},
        "distance_at_end": float(curve[-1]),
    }


def _plotted_steps(limit: int) -> list[int]:
    """Return every step at first, then steps that are even on a logarithmic axis."""
    even = np.geomspace(1, limit, 200).round().astype(int)
    return sorted({*range(min(limit, 50) + 1), *even.tolist()})
