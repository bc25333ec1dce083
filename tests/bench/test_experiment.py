from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench_experiment import Silent, config_for, write_classes
from hashshield.bench.experiment import (
    CodeSet,
    Experiment,
    anchor_codes,
    draw_targets,
    mainstay_codes,
    open_experiment,
)
from hashshield.errors import UsageError


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    return open_experiment(config_for(tmp_path_factory.mktemp("experiment"), queries=6), Silent())


def relabelled(experiment: Experiment, queries: list[list[int]], database: list[list[int]]) -> Experiment:
    """The experiment with other label sets, repeated over its photos."""

    def code_set(old: CodeSet, labels: list[list[int]]) -> CodeSet:
        rows = [labels[i % len(labels)] for i in range(len(old.labels))]
        return CodeSet(np.array(rows, bool), old.codes)

    return replace(
        experiment, queries=code_set(experiment.queries, queries), database=code_set(experiment.database, database)
    )


def test_targets_are_of_another_kind_and_their_anchor_is_the_vote(experiment: Experiment) -> None:
    targets = draw_targets(experiment, anchor=3)
    own = experiment.queries.labels[experiment.picked]
    assert not (targets.labels & own).any()
    bits = experiment.database.bits(24)
    anchors = targets.anchor(experiment.database, 24)
    for labels, members, anchor in zip(targets.labels, targets.members, anchors, strict=True):
        assert len(set(members)) == 3
        assert (experiment.database.labels[members] == labels).all()
        votes = [sum(int(bits[m][k]) for m in members) for k in range(24)]
        assert anchor.tolist() == [1 if vote > 0 else -1 for vote in votes]
    assert (targets.point(experiment.database, 24) == bits[targets.members[:, 0]]).all()


def test_fewer_queries_have_the_same_targets(experiment: Experiment) -> None:
    few = draw_targets(replace(experiment, picked=experiment.picked[:2]), anchor=3)
    assert (few.members == draw_targets(experiment, anchor=3).members[:2]).all()


def test_a_class_with_too_few_photos_for_an_anchor_is_named(experiment: Experiment) -> None:
    with pytest.raises(UsageError, match=r"class (cat|dog) has \d+ photos in the database and an anchor takes 90"):
        draw_targets(experiment, anchor=90)


def test_of_label_sets_only_exact_ones_with_enough_photos_are_aimed_at(experiment: Experiment) -> None:
    several = relabelled(experiment, [[1, 0, 0]], [[0, 1, 0], [0, 1, 1], [0, 1, 0], [0, 0, 0], [0, 1, 0]])
    targets = draw_targets(several, anchor=5)
    assert (targets.labels == [0, 1, 0]).all()
    assert (several.database.labels[targets.members] == [0, 1, 0]).all()
    with pytest.raises(UsageError, match=r"no label set without a label of this photo has the 5 photos"):
        draw_targets(relabelled(experiment, [[0, 1, 0]], [[0, 1, 0], [0, 1, 1], [0, 1, 0], [0, 0, 0]]), anchor=5)


def test_own_anchors_fall_back_to_a_shared_label(experiment: Experiment) -> None:
    several = relabelled(experiment, [[1, 1, 0]], [[0, 1, 0], [0, 0, 1]])
    anchor = anchor_codes(several, 24)[0]
    votes = several.database.bits(24)[several.database.labels[:, 1]].astype(int).sum(0)
    assert anchor.tolist() == [1 if vote > 0 else -1 for vote in votes]


def test_the_mainstay_is_near_ones_kind_and_far_from_the_others(experiment: Experiment) -> None:
    code = mainstay_codes(experiment, 24)[0]
    alike = (experiment.database.labels & experiment.queries.labels[experiment.picked[0]]).any(axis=1)
    bits = experiment.database.bits(24).astype(float)
    expected = bits[alike].mean(0) - bits[~alike].mean(0)
    assert code.tolist() == [1 if value > 0 else -1 for value in expected]


def test_a_folder_that_is_missing_or_wrong_is_named(folder: Path, tmp_path: Path) -> None:
    config = config_for(folder)
    for data, message in ((tmp_path / "none", "no such folder"), (tmp_path, "expected one folder per class")):
        with pytest.raises(UsageError, match=message):
            open_experiment(replace(config, data=data, output=tmp_path / "out"), Silent())


def test_a_photo_that_is_listed_and_missing_is_named(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hashshield.bench import experiment as module

    config = config_for(folder)
    whole = module.open_protocol

    def listed(*words: Any) -> Any:
        files, split = whole(*words)
        return replace(files, root=tmp_path), split

    monkeypatch.setattr(module, "open_protocol", listed)
    with pytest.raises(UsageError, match=r"the dataset lists this photo, which cannot be read"):
        open_experiment(replace(config, output=tmp_path / "out"), Silent())


def test_lengths_of_two_checkpoints_are_two_benches(folder: Path, tmp_path: Path) -> None:
    one, other = config_for(folder), config_for(tmp_path)
    both = replace(one, models=(*one.models, *other.models), output=tmp_path / "out")
    with pytest.raises(UsageError, match="lengths of one checkpoint, found 2"):
        open_experiment(both, Silent())


def test_codes_are_kept_and_made_anew_for_other_photos(tmp_path: Path) -> None:
    config = config_for(tmp_path)
    first, second = Silent(), Silent()
    before = open_experiment(config, first)
    again = open_experiment(config, second)
    assert first.count > 0
    assert second.count == 0
    assert (before.database.codes[24] == again.database.codes[24]).all()
    write_classes(tmp_path / "more", each=13)
    third = Silent()
    open_experiment(replace(config, data=tmp_path / "more"), third)
    assert third.count > 0


def test_each_code_length_is_hashed_once(tmp_path: Path) -> None:
    first, second, third = Silent(), Silent(), Silent()
    open_experiment(config_for(tmp_path, ":24", queries=2), first)
    assert first.total > 0
    both = open_experiment(config_for(tmp_path, "", queries=2), second)
    assert both.lengths == (16, 24)
    assert second.total == first.total, "only the other length"
    alone = open_experiment(config_for(tmp_path, ":16", queries=2), third)
    assert third.total == 0
    assert (alone.database.codes[16] == both.database.codes[16]).all()
