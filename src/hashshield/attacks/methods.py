"""The methods of the field, each a composition of a loss, a step rule and a stopping rule over one search loop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from hashshield.attacks import objectives, steps
from hashshield.attacks.objectives import MARGIN_SLACK, MIN_MARGIN, LossTerm
from hashshield.errors import UnknownNameError
from hashshield.types import Step

__all__ = ["METHODS", "Method", "method"]

StepRule = Callable[[int, float], Step]
"""Number of steps a search may take, scale of the photo (1 if its grid and the network's view have a short side of 256)
-> a new step for that photo."""


@dataclass(frozen=True, slots=True)
class Method:
    """One way to search."""

    name: str
    term: LossTerm
    step: StepRule
    steps: int
    """Gradient steps it takes unless told otherwise."""
    restart_step: StepRule | None = None
    """Step rule of a search that starts again because it stalled, until it succeeds; None: it never does."""
    shrink: float | None = None
    """Factor applied to the change while the goal is met (minimum-norm search); None: the change never shrinks."""
    stop: Literal["budget", "first"] = "first"
    """When the search ends: after all its steps, or as soon as the goal is met."""
    margin_slack: float = MARGIN_SLACK
    """How far beyond the required margin the loss pulls."""
    min_margin: float = MIN_MARGIN
    """Least margin of every bit, if the search sees the pixels as they are written."""
    feature_weight: float = 0.0
    """Weight of the cosine to the original's features, for goals that leave them."""
    certainty_weight: float = 0.0
    """Weight of the certainty gap between flipped and unflipped bits, for goals that hide which were flipped."""
    noise: bool = False
    """True for uniform noise in [-tau, tau] on the photo's own pixels, without a search."""
    keeps_last: bool = False
    """True to keep the last change that met the goal, which uses all of tau, instead of the smallest."""
    widen: tuple[float, float] | None = None
    """For a step within a ball: factors of its radius at each miss, near the goal and far from it."""
    enough: int | None = None
    """Steps after which a search that met the goal ends as soon as it stands still; None: it takes all its steps."""
    retries: bool = True
    """True to search again with larger margins if the written photo misses the goal."""


@dataclass(frozen=True, slots=True)
class _Margin:
    """The relaxation norm to the goal's set: the squared distance to the codes that keep every margin."""

    def __call__(self, code: Tensor, wanted: Tensor, _at: Tensor, aimed: Tensor, /) -> Tensor:
        return objectives.margin(code, wanted, aimed)


@dataclass(frozen=True, slots=True)
class _EveryBit:
    """Push every bit further, also those that are right; a share of the margin loss decides when the goal is met."""

    alpha: float
    """Steepness of the tanh."""
    margin_weight: float

    def __call__(self, code: Tensor, wanted: Tensor, _at: Tensor, aimed: Tensor, /) -> Tensor:
        pushed = objectives.tanh_product(code, wanted, torch.full_like(aimed, self.alpha))
        return pushed + self.margin_weight * objectives.margin(code, wanted, aimed)


@dataclass(frozen=True, slots=True)
class _RelaxationNorm:
    """Equation 12 of the paper, with alpha = `alpha_times_bits` / K."""

    alpha_times_bits: float
    p: float = 3.0

    def __call__(self, code: Tensor, wanted: Tensor, _at: Tensor, _aimed: Tensor, /) -> Tensor:
        return objectives.relaxation_norm(code, wanted, alpha=self.alpha_times_bits / code.shape[1], p=self.p)


@dataclass(frozen=True, slots=True)
class _AlphaSchedule:
    """Steepness of the tanh over the steps, as DHTA took it over from HAG (paper, section 5.2)."""

    alphas: tuple[float, ...] = (0.1, 0.2, 0.3, 0.5, 0.7, 1.0)
    first: int = 1000
    """Steps at the first alpha."""
    every: int = 200
    """Steps at each further one; the last stays."""

    def at(self, step: Tensor, like: Tensor) -> Tensor:
        """Return the alpha of each (N,) step number, in the type of `like`."""
        alphas = torch.tensor(self.alphas, dtype=like.dtype, device=like.device)
        return alphas[((step - self.first) // self.every + 1).clamp(0, len(self.alphas) - 1)]


@dataclass(frozen=True, slots=True)
class _TanhProduct:
    """Equation 2 of the paper: the negative inner product of tanh(alpha code) and the wanted bits (DHTA)."""

    schedule: _AlphaSchedule

    def __call__(self, code: Tensor, wanted: Tensor, at: Tensor, _aimed: Tensor, /) -> Tensor:
        return objectives.tanh_product(code, wanted, self.schedule.at(at, code))


@dataclass(frozen=True, slots=True)
class _Hag:
    """HAG's loss: the squared distance of the masked mean product to its minimum."""

    schedule: _AlphaSchedule

    def __call__(self, code: Tensor, wanted: Tensor, at: Tensor, _aimed: Tensor, /) -> Tensor:
        return objectives.hag(code, wanted, self.schedule.at(at, code))


_DHTA_SCHEDULE = _AlphaSchedule()
_CONSTANT_ONE = _AlphaSchedule(alphas=(1.0,))

_MOMENTUM_RESTART = steps.MomentumRule(size=5.0, decay=0.9, rate=0.93, least=0.15)
"""Long steps along accumulated directions: they pass through places where the gradient alone vanishes."""

METHODS: dict[str, Method] = {
    m.name: m
    for m in (
        Method(
            "rnm",
            _Margin(),
            steps.NormalisedRule(size=0.5, scaled=True, cosine=True),
            steps=40,
            restart_step=_MOMENTUM_RESTART,
            shrink=0.85,
            stop="budget",
            feature_weight=2.0,
            certainty_weight=1.0,
        ),
        # Widening by small factors ends near the smallest ball that holds a solution, so it needs few steps.
        Method(
            "rnm-masked",
            _Margin(),
            steps.BallRule(radius=1.6, first=0.5, rate=0.7, least=0.15),
            steps=66,
            shrink=0.85,
            stop="budget",
            margin_slack=0.15,
            min_margin=0.01,
            feature_weight=2.0,
            certainty_weight=1.0,
            widen=(1.04, 1.1),
            enough=20,
        ),
        # Momentum averages what each look draws at random.
        Method(
            "rnm-robust",
            _Margin(),
            steps.MomentumRule(size=1.5, decay=0.6),
            steps=54,
            restart_step=_MOMENTUM_RESTART,
            shrink=0.8,
            stop="budget",
            margin_slack=0.2,
            feature_weight=0.5,
            certainty_weight=0.3,
        ),
        Method(
            "rnm-transfer",
            _EveryBit(alpha=3.0, margin_weight=0.1),
            steps.SignMomentumRule(size=1 / 255),
            steps=60,
            stop="budget",
            feature_weight=10.0,
            keeps_last=True,
        ),
        Method(
            "rnm-first",
            _Margin(),
            _MOMENTUM_RESTART,
            steps=200,
            min_margin=0.02,
            feature_weight=1.0,
            certainty_weight=1.0,
        ),
        Method("rnm-paper", _RelaxationNorm(1.0), steps.GradientRule(size=1.0), steps=2000, stop="budget"),
        Method("rnm-paper-free", _RelaxationNorm(0.1), steps.GradientRule(size=1.0), steps=2000, stop="budget"),
        Method("tanh", _TanhProduct(_DHTA_SCHEDULE), steps.NormalisedRule(size=1.0), steps=2000, stop="budget"),
        Method("tanh-adam", _TanhProduct(_CONSTANT_ONE), steps.AdamRule(size=2 / 255), steps=2000),
        Method("hag", _Hag(_DHTA_SCHEDULE), steps.GradientRule(size=100.0), steps=2000),
        Method("noise", _Margin(), steps.GradientRule(size=0.0), steps=0, noise=True, retries=False),
    )
}


def method(name: str) -> Method:
    """Return the method of that name. Raises UnknownNameError."""
    if name not in METHODS:
        raise UnknownNameError(f"unknown method {name!r}; known are {', '.join(METHODS)}")
    return METHODS[name]
