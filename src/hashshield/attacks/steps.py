"""Steps: how a change moves along its gradient, and the rules that make a step for each photo.

A step is one object per photo and holds what it remembers. Sizes are Euclidean lengths (or, for sign steps, per pixel)
in [0, 1] units. Gradients point uphill; every step moves down.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

__all__ = [
    "Adam",
    "AdamRule",
    "BallRule",
    "BallStep",
    "GradientRule",
    "L2Momentum",
    "Momentum",
    "MomentumRule",
    "NormalisedRule",
    "Schedule",
    "Scheduled",
    "SignMomentumRule",
    "constant",
    "cosine",
    "decaying",
    "l2_normalised",
    "raw",
    "sign",
]

Schedule = Callable[[int], float]
"""Step number, from 0 -> factor of the step's size."""

_TINY = 1e-12
_LEAST_DAMPING = 0.02
"""Of `BallStep`: on a rough loss long moves lead nowhere (measured on a network of random weights)."""
_FILLED = 0.8
"""Share of its radius that a change must have for the ball to grow."""


def constant(_t: int) -> float:
    """Always the full size."""
    return 1.0


def cosine(total: int) -> Schedule:
    """From the full size at step 0 towards none at step `total`."""
    return lambda t: (1 + math.cos(math.pi * min(t / total, 1.0))) / 2


def decaying(rate: float, least: float, size: float = 1.0) -> Schedule:
    """`size` times `rate` to the power of the step number, and never less than `least` of it."""
    return lambda t: size * max(least, float(rate**t))


@dataclass
class Scheduled:
    """Move by a scheduled size along a direction that depends on the gradient alone."""

    direction: Callable[[Tensor], Tensor]
    size: float
    schedule: Schedule = constant
    t: int = 0

    def __call__(self, delta: Tensor, grad: Tensor, /) -> Tensor:
        """Return delta - size * direction(grad)."""
        size = self.size * self.schedule(self.t)
        self.t += 1
        return delta - size * self.direction(grad)


def raw(size: float, schedule: Schedule = constant) -> Scheduled:
    """Plain gradient descent."""
    return Scheduled(lambda grad: grad, size, schedule)


def l2_normalised(size: float, schedule: Schedule = constant) -> Scheduled:
    """Step of a fixed Euclidean length along the gradient (DHTA, Bai et al. 2020)."""
    return Scheduled(lambda grad: grad / grad.norm().clamp_min(_TINY), size, schedule)


def sign(size: float, schedule: Schedule = constant) -> Scheduled:
    """Step of a fixed size in every pixel (PGD, Madry et al. 2018)."""
    return Scheduled(torch.sign, size, schedule)


@dataclass
class Momentum:
    """Sign step along an accumulated, L1-normalised gradient (MI-FGSM, Dong et al. 2018)."""

    size: float
    decay: float = 1.0
    velocity: Tensor | None = None

    def __call__(self, delta: Tensor, grad: Tensor, /) -> Tensor:
        """Return delta - size * sign(m), m = decay * m + grad / mean(abs(grad))."""
        scaled = grad / grad.abs().mean().clamp_min(_TINY)
        self.velocity = scaled if self.velocity is None else self.decay * self.velocity + scaled
        return delta - self.size * self.velocity.sign()


@dataclass
class L2Momentum:
    """Step of a scheduled Euclidean length along accumulated, L2-normalised gradients (MI-FGM, Dong et al. 2018)."""

    size: float
    decay: float
    schedule: Schedule = constant
    t: int = 0
    velocity: Tensor | None = None

    def __call__(self, delta: Tensor, grad: Tensor, /) -> Tensor:
        """Return delta - size * m / norm(m), m = decay * m + grad / norm(grad)."""
        scaled = grad / grad.norm().clamp_min(_TINY)
        velocity = scaled if self.velocity is None else self.decay * self.velocity + scaled
        self.velocity = velocity
        size = self.size * self.schedule(self.t)
        self.t += 1
        moved: Tensor = delta - size * velocity / velocity.norm().clamp_min(_TINY)
        return moved


@dataclass
class BallStep:
    """Conjugate gradients within a ball that the search widens while it misses (Polak and Ribière 1969; FMN).

    The gradient of the squared margins is close to linear in a small change, so conjugate directions reach the goal in
    fewer steps than momentum does (measured: ADR 011).
    """

    radius: float
    """Longest change now, as a Euclidean length."""
    size: Schedule
    """Length of each move, as a share of the radius."""
    t: int = 0
    damping: float = 1.0
    """Factor on the length of moves, for moves that overshoot."""
    filled: float = 0.0
    """Length of the last change, as a share of the radius."""
    direction: Tensor | None = None
    gradient: Tensor | None = None

    def __call__(self, delta: Tensor, grad: Tensor, /) -> Tensor:
        """Return delta moved along the conjugate direction, and shortened to the radius."""
        direction = grad
        if self.direction is not None and self.gradient is not None:
            turned = (grad * (grad - self.gradient)).sum() / self.gradient.square().sum().clamp_min(_TINY**2)
            direction = grad + turned.clamp(0, 1) * self.direction
        self.direction, self.gradient = direction, grad
        length = self.damping * self.radius * self.size(self.t)
        self.t += 1
        moved = delta - length * direction / direction.norm().clamp_min(_TINY)
        shortened: Tensor = moved * (self.radius / moved.norm().clamp_min(self.radius))
        self.filled = float(shortened.norm()) / self.radius
        return shortened

    def widened(self, factor: float, *, overshot: bool) -> BallStep:
        """Return the same with a longer radius where moves fill the ball, and shorter moves if the last one overshot.

        Moves that did not overshoot grow to their full length again.
        """
        damping = max(self.damping * 0.7, _LEAST_DAMPING) if overshot else min(self.damping * 1.15, 1.0)
        return replace(self, radius=self.radius * (factor if self.filled > _FILLED else 1.0), damping=damping)

    def around(self, delta: Tensor) -> BallStep:
        """Return the same with the length of `delta` as its radius."""
        return replace(self, radius=float(delta.norm()))


@dataclass
class Adam:
    """Adam (Kingma and Ba 2015) on the change."""

    size: float
    schedule: Schedule = constant
    betas: tuple[float, float] = (0.9, 0.999)
    t: int = 0
    moments: tuple[Tensor, Tensor] | None = field(default=None)

    def __call__(self, delta: Tensor, grad: Tensor, /) -> Tensor:
        """Return delta moved by the bias-corrected first over the root of the second moment."""
        first, second = self.moments or (torch.zeros_like(grad), torch.zeros_like(grad))
        b1, b2 = self.betas
        first = b1 * first + (1 - b1) * grad
        second = b2 * second + (1 - b2) * grad.square()
        self.moments = (first, second)
        size = self.size * self.schedule(self.t)
        self.t += 1
        direction = (first / (1 - b1**self.t)) / ((second / (1 - b2**self.t)).sqrt() + _TINY)
        return delta - size * direction


@dataclass(frozen=True, slots=True)
class GradientRule:
    """Plain gradient descent."""

    size: float

    def __call__(self, _total: int, _scale: float, /) -> Scheduled:
        """Make the step of one photo."""
        return raw(self.size)


@dataclass(frozen=True, slots=True)
class NormalisedRule:
    """Steps of a given Euclidean length along the gradient (DHTA; Bai et al. 2020)."""

    size: float
    scaled: bool = False
    """True to lengthen steps with the photo's scale."""
    cosine: bool = False
    """True to shorten steps along half a cosine, to nothing at the last one."""

    def __call__(self, total: int, scale: float, /) -> Scheduled:
        """Make the step of one photo."""
        return l2_normalised(
            self.size * scale if self.scaled else self.size, cosine(total) if self.cosine else constant
        )


@dataclass(frozen=True, slots=True)
class MomentumRule:
    """Steps along accumulated, L2-normalised gradients (MI-FGM; Dong et al. 2018), longer with the photo's scale."""

    size: float
    decay: float
    """Share of the accumulated direction that each step keeps."""
    rate: float | None = None
    """Factor by which each step is shorter than the last; None: half a cosine, to nothing at the last one."""
    least: float = 0.0
    """Share of `size` below which no step falls, with `rate`."""

    def __call__(self, total: int, scale: float, /) -> L2Momentum:
        """Make the step of one photo."""
        schedule = cosine(total) if self.rate is None else decaying(self.rate, self.least)
        return L2Momentum(self.size * scale, self.decay, schedule)


@dataclass(frozen=True, slots=True)
class BallRule:
    """Conjugate gradients within a ball; see `BallStep`. Lengths grow with the photo's scale."""

    radius: float
    """Of the first ball."""
    first: float
    """Length of the first move, as a share of the radius."""
    rate: float
    """Factor by which each move's share is smaller than the last."""
    least: float
    """Share of the radius below which no move falls."""

    def __call__(self, _total: int, scale: float, /) -> BallStep:
        """Make the step of one photo."""
        return BallStep(self.radius * scale, decaying(self.rate, self.least / self.first, self.first))


@dataclass(frozen=True, slots=True)
class SignMomentumRule:
    """Sign steps along accumulated, L1-normalised gradients (MI-FGSM; Dong et al. 2018), which use all of tau."""

    size: float

    def __call__(self, _total: int, _scale: float, /) -> Momentum:
        """Make the step of one photo."""
        return Momentum(self.size)


@dataclass(frozen=True, slots=True)
class AdamRule:
    """Adam on the change (Kingma and Ba 2015)."""

    size: float

    def __call__(self, _total: int, _scale: float, /) -> Adam:
        """Make the step of one photo."""
        return Adam(self.size)
