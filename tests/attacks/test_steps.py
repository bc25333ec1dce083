"""Steps of one photo, and of photos in one tensor: moves are those of each photo alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from threading import Barrier

import numpy as np
import pytest
import torch
from torch import Tensor

from hashshield.attacks.balls import BallRule, BallStep, Growth
from hashshield.attacks.grid import make_grid
from hashshield.attacks.masking import MIDDLE_GRAIN, perceptual_mask
from hashshield.attacks.methods import METHODS
from hashshield.attacks.objectives import Objective
from hashshield.attacks.search import Execution, search
from hashshield.attacks.state import SearchResult, SearchTask
from hashshield.attacks.steps import (
    Adam,
    HeavyBall,
    L2Momentum,
    Momentum,
    NormalisedSpace,
    Stack,
    Step,
    constant,
    cosine,
    decaying,
    l2_normalised,
    raw,
    sign,
)
from imitated_gpu import ImitatedGpu
from search_outcomes import BITS, TAU, WholePicture, smooth_network
from tiny_net import picture

SIZES = ((44, 56), (56, 44), (50, 50), (44, 56))


def planes(*sizes: tuple[int, int], channels: int = 3, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand((channels, *size), generator=generator, dtype=torch.float64) for size in sizes]


@pytest.mark.parametrize("sizes", [SIZES, SIZES[:1] * 3, SIZES[:1]])
def test_what_goes_in_comes_out(sizes: tuple[tuple[int, int], ...]) -> None:
    colour, grey = planes(*sizes), planes(*sizes, channels=1)
    stack = Stack.of(colour)
    both = stack.put(colour, grey)
    assert [each.shape[:2] for each in both] == [(len(sizes), 3), (len(sizes), 1)]
    for photos, together in zip((colour, grey), both, strict=True):
        for one, other in zip(photos, stack.take(together), strict=True):
            assert torch.equal(one, other)
        inside = stack.within(together)
        assert float(inside.sum()) == pytest.approx(sum(float(photo.sum()) for photo in photos))


def test_edges_are_repeated_so_that_a_mean_over_neighbours_sees_what_it_sees_of_one_photo_alone() -> None:
    mask = perceptual_mask(picture(44, 56), 44, 56, MIDDLE_GRAIN.lossless)
    gradients = planes(*SIZES)
    stack = Stack.of(gradients)
    (together,) = stack.put(gradients)
    for one, other in zip(gradients, stack.take(mask.condition(together)), strict=True):
        assert torch.allclose(mask.condition(one), other, atol=1e-12)


@pytest.mark.parametrize("decay", [None, 0.7])
@pytest.mark.parametrize("sizes", [SIZES, SIZES[:1] * 3])
def test_balls_move_together_as_each_does_alone(decay: float | None, sizes: tuple[tuple[int, int], ...]) -> None:
    """Also where one of them has no direction yet, and each has a radius and a count of its own."""

    def fresh(n: int) -> BallStep:
        return BallStep(1.0 + n, decaying(0.7, 0.3, 0.5), Growth(1.1, 1.2), decay, t=n)

    alone, stacked = ([fresh(n) for n in range(len(sizes))] for _ in range(2))
    apart = together = [0.01 * delta for delta in planes(*sizes)]
    for turn in range(3):
        gradients = planes(*sizes, seed=1 + turn)
        if turn == 1:
            alone[0], stacked[0] = fresh(0), fresh(0)
        apart = [step(delta, gradient) for step, delta, gradient in zip(alone, apart, gradients, strict=True)]
        stack = Stack.of(together)
        moved = BallStep.together(stacked, stack, *(stack.within(each) for each in stack.put(together, gradients)))
        together = stack.take(moved)
        for one, other in zip(apart, together, strict=True):
            assert torch.allclose(one, other, rtol=0, atol=1e-12)
    assert [step.t for step in stacked] == [step.t for step in alone]
    assert [float(step.filled) for step in stacked] == pytest.approx([float(step.filled) for step in alone])


def task(key: int, height: int, width: int, *, channels: int, masked: bool, device: str) -> SearchTask:
    """A photo half of whose bits are to turn."""
    opened = smooth_network()
    pixels = picture(height, width, seed=key)
    grid = make_grid(pixels, channels=channels)
    grid = replace(grid, image=grid.image.double())
    with torch.no_grad():
        wanted = opened.model(grid.image[None]).code[0].clone().sign()
    wanted[torch.from_numpy(np.random.default_rng(key).permutation(BITS)[: BITS // 2])] *= -1
    mask = perceptual_mask(pixels, height, width, MIDDLE_GRAIN.lossless).to(device) if masked else None
    return SearchTask(grid.to(device), [Objective(wanted).to(device)], key=key, masking=mask)


def searched(name: str, device: str) -> list[SearchResult]:
    """Photos of three sizes, in colour and grey, with masks and without, some of which enter late."""
    opened = smooth_network()
    opened.model.to(device)
    tasks = [
        task(key, *SIZES[key % len(SIZES)], channels=1 if key == 4 else 3, masked=key != 5, device=device)
        for key in range(7)
    ]
    found = search(tasks, [WholePicture(opened)], replace(METHODS[name], steps=16), TAU, Execution(6))
    return sorted(found, key=lambda result: int(str(result.key)))


@pytest.mark.parametrize("name", ["rnm-masked", "rnm-robust", "rnm"])
def test_a_search_on_a_gpu_stacks_photos_of_all_sizes_and_comes_to_the_same(name: str) -> None:
    expected = searched(name, "cpu")
    with ImitatedGpu():
        found = searched(name, "cuda")
        for one, other in zip(found, expected, strict=True):
            assert one.error is None
            assert (one.steps, one.first_reached) == (other.steps, other.first_reached)
            assert torch.allclose(one.delta.cpu(), other.delta, atol=1e-7)
    assert any(result.reached for result in expected)


def test_files_of_a_step_are_written_side_by_side_on_a_gpu() -> None:
    """Each waits until the other has begun; the search sees what was written, as it does on the CPU."""
    barrier, waits = Barrier(2), True

    def written(change: Tensor) -> Tensor:
        assert change.device.type == "cpu"
        if waits:
            barrier.wait(timeout=60)
        return (grid.image + (change * 255).round() / 255).clamp(0, 1)

    def searched(device: str, execution: Execution) -> list[SearchResult]:
        opened = smooth_network()
        opened.model.to(device)
        both = [replace(one, grid=replace(grid, written=written).to(device)) for one in tasks(device)]
        found = search(both, [WholePicture(opened)], replace(METHODS["rnm-masked"], steps=6), TAU, execution)
        return sorted(found, key=lambda result: int(str(result.key)))

    def tasks(device: str) -> list[SearchTask]:
        return [task(key, 44, 56, channels=3, masked=True, device=device) for key in range(2)]

    grid = tasks("cpu")[0].grid
    with ImitatedGpu() as gpu:
        found = searched("cuda", Execution(2, encoders=2))
        assert [one.error for one in found] == [None, None]
        assert gpu.reads.count("tolist") == found[0].steps + 1
        deltas = [one.delta.cpu() for one in found]
    waits = False
    for delta, other in zip(deltas, searched("cpu", Execution(2)), strict=True):
        assert torch.allclose(delta, other.delta, atol=1e-7)


def test_a_file_that_cannot_be_written_ends_the_search_of_its_photo_alone() -> None:
    def written(change: Tensor) -> Tensor:
        raise ValueError("no room in the file")

    opened = smooth_network()
    with ImitatedGpu():
        opened.model.to("cuda")
        both = [task(key, 44, 56, channels=3, masked=True, device="cuda") for key in range(2)]
        both[0] = replace(both[0], grid=replace(both[0].grid, written=written))
        found = list(
            search(both, [WholePicture(opened)], replace(METHODS["rnm-masked"], steps=6), TAU, Execution(2, encoders=2))
        )
    errors = {int(str(one.key)): one.error for one in found}
    assert "no room in the file" in str(errors[0])
    assert errors[1] is None


DELTA = torch.tensor([[[0.1, -0.2], [0.0, 0.3]]], dtype=torch.float64)
GRAD = torch.tensor([[[3.0, -4.0], [0.0, 12.0]]], dtype=torch.float64)


def test_raw() -> None:
    assert torch.allclose(raw(0.01)(DELTA, GRAD), DELTA - 0.01 * GRAD)


def test_l2_normalised_is_of_one_length() -> None:
    moved = l2_normalised(0.5)(DELTA, GRAD)
    assert torch.allclose(moved, DELTA - 0.5 * GRAD / 13)
    assert float((moved - DELTA).norm()) == pytest.approx(0.5)


def test_sign() -> None:
    expected = DELTA - 0.5 * torch.tensor([[1.0, -1.0], [0.0, 1.0]], dtype=torch.float64)
    assert torch.allclose(sign(0.5)(DELTA, GRAD), expected)


def test_momentum_gathers_l1_normalised_gradients() -> None:
    step = Momentum(0.5, decay=0.5)
    first = step(DELTA, GRAD)
    assert torch.allclose(first, DELTA - 0.5 * GRAD.sign())
    # Mean of |GRAD| is 19 / 4; the second gradient is the opposite, twice as large, and normalised to the same size.
    step(first, -2 * GRAD)
    assert step.velocity is not None
    assert torch.allclose(step.velocity, GRAD / 4.75 * (0.5 - 1))


def test_l2_momentum_gathers_directions_and_moves_by_one_length() -> None:
    step = L2Momentum(0.5, decay=0.5)
    first = step(DELTA, GRAD)
    assert torch.allclose(first, DELTA - 0.5 * GRAD / 13)
    across = torch.tensor([[4.0, 3.0], [0.0, 0.0]], dtype=torch.float64)
    second = step(first, 100 * across)
    gathered = 0.5 * GRAD / 13 + across / 5
    assert torch.allclose(second, first - 0.5 * gathered / gathered.norm())
    assert float((second - first).norm()) == pytest.approx(0.5)


def test_heavy_ball_is_torchs_sgd() -> None:
    change = DELTA.clone().requires_grad_()
    theirs = torch.optim.SGD([change], lr=0.5, momentum=0.9)
    ours, step = DELTA, HeavyBall(0.5, decay=0.9)
    for turn in (1.0, -2.0, 0.5):
        change.grad = turn * GRAD
        theirs.step()
        ours = step(ours, turn * GRAD)
        assert torch.allclose(ours, change.detach())


def test_a_step_in_normalised_space_is_one_of_the_networks_own_input() -> None:
    std = torch.tensor([0.229, 0.224, 0.225], dtype=torch.float64)[:, None, None]
    start, grad = torch.zeros(3, 2, 2, dtype=torch.float64), torch.randn(3, 2, 2, dtype=torch.float64)
    inside = NormalisedSpace(size=0.01, bound=1.0)(start, grad) / std
    assert float(inside.norm()) == pytest.approx(0.01)
    # The loss seen from there has the gradient std * grad.
    assert torch.allclose(inside, -0.01 * std * grad / (std * grad).norm())
    clamped = NormalisedSpace(size=100.0, bound=0.032)(start, grad) / std
    assert torch.allclose(clamped, -0.032 * grad.sign())


def test_decaying_ends_at_its_least() -> None:
    schedule = decaying(0.5, 0.2)
    assert [schedule(t) for t in range(4)] == [1.0, 0.5, 0.25, 0.2]


@pytest.mark.parametrize("schedule", [constant, cosine(10)])
def test_adam_is_torchs_adam(schedule: Callable[[int], float]) -> None:
    generator = torch.Generator().manual_seed(0)
    leaf = DELTA.clone().requires_grad_()
    optimiser = torch.optim.Adam([leaf], lr=0.02, eps=1e-12)
    step: Step = Adam(0.02, schedule)
    ours = DELTA
    for t in range(12):
        gradient = torch.randn(DELTA.shape, dtype=torch.float64, generator=generator)
        optimiser.param_groups[0]["lr"] = 0.02 * schedule(t)
        leaf.grad = gradient.clone()
        optimiser.step()
        ours = step(ours, gradient)
        assert torch.allclose(ours, leaf.detach(), atol=1e-10)


@pytest.mark.parametrize(
    "make", [lambda s: raw(1.0, s), lambda s: l2_normalised(1.0, s), lambda s: sign(1.0, s), lambda s: Adam(1.0, s)]
)
def test_steps_follow_their_schedule(make: Callable[[Callable[[int], float]], Step]) -> None:
    asked: list[int] = []

    def schedule(t: int) -> float:
        asked.append(t)
        return 0.0

    step = make(schedule)
    for _ in range(3):
        assert torch.equal(step(DELTA, GRAD), DELTA)
    assert asked == [0, 1, 2]


@pytest.mark.parametrize(
    "make", [lambda: raw(1.0), lambda: l2_normalised(1.0), lambda: sign(1.0), lambda: Momentum(1.0), lambda: Adam(1.0)]
)
def test_without_a_gradient_nothing_moves_and_nothing_is_lost(make: Callable[[], Step]) -> None:
    moved: Tensor = make()(DELTA, torch.zeros_like(DELTA))
    assert torch.equal(moved, DELTA)


@pytest.mark.parametrize(
    "make", [lambda: raw(1.0), lambda: l2_normalised(1.0), lambda: sign(1.0), lambda: Momentum(1.0), lambda: Adam(1.0)]
)
def test_a_step_leaves_what_it_was_given(make: Callable[[], Step]) -> None:
    delta, grad = DELTA.clone(), GRAD.clone()
    step = make()
    for _ in range(2):
        step(delta, grad)
    assert torch.equal(delta, DELTA)
    assert torch.equal(grad, GRAD)


def test_schedules() -> None:
    assert [constant(t) for t in (0, 5)] == [1.0, 1.0]
    half = cosine(10)
    assert half(0) == 1.0
    assert half(5) == pytest.approx(0.5)
    assert half(10) == half(11) == pytest.approx(0.0)
    assert half(3) == pytest.approx((1 + math.cos(0.3 * math.pi)) / 2)


GROWTH = Growth(near=1.5, far=2.0)


def test_ball_steps_stay_within_the_radius_and_follow_it() -> None:
    step = BallRule(radius=0.5, first=1.0, rate=0.7, least=0.2, growth=GROWTH)(40, 2.0)
    assert step.radius == 1.0
    moved = torch.zeros(1, 2, 2, dtype=torch.float64)
    for _ in range(5):
        moved = step(moved, GRAD)
        assert float(moved.norm()) <= step.radius + 1e-9
    assert torch.allclose(moved, -GRAD / 13)
    near, far = (step.missed(far=far, promised=True, overshot=False).radius for far in (False, True))
    assert (near, far) == (1.5, 2.0), "the change fills the ball"
    step(0.1 * moved, torch.zeros_like(GRAD))
    assert step.missed(far=True, promised=True, overshot=False).radius == 1.0, "it does not"
    assert step.met(0.3).radius == pytest.approx(0.3)
    for keeps, radius in ((False, 1.0), (True, 3.0)):
        again = replace(step, keeps=keeps)
        assert again.starting_from(3.0).radius == pytest.approx(radius)
        assert again.starting_from(0.3).radius == 1.0
        assert (again.next_round(step) is again) == keeps


def test_a_ball_grows_beyond_its_first_radius_only_for_what_is_promised() -> None:
    step = BallRule(radius=1.0, first=1.0, rate=1.0, least=1.0, growth=Growth(1.5, 1.5))(40, 1.0)
    moved = step(DELTA, GRAD)
    step(moved, GRAD)
    assert step.missed(far=False, promised=True, overshot=False).radius == 1.5
    assert step.missed(far=False, promised=False, overshot=False).radius == 1.0, "only prepared for"
    downhill = -GRAD / GRAD.norm()
    smaller = step.met(0.8)
    smaller(0.8 * downhill, GRAD)
    assert smaller.missed(far=False, promised=False, overshot=False).radius == 1.0, "up to the first radius it may"


def test_ball_steps_are_conjugate() -> None:
    """Polak and Ribiere's direction by hand: the new gradient, and the old one by how far the gradient turned."""
    step = BallStep(10.0, constant, GROWTH)
    step(DELTA, GRAD)
    turned = torch.tensor([[[4.0, 3.0], [0.0, 6.0]]], dtype=torch.float64)
    expected = turned + float((turned * (turned - GRAD)).sum() / GRAD.square().sum()) * GRAD
    assert float((turned * (turned - GRAD)).sum()) < 0, "so the factor is held at 0"
    step(DELTA, turned)
    assert step.direction is not None
    assert torch.allclose(step.direction, turned)
    step(DELTA, 3 * turned)
    assert torch.allclose(step.direction, 3 * turned + turned), "the factor is held at 1"
    assert not torch.allclose(expected, turned)


def test_ball_steps_may_accumulate_instead() -> None:
    """Half of the old direction and the new gradient, each brought to length 1 as it came."""
    step = BallStep(10.0, constant, GROWTH, decay=0.5)
    step(DELTA, GRAD)
    turned = torch.tensor([[[4.0, 3.0], [0.0, 6.0]]], dtype=torch.float64)
    step(DELTA, turned)
    assert step.direction is not None
    assert torch.allclose(step.direction, 0.5 * GRAD / GRAD.norm() + turned / turned.norm())
    assert step.missed(far=False, promised=True, overshot=True).damping == 1.0, "one look is not another's yardstick"


def test_moves_that_overshot_are_shortened_and_recover() -> None:
    step = BallStep(10.0, constant, GROWTH)
    shorter = step.missed(far=False, promised=True, overshot=True)
    lengths = [float((each(DELTA, GRAD) - DELTA).norm()) for each in (step, shorter)]
    assert lengths[1] == pytest.approx(0.7 * lengths[0])
    for _ in range(20):
        shorter = shorter.missed(far=False, promised=True, overshot=False)
    assert shorter.damping == 1.0
