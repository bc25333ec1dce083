from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hashshield.attacks.goals import GOALS, FixedCode, Goal, away_band, in_band
from hashshield.checkpoints.file import write_checkpoint
from hashshield.errors import GoalError, UnknownNameError
from hashshield.models.load import OpenModel, open_models
from hashshield.pipeline.targets import CodeTarget, make_target, measure, read_target, shared_bits, target_for_view
from hashshield.types import GoalSpec
from tiny_net import CARD, encoded, picture, tiny_weights

KEY, SHA = bytes(32), "cd" * 32


@pytest.fixture(scope="module")
def model(tiny: Path) -> OpenModel:
    return open_models([f"{tiny}:16"])[0]


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> OpenModel:
    path = tmp_path_factory.mktemp("bare") / "bare.safetensors"
    write_checkpoint(path, CARD, tiny_weights()[0], {})
    return open_models([f"{path}:16"])[0]


def anchors(model: OpenModel) -> Any:
    assert model.anchors is not None
    return model.anchors.numpy()


CODE = (np.arange(16) - 7.6).astype(np.float32)
OWN = np.where(CODE > 0, 1, -1)
FEATURES = torch.arange(5.0)


def aim(model: OpenModel, goal: GoalSpec | Goal, **changes: Any) -> Any:
    plain: dict[str, Any] = {"key": KEY, "sha256": SHA}
    goal = GOALS[goal.kind] if isinstance(goal, GoalSpec) else goal
    return make_target(goal, model, CODE, FEATURES, **{**plain, **changes})


def test_away_is_a_secret_half_and_leaves_the_features(model: OpenModel, bare: OpenModel) -> None:
    mark, aimed = aim(model, GoalSpec())
    assert mark.band
    assert (mark.original_bits == OWN).all()
    assert in_band(int(np.count_nonzero(mark.wanted != OWN)), 16)
    assert mark.nearest == int(np.count_nonzero(anchors(model) != OWN, axis=1).argmin())
    assert in_band(int(np.count_nonzero(mark.wanted != anchors(model)[mark.nearest])), 16)
    assert torch.equal(aimed.original_features, FEATURES)
    assert aimed.wanted.tolist() == mark.wanted.tolist()
    assert (aim(model, GoalSpec())[0].wanted == mark.wanted).all()
    assert (aim(model, GoalSpec(), key=b"another")[0].wanted != mark.wanted).any()
    mark, _ = aim(bare, GoalSpec())
    assert mark.nearest is None
    assert in_band(int(np.count_nonzero(mark.wanted != OWN)), 16)


def test_goals_with_a_wanted_code(model: OpenModel) -> None:
    mark, aimed = aim(model, GoalSpec("opposite"))
    assert (mark.wanted == -OWN).all()
    assert (mark.band, aimed.original_features) == (False, None)
    mark, _ = aim(model, GoalSpec("center"))
    assert (mark.wanted == -anchors(model)[mark.nearest]).all()
    mark, _ = aim(model, GoalSpec("decoy"))
    assert any((mark.wanted == anchor).all() for anchor in anchors(model))
    assert np.count_nonzero(mark.wanted != OWN) >= 0.35 * 16
    fixed = np.ones(16, np.int8)
    assert (aim(model, FixedCode("image:x", {model.name: fixed}))[0].wanted == fixed).all()


def test_a_target_of_the_photos_own_code(model: OpenModel) -> None:
    with pytest.raises(GoalError, match=r"the target already has this photo's code on .*; choose another target"):
        aim(model, FixedCode("image:x", {model.name: OWN.astype(np.int8)}))


@pytest.mark.parametrize("kind", ["decoy", "center", "class"])
def test_goals_that_need_anchors_say_so_before_any_photo(kind: Any, model: OpenModel, bare: OpenModel) -> None:
    assert kind == "class" or shared_bits(GoalSpec(kind), [model]) is None
    with pytest.raises((GoalError, UnknownNameError), match="has no class"):
        shared_bits(GoalSpec(kind, "cat"), [model, bare])


def put(path: Path, seed: int) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(encoded(picture(40, 50, seed=seed)))
    return path


def test_a_set_votes_bit_by_bit_and_ties_are_minus_one(model: OpenModel, tmp_path: Path) -> None:
    folder = tmp_path / "set"
    each = []
    for seed in range(4):
        path = put(folder / f"{seed}.png", seed)
        (bits,) = shared_bits(GoalSpec("image", str(path)), [model]) or []
        each.append(bits)
    (folder / "notes.txt").write_text("no photo")
    (folder / "old.gif").write_bytes(encoded(picture(), "GIF"))
    votes = np.sum(each, axis=0, dtype=int)
    assert (votes == 0).any(), "an even set that ties somewhere"
    (found,) = shared_bits(GoalSpec("set", str(folder)), [model]) or []
    assert found.tolist() == np.where(votes > 0, 1, -1).tolist()


def test_every_network_gets_its_own(model: OpenModel, tiny: Path, tmp_path: Path) -> None:
    models = open_models([f"{tiny}:16", f"{tiny}:24"])
    for goal in (GoalSpec("image", str(put(tmp_path / "a.png", 1))), GoalSpec("class", "dog")):
        assert [len(bits) for bits in shared_bits(goal, models) or []] == [16, 24]


@pytest.mark.parametrize("kind", ["away", "opposite"])
def test_goals_of_the_photo_itself_fix_nothing(kind: Any, bare: OpenModel) -> None:
    assert shared_bits(GoalSpec(kind), [bare]) is None


def test_bad_targets_are_named(model: OpenModel, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for goal, error, says in (
        (GoalSpec("image", str(tmp_path / "no.png")), GoalError, r"no\.png: the target cannot be read"),
        (GoalSpec("image", str(tmp_path)), GoalError, "the target cannot be read"),
        (GoalSpec("set", str(tmp_path / "empty")), GoalError, "empty: holds no photo"),
        (GoalSpec("set", str(put(tmp_path / "a.png", 0))), GoalError, r"a\.png: no such folder to aim at"),
        (GoalSpec("class", "dogs"), UnknownNameError, "did you mean dog"),
    ):
        with pytest.raises(error, match=says):
            shared_bits(goal, [model])
    cut = put(tmp_path / "cut.png", 0)
    cut.write_bytes(cut.read_bytes()[:200])
    with pytest.raises(GoalError, match=r"the target is not a usable photo: .*cut\.png"):
        shared_bits(GoalSpec("image", str(cut)), [model])


def test_a_mark_comes_back_from_the_ledger(model: OpenModel) -> None:
    for goal in (GoalSpec(), GoalSpec("opposite")):
        mark, _ = aim(model, goal)
        back = read_target(json.loads(json.dumps(mark.as_details())))
        assert (back.model, back.view, back.nearest, back.band) == (mark.model, "card", mark.nearest, mark.band)
        assert back.original_bits.tolist() == mark.original_bits.tolist()
        assert back.wanted.tolist() == mark.wanted.tolist()


def test_another_view_wants_the_same_bits_and_has_its_own(model: OpenModel) -> None:
    there = CODE.copy()
    there[[0, 15]] *= -1
    for goal in (GoalSpec(), GoalSpec("opposite")):
        mark, _ = aim(model, goal, other_view_bits=[np.where(there > 0, 1, -1)])
        elsewhere, aimed = target_for_view(mark, "squash", there, FEATURES + 1)
        assert elsewhere.view == "squash"
        assert (elsewhere.wanted == mark.wanted).all()
        assert (elsewhere.original_bits == np.where(there > 0, 1, -1)).all()
        assert aimed.wanted.tolist() == mark.wanted.tolist()
        assert read_target(json.loads(json.dumps(elsewhere.as_details()))).view == "squash"
    assert aimed.original_features is None


def test_what_a_goal_forgives(model: OpenModel) -> None:
    away, _ = aim(model, GoalSpec())
    assert away.forgives(3) == 1, "8 of 16 bits, and the band is 7 to 9"
    assert replace(away, original_bits=-away.wanted).forgives(3) == 0, "outside the band"
    assert [aim(model, GoalSpec("opposite"))[0].forgives(n) for n in (0, 3)] == [0, 3]


def test_a_record_without_a_view_is_of_the_cards(model: OpenModel) -> None:
    details = aim(model, GoalSpec())[0].as_details()
    del details["view"]
    assert read_target(details).view == "card"


def test_measuring() -> None:
    own, wanted = np.array([1, 1, -1, -1], np.int8), np.array([1, -1, 1, -1], np.int8)
    mark = CodeTarget("m:4", own, wanted, nearest=1, band=False)
    table = torch.tensor([[1, -1, 1, 1], [1, 1, -1, -1], [1, -1, -1, -1]], dtype=torch.int8)
    row = measure(mark, np.array([0.5, -0.25, 0.0, -3.0], np.float32), table, "card")
    assert (row.model, row.bits, row.view) == ("m:4", 4, "card")
    assert row.distance_from_original == 1
    assert row.distance_to_goal == 1, "0 counts as -1"
    assert row.min_margin == 0.0
    assert row.class_rank == 1, "only the third anchor, at 0, is nearer than the second, at 1"
    assert measure(mark, np.ones(4, np.float32), None, "card").class_rank is None


@pytest.mark.parametrize(("distance", "passed"), [(6, False), (7, True), (9, True), (10, False)])
def test_away_passes_within_its_band_only(distance: int, passed: bool) -> None:
    mark = CodeTarget("m:16", OWN.astype(np.int8), OWN.astype(np.int8), None, band=True)
    code = np.concatenate([-OWN[:distance], OWN[distance:]]).astype(np.float32)
    row = measure(mark, code, None, "card")
    assert mark.passed(row, tolerance=16) is passed


def test_other_goals_pass_within_the_tolerance() -> None:
    mark = CodeTarget("m:16", -OWN.astype(np.int8), OWN.astype(np.int8), None, band=False)
    row = measure(mark, np.concatenate([-OWN[:2], OWN[2:]]).astype(np.float32), None, "card")
    assert [mark.passed(row, tolerance) for tolerance in (0, 1, 2)] == [False, False, True]
    assert mark.passed(replace(row, distance_to_goal=0), 0)


def test_the_band_is_a_tenth_of_the_code_around_its_half() -> None:
    assert away_band(48) == (22, 26)
