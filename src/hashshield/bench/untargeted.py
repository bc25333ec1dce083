"""Untargeted changes: table 3 and figure 3 of the paper.

`bench untargeted` gives the MAP after a change, and after what a service might do against it. The paper's Tanh and RNM
aim at the code of a photo of another kind, HAG at the opposite of the photo's own code. SAAT's goal is the opposite of
its mainstay code, searched for here as `rnm` searches.

`bench traditional` compares what people did to photos before with adversarial changes. Mosaic, brightness, transparency
and noise get, photo by photo, the strength at which their PSNR is the one the paper states. The adversarial photos are
those of `protect`, at several bounds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hashshield.arrays import Bits, Pixels
from hashshield.bench.config import BaselineConfig, TraditionalConfig
from hashshield.bench.defences import PAPER_DEFENCES
from hashshield.bench.distortions import DISTORTIONS, distorted_queries
from hashshield.bench.evaluation import RetrievalEvaluator, codes_of, image_quality, pixels_of
from hashshield.bench.experiment import Experiment, anchor_codes, draw_targets, mainstay_codes, open_experiment
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
        *("bits", "change", "photos", "median_psnr_db", "median_ssim", "map", "map_random", "map_ceiling"),
        *("map_unseen", "map_index"),
    ),
}

_GOALS: tuple[GoalKind, ...] = ("away", "opposite", "decoy")
_POINT_METHODS = ("tanh", "rnm-paper", "rnm-paper-free")
"""Published methods that aim at the code of one photo of another kind."""


def run_untargeted(config: BaselineConfig, progress: Progress) -> list[dict[str, Any]]:
    """Return a row per code length and method. Raise UsageError, CheckpointError, GoalError."""
    experiment = open_experiment(config, progress)
    targets = draw_targets(experiment, anchor=config.anchor)
    everyone, few = len(experiment.picked), min(config.baseline_queries, len(experiment.picked))
    noise, rnm, hag, *points = attacks_of(("noise", "rnm", "hag", *_POINT_METHODS), config.steps, config.limit)
    units = progress_units([noise, rnm], everyone) + progress_units([hag, *points], few) + len(_GOALS) * everyone
    progress.start(units * len(experiment.lengths))
    settings = {"rival_queries": few, "limit": config.limit, "anchor": config.anchor}
    with experiment.recording("untargeted", tau=config.tau, **settings) as result:
        for length in experiment.lengths:
            table = _UntargetedTable(experiment, length, few)

            def run(attack: Attack, wanted: Bits, length: int = length) -> list[Trial]:
                return run_searches(experiment, length, attack, wanted, tau=config.tau, progress=progress)

            result.rows.append(table.row("original", experiment.photos))
            result.rows.append(table.changed_row("noise", run(noise, table.original_bits)))
            for attack in points:
                wanted = targets.point(experiment.database, length)[:few]
                result.rows.append(table.changed_row(f"{attack.name}, P2P", run(attack, wanted)))
            result.rows.append(table.changed_row("hag", run(hag, -table.original_bits[:few])))
            result.rows.append(table.changed_row("saat's goal, rnm", run(rnm, -mainstay_codes(experiment, length))))
            for goal in _GOALS:
                trials = protect_queries(experiment, length, goal, tau=config.tau, progress=progress)
                result.rows.append(table.changed_row(goal, trials))
    return result.rows


class _UntargetedTable:
    """The rows of one code length."""

    def __init__(self, experiment: Experiment, length: int, baseline_count: int) -> None:
        self.experiment, self.length, self.baseline_count = experiment, length, baseline_count
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
            "map_ceiling": evaluator.map_of_bits(self.anchors[:count]),
            **evaluator.modes(codes),
            **defended,
            "mean_distance_from_original": round(float(distances.mean()), 2),
        }

    def changed_row(self, name: str, trials: Sequence[Trial]) -> dict[str, Any]:
        """Return a row with image quality, over all photos and over those that the slow methods ran on."""
        row = {**self.row(name, pixels_of(trials)), **image_quality(self.experiment, trials)}
        if len(trials) > self.baseline_count:
            few = image_quality(self.experiment, trials[: self.baseline_count])
            row["median_psnr_db_on_rival_photos"] = few["median_psnr_db"]
        return row


def run_traditional(config: TraditionalConfig, progress: Progress) -> list[dict[str, Any]]:
    """Return a row per code length and change: distortions, then `away` at every bound. Raise UsageError,
    CheckpointError.
    """
    experiment = open_experiment(config, progress)
    photos = experiment.photos
    progress.start(len(photos) * (len(DISTORTIONS) + len(config.taus) * len(experiment.lengths)))
    distortions = distorted_queries(experiment, progress)
    decibels = {name: wanted for name, (_, wanted) in DISTORTIONS.items()}
    with experiment.recording("traditional", taus=list(config.taus), psnr_db=decibels) as result:
        for length in experiment.lengths:
            opened = experiment.model(length)
            evaluator = RetrievalEvaluator(experiment, length, experiment.labels)
            ceiling = {"map_ceiling": evaluator.map_of_bits(anchor_codes(experiment, length))}
            scores = evaluator.scores(codes_of(opened, photos))
            result.rows.append({"bits": length, "change": "original", "photos": len(photos), **scores, **ceiling})
            changes = dict(distortions)
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
