"""Photos of a bench, protected towards targets of their own."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bench_experiment import Silent, config_for
from hashshield.bench.config import BenchConfig
from hashshield.bench.evaluation import codes_of, pixels_of
from hashshield.bench.experiment import open_experiment
from hashshield.bench.protecting import _rounds, protect_queries
from hashshield.metrics.retrieval import bits_of


def test_photos_that_are_searched_together_go_to_a_target_each(folder: Path) -> None:
    experiment = open_experiment(config_for(folder, kind=BenchConfig, queries=3, steps=40), Silent())
    length = experiment.lengths[0]
    wanted = np.concatenate([experiment.original_bits(length)] * 2)
    for row, bits in enumerate(wanted):
        bits[[row, row + 1]] *= -1
    assert len(np.unique(wanted, axis=0)) == 6
    trials = protect_queries(experiment, length, "image", tau=0.1, wanted=wanted, progress=Silent())
    passed = np.array([trial.record["passed"] for trial in trials])
    assert passed.sum() >= 4
    found = bits_of(codes_of(experiment.model(length), pixels_of(trials)))
    assert (found[passed] == wanted[passed]).all()


def test_the_same_photo_comes_once_in_a_round() -> None:
    assert _rounds(["a", "b", "a", "c", "a"]) == [{"a": 0, "b": 1, "c": 3}, {"a": 2}, {"a": 4}]
    assert _rounds([]) == []
