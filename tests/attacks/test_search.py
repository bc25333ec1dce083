"""The loop, on a toy network whose best answer is known by hand, and on the tiny one."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from hashshield.attacks import balls, steps
from hashshield.attacks.grid import make_grid
from hashshield.attacks.masking import PerceptualMask
from hashshield.attacks.methods import METHODS, Further, Method, method
from hashshield.attacks.objectives import MIN_MARGIN, Objective
from hashshield.attacks.search import Execution, search
from hashshield.attacks.state import SearchResult, SearchTask
from hashshield.errors import UnknownNameError
from hashshield.models.load import NetworkView, OpenModel, open_models
from hashshield.transforms import card_view
from hashshield.types import Codes, View
from tiny_net import picture


class Toy:
    """Four bits: the mean of each quarter of the red plane against a half, times 20. Its least change is a plateau."""

    bits = 4

    def __init__(self) -> None:
        self.batches: list[int] = []

    def __call__(self, images: Tensor, /) -> Codes:
        self.batches.append(len(images))
        quarters = images[:, 0].reshape(len(images), 4, -1).mean(2)
        return Codes(20 * (quarters - 0.5), quarters)


@dataclass
class Through:
    """A network behind any view at all."""

    model: Callable[[Tensor], Codes]
    view: View = lambda images: images
    side: int = 256

    def __call__(self, images: Sequence[Tensor], /) -> Codes:
        return self.model(torch.cat([self.view(image) for image in images]))


def toy_photo(key: object, wanted: tuple[int, ...] = (1, 1, 1, 1), *, away: float = 0.01, **aim: float) -> SearchTask:
    """Grey, a little below a half, so that every bit is -1 and wants the same push."""
    grid = make_grid(picture(40, 40))
    grid = replace(grid, image=torch.full((3, 40, 40), 0.5 - away))
    return SearchTask(grid, [Objective(torch.tensor(wanted, dtype=torch.float32), **aim)], key=key)


def run(
    photos: list[SearchTask], chosen: Method, *, steps_: int = 40, tau: float = 0.05, batch: int = 8
) -> dict[object, SearchResult]:
    viewed = [Through(Toy())]
    return {f.key: f for f in search(photos, viewed, replace(chosen, steps=steps_), tau, Execution(batch))}


RNM, MASKED, ROBUST = (replace(method(name), further=None) for name in ("rnm", "rnm-masked", "rnm-robust"))


def test_the_smallest_change_is_found() -> None:
    """Each red value must rise by 0.01 + 0.05 / 20; nothing smaller in Euclidean norm reaches the margin."""
    found = run([toy_photo("a")], RNM, steps_=200)["a"]
    least = 0.01 + MIN_MARGIN / 20
    assert found.reached
    assert found.steps == 200
    red = found.delta[0]
    assert float(red.min()) >= least * 0.999
    assert float(found.delta.norm()) <= 1.15 * least * 40, "no more than the last shrinking leaves"
    assert float(found.delta[1:].abs().max()) == 0, "channels that do not matter are left alone"


def test_more_steps_leave_less_trace() -> None:
    norms = [float(run([toy_photo("a")], RNM, steps_=n)["a"].delta.norm()) for n in (20, 40, 120)]
    assert norms[0] >= norms[1] >= norms[2]
    without = replace(RNM, shrink=None, stop="first")
    assert norms[0] <= float(run([toy_photo("a")], without, steps_=20)["a"].delta.norm()) + 1e-6


CYCLE: tuple[View | None, ...] = (None, lambda x: x - 0.02, lambda x: x + 0.01)
"""The photo as it is, one that takes more than the smallest change gives, and one that takes less."""


def prepared_photo(**settings: int) -> SearchTask:
    return replace(toy_photo("a"), transform=lambda look: CYCLE[look % 3], cycle=3, **settings)


def test_a_change_that_keeps_the_goal_through_every_transform_is_the_better_one() -> None:
    photo = prepared_photo()
    found = run([photo], RNM, steps_=201)["a"]
    assert found.reached
    image = photo.grid.changed(found.delta)
    for view in CYCLE:
        seen = image if view is None else view(image)
        assert bool((Toy()(seen).code >= MIN_MARGIN - 1e-4).all())
    plain = run([toy_photo("a")], RNM, steps_=201)["a"]
    assert float(plain.delta.norm()) < float(found.delta.norm())


def test_a_look_through_a_transform_does_not_decide_whether_the_goal_is_met() -> None:
    """The transform does all the work, and the photo as it is misses the goal."""
    lifted = replace(
        toy_photo("a", away=0.3), transform=lambda look: (lambda x: x + 0.6) if look % 2 else None, cycle=2
    )
    found = run([lifted], RNM, tau=0.02)["a"]
    assert not found.reached
    assert found.first_reached is None


def test_what_no_transform_leaves_within_reach_ends_with_what_the_photo_itself_can_have() -> None:
    """One kind of look can never meet the goal: the photo as it is still does."""
    hopeless = replace(toy_photo("a"), transform=lambda look: (lambda x: x - 0.5) if look % 2 else None, cycle=2)
    found = run([hopeless], RNM)["a"]
    assert found.reached
    assert bool((Toy()(hopeless.grid.changed(found.delta)).code >= MIN_MARGIN - 1e-4).all())


def test_a_search_that_settles_ends_with_the_first_change_that_meets_the_goal() -> None:
    """Not while it prepares, although the goal is met then, and at once after that."""
    found = run([prepared_photo(prepared=12)], ROBUST, tau=0.2, steps_=30)["a"]
    assert found.reached
    assert found.first_reached is not None
    assert found.first_reached < 12
    assert found.steps == 12


def test_the_ball_stays_as_it_is_while_a_search_prepares() -> None:
    """Transforms that cannot be met do not widen it; only a file that misses the goal does, later."""
    hopeless = replace(prepared_photo(prepared=12), transform=lambda look: (lambda x: x - 0.5) if look % 3 else None)
    found = run([hopeless], ROBUST, tau=0.2, steps_=30)["a"]
    first = ROBUST.step(30, 40 / 256).starting_from(0.0)
    assert isinstance(first, balls.BallStep)
    assert float(found.delta.norm()) <= first.radius * 1.001
    assert float(found.delta.norm()) > 0.9 * first.radius, "all of it is used"


def test_a_transform_that_does_nothing_changes_nothing() -> None:
    plain = run([toy_photo("a")], RNM)["a"]
    neutral = replace(toy_photo("a"), transform=lambda look: None)
    assert torch.equal(run([neutral], RNM)["a"].delta, plain.delta)


def test_a_change_goes_where_more_masks_it() -> None:
    masking = torch.ones(1, 40, 40)
    masking[:, :, :20] = 0.25
    found = run([replace(toy_photo("a"), masking=PerceptualMask(masking))], RNM, steps_=200)["a"]
    assert found.reached
    little, much = found.delta[0, :, :20].abs().mean(), found.delta[0, :, 20:].abs().mean()
    # Least norm in masked units: the change is as the square of the masking.
    assert float(little / much) == pytest.approx(1 / 16, rel=0.3)


def test_a_search_within_a_ball_ends_once_it_stands_still() -> None:
    """Not before that is enough, and long before its last step."""
    found = run([toy_photo("a")], MASKED, tau=0.2, steps_=MASKED.steps)["a"]
    assert found.reached
    assert found.first_reached is not None
    assert MASKED.enough is not None
    assert MASKED.enough <= found.steps < MASKED.steps
    code = Toy()(toy_photo("a").grid.changed(found.delta)).code
    assert bool((code >= MASKED.min_margin - 1e-4).all())


def test_a_search_within_a_ball_that_finds_nothing_takes_all_its_steps() -> None:
    found = run([toy_photo("a", away=0.3)], MASKED, tau=0.02, steps_=30)["a"]
    assert not found.reached
    assert found.steps == 30


def test_the_ball_ends_near_the_smallest_that_holds_a_solution() -> None:
    """Held against a minimum-norm search of many more steps."""
    masked = run([toy_photo("a")], MASKED, tau=0.2, steps_=MASKED.steps)["a"]
    patient = run([toy_photo("a")], replace(RNM, min_margin=MASKED.min_margin), tau=0.2, steps_=400)["a"]
    assert float(masked.delta.norm()) < 1.35 * float(patient.delta.norm())


def test_bits_to_spare_may_miss() -> None:
    hard = toy_photo("a", away=0.03)
    assert not run([hard], RNM, tau=0.02)["a"].reached
    aim = replace(hard.objectives[0], allowed_misses=4)
    assert run([replace(hard, objectives=[aim])], RNM, tau=0.02)["a"].reached


def test_what_is_returned_reaches_the_goal_it_says() -> None:
    photos = [toy_photo(i, away=0.002 * i) for i in range(6)]
    for key, found in run(photos, RNM, steps_=30).items():
        photo = next(p for p in photos if p.key == key)
        code = Toy()(photo.grid.changed(found.delta)).code
        kept = bool((code * photo.objectives[0].wanted >= MIN_MARGIN).all())
        assert kept == found.reached
        assert float(found.delta.abs().max()) <= 0.05 + 1e-7


def test_out_of_reach_comes_back_at_its_lowest_loss() -> None:
    found = run([toy_photo("a", away=0.3)], RNM, tau=0.02)["a"]
    assert not found.reached
    assert found.first_reached is None
    assert found.steps == 40
    assert torch.allclose(found.delta[0], torch.tensor(0.02), atol=1e-6), "as far as tau allows"


def test_the_lowest_loss_is_kept_although_later_steps_are_worse() -> None:
    # Steps far too long, between the walls of tau: the loss swings, and the end is not the best.
    swinging = replace(RNM, step=lambda _t, _s: steps.l2_normalised(100.0), shrink=None)
    photo = toy_photo("a", wanted=(1, -1, 1, -1), away=0.3)
    found = run([photo], swinging, tau=0.02, steps_=7)["a"]
    losses = []
    for n in range(1, 8):
        delta = run([photo], swinging, tau=0.02, steps_=n)["a"].delta
        code = Toy()(photo.grid.changed(delta)).code
        losses.append(float(torch.relu(MIN_MARGIN + 0.25 - code * photo.objectives[0].wanted).square().sum()))
    assert losses == sorted(losses, reverse=True)
    code = Toy()(photo.grid.changed(found.delta)).code
    assert float(torch.relu(MIN_MARGIN + 0.25 - code * photo.objectives[0].wanted).square().sum()) == pytest.approx(
        losses[-1]
    )


def test_a_walk_that_leads_nowhere_begins_again_another_way() -> None:
    stuck = replace(RNM, step=lambda _total, _scale: steps.raw(0.0))
    assert not run([toy_photo("a")], replace(stuck, restart_step=None))["a"].reached
    nearer = toy_photo("a", wanted=(1, -1, -1, -1))
    found = run([nearer], stuck)["a"]
    assert found.first_reached is not None
    assert found.first_reached > 26, "two thirds of the steps belong to the method's own rule"
    assert (found.reached, found.steps) == (True, 40)
    assert float(found.delta.norm()) <= float(run([nearer], method("rnm-first"))["a"].delta.norm())


def test_a_code_no_better_than_zeros_is_left_sooner() -> None:
    found = run([toy_photo("a")], replace(RNM, step=lambda _total, _scale: steps.raw(0.0)))["a"]
    assert found.first_reached is not None
    assert 14 < found.first_reached < 26


def test_a_slow_walk_that_gets_on_is_let_alone() -> None:
    # One code value rises from -0.3 by 0.0118 a step, so that it is just above zero after 26 of the 40.
    slow = replace(RNM, step=lambda _total, _scale: steps.l2_normalised(0.0118))
    photo = toy_photo("a", wanted=(1, -1, -1, -1), away=0.015)
    found = run([photo], slow)["a"]
    assert found.first_reached == 30
    assert torch.equal(found.delta, run([photo], replace(slow, restart_step=None))["a"].delta)


def test_only_a_search_that_missed_its_goal_takes_further_steps() -> None:
    more = Further(RNM.step, 60)
    stuck = replace(RNM, step=lambda _total, _scale: steps.raw(0.0), restart_step=None)
    missed = run([toy_photo("a")], replace(stuck, further=None))["a"]
    assert (missed.reached, missed.steps) == (False, 40)
    found = run([toy_photo("a")], replace(stuck, further=more))["a"]
    assert found.first_reached is not None
    assert (found.first_reached > 40, found.steps) == (True, 100)
    assert run([toy_photo("a")], replace(RNM, further=more))["a"].steps == 40
    # Not even further steps are taken twice.
    assert run([toy_photo("a")], replace(stuck, further=replace(more, step=stuck.step)))["a"].steps == 100


def test_a_walk_that_began_again_goes_on_with_its_own_steps() -> None:
    sizes: list[int] = []

    def counted(total: int, scale: float) -> steps.Step:
        sizes.append(total)
        return RNM.step(total, scale) if len(sizes) > 1 else steps.raw(0.0)

    found = run([toy_photo("a")], replace(RNM, step=counted))["a"]
    assert found.first_reached is not None
    assert sizes == [40, 40 - found.first_reached]


def test_stop_first_is_out_at_the_first_reach() -> None:
    found = run([toy_photo("a")], method("rnm-first"), steps_=50)["a"]
    assert found.reached
    assert found.steps == found.first_reached
    assert 0 < found.steps < 10


def test_a_photo_that_is_already_there_is_not_changed() -> None:
    for chosen in (RNM, method("rnm-first")):
        found = run([toy_photo("a", wanted=(-1, -1, -1, -1))], chosen)["a"]
        assert found.reached
        assert found.first_reached == 0
        assert float(found.delta.abs().max()) == 0


def test_a_larger_margin_is_kept_when_asked() -> None:
    found = run([toy_photo("a", min_margin=0.2)], RNM)["a"]
    assert float(Toy()(toy_photo("a").grid.changed(found.delta)).code.min()) >= 0.2


def test_a_search_goes_on_from_an_earlier_one() -> None:
    first = run([toy_photo("a")], RNM)["a"]
    again = run([replace(toy_photo("a"), start=first.delta)], RNM, steps_=5)["a"]
    assert again.first_reached == 0
    assert float(again.delta.norm()) <= float(first.delta.norm())
    far = run([replace(toy_photo("a"), start=torch.full((3, 40, 40), 0.9))], RNM, steps_=1)["a"]
    assert float(far.delta.abs().max()) <= 0.05 + 1e-7, "within this search's bounds"


def test_finished_photos_leave_and_waiting_ones_enter() -> None:
    drawn: list[int] = []

    def photos() -> Iterator[SearchTask]:
        for number, away in enumerate((0.001, 0.04, 0.001, 0.001, 0.001)):
            drawn.append(number)
            yield toy_photo(number, away=away)

    toy = Toy()
    chosen = replace(method("rnm-first"), step=lambda _t, _s: steps.sign(0.004))
    finished = []
    for found in search(photos(), [Through(toy)], replace(chosen, steps=50), 0.05, Execution(2)):
        finished.append(found.key)
        assert len(drawn) <= len(finished) + 2, "never more than a batch ahead"
    assert sorted(finished) == [0, 1, 2, 3, 4]
    assert finished[-1] == 1, "the slow one held nobody up"
    assert max(toy.batches) == 2
    # 14 steps to the slow one's goal and one look at it; the quick ones ran beside it.
    assert len(toy.batches) <= 16


def test_each_photo_counts_its_own_steps() -> None:
    seen: dict[int, list[int]] = {0: [], 1: []}

    def term(code: Tensor, wanted: Tensor, at: Tensor, aimed: Tensor) -> Tensor:
        for row in range(len(code)):
            seen[int(wanted[row, 0] < 0)].append(int(at[row]))
        return torch.relu(aimed[:, None] - code * wanted).square().sum(1)

    chosen = replace(RNM, term=term)
    photos = [toy_photo("up"), toy_photo("down", wanted=(-1, -1, -1, 1))]
    run(photos, chosen, steps_=5, batch=1)
    # The term is asked more than once a step.
    assert {row: list(dict.fromkeys(at)) for row, at in seen.items()} == {n: [0, 1, 2, 3, 4, 5] for n in (0, 1)}


def test_several_networks_must_all_agree() -> None:
    half = Toy()
    viewed = [Through(Toy()), Through(half, lambda x: x.flip(1))]
    photo = toy_photo("a")
    photo = replace(photo, objectives=[*photo.objectives, Objective(torch.tensor([-1.0, -1.0, -1.0, 1.0]))])
    (found,) = search([photo], viewed, replace(RNM, steps=60), 0.05)
    assert found.reached
    image = photo.grid.changed(found.delta)
    for network, aim in zip(viewed, photo.objectives, strict=True):
        assert bool((network.model(network.view(image)).code * aim.wanted >= MIN_MARGIN).all())


@pytest.fixture(scope="module")
def model(tiny: Path) -> OpenModel:
    return open_models([f"{tiny}:16"])[0]


def real(model: OpenModel, count: int) -> list[SearchTask]:
    photos = []
    for i in range(count):
        generator = torch.Generator().manual_seed(i)
        wanted = (torch.rand(16, generator=generator) < 0.5).float() * 2 - 1
        photos.append(SearchTask(make_grid(picture(48 + i, 64, seed=i)), [Objective(wanted)], key=i))
    return photos


def tiny_run(
    model: OpenModel, count: int, *, batch: int, steps_: int = 12, name: str = "rnm"
) -> dict[object, SearchResult]:
    viewed = [NetworkView(model)]
    return {
        f.key: f
        for f in search(real(model, count), viewed, replace(method(name), steps=steps_), 0.032, Execution(batch))
    }


def test_a_network_that_sees_less_is_searched_with_longer_steps(model: OpenModel) -> None:
    """On the same grid, a view of a quarter of the side makes them twice as long."""
    (photo,) = real(model, 1)
    lengths = []
    for side in (64, 16):
        viewed = [Through(model.model, card_view(model.card.input), side)]
        (found,) = search([photo], viewed, replace(RNM, steps=1), 1.0)
        lengths.append(float(found.last.norm()))
    assert lengths[1] == pytest.approx(2 * lengths[0], rel=0.05)


def test_a_fixed_batch_gives_identical_bits(model: OpenModel) -> None:
    one, again = (tiny_run(model, 3, batch=3) for _ in range(2))
    for key in one:
        assert torch.equal(one[key].delta, again[key].delta)


def test_company_in_the_batch_decides_nothing(model: OpenModel) -> None:
    alone, together = tiny_run(model, 5, batch=1), tiny_run(model, 5, batch=4)
    assert {k: f.reached for k, f in alone.items()} == {k: f.reached for k, f in together.items()}


@pytest.mark.slow
def test_company_in_the_batch_changes_next_to_nothing(data: Path) -> None:
    (lite,) = open_models(["lite0-caltech101:16"])
    viewed = [NetworkView(lite)]
    photos = []
    for name in ("sunflower", "kangaroo", "lotus"):
        grid = make_grid(np.asarray(Image.open(data / f"{name}.jpg").convert("RGB")))
        with torch.inference_mode():
            wanted = viewed[0]([grid.image[None]]).code[0].sign()
        wanted = torch.cat([-wanted[:4], wanted[4:]])
        photos.append(SearchTask(grid, [Objective(wanted)], key=name))
    runs = [
        {f.key: f for f in search(photos, viewed, replace(RNM, steps=40), 0.032, Execution(batch))} for batch in (1, 2)
    ]
    ratios = []
    for photo in photos:
        alone, together = (found[photo.key] for found in runs)
        assert alone.reached
        assert together.reached
        ratios.append(abs(20 * math.log10(float(alone.delta.norm() / together.delta.norm()))))
    # Rounding decides at which step a margin is just kept, so the paths part: up to 1.1 dB for one photo was seen.
    assert np.mean(ratios) < 1.0, "decibel"


@pytest.mark.parametrize("name", [n for n in METHODS if n != "noise"])
def test_every_method_stays_in_bounds_and_tells_the_truth(name: str, model: OpenModel) -> None:
    """One table for all attacks: whatever a method does, budget and report hold."""
    photos = real(model, 2)
    for key, found in tiny_run(model, 2, batch=2, steps_=10, name=name).items():
        photo = photos[int(str(key))]
        assert found.delta.shape == photo.grid.start().shape
        assert not found.delta.requires_grad
        assert float(found.delta.abs().max()) <= 0.032 + 1e-7
        image = photo.grid.image + found.delta
        assert float(image.min()) + 1e-6 >= 0
        assert float(image.max()) <= 1 + 1e-6
        view = card_view(model.card.input)
        with torch.inference_mode():
            code = model.model(view(photo.grid.changed(found.delta))).code
        margins = code * photo.objectives[0].wanted
        assert bool((margins >= MIN_MARGIN - 1e-4).all()) == found.reached
        further = method(name).further
        assert found.steps <= 10 + (0 if further is None or found.reached else further.steps)
        assert (found.first_reached is not None) == found.reached
        if method(name).stop == "first" and found.reached:
            assert found.steps == found.first_reached


def test_an_unknown_method_names_the_known() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown method 'rnn'; known are rnm, .*noise"):
        method("rnn")


def test_who_watches_hears_every_code_on_the_way() -> None:
    heard: dict[str, list[tuple[int, list[float]]]] = {"a": [], "b": []}

    def watching(name: str) -> SearchTask:
        return replace(
            toy_photo(name), watch=lambda step, codes: heard[name].append((step, [float(c) for c in codes[0]]))
        )

    found = run([watching("a"), watching("b"), toy_photo("c")], RNM, steps_=6)
    for name, codes in heard.items():
        assert [step for step, _ in codes] == list(range(found[name].steps + 1))
        assert codes[0][1] == pytest.approx([-0.2] * 4, abs=1e-5)
        first = found[name].first_reached
        assert first is not None
        assert all(value >= MIN_MARGIN for value in codes[first][1])


def test_the_last_change_is_kept_where_a_method_has_it_so() -> None:
    """All of tau is used: the change goes on growing after the goal was reached."""
    growing = replace(
        RNM, step=lambda _total, _scale: steps.sign(0.005), shrink=None, margin_slack=1.0, restart_step=None
    )
    smallest, last = (run([toy_photo(0)], replace(growing, keeps_last=keeps), steps_=12)[0] for keeps in (False, True))
    assert smallest.reached
    assert last.reached
    assert float(last.delta.abs().max()) == pytest.approx(0.05)
    assert torch.equal(last.delta, last.last)
    assert float(smallest.delta.norm()) < 0.5 * float(last.delta.norm())
