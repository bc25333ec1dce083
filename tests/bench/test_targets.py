from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bench_stage import Silent, asked
from hashshield.bench.stage import Shelf, Stage, set_stage
from hashshield.bench.targets import draw_targets, mainstay, own_anchors
from hashshield.errors import UsageError


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    return set_stage(asked(tmp_path_factory.mktemp("targets"), queries=6), Silent())


def relabelled(stage: Stage, queries: list[list[int]], database: list[list[int]]) -> Stage:
    """The stage with other label sets, repeated over its photos."""

    def shelf(old: Shelf, labels: list[list[int]]) -> Shelf:
        rows = [labels[i % len(labels)] for i in range(len(old.labels))]
        return Shelf(np.array(rows, bool), old.codes)

    return replace(stage, queries=shelf(stage.queries, queries), database=shelf(stage.database, database))


def test_targets_are_of_another_kind_and_their_anchor_is_the_vote(stage: Stage) -> None:
    targets = draw_targets(stage, anchor=3)
    own = stage.queries.labels[stage.picked]
    assert not (targets.labels & own).any()
    bits = stage.database.bits(24)
    anchors = targets.anchor(stage.database, 24)
    for labels, members, anchor in zip(targets.labels, targets.members, anchors, strict=True):
        assert len(set(members)) == 3
        assert (stage.database.labels[members] == labels).all()
        votes = [sum(int(bits[m][k]) for m in members) for k in range(24)]
        assert anchor.tolist() == [1 if vote > 0 else -1 for vote in votes]
    assert (targets.point(stage.database, 24) == bits[targets.members[:, 0]]).all()


def test_fewer_queries_have_the_same_targets(stage: Stage) -> None:
    few = draw_targets(replace(stage, picked=stage.picked[:2]), anchor=3)
    assert (few.members == draw_targets(stage, anchor=3).members[:2]).all()


def test_a_class_with_too_few_photos_for_an_anchor_is_named(stage: Stage) -> None:
    with pytest.raises(UsageError, match=r"class (cat|dog) has \d+ photos in the database and an anchor takes 90"):
        draw_targets(stage, anchor=90)


def test_of_label_sets_only_exact_ones_with_enough_photos_are_aimed_at(stage: Stage) -> None:
    several = relabelled(stage, [[1, 0, 0]], [[0, 1, 0], [0, 1, 1], [0, 1, 0], [0, 0, 0], [0, 1, 0]])
    targets = draw_targets(several, anchor=5)
    assert (targets.labels == [0, 1, 0]).all()
    assert (several.database.labels[targets.members] == [0, 1, 0]).all()
    with pytest.raises(UsageError, match=r"no label set without a label of this photo has the 5 photos"):
        draw_targets(relabelled(stage, [[0, 1, 0]], [[0, 1, 0], [0, 1, 1], [0, 1, 0], [0, 0, 0]]), anchor=5)


def test_own_anchors_fall_back_to_a_shared_label(stage: Stage) -> None:
    several = relabelled(stage, [[1, 1, 0]], [[0, 1, 0], [0, 0, 1]])
    (anchor,) = own_anchors(several, 24, 1)
    votes = several.database.bits(24)[several.database.labels[:, 1]].astype(int).sum(0)
    assert anchor.tolist() == [1 if vote > 0 else -1 for vote in votes]


def test_the_mainstay_is_near_ones_kind_and_far_from_the_others(stage: Stage) -> None:
    (code,) = mainstay(stage, 24, 1)
    alike = (stage.database.labels & stage.queries.labels[stage.picked[0]]).any(axis=1)
    bits = stage.database.bits(24).astype(float)
    expected = bits[alike].mean(0) - bits[~alike].mean(0)
    assert code.tolist() == [1 if value > 0 else -1 for value in expected]
