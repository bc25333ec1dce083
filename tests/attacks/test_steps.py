from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from hashshield.attacks.steps import (
    Adam,
    BallRule,
    BallStep,
    L2Momentum,
    Momentum,
    constant,
    cosine,
    decaying,
    l2_normalised,
    raw,
    sign,
)
from hashshield.types import Step

DELTA = torch.tensor([[0.1, -0.2], [0.0, 0.3]], dtype=torch.float64)
GRAD = torch.tensor([[3.0, -4.0], [0.0, 12.0]], dtype=torch.float64)


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


def test_ball_steps_stay_within_the_radius_and_follow_it() -> None:
    step = BallRule(radius=0.5, first=1.0, rate=0.7, least=0.2)(40, 2.0)
    assert step.radius == 1.0
    moved = torch.zeros(2, 2, dtype=torch.float64)
    for _ in range(5):
        moved = step(moved, GRAD)
        assert float(moved.norm()) <= step.radius + 1e-9
    assert torch.allclose(moved, -GRAD / 13)
    assert step.widened(1.5, overshot=False).radius == 1.5, "the change fills the ball"
    step(0.1 * moved, torch.zeros_like(GRAD))
    assert step.widened(1.5, overshot=False).radius == 1.0, "it does not"
    assert step.around(0.3 * moved).radius == pytest.approx(0.3)


def test_ball_steps_are_conjugate() -> None:
    """Polak and Ribiere's direction by hand: the new gradient, and the old one by how far the gradient turned."""
    step = BallStep(10.0, constant)
    step(DELTA, GRAD)
    turned = torch.tensor([[4.0, 3.0], [0.0, 6.0]], dtype=torch.float64)
    expected = turned + float((turned * (turned - GRAD)).sum() / GRAD.square().sum()) * GRAD
    assert float((turned * (turned - GRAD)).sum()) < 0, "so the factor is held at 0"
    step(DELTA, turned)
    assert step.direction is not None
    assert torch.allclose(step.direction, turned)
    step(DELTA, 3 * turned)
    assert torch.allclose(step.direction, 3 * turned + turned), "the factor is held at 1"
    assert not torch.allclose(expected, turned)


def test_moves_that_overshot_are_shortened_and_recover() -> None:
    step = BallStep(10.0, constant)
    shorter = step.widened(1.0, overshot=True)
    lengths = [float((each(DELTA, GRAD) - DELTA).norm()) for each in (step, shorter)]
    assert lengths[1] == pytest.approx(0.7 * lengths[0])
    for _ in range(20):
        shorter = shorter.widened(1.0, overshot=False)
    assert shorter.damping == 1.0
