"""The methods of the field as compositions of a loss, a step and a stopping rule over one loop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from hashshield.attacks import losses, steps
from hashshield.attacks.goals import MARGIN_SLACK, MIN_MARGIN, LossTerm
from hashshield.errors import UnknownNameError
from hashshield.types import Step

__all__ = ["METHODS", "Method", "method"]


@dataclass(frozen=True, slots=True)
class Method:
    """One way of searching.

    `step` makes the rule for one photo from the number of steps it may take and the photo's scale (1 where its grid
    and the network's view have a short side of 256). `shrink` turns the search into a minimum-norm search: while the
    goal is reached the change is scaled by it.
    """

    name: str
    term: LossTerm
    step: Callable[[int, float], Step]
    steps: int
    """The method's own budget."""
    restart_step: Callable[[int, float], Step] | None = None
    """The rule of a search that has spent a third of its steps without success, until it succeeds."""
    shrink: float | None = None
    stop: Literal["budget", "first"] = "first"
    margin_slack: float = MARGIN_SLACK
    """How far beyond the kept margin the search aims."""
    min_margin: float = MIN_MARGIN
    """What every margin must keep where the search sees the pixels as they are written."""
    feature_weight: float = 0.0
    """Weight of the cosine to the original's features, for goals that ask for it."""
    certainty_weight: float = 0.0
    """Weight of the gap in certainty between turned and kept bits, for goals that hide which were turned."""
    noise: bool = False
    """No search: uniform noise in [-tau, tau] on the photo's own pixels."""
    keeps_last: bool = False
    """Whether the last change that reached the goal counts, which uses all of tau, not the smallest."""
    retries: bool = True
    """Whether a photo whose written bytes miss the goal is tried again with larger margins."""


def _margin(code: Tensor, wanted: Tensor, _at: Tensor, aimed: Tensor) -> Tensor:
    return losses.margin(code, wanted, aimed)


def _every_bit(code: Tensor, wanted: Tensor, at: Tensor, aimed: Tensor) -> Tensor:
    """Every bit further over, also those that are there already; and the margins, which end it where it must end."""
    return losses.tanh_product(code, wanted, torch.full_like(aimed, 3.0)) + 0.1 * losses.margin(code, wanted, aimed)


def _paper(alpha_times_bits: float) -> LossTerm:
    def term(code: Tensor, wanted: Tensor, _at: Tensor, _aimed: Tensor) -> Tensor:
        return losses.relaxation_norm(code, wanted, alpha=alpha_times_bits / code.shape[1], p=3.0)

    return term


def _dhta(code: Tensor, wanted: Tensor, at: Tensor, _aimed: Tensor) -> Tensor:
    """Alpha 0.1 for 1,000 steps, then 0.2, 0.3, 0.5, 0.7, 1.0 every 200 (paper section 5.2)."""
    alphas = torch.tensor([0.1, 0.2, 0.3, 0.5, 0.7, 1.0], dtype=code.dtype, device=code.device)
    index = ((at - 1000) // 200 + 1).clamp(0, 5)
    return losses.tanh_product(code, wanted, alphas[index])


def _tanh_one(code: Tensor, wanted: Tensor, at: Tensor, _aimed: Tensor) -> Tensor:
    return losses.tanh_product(code, wanted, torch.ones_like(at, dtype=code.dtype))


def _hag(code: Tensor, wanted: Tensor, at: Tensor, _aimed: Tensor) -> Tensor:
    """Alpha as in DHTA's schedule, which took it over from HAG."""
    alphas = torch.tensor([0.1, 0.2, 0.3, 0.5, 0.7, 1.0], dtype=code.dtype, device=code.device)
    return losses.hag(code, wanted, alphas[((at - 1000) // 200 + 1).clamp(0, 5)])


def _momentum_restart(_total: int, scale: float) -> Step:
    """Long steps along gathered directions, which go through where the gradient alone vanishes."""
    return steps.L2Momentum(5 * scale, 0.9, steps.decaying(0.93, 0.15))


def _transfer_momentum(_total: int, _scale: float) -> Step:
    """Small sign steps along gathered gradients, which use all of tau."""
    return steps.Momentum(1 / 255)


def _robust_momentum(total: int, scale: float) -> Step:
    """Steps along gathered directions, over which what each look draws averages out."""
    return steps.L2Momentum(1.5 * scale, 0.6, steps.cosine(total))


METHODS: dict[str, Method] = {
    m.name: m
    for m in (
        Method(
            "rnm",
            _margin,
            lambda total, scale: steps.l2_normalised(0.5 * scale, steps.cosine(total)),
            steps=40,
            restart_step=_momentum_restart,
            shrink=0.85,
            stop="budget",
            feature_weight=2.0,
            certainty_weight=1.0,
        ),
        Method(
            "rnm-robust",
            _margin,
            _robust_momentum,
            steps=54,
            restart_step=_momentum_restart,
            shrink=0.8,
            stop="budget",
            margin_slack=0.2,
            feature_weight=0.5,
            certainty_weight=0.3,
        ),
        Method(
            "rnm-transfer",
            _every_bit,
            _transfer_momentum,
            steps=60,
            stop="budget",
            feature_weight=10.0,
            keeps_last=True,
        ),
        Method(
            "rnm-first",
            _margin,
            _momentum_restart,
            steps=200,
            min_margin=0.02,
            feature_weight=1.0,
            certainty_weight=1.0,
        ),
        Method("rnm-paper", _paper(1.0), lambda _t, _s: steps.raw(1.0), steps=2000, stop="budget"),
        Method("rnm-paper-free", _paper(0.1), lambda _t, _s: steps.raw(1.0), steps=2000, stop="budget"),
        Method("tanh", _dhta, lambda _t, _s: steps.l2_normalised(1.0), steps=2000, stop="budget"),
        Method("tanh-adam", _tanh_one, lambda _t, _s: steps.Adam(2 / 255), steps=2000),
        Method("hag", _hag, lambda _t, _s: steps.raw(100.0), steps=2000),
        Method("noise", _margin, lambda _t, _s: steps.raw(0.0), steps=0, noise=True, retries=False),
    )
}


def method(name: str) -> Method:
    """The method of that name. Raises UnknownNameError."""
    if name not in METHODS:
        raise UnknownNameError(f"unknown method {name!r}; known are {', '.join(METHODS)}")
    return METHODS[name]
