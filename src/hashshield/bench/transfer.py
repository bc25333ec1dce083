"""`bench transfer`: what a network that the search never used still finds.

Each checkpoint is held out in turn: photos are protected on all the others together, and the one held out is asked, in
every query mode and after every input defence. Beside each stands uniform noise of the same PSNR, which is what a
change that does not transfer amounts to.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from hashshield.arrays import Pixels
from hashshield.attacks.presets import PRESETS
from hashshield.bench.config import TransferConfig
from hashshield.bench.defences import INPUT_DEFENCES
from hashshield.bench.distortions import noise_of_psnr
from hashshield.bench.evaluation import RetrievalEvaluator, codes_of, image_quality, pixels_of
from hashshield.bench.experiment import Experiment, anchor_codes, open_experiment
from hashshield.bench.protecting import protect_queries
from hashshield.bench.results import Trial
from hashshield.errors import UsageError
from hashshield.metrics.retrieval import bits_of
from hashshield.models.device import choose_device
from hashshield.models.load import OpenModel, open_models
from hashshield.types import Progress

__all__ = ["COLUMNS", "run_transfer"]

COLUMNS: dict[str, tuple[str, ...]] = {
    "transfer": (
        *("held_out", "preset", "goal", "photos", "map", "map_random", "map_ceiling", "map_complement"),
        *("map_jpeg_q75", "mean_distance_from_original", "share_reached_where_searched", "median_psnr_db"),
    ),
}


def run_transfer(config: TransferConfig, progress: Progress) -> list[dict[str, Any]]:
    """Return a row per network held out, preset and goal; write a result file for each network held out.

    A checkpoint without a code length takes its longest. Raise UsageError for fewer than two checkpoints and for those
    of different datasets, CheckpointError.
    """
    family = open_models(config.models, device=choose_device(config.device))
    _check(family)
    rows: list[dict[str, Any]] = []
    for held_out in family:
        experiment = open_experiment(replace(config, models=(held_out.name,)), progress)
        search_models = [opened for opened in family if opened is not held_out]
        rows += _held_out_rows(experiment, search_models, config, progress)
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
        raise UsageError(
            f"these networks are for different datasets ({', '.join(sorted(datasets))}); name those of one"
        )


def _held_out_rows(
    experiment: Experiment, search_models: Sequence[OpenModel], config: TransferConfig, progress: Progress
) -> list[dict[str, Any]]:
    presets = config.presets or tuple(PRESETS)
    progress.start(len(experiment.picked) * len(presets) * len(config.goals))
    settings = {"searched": [opened.name for opened in search_models], "presets": list(presets)}
    with experiment.recording("transfer", tau=config.tau, **settings) as result:
        table = _HeldOutTable(experiment)
        result.rows.append({**table.base, "preset": "none", "goal": "none", **table.row(experiment.photos)})
        for preset in presets:
            for goal in config.goals:
                trials = protect_queries(
                    experiment,
                    table.length,
                    goal,
                    tau=config.tau,
                    search_models=search_models,
                    preset=preset,
                    progress=progress,
                )
                result.rows += table.changed_rows(preset, goal, trials)
    return result.rows


class _HeldOutTable:
    """The rows of the network that the search does not use."""

    def __init__(self, experiment: Experiment) -> None:
        self.experiment, (self.length,) = experiment, experiment.lengths
        self.opened = experiment.model(self.length)
        self.evaluator = RetrievalEvaluator(experiment, self.length, experiment.labels)
        self.original_bits = experiment.original_bits(self.length)
        self.base = {
            "held_out": self.opened.name,
            "bits": self.length,
            "photos": len(experiment.photos),
            "map_ceiling": self.evaluator.map_of_bits(anchor_codes(experiment, self.length)),
        }

    def changed_rows(self, preset: str, goal: str, trials: Sequence[Trial]) -> Iterator[dict[str, Any]]:
        """Yield the row of the protected photos, and that of uniform noise of the PSNR that each of them has."""
        common = {**self.base, "preset": preset, "goal": goal}
        reached = sum(trial.record["passed"] for trial in trials) / len(trials)
        scores, quality = self.row(pixels_of(trials)), image_quality(self.experiment, trials)
        yield {**common, **scores, **quality, "share_reached_where_searched": round(reached, 4)}
        noisy = [
            Trial(noise_of_psnr(before, trial.pixels, seed=self.experiment.seed + i), trial.record)
            for i, (before, trial) in enumerate(zip(self.experiment.photos, trials, strict=True))
        ]
        scores, quality = self.row(pixels_of(noisy)), image_quality(self.experiment, noisy)
        yield {**common, "preset": f"noise as {preset}", **scores, **quality}

    def row(self, photos: Sequence[Pixels]) -> dict[str, Any]:
        """Return the MAP in every query mode and after every input defence, and distances from the original codes."""
        codes = codes_of(self.opened, photos)
        distances = (bits_of(codes) != self.original_bits).sum(1)
        return {
            **self.evaluator.scores(codes),
            **self.evaluator.modes(codes),
            **{
                f"map_{name.replace(' ', '_')}": self.evaluator.map(codes_of(self.opened, photos, change))
                for name, change in INPUT_DEFENCES.items()
            },
            "mean_distance_from_original": round(float(distances.mean()), 2),
            "least_distance_from_original": int(distances.min()),
        }
