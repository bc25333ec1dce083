"""Retrieval scores, against rankings put together one query at a time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bench_experiment import Silent, config_for
from hashshield.bench.evaluation import RetrievalEvaluator
from hashshield.bench.experiment import CodeSet, Experiment, open_experiment


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    return open_experiment(config_for(tmp_path_factory.mktemp("evaluation"), queries=4), Silent())


def brute(own: np.ndarray, gallery: list[np.ndarray], alike: list[bool]) -> float:
    """Average precision, one relevant entry at a time: the mean over every place that it may have among its equals."""
    distances = [int((entry != own).sum()) for entry in gallery]
    total = 0.0
    for i in np.flatnonzero(alike):
        nearer = [k for k, distance in enumerate(distances) if distance < distances[i]]
        equal = [k for k, distance in enumerate(distances) if distance == distances[i] and k != i]
        hits, tied = sum(alike[k] for k in nearer), sum(alike[k] for k in equal)
        shares = [
            (hits + 1 + place * tied / max(len(equal), 1)) / (len(nearer) + 1 + place)
            for place in range(len(equal) + 1)
        ]
        total += sum(shares) / len(shares)
    return total / sum(alike)


def test_every_direction_is_its_definition(experiment: Experiment) -> None:
    generator = np.random.default_rng(3)
    codes = generator.normal(size=(4, 24)).astype(np.float32)
    labels = experiment.queries.labels[experiment.picked]
    bits = np.where(codes > 0, 1, -1)
    database, queries = experiment.database.bits(24), experiment.queries.bits(24)
    found = RetrievalEvaluator(experiment, 24, labels).scores(codes)

    def same(a: np.ndarray, b: np.ndarray) -> bool:
        return bool((a & b).any())

    plain = [
        brute(b, list(database), [same(own, other) for other in experiment.database.labels])
        for b, own in zip(bits, labels, strict=True)
    ]
    assert found["map"] == pytest.approx(np.mean(plain), abs=1e-4)
    unseen = []
    for b, own, row in zip(bits, labels, experiment.picked, strict=True):
        others = [i for i in range(len(queries)) if i != row]
        unseen.append(brute(b, [queries[i] for i in others], [same(own, experiment.queries.labels[i]) for i in others]))
    assert found["map_unseen"] == pytest.approx(np.mean(unseen), abs=1e-4)
    index = []
    for asker, kind in zip(queries, experiment.queries.labels, strict=True):
        others = [i for i in range(len(database)) if not same(kind, experiment.database.labels[i])]
        alike = [False] * len(others) + [same(kind, own) for own in labels]
        if any(alike):
            index.append(brute(asker, [*(database[i] for i in others), *bits], alike))
    assert found["map_index"] == pytest.approx(np.mean(index), abs=1e-4)
    ranks = [
        1 + sum(int((queries[row] != entry).sum()) < int((queries[row] != b).sum()) for entry in database)
        for row, b in zip(experiment.picked, bits, strict=True)
    ]
    assert found["rank_by_original"] == int(np.median(ranks))


def test_bounds_hold_and_unchanged_photos_are_found_first(experiment: Experiment) -> None:
    labels = experiment.queries.labels[experiment.picked]
    found = RetrievalEvaluator(experiment, 24, labels).scores(experiment.queries.codes[24][experiment.picked])
    for name in ("map", "map_unseen", "map_index"):
        assert 0 < found[f"{name}_lowest"] <= found[name] <= 1
        assert found[f"{name}_lowest"] < found[f"{name}_random"] < 1
    assert found["map_low"] <= found["map"] <= found["map_high"]
    assert found["rank_by_original"] == 1


def test_the_complement_of_the_opposite_is_the_photo_itself(experiment: Experiment) -> None:
    codes = experiment.queries.codes[24][experiment.picked]
    evaluator = RetrievalEvaluator(experiment, 24, experiment.queries.labels[experiment.picked])
    assert evaluator.map(-codes, mode="complement") == evaluator.map(codes)
    assert evaluator.map(-codes, mode="real_valued") != evaluator.map(codes, mode="real_valued")


def test_a_kind_nobody_else_has_says_nothing_rather_than_zero(experiment: Experiment) -> None:
    wider = replace(
        experiment,
        queries=CodeSet(np.pad(experiment.queries.labels, ((0, 0), (0, 1))), experiment.queries.codes),
        database=CodeSet(np.pad(experiment.database.labels, ((0, 0), (0, 1))), experiment.database.codes),
    )
    labels = np.eye(experiment.queries.labels.shape[1] + 1, dtype=bool)[[-1, -1]]
    found = RetrievalEvaluator(wider, 24, labels).scores(experiment.queries.codes[24][experiment.picked[:2]])
    assert found["map"] == found["map_random"] == 0
    assert found["map_unseen"] is None
    assert found["map_index"] is None
