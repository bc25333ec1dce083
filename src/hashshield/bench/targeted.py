"""Targeted methods: tables 1 and 2 and figure 2 of the paper.

All methods run on the same photos, with the same target for each: the code of one photo of another class (P2P), or the
bitwise majority over nine of them (P2S). Published methods use the network's true gradients; at one code length Tanh
runs once more with those of `rnm`. Rows of presets measure what `protect` does.

`bench targeted` gives the t-MAP at every code length, `bench tau` the t-MAP of P2P by the bound on the change, `bench
convergence` the mean distance to the anchor code by step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hashshield.arrays import Bits
from hashshield.attacks.presets import preset as preset_named
from hashshield.bench.config import BaselineConfig, ConvergenceConfig, TauConfig
from hashshield.bench.evaluation import (
    RetrievalEvaluator,
    codes_of,
    image_quality,
    pixels_of,
    target_distances,
    with_interval,
)
from hashshield.bench.experiment import GIVEN_CODES, Experiment, Targets, anchor_codes, draw_targets, open_experiment
from hashshield.bench.protecting import protect_queries
from hashshield.bench.results import Curve, Panel, Trial, line_chart, require_matplotlib
from hashshield.bench.searches import LEAKY, Attack, attacks_of, progress_units, run_searches
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
        *("bits", "method", "photos", "map", "map_low", "map_high", "map_random", "map_reference", "map_unseen"),
        *("map_index", "share_at_target", "median_psnr_db"),
    ),
    "tau": (
        *("bits", "method", "tau", "photos", "map", "map_random", "map_reference", "share_at_target", "median_psnr_db"),
    ),
    "convergence": (
        *("bits", "method", "photos", "map", "map_low", "map_high", "steps_to_0.1", "distance_at_10"),
        *("distance_at_20", "distance_at_100", "distance_at_end", "median_psnr_db"),
    ),
}

METHODS = ("noise", "tanh", "tanh-dhta", "rnm-paper", "rnm-greedyhash", "rnm")
TAU_METHODS = ("noise", "tanh", "rnm-paper", "rnm-greedyhash", "rnm")
"""Methods that are bounded by tau; `tanh-dhta` has a bound of its own."""
CONVERGENCE_METHODS = ("tanh", "rnm-paper", "rnm-greedyhash", "rnm-first", "rnm")
LEAKY_BITS = 48
"""Code length at which Tanh also runs with the gradients of `rnm`."""

_NEAR = 0.1
"""Mean distance in bits at which a method counts as converged."""
_TABLE_STEPS = (0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000)
"""Steps whose distances are in the rows of `bench convergence`."""

_BOTH, _ANCHOR = ("P2P", "P2S"), ("P2S",)
"""Kinds of targets: the code of one photo, and the anchor."""


@dataclass(frozen=True, slots=True, eq=False)
class TargetedResult:
    """The trials of one method towards one kind of target."""

    experiment: Experiment
    length: int
    name: str
    """Name of the method and the kind of target."""
    targets: Targets
    wanted: Bits
    """(n, K) target bits."""
    trials: Sequence[Trial]

    def row(self) -> dict[str, Any]:
        """Return all figures."""
        opened = self.experiment.model(self.length)
        codes = codes_of(opened, pixels_of(self.trials))
        evaluator = RetrievalEvaluator(self.experiment, self.length, self.targets.labels)
        return {
            "bits": self.length,
            "method": self.name,
            "steps": max(trial.record["steps"] for trial in self.trials),
            **evaluator.scores(codes),
            "map_reference": evaluator.map_of_bits(self.wanted),
            **target_distances(codes, self.wanted),
            **image_quality(self.experiment, self.trials),
        }


def run_targeted(config: BaselineConfig, progress: Progress) -> list[dict[str, Any]]:
    """Return a row per code length and method, and one for the unchanged photos.

    Raise UsageError, CheckpointError, UnknownNameError.
    """
    for name in config.presets:
        preset_named(name)
    experiment = open_experiment(config, progress, goals=(GIVEN_CODES,))
    targets = draw_targets(experiment, anchor=config.anchor)
    attacks = attacks_of(METHODS, config.steps, config.limit)
    leaky = attacks_of([f"tanh{LEAKY}"], config.steps, config.limit)
    kinds = {each.name: _ANCHOR if each.method.noise else _BOTH for each in (*attacks, *leaky)}
    count, lengths = len(experiment.picked), experiment.lengths
    units = sum(progress_units([each], count * len(kinds[each.name])) for each in attacks) * len(lengths)
    units += progress_units(leaky, count * len(_BOTH)) * (LEAKY_BITS in lengths)
    progress.start(units + count * len(_BOTH) * len(config.presets) * len(lengths))
    searches = [*METHODS, *config.presets]
    settings = {"limit": config.limit, "anchor": config.anchor}
    with experiment.recording("targeted", searches=searches, tau=config.tau, **settings) as result:
        for length in lengths:
            result.rows.append(_original_row(experiment, length))
            for attack in (*attacks, *(leaky if length == LEAKY_BITS else ())):
                found = _aimed(experiment, length, attack, targets, kinds[attack.name], config.tau, progress)
                result.rows += [trials.row() for trials in found]
            for preset in config.presets:
                found = _protected(experiment, length, preset, targets, config.tau, progress)
                result.rows += [trials.row() for trials in found]
    return result.rows


def run_tau(config: TauConfig, progress: Progress) -> list[dict[str, Any]]:
    """Return a row per code length, method and bound. Raise UsageError, CheckpointError."""
    experiment = open_experiment(config, progress, goals=(GIVEN_CODES,))
    targets = draw_targets(experiment, anchor=config.anchor)
    attacks = attacks_of(TAU_METHODS, config.steps, config.limit)
    units = progress_units(attacks, len(experiment.picked))
    progress.start(units * len(experiment.lengths) * len(config.taus))
    settings = {"limit": config.limit, "anchor": config.anchor}
    with experiment.recording("tau", searches=TAU_METHODS, taus=list(config.taus), **settings) as result:
        for length in experiment.lengths:
            for attack in attacks:
                for tau in config.taus:
                    (found,) = _aimed(experiment, length, attack, targets, ("P2P",), tau, progress)
                    result.rows.append({"tau": tau, **found.row()})
    return result.rows


def run_convergence(config: ConvergenceConfig, progress: Progress) -> list[dict[str, Any]]:
    """Return a row per code length and method, with t-MAP after the last step; the curves go into the result file.

    A finished search keeps its last distance. The curve of `rnm` continues after the goal is reached, because its
    change still shrinks. Raise UsageError, CheckpointError.
    """
    require_matplotlib()
    experiment = open_experiment(config, progress, goals=(GIVEN_CODES,))
    targets = draw_targets(experiment, anchor=config.anchor)
    attacks = attacks_of(CONVERGENCE_METHODS, config.steps, config.limit)
    progress.start(progress_units(attacks, len(experiment.picked)) * len(experiment.lengths))
    panels = []
    settings = {"tau": config.tau, "limit": config.limit, "anchor": config.anchor}
    with experiment.recording("convergence", searches=CONVERGENCE_METHODS, **settings) as result:
        curves: list[dict[str, Any]] = []
        for length in experiment.lengths:
            lines = []
            for attack in attacks:
                (found,) = _aimed(experiment, length, attack, targets, _ANCHOR, config.tau, progress)
                curve, steps = mean_curve(found.trials, config.limit), _plotted_steps(config.limit)
                key = {"bits": length, "method": found.name}
                ends = with_interval("distance_at_end", _last_distances(found.trials), seed=experiment.seed)
                result.rows.append({**found.row(), **_curve_figures(curve, config.limit), **ends})
                curves.append({**key, "step": steps, "mean": curve[steps].tolist()})
                lines.append(Curve(found.name, steps, curves[-1]["mean"]))
            panels.append(Panel(f"{length} bits", lines))
        result.extra["curves"] = curves
        line_chart(panels, result.plot, x_label="step", y_label="distance in bits", log_x=True)
    return result.rows


def _aimed(
    experiment: Experiment,
    length: int,
    attack: Attack,
    targets: Targets,
    kinds: Sequence[str],
    tau: float,
    progress: Progress,
) -> list[TargetedResult]:
    """Run an attack on the picked queries towards their targets of each kind."""
    wanted = [_wanted(experiment, length, targets, kind) for kind in kinds]
    trials = run_searches(
        experiment, length, attack, np.concatenate(wanted), tau=tau, times=len(kinds), progress=progress
    )
    names = [attack.name if attack.method.noise else f"{attack.name}, {kind}" for kind in kinds]
    return _results(experiment, length, names, targets, wanted, trials)


def _protected(
    experiment: Experiment, length: int, preset: str, targets: Targets, tau: float, progress: Progress
) -> list[TargetedResult]:
    """Protect the picked queries towards both kinds of targets, as `protect` does."""
    wanted = [_wanted(experiment, length, targets, kind) for kind in _BOTH]
    together = np.concatenate(wanted)
    trials = protect_queries(experiment, length, "image", tau=tau, preset=preset, wanted=together, progress=progress)
    names = [f"protect, {preset}, {kind}" for kind in _BOTH]
    return _results(experiment, length, names, targets, wanted, trials)


def _wanted(experiment: Experiment, length: int, targets: Targets, kind: str) -> Bits:
    return (targets.point if kind == "P2P" else targets.anchor)(experiment.database, length)


def _results(
    experiment: Experiment,
    length: int,
    names: Sequence[str],
    targets: Targets,
    wanted: Sequence[Bits],
    trials: Sequence[Trial],
) -> list[TargetedResult]:
    """Return a result for each kind of target; `trials` has all trials of one kind, then all of the next."""
    count = len(experiment.picked)
    return [
        TargetedResult(experiment, length, name, targets, bits, trials[count * place : count * (place + 1)])
        for place, (name, bits) in enumerate(zip(names, wanted, strict=True))
    ]


def _original_row(experiment: Experiment, length: int) -> dict[str, Any]:
    """Return the row of the unchanged photos, by their own labels."""
    evaluator = RetrievalEvaluator(experiment, length, experiment.labels)
    return {
        "bits": length,
        "method": "original",
        **evaluator.scores(experiment.queries.codes[length][experiment.picked]),
        "map_reference": evaluator.map_of_bits(anchor_codes(experiment, length)),
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
    }


def _last_distances(trials: Sequence[Trial]) -> NDArray[np.float64]:
    """Return the (n,) distances to the target in bits at the last step of each photo."""
    return np.array([float(trial.record["distances"][-1][1]) for trial in trials])


def _plotted_steps(limit: int) -> list[int]:
    """Return every step at first, then steps evenly spaced on a logarithmic axis."""
    even = np.geomspace(1, limit, 200).round().astype(int)
    return sorted({*range(min(limit, 50) + 1), *even.tolist()})
