"""What the judge says, against rankings put together one query at a time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bench_stage import Silent, asked
from hashshield.bench.judge import Judge
from hashshield.bench.stage import Shelf, Stage, set_stage


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    return set_stage(asked(tmp_path_factory.mktemp("judge"), queries=4), Silent())


def brute(own: np.ndarray, gallery: list[np.ndarray], alike: list[bool]) -> float:
    """Average precision, one entry at a time; equal distances keep the order of the gallery."""
    order = sorted(range(len(gallery)), key=lambda i: int((gallery[i] != own).sum()))
    hits, total = 0, 0.0
    for rank, i in enumerate(order, 1):
        if alike[i]:
            hits += 1
            total += hits / rank
    return total / hits


def test_every_direction_is_its_definition(stage: Stage) -> None:
    generator = np.random.default_rng(3)
    codes = generator.normal(size=(4, 24)).astype(np.float32)
    labels = stage.queries.labels[stage.picked]
    bits = np.where(codes > 0, 1, -1)
    database, queries = stage.database.bits(24), stage.queries.bits(24)
    found = Judge(stage, 24, labels).scores(codes)

    def same(a: np.ndarray, b: np.ndarray) -> bool:
        return bool((a & b).any())

    plain = [
        brute(b, list(database), [same(own, other) for other in stage.database.labels])
        for b, own in zip(bits, labels, strict=True)
    ]
    assert found["map"] == pytest.approx(np.mean(plain), abs=1e-4)
    unseen = []
    for b, own, row in zip(bits, labels, stage.picked, strict=True):
        others = [i for i in range(len(queries)) if i != row]
        unseen.append(brute(b, [queries[i] for i in others], [same(own, stage.queries.labels[i]) for i in others]))
    assert found["map_unseen"] == pytest.approx(np.mean(unseen), abs=1e-4)
    index = []
    for asker, kind in zip(queries, stage.queries.labels, strict=True):
        others = [i for i in range(len(database)) if not same(kind, stage.database.labels[i])]
        alike = [False] * len(others) + [same(kind, own) for own in labels]
        if any(alike):
            index.append(brute(asker, [*(database[i] for i in others), *bits], alike))
    assert found["map_index"] == pytest.approx(np.mean(index), abs=1e-4)
    ranks = [
        1 + sum(int((queries[row] != entry).sum()) < int((queries[row] != b).sum()) for entry in database)
        for row, b in zip(stage.picked, bits, strict=True)
    ]
    assert found["rank_by_original"] == int(np.median(ranks))


def test_bounds_hold_and_unchanged_photos_are_found_first(stage: Stage) -> None:
    labels = stage.queries.labels[stage.picked]
    found = Judge(stage, 24, labels).scores(stage.queries.codes[24][stage.picked])
    for name in ("map", "map_unseen", "map_index"):
        assert 0 < found[f"{name}_lowest"] <= found[name] <= 1
        assert found[f"{name}_lowest"] < found[f"{name}_random"] < 1
    assert found["map_low"] <= found["map"] <= found["map_high"]
    assert found["rank_by_original"] == 1


def test_the_complement_of_the_opposite_is_the_photo_itself(stage: Stage) -> None:
    codes = stage.queries.codes[24][stage.picked]
    judge = Judge(stage, 24, stage.queries.labels[stage.picked])
    assert judge.map(-codes, asking="complement") == judge.map(codes)
    assert judge.map(-codes, asking="real_valued") != judge.map(codes, asking="real_valued")


def test_a_kind_nobody_else_has_says_nothing_rather_than_zero(stage: Stage) -> None:
    wider = replace(
        stage,
        queries=Shelf(np.pad(stage.queries.labels, ((0, 0), (0, 1))), stage.queries.codes),
        database=Shelf(np.pad(stage.database.labels, ((0, 0), (0, 1))), stage.database.codes),
    )
    labels = np.eye(stage.queries.labels.shape[1] + 1, dtype=bool)[[-1, -1]]
    found = Judge(wider, 24, labels).scores(stage.queries.codes[24][stage.picked[:2]])
    assert found["map"] == found["map_random"] == 0
    assert found["map_unseen"] is None
    assert found["map_index"] is None
