"""The methods of the field, each a composition of a loss, a step rule and a stopping rule over one search loop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from hashshield.attacks import balls, objectives, steps
from hashshield.attacks.objectives import MARGIN_SLACK, MIN_MARGIN, LossTerm
from hashshield.errors import UnknownNameError

__all__ = ["METHODS", "FeatureMoves", "Method", "method", "shortened"]

StepRule = Callable[[int, float], steps.Step]
"""Number of steps a search may take, scale of the photo (1 if its grid and the network's view have a short side of 256)
-> a new step for that photo."""


@dataclass(frozen=True, slots=True)
class FeatureMoves:
    """How far and how long features are moved."""

    steps: int
    budget: float
    """Most that a pixel amid full texture may change, in [0, 1] units; elsewhere the mask's share of it."""
    momentum: float = 0.7
    size: float = 1 / 12
    """Length of a move, as a share of each pixel's budget; half of it after `halved_after`."""
    halved_after: float = 0.6
    """Share of the steps after which moves are half as long."""
    code_weight: float = 1.0
    """Weight of the loss towards the code, where a surrogate is searched on too; that of undecided bits counts as 1."""
    least_window: float = 0.6
    """Share of the sides that the smallest random window has."""

    def size_at(self, step: int) -> float:
        """Length of that move, as a share of each pixel's budget."""
        return self.size if step < self.halved_after * self.steps else self.size / 2


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
    enough: int | None = None
    """Steps after which a search that met the goal ends as soon as it stands still; None: it takes all its steps."""
    prepares: float = 1.0
    """Share of its steps that prepare for a preset's transforms; after them it only settles on what meets the goal."""
    features: FeatureMoves | None = None
    """How features of surrogates are moved before the search for the code, which goes on from there; None: not."""
    enlarged: str | None = None
    """Row that takes its place where changes are enlarged to the photo's pixels; None: there too."""
    plain: str | None = None
    """Row that takes its place where there is no surrogate whose features could be moved; None: there too."""
    later: str | None = None
    """Row that takes its place in later tries, which go on from a change that was not enough; None: there too."""
    retries: bool = True
    """True to search again with larger margins if the written photo misses the goal."""

    def suited(self, *, enlarged: bool, surrogates: bool, goes_on: bool) -> Method:
        """Return the method for a photo whose changes are `enlarged` or not, where there are `surrogates` or not.

        `goes_on`: it is a later try. Steps that were asked for stay.
        """
        plain = None if surrogates else self.plain
        name = self.enlarged if enlarged else self.later if goes_on and self.later else plain
        if name is None:
            return self
        other = METHODS[name]
        return other if self.steps == METHODS[self.name].steps else replace(other, steps=self.steps)


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

    def compressed(self, share: float) -> _AlphaSchedule:
        """Return the schedule that passes through the same alphas in `share`, in (0, 1], of the steps."""
        return replace(self, first=max(1, round(share * self.first)), every=max(1, round(share * self.every)))

    def at(self, step: Tensor, like: Tensor) -> Tensor:
        """Return the alpha of each (N,) step number, in the type of `like`."""
        alphas = torch.tensor(self.alphas, dtype=like.dtype).to(like.device, non_blocking=True)
        return alphas[((step - self.first) // self.every + 1).clamp(0, len(self.alphas) - 1)]


@dataclass(frozen=True, slots=True)
class _TanhProduct:
    """Equation 2 of the paper: the negative inner product of tanh(alpha code) and the wanted bits (DHTA)."""

    schedule: _AlphaSchedule

    def __call__(self, code: Tensor, wanted: Tensor, at: Tensor, _aimed: Tensor, /) -> Tensor:
        return objectives.tanh_product(code, wanted, self.schedule.at(at, code))


@dataclass(frozen=True, slots=True)
class _Hag:
    """HAG's loss: the squared distance of the masked mean product to its minimum, and the balance term."""

    schedule: _AlphaSchedule

    def __call__(self, code: Tensor, wanted: Tensor, at: Tensor, _aimed: Tensor, /) -> Tensor:
        return objectives.hag(code, wanted, self.schedule.at(at, code))


_DHTA_SCHEDULE = _AlphaSchedule()
_CONSTANT_ONE = _AlphaSchedule(alphas=(1.0,))

_MOMENTUM_RESTART = steps.MomentumRule(size=5.0, decay=0.9, rate=0.93, least=0.15)
"""Long steps along accumulated directions: they pass through places where the gradient alone vanishes."""

_ROBUST = Method(
    "rnm-robust",
    _Margin(),
    balls.BallRule(
        radius=6.9,
        first=0.5,
        rate=0.75,
        least=0.1,
        growth=balls.Growth(near=1.05, far=1.1),
        decay=0.7,
        keeps=True,
    ),
    steps=30,
    shrink=0.93,
    stop="budget",
    feature_weight=0.5,
    certainty_weight=0.3,
    margin_slack=0.15,
    prepares=0.7,
    enlarged="rnm-enlarged",
)

_TRANSFER = Method(
    "rnm-transfer",
    _Margin(),
    balls.BallRule(
        radius=6.9,
        first=0.06,
        rate=0.9,
        least=0.02,
        growth=balls.Growth(near=1.05, far=1.1),
        decay=0.7,
        keeps=True,
    ),
    steps=30,
    feature_weight=1.0,
    certainty_weight=0.3,
    margin_slack=0.15,
    prepares=0.7,
    features=FeatureMoves(steps=100, budget=17 / 255, code_weight=1.5),
    enlarged="rnm-transfer-enlarged",
)

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
            balls.BallRule(radius=1.6, first=0.5, rate=0.7, least=0.15, growth=balls.Growth(near=1.04, far=1.1)),
            steps=66,
            shrink=0.85,
            stop="budget",
            margin_slack=0.15,
            min_margin=0.01,
            feature_weight=2.0,
            certainty_weight=1.0,
            enough=20,
        ),
        # The first ball is what may be seen; it grows only if the file itself cannot meet the goal within it.
        _ROBUST,
        # The goal itself was missed: few looks that prepare, many that settle.
        replace(_ROBUST, name="rnm-later", prepares=0.3),
        # Features take the change most of the way, through one network and view a step; the few steps that are left to
        # prepare and settle are short, since long ones undo what was moved (ADR 015).
        Method(
            "rnm-features",
            _Margin(),
            balls.BallRule(
                radius=6.9,
                first=0.1,
                rate=0.75,
                least=0.03,
                growth=balls.Growth(near=1.05, far=1.1),
                decay=0.7,
                keeps=True,
            ),
            steps=18,
            shrink=0.93,
            stop="budget",
            feature_weight=0.5,
            certainty_weight=0.3,
            margin_slack=0.15,
            prepares=0.7,
            features=FeatureMoves(steps=30, budget=8 / 255, size=1 / 8, code_weight=4.0),
            enlarged="rnm-enlarged",
            plain="rnm-robust",
            later="rnm-later",
        ),
        # What is enlarged is coarse and seen soon, and JPEG averages out: the smallest ball that keeps the goal.
        Method(
            "rnm-enlarged",
            _Margin(),
            balls.BallRule(
                radius=2.0, first=0.5, rate=0.7, least=0.15, growth=balls.Growth(near=1.05, far=1.1), keeps=True
            ),
            steps=54,
            shrink=0.88,
            stop="budget",
            margin_slack=0.15,
            feature_weight=0.5,
            certainty_weight=0.3,
            enough=24,
        ),
        # Features first, with all that may be seen; the code of the named networks takes a small part of it (ADR 015).
        _TRANSFER,
        # What is enlarged is coarse and seen soon.
        replace(
            _TRANSFER,
            name="rnm-transfer-enlarged",
            features=FeatureMoves(steps=100, budget=5 / 255, code_weight=1.5),
            enlarged=None,
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
        # GreedyHash trains with 0.1 times the mean over the bits of the cubed distance, which is 0.1 / K of the sum.
        Method("rnm-greedyhash", _RelaxationNorm(0.1), steps.GradientRule(size=1.0), steps=2000, stop="budget"),
        Method("tanh", _TanhProduct(_DHTA_SCHEDULE), steps.NormalisedRule(size=1.0), steps=2000, stop="budget"),
        Method(
            "tanh-dhta",
            _TanhProduct(_DHTA_SCHEDULE),
            steps.NormalisedSpaceRule(size=1.0, bound=0.032),
            steps=2000,
            stop="budget",
        ),
        Method("tanh-adam", _TanhProduct(_CONSTANT_ONE), steps.AdamRule(size=2 / 255), steps=2000),
        Method("hag", _Hag(_DHTA_SCHEDULE), steps.HeavyBallRule(size=100.0, decay=0.9), steps=2000, stop="budget"),
        Method("noise", _Margin(), steps.GradientRule(size=0.0), steps=0, noise=True, retries=False),
    )
}


def method(name: str) -> Method:
    """Return the method of that name. Raises UnknownNameError."""
    if name not in METHODS:
        raise UnknownNameError(f"unknown method {name!r}; known are {', '.join(METHODS)}")
    return METHODS[name]


def shortened(chosen: Method, limit: int) -> Method:
    """Return `chosen` for at most `limit` steps; a schedule of alpha passes through all its values in those."""
    if limit >= chosen.steps:
        return chosen
    term = chosen.term
    if isinstance(term, _TanhProduct | _Hag):
        term = replace(term, schedule=term.schedule.compressed(limit / chosen.steps))
    return replace(chosen, steps=limit, term=term)
