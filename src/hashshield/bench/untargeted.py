"""Untargeted changes: table 3 and figure 3 of the paper.

`bench untargeted` gives the MAP after a change, and after what a service might do against it. The paper's Tanh and RNM
aim at the code of a photo of another kind, HAG at the opposite of the photo's own code. SAAT's goal is the opposite of
its mainstay code, searched for here as `rnm` searches.

`bench traditional` compares what people did to photos before with adversarial changes. Mosaic, brightness, transparency
and noise get, photo by photo, the strength at which their PSNR is the one the paper states. The adversarial photos are
those of the paper's method, aimed as in table 3, and those of `protect`, at several bounds.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

from hashshield.arrays import Bits, Pixels
from hashshield.attacks.presets import preset as preset_named
from hashshield.bench.config import BaselineConfig, TraditionalConfig
from hashshield.bench.distortions import DISTORTIONS, PAPER_DEFENCES, distorted_queries
from hashshield.bench.evaluation import RetrievalEvaluator, codes_of, image_quality, pixels_of
from hashshield.bench.experiment import (
    GIVEN_CODES,
    Experiment,
    anchor_codes,
    draw_targets,
    mainstay_codes,
    open_experiment,
)
from hashshield.bench.plots import photo_sheet
from hashshield.bench.protecting import protect_queries
from hashshield.bench.results import Trial
from hashshield.bench.searches import Attack, attacks_of, progress_units, run_searches
from hashshield.metrics.retrieval import bits_of
from hashshield.types import GoalKind, Progress

__all__ = ["COLUMNS", "run_traditional", "run_untargeted"]

COLUMNS: dict[str, tuple[str, ...]] = {
    "untargeted": (
        *("bits", "method", "photos", "map", "map_random", "map_complement", "map_predicted_flip", "map_real_valued"),
        *("map_jpeg_q75", "map_blur", "map_index", "median_psnr_db"),
    ),
    "traditional": (
        *("bits", "change", "photos", "median_psnr_db", "median_ssim", "map", "map_random", "map_reference"),
        *("map_unseen", "map_index"),
    ),
}

_PAPER_METHOD = "rnm-paper"
_GOALS: tuple[GoalKind, ...] = ("away", "opposite", "decoy")
_POINT_METHODS = ("tanh", "tanh-dhta", "rnm-paper", "rnm-greedyhash")
"""Published methods that aim at the code of one photo of another kind."""


def run_untargeted(config: BaselineConfig, progress: Progress) -> list[dict[str, Any]]:
    """Return a row per code length and method. Raise UsageError, CheckpointError, GoalError, UnknownNameError."""
    for name in config.presets:
        preset_named(name)
    experiment = open_experiment(config, progress, goals=(GIVEN_CODES,))
    targets = draw_targets(experiment, anchor=config.anchor)
    names, count = ("noise", "rnm", "hag", *_POINT_METHODS), len(experiment.picked)
    noise, rnm, hag, *points = attacks_of(names, config.steps, config.limit)
    units = progress_units([noise, rnm, hag, *points], count) + len(_GOALS) * len(config.presets) * count
    progress.start(units * len(experiment.lengths))
    settings: dict[str, Any] = {"searches": [*names, *config.presets], "limit": config.limit, "anchor": config.anchor}
    with experiment.recording("untargeted", tau=config.tau, **settings) as result:
        for length in experiment.lengths:
            table = _UntargetedTable(experiment, length)

            def run(attack: Attack, wanted: Bits, length: int = length) -> list[Trial]:
                return run_searches(experiment, length, attack, wanted, tau=config.tau, progress=progress)

            result.rows.append(table.row("original", experiment.photos))
            result.rows.append(table.changed_row("noise", run(noise, table.original_bits)))
            for attack in points:
                wanted = targets.point(experiment.database, length)
                result.rows.append(table.changed_row(f"{attack.name}, P2P", run(attack, wanted)))
            result.rows.append(table.changed_row("hag", run(hag, -table.original_bits)))
            result.rows.append(table.changed_row("saat's goal, rnm", run(rnm, -mainstay_codes(experiment, length))))
            for preset, goal in product(config.presets, _GOALS):
                trials = protect_queries(experiment, length, goal, tau=config.tau, preset=preset, progress=progress)
                result.rows.append(table.changed_row(f"protect, {preset}, {goal}", trials))
    return result.rows


class _UntargetedTable:
    """The rows of one code length."""

    def __init__(self, experiment: Experiment, length: int) -> None:
        self.experiment, self.length = experiment, length
        self.original_bits = experiment.original_bits(length)
        self.anchors = anchor_codes(experiment, length)

    def row(self, name: str, photos: Sequence[Pixels]) -> dict[str, Any]:
        """Return the MAP in every query mode and after the input defences of the paper's table."""
        opened, count = self.experiment.model(self.length), len(photos)
        codes = codes_of(opened, photos)
        evaluator = RetrievalEvaluator(self.experiment, self.length, self.experiment.labels[:count])
        defended = {
            f"map_{defence}": evaluator.map(codes_of(opened, photos, change))
            for defence, change in PAPER_DEFENCES.items()
        }
        distances = (bits_of(codes) != self.original_bits[:count]).sum(1)
        return {
            "bits": self.length,
            "method": name,
            "photos": count,
            **evaluator.scores(codes),
            "map_reference": evaluator.map_of_bits(self.anchors[:count]),
            **evaluator.modes(codes),
            **defended,
            "mean_distance_from_original": round(float(distances.mean()), 2),
        }

    def changed_row(self, name: str, trials: Sequence[Trial]) -> dict[str, Any]:
        """Return a row with image quality."""
        return {**self.row(name, pixels_of(trials)), **image_quality(self.experiment, trials)}


def run_traditional(config: TraditionalConfig, progress: Progress) -> list[dict[str, Any]]:
    """Return a row per code length and change: distortions, then the paper's method and `away` at every bound. Raise
    UsageError, CheckpointError, GoalError.
    """
    experiment = open_experiment(config, progress, goals=(GIVEN_CODES,))
    photos = experiment.photos
    targets = draw_targets(experiment, anchor=config.anchor)
    (paper,) = attacks_of([_PAPER_METHOD], config.steps, config.limit)
    each = progress_units([paper], len(photos)) + len(photos)
    progress.start(len(photos) * len(DISTORTIONS) + each * len(config.taus) * len(experiment.lengths))
    distortions = distorted_queries(experiment, progress)
    decibels = {name: wanted for name, (_, wanted) in DISTORTIONS.items()}
    settings: dict[str, Any] = {
        "searches": [_PAPER_METHOD, "invisible"],
        "taus": list(config.taus),
        "limit": config.limit,
        "psnr_db": decibels,
    }
    with experiment.recording("traditional", **settings) as result:
        for length in experiment.lengths:
            opened = experiment.model(length)
            evaluator = RetrievalEvaluator(experiment, length, experiment.labels)
            ceiling = {"map_reference": evaluator.map_of_bits(anchor_codes(experiment, length))}
            scores = evaluator.scores(codes_of(opened, photos))
            result.rows.append({"bits": length, "change": "original", "photos": len(photos), **scores, **ceiling})
            changes = dict(distortions)
            wanted = targets.point(experiment.database, length)
            for tau in config.taus:
                found = run_searches(experiment, length, paper, wanted, tau=tau, progress=progress)
                changes[f"{_PAPER_METHOD}, tau {tau}"] = found
            for tau in config.taus:
                changes[f"away, tau {tau}"] = protect_queries(experiment, length, "away", tau=tau, progress=progress)
            for name, trials in changes.items():
                scores = evaluator.scores(codes_of(opened, pixels_of(trials)))
                quality = image_quality(experiment, trials)
                result.rows.append({"bits": length, "change": name, **scores, **ceiling, **quality})
        cells = [(photos[0], "original")]
        for name, row in zip(changes, result.rows[-len(changes) :], strict=True):
            cells.append((changes[name][0].pixels, f"{name}\n{row['median_psnr_db']:.1f} dB, MAP {row['map']:.2f}"))
        photo_sheet(cells, result.plot, across=3)
    return result.rows
