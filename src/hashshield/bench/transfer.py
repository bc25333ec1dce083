"""`bench transfer`: what a network that the search did not use still finds.

Each lineage, or each network, is held out in turn, or a single one. Photos are protected on all other networks
together; presets with surrogates also move the features of the surrogates named, as `protect` does with installed ones.
The held-out networks then search for them, in every query mode and after every input defence, and so do networks that
only judge. Each row is followed by one for uniform noise of the same visibility, which a change that does not transfer
equals.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from hashshield.arrays import Pixels
from hashshield.attacks.features import surrogates_among
from hashshield.attacks.presets import PRESETS
from hashshield.bench.config import TransferConfig
from hashshield.bench.distortions import INPUT_DEFENCES, noise_of_visibility
from hashshield.bench.evaluation import (
    RetrievalEvaluator,
    codes_of,
    found_scores,
    image_quality,
    pixels_of,
    unrelated_threshold,
)
from hashshield.bench.experiment import Experiment, anchor_codes, open_experiment
from hashshield.bench.judges import JudgeNetwork, judged_dataset, open_judge
from hashshield.bench.protecting import protect_queries
from hashshield.bench.results import Trial
from hashshield.checkpoints.card import lineage_of
from hashshield.errors import UsageError
from hashshield.metrics.retrieval import bits_of
from hashshield.metrics.visibility import visibility
from hashshield.models.device import choose_device
from hashshield.models.load import OpenModel, open_models
from hashshield.pipeline.targets import refuse_foreign
from hashshield.types import Progress

__all__ = ["COLUMNS", "run_transfer"]

_JPEG = "jpeg q75"

COLUMNS: dict[str, tuple[str, ...]] = {
    "transfer": (
        *("held_out", "preset", "goal", "photos", "map", "map_low", "map_high", "first", "above_threshold"),
        *("mean_distance_from_original", "map_jpeg_q75", "first_jpeg_q75", "map_random", "map_reference"),
        *("map_complement", "share_reached_where_searched", "median_visibility", "median_psnr_db"),
    ),
}


class _Part(NamedTuple):
    """One search of the bench: which networks are held out, and which are searched on."""

    held_out: tuple[OpenModel, ...]
    search_models: tuple[OpenModel, ...]


def run_transfer(config: TransferConfig, progress: Progress) -> list[dict[str, Any]]:
    """Return a row per held-out network or judge, preset and goal; write a result file for each held-out network.

    A checkpoint without a code length uses its longest. If all networks are of one lineage and there are judges, all
    networks are searched on and only the judges measure; their rows are in the file of the first network. Raise
    UsageError if no network can be held out, if datasets differ, for a network that cannot be a surrogate, and for a
    missing judge; CheckpointError; GoalError for a network that may not serve a goal.
    """
    family = open_models(config.models, device=choose_device(config.device))
    _check(family, config)
    for goal in config.goals:
        refuse_foreign(family, goal)
    surrogates = _surrogates(config, family)
    judges = [open_judge(asked) for asked in config.judges]
    rows: list[dict[str, Any]] = []
    for part in _parts(family, config):
        asked = [(name.name, judges if i == 0 else []) for i, name in enumerate(part.held_out)]
        for name, present in asked or [(part.search_models[0].name, judges)]:
            experiment = open_experiment(replace(config, models=(name,)), progress)
            rows += _rows(experiment, part, surrogates, bool(part.held_out), present, config, progress)
    return rows


def _check(family: Sequence[OpenModel], config: TransferConfig) -> None:
    names = [opened.name for opened in family]
    if config.hold_out not in ("lineage", "network") and not _named(family, config.hold_out):
        raise UsageError(f"--hold-out {config.hold_out}: is neither lineage nor network, nor one of {', '.join(names)}")
    least = 1 if config.judges and config.hold_out == "lineage" else 2
    if len({name.rpartition(":")[0] for name in names}) < max(least, len(names)):
        raise UsageError(
            f"one network is held out and others are searched on: name at least two checkpoints, each once, with "
            f"--model (found {', '.join(names)}); `hashshield models list` shows what is here"
        )
    datasets = {opened.card.dataset for opened in family}
    if len(datasets) > 1:
        raise UsageError(
            f"these networks are for different datasets ({', '.join(sorted(datasets))}); name those of one"
        )


def _named(family: Sequence[OpenModel], name: str) -> list[OpenModel]:
    """Return the networks that `name` means, with or without a code length."""
    return [opened for opened in family if name in (opened.name, opened.name.rpartition(":")[0])]


def _surrogates(config: TransferConfig, family: Sequence[OpenModel]) -> list[OpenModel]:
    """Open the surrogates. Raise UsageError for one that is also a model, or is no EfficientNet-Lite."""
    found = list(open_models(config.surrogates, device=choose_device(config.device)))
    used = {opened.name.rpartition(":")[0] for opened in family}
    for opened in found:
        if opened.name.rpartition(":")[0] in used:
            raise UsageError(f"--surrogate {opened.name}: is also a --model; name it once")
        if not surrogates_among([opened]):
            raise UsageError(f"--surrogate {opened.name}: is a {opened.card.arch}; surrogates are EfficientNet-Lites")
    return found


def _parts(family: Sequence[OpenModel], config: TransferConfig) -> list[_Part]:
    """Return the searches. Raise UsageError if all networks are of one lineage and there are no judges."""
    if config.hold_out == "network":
        groups = [[opened] for opened in family]
    elif held := _named(family, config.hold_out):
        return [_Part(tuple(held), tuple(each for each in family if each not in held))]
    else:
        lineages = dict.fromkeys(lineage_of(opened.card) for opened in family)
        groups = [[opened for opened in family if lineage_of(opened.card) == name] for name in lineages]
    if len(groups) > 1:
        return [_Part(tuple(held), tuple(each for each in family if each not in held)) for held in groups]
    if config.judges:
        return [_Part((), tuple(family))]
    raise UsageError(
        f"these networks are all of one lineage ({lineage_of(family[0].card)}), and a search on related "
        "networks says nothing about unrelated ones; name one of another lineage, a --judge, or say --hold-out network"
    )


def _rows(
    experiment: Experiment,
    part: _Part,
    surrogates: Sequence[OpenModel],
    asks_network: bool,
    judges: Sequence[JudgeNetwork],
    config: TransferConfig,
    progress: Progress,
) -> list[dict[str, Any]]:
    """Return the rows of one result file; `asks_network`: whether the experiment's network is held out and measured."""
    presets = config.presets or tuple(PRESETS)
    tables: list[_HeldOutTable | _JudgeTable] = [_HeldOutTable(experiment)] if asks_network else []
    tables += [_JudgeTable(experiment, judge, progress) for judge in judges]
    progress.start(len(experiment.picked) * len(presets) * len(config.goals))
    settings = {
        "searched": [opened.name for opened in part.search_models],
        "surrogates": [opened.name for opened in surrogates],
        "presets": list(presets),
    }
    with experiment.recording("transfer", searches=presets, tau=config.tau, **settings) as result:
        for table in tables:
            result.rows.append({**table.base, "preset": "none", "goal": "none", **table.row(experiment.photos)})
        for preset in presets:
            for goal in config.goals:
                trials = protect_queries(
                    experiment,
                    experiment.lengths[0],
                    goal,
                    tau=config.tau,
                    search_models=part.search_models,
                    surrogates=surrogates,
                    preset=preset,
                    progress=progress,
                )
                result.rows += _changed_rows(experiment, tables, preset, goal, trials)
    return result.rows


def _changed_rows(
    experiment: Experiment,
    tables: Sequence[_HeldOutTable | _JudgeTable],
    preset: str,
    goal: str,
    trials: Sequence[Trial],
) -> Iterator[dict[str, Any]]:
    """Yield, for each table, the row of the protected photos and that of uniform noise with the same visibility."""
    reached = sum(trial.record["passed"] for trial in trials) / len(trials)
    noisy = [
        Trial(noise_of_visibility(before, trial.pixels, seed=experiment.seed + i), trial.record)
        for i, (before, trial) in enumerate(zip(experiment.photos, trials, strict=True))
    ]
    qualities = [{**image_quality(experiment, each), **_visible(experiment, each)} for each in (trials, noisy)]
    for table in tables:
        common = {**table.base, "preset": preset, "goal": goal}
        scores = table.row(pixels_of(trials))
        yield {**common, **scores, **qualities[0], "share_reached_where_searched": round(reached, 4)}
        yield {**common, "preset": f"noise as {preset}", **table.row(pixels_of(noisy)), **qualities[1]}


def _visible(experiment: Experiment, trials: Sequence[Trial]) -> dict[str, float]:
    pairs = zip(experiment.photos, trials, strict=True)
    return {"median_visibility": round(float(np.median([visibility(before, t.pixels) for before, t in pairs])), 3)}


class _HeldOutTable:
    """The rows of the held-out network."""

    def __init__(self, experiment: Experiment) -> None:
        self.experiment, (self.length,) = experiment, experiment.lengths
        self.opened = experiment.model(self.length)
        self.evaluator = RetrievalEvaluator(experiment, self.length, experiment.labels)
        self.original_bits = experiment.original_bits(self.length)
        self.base = {
            "held_out": self.opened.name,
            "lineage": lineage_of(self.opened.card),
            "bits": self.length,
            "photos": len(experiment.photos),
            "map_reference": self.evaluator.map_of_bits(anchor_codes(experiment, self.length)),
        }

    def row(self, photos: Sequence[Pixels]) -> dict[str, Any]:
        """Return the MAP in every query mode and after every input defence, and distances from the original codes."""
        codes = codes_of(self.opened, photos)
        after = {name: codes_of(self.opened, photos, change) for name, change in INPUT_DEFENCES.items()}
        distances = (bits_of(codes) != self.original_bits).sum(1)
        squeezed = (bits_of(after[_JPEG]) != self.original_bits).sum(1)
        return {
            **self.evaluator.scores(codes),
            **self.evaluator.modes(codes),
            **{f"map_{name.replace(' ', '_')}": self.evaluator.map(found) for name, found in after.items()},
            **_besides(self.evaluator.found(codes), self.evaluator.found(after[_JPEG])),
            "mean_distance_from_original": round(float(distances.mean()), 2),
            "least_distance_from_original": int(distances.min()),
            "mean_distance_jpeg_q75": round(float(squeezed.mean()), 2),
        }


class _JudgeTable:
    """The rows of a network that only judges."""

    def __init__(self, experiment: Experiment, network: JudgeNetwork, progress: Progress) -> None:
        self.experiment, self.judged = experiment, judged_dataset(network, experiment, progress)
        self.relevant = RetrievalEvaluator(experiment, experiment.lengths[0], experiment.labels).relevant
        self.originals = network.features(experiment.photos)
        self.threshold = unrelated_threshold(self.judged.distances(self.originals, self.judged.database), self.relevant)
        self.base = {
            "held_out": network.name,
            "judge_sha256": network.digest,
            "bits": self.judged.bits,
            "photos": len(experiment.photos),
        }

    def row(self, photos: Sequence[Pixels]) -> dict[str, Any]:
        """Return what the judge finds with these photos, as they are and after JPEG q75."""
        plain, own = self._found(photos)
        squeezed, own_squeezed = self._found([INPUT_DEFENCES[_JPEG](pixels) for pixels in photos])
        row = {**plain, **_besides(plain, squeezed)}
        if self.judged.bits is None:
            return {
                **row,
                "mean_cosine_to_original": round(float(1 - own.mean()), 4),
                "mean_cosine_jpeg_q75": round(float(1 - own_squeezed.mean()), 4),
            }
        return {
            **row,
            "mean_distance_from_original": round(float(own.mean()), 2),
            "least_distance_from_original": int(own.min()),
            "mean_distance_jpeg_q75": round(float(own_squeezed.mean()), 2),
        }

    def _found(self, photos: Sequence[Pixels]) -> tuple[dict[str, Any], Any]:
        features = self.judged.network.features(photos)
        pairs = zip(features, self.originals, strict=True)
        own = np.array([self.judged.distances(now[None], before[None])[0, 0] for now, before in pairs])
        distances = self.judged.distances(features, self.judged.database)
        return found_scores(distances, own, self.relevant, self.threshold, seed=self.experiment.seed), own


def _besides(plain: dict[str, Any], squeezed: dict[str, Any]) -> dict[str, Any]:
    """Return the entries of `plain` besides the MAP, and all of `squeezed`, measured after JPEG q75, under own keys."""
    first = {key: value for key, value in plain.items() if not key.startswith("map")}
    return {**first, **{_after_jpeg(key): value for key, value in squeezed.items()}}


def _after_jpeg(key: str) -> str:
    """Return the key for the value after JPEG q75, such as `first_jpeg_q75_low` for `first_low`."""
    for end in ("_low", "_high"):
        if key.endswith(end):
            return f"{key.removesuffix(end)}_jpeg_q75{end}"
    return f"{key}_jpeg_q75"
