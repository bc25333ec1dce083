from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from hashshield.attacks.goals import (
    away_band,
    draw_away,
    draw_decoy,
    in_band,
    nearest_class,
    photo_generator,
)
from hashshield.attacks.objectives import MARGIN_SLACK, BatchObjective, Objective, batch_objectives, predicted_flip
from hashshield.errors import GoalError
from hashshield.types import Codes

KEY = bytes(range(32))
SHA = "ab" * 32
Bits = NDArray[np.int8]


def bits(length: int, seed: int = 0) -> Bits:
    return np.where(np.random.default_rng(seed).random(length) < 0.5, -1, 1).astype(np.int8)


@pytest.mark.parametrize(("length", "band"), [(16, (7, 9)), (24, (11, 13)), (32, (14, 18)), (48, (22, 26))])
def test_the_band_is_45_to_55_percent(length: int, band: tuple[int, int]) -> None:
    assert away_band(length) == band
    inside = [d for d in range(length + 1) if in_band(d, length)]
    assert inside == list(range(band[0], band[1] + 1))
    assert {length - d for d in inside} == set(inside), "the complement of a drawn code is no better a query"


@settings(max_examples=60)
@given(st.sampled_from([16, 24, 32, 48]), st.integers(0, 1000), st.booleans())
def test_a_draw_is_half_away_from_the_photo_and_its_class(length: int, seed: int, known: bool) -> None:
    own = bits(length, seed)
    anchor = None
    if known:
        anchor = own.copy()
        anchor[: seed % (length // 4)] *= -1
    drawn = draw_away(own, anchor, photo_generator(KEY, SHA, str(seed)))
    assert drawn.dtype == np.int8
    assert set(np.unique(drawn)) <= {-1, 1}
    assert in_band(int(np.count_nonzero(drawn != own)), length)
    if anchor is not None:
        assert in_band(int(np.count_nonzero(drawn != anchor)), length)


def test_where_no_draw_fits_both_the_nearest_is_taken() -> None:
    own = np.array([1], np.int8)
    # One bit: half of it cannot be flipped.
    assert draw_away(own, None, photo_generator(KEY, SHA, "x")).tolist() in ([1], [-1])
    own, anchor = bits(17), bits(17) * np.array([-1] * 5 + [1] * 12, np.int8)
    drawn = draw_away(own, anchor, photo_generator(KEY, SHA, "x"))
    for other in (own, anchor):
        assert 7 <= int(np.count_nonzero(drawn != other)) <= 10


@pytest.mark.parametrize("apart", [0, 3, 8])
def test_a_draw_leaves_what_the_photo_is_in_other_views_too(apart: int) -> None:
    own = bits(48)
    other = own * np.array([-1] * apart + [1] * (48 - apart), np.int8)
    for seed in range(20):
        drawn = draw_away(own, bits(48, seed=5), photo_generator(KEY, SHA, str(seed)), [other])
        assert abs(int(np.count_nonzero(drawn != other)) - 24) <= 1


def test_bits_are_not_picked_by_place() -> None:
    """Over many photos each bit flips in half of the draws."""
    own = bits(48)
    flips = np.mean([draw_away(own, None, photo_generator(KEY, str(i), "m")) != own for i in range(400)], axis=0)
    assert (np.abs(flips - 0.5) < 5 * 0.5 / np.sqrt(400)).all()


def draw(key: bytes = KEY, sha: str = SHA, purpose: str = "m") -> list[int]:
    drawn: list[int] = draw_away(bits(48), None, photo_generator(key, sha, purpose)).tolist()
    return drawn


def test_a_draw_is_fixed_by_key_photo_and_network() -> None:
    assert draw() == draw()
    for other in (draw(key=KEY[::-1]), draw(sha="cd" * 32), draw(purpose="n")):
        distance = sum(a != b for a, b in zip(draw(), other, strict=True))
        assert distance >= 48 * 0.2, "unrelated, not merely shifted"


def test_two_photos_of_one_code_end_far_apart() -> None:
    """Near-duplicates share a code: their draws must not link them. 35% of 48 bits is 17."""
    ends = [draw(sha=str(i)) for i in range(40)]
    distances = [sum(a != b for a, b in zip(ends[i], ends[j], strict=True)) for i in range(40) for j in range(i)]
    assert np.mean(distances) == pytest.approx(24, abs=0.7)
    assert np.mean(np.array(distances) >= 17) > 0.95


ANCHORS = np.stack([bits(48, seed) for seed in range(6)])


def test_a_decoy_is_a_class_far_from_the_photo() -> None:
    own = ANCHORS[2].copy()
    own[:5] *= -1
    drawn = {draw_decoy(own, ANCHORS, photo_generator(KEY, str(i), "m")) for i in range(60)}
    assert 2 not in drawn
    assert all(np.count_nonzero(ANCHORS[row] != own) >= 0.35 * 48 for row in drawn)
    assert len(drawn) > 1, "not one class for all"
    one = [draw_decoy(own, ANCHORS, photo_generator(KEY, SHA, "m")) for _ in range(2)]
    assert one[0] == one[1]


def test_no_class_is_far_enough() -> None:
    near = ANCHORS[:1].repeat(3, axis=0)
    near[1, :16] *= -1
    with pytest.raises(GoalError, match=r"at least 35% of 48 bits.*the farthest is 16 bits away\); use --goal away"):
        draw_decoy(ANCHORS[0], near, photo_generator(KEY, SHA, "m"))


def test_the_nearest_class_is_the_first_of_equals() -> None:
    assert nearest_class(ANCHORS[3], ANCHORS) == 3
    assert nearest_class(ANCHORS[3], np.concatenate([ANCHORS, ANCHORS])) == 3


def unused(code: Tensor, wanted: Tensor, steps: Tensor, aimed: Tensor) -> Tensor:
    return (code * wanted).sum(1) * 0 + steps + 100 * aimed


def test_aims_of_a_batch_keep_apart() -> None:
    aims = [
        Objective(torch.tensor([1.0, -1.0]), min_margin=0.1),
        Objective(torch.tensor([-1.0, -1.0]), original_features=torch.tensor([0.0, 2.0, 0.0]), min_margin=0.5),
    ]
    goal = batch_objectives(aims, unused, torch.tensor([3, 7]), feature_weight=2.0, certainty_weight=1.0)
    codes = Codes(torch.tensor([[0.1, -0.2], [-0.6, -0.4]]), torch.tensor([[1.0, 0, 0], [0.0, 3.0, 0.0]]))
    assert goal.reached(codes).tolist() == [True, False], "margins of exactly the kept one are kept"
    losses = goal.loss(codes).tolist()
    assert losses == pytest.approx(
        [3 + 100 * (0.1 + MARGIN_SLACK), 7 + 100 * (0.5 + MARGIN_SLACK) + 2.0 * 1.0], rel=1e-5
    )


def test_without_features_or_weight_only_bits_count() -> None:
    codes = Codes(torch.zeros(1, 2), torch.ones(1, 3))
    for aim, weight in ((Objective(torch.ones(2)), 1.0), (Objective(torch.ones(2), torch.ones(3)), 0.0)):
        goal = batch_objectives([aim], unused, torch.tensor([0]), feature_weight=weight, certainty_weight=1.0)
        assert goal.loss(codes).tolist() == pytest.approx([100 * (aim.min_margin + MARGIN_SLACK)])


def hiding(*code: float) -> tuple[BatchObjective, Codes]:
    """Own bits all +1, the first half of them to be turned; margins are the sizes of `code`."""
    wanted = torch.tensor([-1.0 if i < len(code) // 2 else 1.0 for i in range(len(code))])
    aim = Objective(wanted, original_bits=torch.ones(len(code)), min_margin=0.05)
    goal = batch_objectives([aim], unused, torch.tensor([0]), feature_weight=0.0, certainty_weight=2.0)
    return goal, Codes(torch.tensor([code]) * wanted, torch.zeros(1, 3))


def test_certainty_gives_nothing_away() -> None:
    # The four least certain bits are two turned and two kept ones: turning them over leads nowhere.
    goal, codes = hiding(0.1, 0.2, 0.5, 0.6, 0.1, 0.2, 0.5, 0.6)
    assert goal.leaked_bits(codes).tolist() == [0]
    assert goal.loss(codes).tolist() == pytest.approx([100 * (0.05 + MARGIN_SLACK)])


def test_least_certain_bits_that_were_turned_expose_the_own_code() -> None:
    goal, codes = hiding(0.1, 0.1, 0.2, 0.2, 0.5, 0.5, 0.6, 0.6)
    assert goal.reached(codes).tolist() == [True]
    assert goal.leaked_bits(codes).tolist() == [4]
    assert goal.loss(codes).tolist() == pytest.approx([100 * (0.05 + MARGIN_SLACK) + 2.0 * 4 * 0.16], rel=1e-5)


def test_hiding_waits_until_the_bits_are_right() -> None:
    goal, codes = hiding(-0.1, 0.1, 0.2, 0.2, 0.5, 0.5, 0.6, 0.6)
    assert goal.loss(codes).tolist() == pytest.approx([100 * (0.05 + MARGIN_SLACK)])
    assert goal.leaked_bits(codes).tolist() == [3]


def test_a_goal_with_nothing_to_hide_exposes_nothing() -> None:
    goal = batch_objectives(
        [Objective(torch.ones(4))], unused, torch.tensor([0]), feature_weight=1.0, certainty_weight=1.0
    )
    codes = Codes(torch.tensor([[0.1, 0.2, 0.9, 0.9]]), torch.zeros(1, 3))
    assert goal.leaked_bits(codes).tolist() == [0]


def test_the_predicted_flip_turns_the_less_certain_half() -> None:
    code = torch.tensor([[0.1, -0.9, -0.2, 0.8], [-3.0, 2.0, 1.0, -4.0]])
    assert predicted_flip(code).tolist() == [[-1, -1, 1, 1], [-1, -1, -1, -1]]


@pytest.mark.parametrize("names", [1, 3, 8])
def test_a_draw_keeps_its_distance_from_those_of_other_places(names: int) -> None:
    own, other_view = bits(48), bits(48) * np.array([-1] * 6 + [1] * 42, np.int8)
    for seed in range(4):
        drawn: list[Bits] = []
        for name in range(names + 1):
            generator = photo_generator(KEY, str(seed), "m", str(name))
            drawn.append(draw_away(own, bits(48, seed=5), generator, [other_view], drawn))
        for one, other in combinations(drawn, 2):
            assert in_band(int(np.count_nonzero(one != other)), 48)
        for code in drawn:
            assert int(np.count_nonzero(code != own)) == 24
            assert in_band(int(np.count_nonzero(code != other_view)), 48)


def test_a_place_has_randomness_of_its_own() -> None:
    drawn = [photo_generator(KEY, SHA, "m", place).integers(2**62) for place in (None, "a", "b", "a")]
    assert drawn[1] == drawn[3]
    assert len(set(drawn)) == 3
    assert drawn[0] == photo_generator(KEY, SHA, "m").integers(2**62)
