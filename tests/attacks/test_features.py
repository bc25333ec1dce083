"""Moving the features of surrogates: the rule by hand, budgets, what is drawn, and who shares a step with whom."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, cosine_similarity

from hashshield.attacks.features import FeatureMove, feature_losses, remember_clean
from hashshield.attacks.grid import make_grid
from hashshield.attacks.masking import perceptual_mask
from hashshield.attacks.methods import METHODS, FeatureMoves, method
from hashshield.attacks.objectives import MARGIN_SLACK, MIN_MARGIN, Objective
from hashshield.attacks.search import Execution, search
from hashshield.attacks.state import SearchResult, SearchTask
from hashshield.transforms import CARD, SQUASH
from hashshield.types import Codes, View
from tiny_net import picture

MOVES = FeatureMoves(steps=8, budget=0.04)
METHOD = replace(METHODS["rnm-transfer"], features=MOVES, steps=6)
TAU = 0.032


class Found(NamedTuple):
    pooled: Tensor
    middle: Tensor
    code: Tensor


class Convolutions:
    """Two random layers; each view is the whole picture at half the size."""

    def __init__(self, seed: int) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.first, self.second = nn.Conv2d(3, 8, 5), nn.Conv2d(8, 16, 3)
        for parameter in (*self.first.parameters(), *self.second.parameters()):
            parameter.requires_grad_(requires_grad=False)
        self.looks: list[tuple[int, str, bool]] = []

    def features(self, images: Sequence[Tensor], view: str, windows: Sequence[View] = (), /) -> Found:
        self.looks.append((len(images), view, bool(windows)))
        inputs = torch.cat([avg_pool2d(image, 2) for image in images])
        if windows:
            inputs = torch.cat([window(one[None]) for window, one in zip(windows, inputs, strict=True)])
        middle = self.first(inputs - 0.5).relu()
        pooled = self.second(middle).relu().mean((2, 3))
        return Found(pooled, middle, pooled[:, :4] - 0.5)


@dataclass
class Quarters:
    """A network of four bits: the mean of each quarter of the red plane against a half, times 20."""

    side: int = 256

    def __call__(self, images: Sequence[Tensor], /) -> Codes:
        quarters = torch.cat([image[:, 0].reshape(1, 4, -1).mean(2) for image in images])
        return Codes(20 * (quarters - 0.5), quarters)


def task(seed: int = 0, *, masked: bool = False, name: str = "") -> SearchTask:
    pixels = picture(40, 48, seed=seed)
    grid = make_grid(pixels)
    wanted = torch.where(torch.cat([grid.image[0].reshape(4, -1).mean(1)]) > 0.5, 1.0, -1.0)
    return SearchTask(
        grid,
        [Objective(wanted)],
        key=seed,
        name=name,
        masking=perceptual_mask(pixels, 40, 48) if masked else None,
        feature_seed=seed,
    )


def step(move: FeatureMove, surrogates: Sequence[Convolutions]) -> None:
    surrogate = surrogates[move.next_view.surrogate]
    remember_clean([move], surrogate)
    delta = move.delta.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(feature_losses([move], [delta], surrogate).sum(), delta)
    move.moved(gradient)()


def test_the_rule_by_hand() -> None:
    surrogate = Convolutions(0)
    move = FeatureMove(task(), MOVES, TAU, 1)
    image, velocity = move.task.grid.image, torch.zeros(3, 40, 48)
    clean = surrogate.features([image[None]], CARD)
    budget = min(MOVES.budget, TAU)
    for number in range(4):
        delta = move.delta.detach().requires_grad_()
        if number % 2:
            step(move, [surrogate])  # through a window that only it knows
            velocity = None
            continue
        found = surrogate.features([(image + delta)[None]], CARD)
        alike = cosine_similarity(found.pooled, clean.pooled) + cosine_similarity(
            found.middle.flatten(1), clean.middle.flatten(1)
        )
        (gradient,) = torch.autograd.grad(alike.sum(), delta)
        scaled = gradient / gradient.abs().mean()
        before = delta.detach()
        step(move, [surrogate])
        if velocity is not None:  # the first move, before which there is no velocity
            wanted = before - MOVES.size * budget * scaled.sign()
            wanted = (image + wanted.clamp(-budget, budget)).clamp(0, 1) - image
            torch.testing.assert_close(move.delta, wanted, atol=1e-6, rtol=0)


@pytest.mark.parametrize("masked", [False, True])
def test_each_pixel_keeps_to_its_budget_and_features_leave(masked: bool) -> None:
    surrogates = [Convolutions(0), Convolutions(1)]
    move = FeatureMove(task(masked=masked), replace(MOVES, steps=40), TAU, 2)
    image, mask = move.task.grid.image, move.task.masking
    begun = move.delta
    budget = torch.full((3, 40, 48), MOVES.budget)
    budget = (budget if mask is None else budget * mask.share).clamp_max(TAU)
    while not move.finished:
        step(move, surrogates)
        assert bool((move.delta.abs() <= budget + 1e-7).all())
        assert float((image + move.delta).min()) >= 0
        assert float((image + move.delta).max()) <= 1
    assert move.steps_taken == 40
    assert move.evaluations == 44, "a look a step, and both surrogates' of the original in both views"
    for surrogate in surrogates:
        clean, first, last = (
            surrogate.features([(image + delta)[None]], CARD) for delta in (0 * begun, begun, move.delta)
        )
        near, far = (cosine_similarity(found.pooled, clean.pooled) for found in (first, last))
        assert 1 - float(far) > 10 * (1 - float(near)) + 1e-4


def test_surrogates_and_views_take_turns() -> None:
    move = FeatureMove(task(), replace(MOVES, steps=80), TAU, 2)
    looks = []
    for number in range(80):
        move.steps_taken = number
        looks.append(move.next_view)
    assert Counter(look.surrogate for look in looks) == {0: 40, 1: 40}
    assert Counter(look.view for look in looks) == {CARD: 40, SQUASH: 40}
    assert Counter(look.diverse for look in looks) == Counter(look.coded for look in looks) == {False: 40, True: 40}
    assert len({(look.surrogate, look.view, look.diverse, look.coded) for look in looks}) == 16, "in all combinations"


def test_windows_are_drawn_from_the_photo_and_the_step() -> None:
    one, again, other = (FeatureMove(task(seed), MOVES, TAU, 1) for seed in (0, 0, 1))
    images = torch.rand(1, 3, 20, 24, generator=torch.Generator().manual_seed(0))
    assert torch.equal(one.window()(images), again.window()(images)), "a step that is taken again sees the same"
    assert one.window()(images).shape == images.shape
    assert not torch.equal(one.window()(images), other.window()(images))
    again.steps_taken = 1
    assert not torch.equal(one.window()(images), again.window()(images))


def test_a_surrogate_that_is_searched_on_is_pulled_towards_its_code() -> None:
    """Its own loss is added to a plain look in the view that has a goal, and to no other."""
    surrogate, moves = Convolutions(0), replace(MOVES, code_weight=3.0)
    aimed = replace(task(), objectives=[Objective(torch.tensor([1.0, -1.0, 1.0, -1.0]))], code_looks={(0, CARD): 0})
    for number in range(4):  # plain and diverse in one view, then in the other
        plain, pulled = (FeatureMove(each, moves, TAU, 1) for each in (task(), aimed))
        for each in (plain, pulled):
            each.steps_taken = number
            remember_clean([each], surrogate)
        losses = [float(feature_losses([each], [each.delta], surrogate)) for each in (plain, pulled)]
        code = surrogate.features([pulled.as_seen(pulled.delta, coded=pulled.next_view.coded)], CARD).code[0]
        wanted, goal = pulled.task.objectives[0].wanted, MIN_MARGIN + MARGIN_SLACK
        share = float((goal - code * wanted).relu().square().sum() / (4 * goal**2))
        assert losses[1] - losses[0] == pytest.approx(3 * share if number == 0 else 0.0, abs=1e-5)


def searched(tasks: Sequence[SearchTask], *surrogates: Convolutions) -> dict[object, SearchResult]:
    found = search(tasks, [Quarters()], METHOD, TAU, Execution(batch_size=len(tasks)), surrogates)
    return {each.key: each for each in found}


def test_a_search_goes_on_where_the_features_were_moved_to() -> None:
    result = searched([task(3)], Convolutions(0))[3]
    assert result.reached
    assert result.steps == MOVES.steps, "the goal is met at once, since the code was not to change"
    assert result.evaluations == MOVES.steps + 2 + 1
    assert float(result.delta.abs().max()) > 0.02
    without = searched([task(3)])[3]
    assert (without.steps, float(without.delta.abs().max())) == (0, 0), "no surrogate, no move"
    plain = searched([replace(task(3), feature_seed=None)], Convolutions(0))[3]
    assert plain.steps == 0, "nor for one that goes on from an earlier try"


def test_photos_of_a_batch_do_not_disturb_each_other() -> None:
    alone = {seed: searched([task(seed)], Convolutions(0), Convolutions(1))[seed] for seed in range(3)}
    together = searched([task(seed) for seed in range(3)], Convolutions(0), Convolutions(1))
    for seed, result in together.items():
        torch.testing.assert_close(result.delta, alone[int(str(seed))].delta, atol=1e-5, rtol=0)


class Failing(Convolutions):
    """Fails for dark pictures."""

    def features(self, images: Sequence[Tensor], view: str, windows: Sequence[View] = (), /) -> Found:
        if any(float(image.detach().mean()) < 0.4 for image in images):
            raise ArithmeticError("no features")
        return super().features(images, view, windows)


def test_a_photo_whose_features_fail_ends_alone() -> None:
    tasks = [task(seed, name=f"photo {seed}") for seed in range(3)]
    tasks[1] = replace(tasks[1], grid=replace(tasks[1].grid, image=0.5 * tasks[1].grid.image))
    found = searched(tasks, Failing(0))
    assert found[1].error is not None
    assert "photo 1" in str(found[1].error)
    assert not found[1].reached
    assert all(found[seed].error is None and found[seed].reached for seed in (0, 2))


def test_a_method_is_suited_to_the_photo_and_to_the_surrogates_there_are() -> None:
    features = method("rnm-features")
    first = {"enlarged": False, "goes_on": False}
    assert features.suited(**first, surrogates=True) is features
    assert features.suited(**first, surrogates=False) is method("rnm-robust"), "short moves alone come too late"
    for surrogates in (True, False):
        assert features.suited(enlarged=False, surrogates=surrogates, goes_on=True) is method("rnm-later")
    assert method("rnm-later").prepares < method("rnm-robust").prepares, "what was missed is the goal itself"
    for goes_on in (True, False):
        assert features.suited(enlarged=True, surrogates=True, goes_on=goes_on) is method("rnm-enlarged")
    asked = replace(features, steps=7).suited(**first, surrogates=False)
    assert (asked.name, asked.steps) == ("rnm-robust", 7), "steps that were asked for stay"
    plain = method("rnm-masked")
    assert plain.suited(enlarged=True, surrogates=False, goes_on=True) is plain
