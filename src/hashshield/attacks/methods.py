"""The search methods: each combines a loss, a step rule and a stopping rule for the loop of `attacks.search`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from hashshield.attacks import balls, objectives, steps
from hashshield.attacks.objectives import MARGIN_SLACK, MIN_MARGIN, LossTerm
from hashshield.errors import UnknownNameError

__all__ = ["METHODS", "FeatureMoves", "Further", "Method", "method", "shortened"]

StepRule = Callable[[int, float], steps.Step]
"""(number of steps a search may take, scale of the photo) -> a new step for that photo. The scale is 1 if its grid and
the network's view both have a short side of 256."""


@dataclass(frozen=True, slots=True)
class FeatureMoves:
    """How far, and in how many steps, features are moved; see `attacks.features`."""

    steps: int
    budget: float
    """Largest change of a pixel in full texture, in [0, 1] units; elsewhere multiplied by the mask's share."""
    momentum: float = 0.7
    size: float = 1 / 12
    """Length of a step, as a share of each pixel's budget; halved after `halved_after`."""
    halved_after: float = 0.6
    """Share of the steps after which they are half as long."""
    code_weight: float = 1.0
    """Weight of the code loss on surrogates that are searched as well; the loss of undecided bits counts as 1."""
    least_window: float = 0.6
    """Side of the smallest random window, as a share of the image's side."""

    def size_at(self, step: int) -> float:
        """Return the length of step number `step`, as a share of each pixel's budget."""
        return self.size if step < self.halved_after * self.steps else self.size / 2


@dataclass(frozen=True, slots=True)
class Further:
    """Steps that only searches take which missed their goal; they go on from the last change."""

    step: StepRule
    steps: int

    def at_most(self, limit: int) -> Further | None:
        """Return the same with at most `limit` steps, or None if that leaves none."""
        return replace(self, steps=min(self.steps, limit)) if limit > 0 else None


@dataclass(frozen=True, slots=True)
class Method:
    """One way to search."""

    name: str
    term: LossTerm
    step: StepRule
    steps: int
    """Default number of gradient steps."""
    restart_step: StepRule | None = None
    """Step rule of a stalled search from its restart until the goal is met; None: it never restarts."""
    further: Further | None = None
    """Steps of a search that has not met its goal after all its steps; None: it ends."""
    shrink: float | None = None
    """Factor applied to the change while the goal is met (minimum-norm search); None: the change never shrinks."""
    stop: Literal["budget", "first"] = "first"
    """When the search ends: "budget" after all its steps, "first" as soon as the goal is met."""
    margin_slack: float = MARGIN_SLACK
    """How far beyond the least margin the loss pulls."""
    min_margin: float = MIN_MARGIN
    """Least margin of every bit, if the search sees the pixels as they are written."""
    feature_weight: float = 0.0
    """Weight of the cosine to the original's features, for objectives that have them."""
    certainty_weight: float = 0.0
    """Weight of the certainty gap between flipped and kept bits, for objectives that hide which were flipped."""
    noise: bool = False
    """True to add uniform noise in [-tau, tau] to the photo's own pixels instead of searching."""
    keeps_last: bool = False
    """True to keep the last change that met the goal, which uses all of tau, instead of the smallest."""
    enough: int | None = None
    """Steps after which a search that met the goal ends if it no longer improves; None: it takes all its steps."""
    prepares: float = 1.0
    """Share of the steps that prepare for a preset's transforms; the rest settle on a change that meets the goal."""
    features: FeatureMoves | None = None
    """How features of surrogates are moved before the code search, which starts from there; None: not at all."""
    enlarged: str | None = None
    """Name of the method to use instead for a photo whose change is enlarged; None: this one."""
    plain: str | None = None
    """Name of the method to use instead without surrogates; None: this one."""
    later: str | None = None
    """Name of the method to use instead in later tries, which start from an earlier change; None: this one."""
    retries: bool = True
    """True to search again with larger margins if the written photo misses the goal."""

    def suited(self, *, enlarged: bool, surrogates: bool, goes_on: bool) -> Method:
        """Return the method to use for a photo: this one, or the one named by `enlarged`, `later` or `plain`.

        `enlarged`: the photo's change is enlarged. `surrogates`: there are surrogates. `goes_on`: it is a later try.
        If `steps` differs from this method's default, the returned method keeps that number.
        """
        plain = None if surrogates else self.plain
        name = self.enlarged if enlarged else self.later if goes_on and self.later else plain
        if name is None:
            return self
        other = METHODS[name]
        return other if self.steps == METHODS[self.name].steps else replace(other, steps=self.steps)


@dataclass(frozen=True, slots=True)
class _Margin:
    """Squared distance of the code to the codes that keep every margin; see `objectives.margin`."""

    def __call__(self, code: Tensor, wanted: Tensor, _at: Tensor, aimed: Tensor, /) -> Tensor:
        return objectives.margin(code, wanted, aimed)


@dataclass(frozen=True, slots=True)
class _EveryBit:
    """Push every bit further, even the right ones, plus `margin_weight` times the margin loss."""

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
    """Steepness of the tanh by step number: HAG's schedule, which DHTA adopted (paper, section 5.2)."""

    alphas: tuple[float, ...] = (0.1, 0.2, 0.3, 0.5, 0.7, 1.0)
    first: int = 1000
    """Steps at the first alpha."""
    every: int = 200
    """Steps at each further alpha; the last one is kept to the end."""

    def compressed(self, share: float) -> _AlphaSchedule:
        """Return the schedule with the same alphas in `share` of the steps, 0 < share <= 1."""
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
"""Long steps along accumulated directions, which carry a search through regions where the gradient vanishes."""

_VISIBLE_BALL = balls.BallRule(
    radius=6.9, first=0.5, rate=0.75, least=0.1, growth=balls.Growth(near=1.05, far=1.1), decay=0.7, keeps=True
)
"""As large at first as visibility allows; it grows only if no change inside it meets the goal."""

_ROBUST = Method(
    "rnm-robust",
    _Margin(),
    _VISIBLE_BALL,
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
    replace(_VISIBLE_BALL, first=0.06, rate=0.9, least=0.02),
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
            further=Further(steps.NormalisedRule(size=2.8, scaled=True, cosine=True), 60),
            shrink=0.85,
            stop="budget",
            feature_weight=2.0,
            certainty_weight=1.0,
        ),
        # Growing by small factors ends near the smallest ball that holds a solution, in few steps.
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
        _ROBUST,
        # An earlier try missed the goal: prepare in few steps, settle in many.
        replace(_ROBUST, name="rnm-later", prepares=0.3),
        # The feature move takes the change most of the way, through one network and view per step. The few steps after
        # it are short, since long ones would undo it (ADR 015).
        replace(
            _ROBUST,
            name="rnm-features",
            step=replace(_VISIBLE_BALL, first=0.1, least=0.03),
            steps=18,
            features=FeatureMoves(steps=30, budget=8 / 255, size=1 / 8, code_weight=4.0),
            plain="rnm-robust",
            later="rnm-later",
        ),
        # An enlarged change is coarse and easily seen, and JPEG averages out: look for the smallest ball.
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
        # The feature move uses nearly all of the visibility allowed; the code search needs a small part (ADR 015).
        _TRANSFER,
        # An enlarged change is coarse and easily seen, so its budget is smaller.
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
        # GreedyHash trains with 0.1 times the mean of the cubed distances over the K bits: 0.1 / K times their sum.
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
    """Return the method called `name`. Raises UnknownNameError."""
    if name not in METHODS:
        raise UnknownNameError(f"unknown method {name!r}; known are {', '.join(METHODS)}")
    return METHODS[name]


def shortened(chosen: Method, limit: int) -> Method:
    """Return `chosen` with at most `limit` steps; a schedule of alphas is compressed to fit them."""
    if limit >= chosen.steps:
        return chosen
    term = chosen.term
    if isinstance(term, _TanhProduct | _Hag):
        term = replace(term, schedule=term.schedule.compressed(limit / chosen.steps))
    return replace(chosen, steps=limit, term=term)
