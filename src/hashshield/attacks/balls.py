"""Steps inside a ball that grows after each miss, for one photo or for a stack of several."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from hashshield.attacks.steps import Schedule, Stack, Step, decaying

__all__ = ["BallRule", "BallStep", "Growth"]

_TINY = 1e-12
_FILLED = 0.8
"""Least length of a change, as a share of the radius, for the ball to grow."""
_LEAST_DAMPING = 0.02
"""Lower bound of `BallStep.damping`: on a rough loss only very short moves help (measured on random weights)."""


@dataclass(frozen=True, slots=True)
class Growth:
    """Growth of a ball's radius after a miss."""

    near: float
    """Factor if the residual is at most 1."""
    far: float
    """Factor if the residual is above 1."""


@dataclass
class BallStep(Step):
    """Move inside a ball that grows after a miss (FMN; Pintor et al. 2021).

    Directions are conjugate (Polak and Ribière 1969), because the gradient of the squared margins is close to linear in
    a small change. With `decay` they accumulate instead, which averages over random transforms (ADR 011 and 014).
    """

    radius: float
    """Current bound on the Euclidean length of the change."""
    size: Schedule
    """Length of each move, as a share of the radius."""
    growth: Growth
    decay: float | None = None
    """Share of the accumulated direction that each move keeps; None: conjugate directions."""
    room: float = 0.0
    """Initial radius. A miss under a transform that is only prepared for lets the ball grow up to here."""
    keeps: bool = False
    """True to keep the ball in a later try or a second round; False to start from the first radius again, which ends
    near the smallest ball."""
    t: int = 0
    damping: float = 1.0
    """Factor on the length of moves, lowered when one overshoots."""
    filled: float | Tensor = 0.0
    """Length of the last change, as a share of the radius; a 0-dim tensor until it is read from the device."""
    direction: Tensor | None = None
    gradient: Tensor | None = None

    @property
    def kind(self) -> Hashable:
        """Ball steps with the same `decay` move together."""
        return BallStep, self.decay

    def __call__(self, delta: Tensor, grad: Tensor, /) -> Tensor:
        """Return `delta` moved along the next direction, then shortened to the radius."""
        moved: Tensor
        (moved,) = self.together([self], Stack.of([delta]), delta[None], grad[None])
        return moved

    @staticmethod
    def together(steps: Sequence[Any], batch: Stack, delta: Tensor, grad: Tensor) -> Tensor:
        """Return (N, C, H, W) changes, each moved along its step's next direction and shortened to its radius."""
        direction: Tensor = BallStep._direction(steps, batch, grad)
        lengths = [[step.damping * step.radius * step.size(step.t), step.radius] for step in steps]
        numbers = torch.tensor(lengths, dtype=delta.dtype).to(delta.device, non_blocking=True)
        length, radius = numbers.T[..., None, None, None]
        moved = delta - length * direction / _norms(direction).clamp_min(_TINY)
        shortened: Tensor = moved * (radius * _norms(moved).clamp_min(radius).reciprocal())
        filled = (_norms(shortened) / radius).flatten()
        for step, *now in zip(steps, batch.take(direction), batch.take(grad), filled, strict=True):
            step.direction, step.gradient, step.filled = now
            step.t += 1
        return shortened

    @staticmethod
    def _direction(steps: Sequence[BallStep], batch: Stack, grad: Tensor) -> Tensor:
        """Return the (N, C, H, W) directions of the next moves."""
        decay = steps[0].decay
        current: Tensor = grad if decay is None else grad / _norms(grad).clamp_min(_TINY)
        if all(step.direction is None for step in steps):
            return current
        nothing = [torch.zeros_like(each) for each in batch.take(grad)]
        directions, gradients = (
            [none if one is None else one for one, none in zip(before, nothing, strict=True)]
            for before in ([step.direction for step in steps], [step.gradient for step in steps])
        )
        if decay is not None:
            (before,) = batch.put(directions)
            return decay * batch.within(before) + current
        before, earlier = (batch.within(each) for each in batch.put(directions, gradients))
        overlap = (grad * (grad - earlier)).sum((1, 2, 3), keepdim=True)
        turned = overlap / earlier.square().sum((1, 2, 3), keepdim=True).clamp_min(_TINY**2)
        return grad + turned.clamp(0, 1) * before

    def starting_from(self, length: float, /) -> BallStep:
        """Return the step with a radius of at least `length`, if it keeps its ball."""
        return replace(self, radius=max(self.radius, length)) if self.keeps else self

    def met(self, length: float, /) -> BallStep:
        """Return the step with `length` as radius."""
        return replace(self, radius=length)

    def unread(self) -> Tensor | None:
        """Return `filled` while it is still a tensor, else None."""
        return self.filled if isinstance(self.filled, Tensor) else None

    def read(self, value: float, /) -> BallStep:
        """Return the step with `value` as `filled`."""
        return replace(self, filled=value)

    def missed(self, *, far: bool, promised: bool, overshot: bool) -> BallStep:
        """Return the step with a larger radius, if the change fills the ball and it may grow, and adapted damping.

        With conjugate directions moves become shorter after overshooting, and longer again up to full length after any
        other miss. With accumulated directions they keep their full length.
        """
        factor = self.growth.far if far else self.growth.near
        damping = max(self.damping * 0.7, _LEAST_DAMPING) if overshot else min(self.damping * 1.15, 1.0)
        return replace(
            self,
            radius=max(self.radius, min(self.radius * factor, self._room(promised=promised))),
            damping=1.0 if self.decay is not None else damping,
        )

    def _room(self, *, promised: bool) -> float:
        """Return the radius up to which the ball may grow now."""
        if float(self.filled) <= _FILLED:
            return 0.0
        return math.inf if promised else self.room

    def next_round(self, fresh: Step, /) -> Step:
        """Return this step if it keeps its ball, because long moves would lead away again; else `fresh`."""
        return self if self.keeps else fresh


@dataclass(frozen=True, slots=True)
class BallRule:
    """Moves inside a ball; see `BallStep`. The radius is multiplied by the photo's scale."""

    radius: float
    """Initial radius, as a Euclidean length in [0, 1] units."""
    first: float
    """Length of the first move, as a share of the radius."""
    rate: float
    """Ratio of each move's share to the one before."""
    least: float
    """Least length of a move, as a share of the radius."""
    growth: Growth
    decay: float | None = None
    """Share of the accumulated direction that each move keeps; None: conjugate directions."""
    keeps: bool = False
    """True to keep the ball in a later try or a second round; see `BallStep`."""

    def __call__(self, _total: int, scale: float, /) -> BallStep:
        """Make the step of one photo."""
        size = decaying(self.rate, self.least / self.first, self.first)
        radius = self.radius * scale
        return BallStep(radius, size, self.growth, self.decay, room=radius, keeps=self.keeps)


def _norms(stacked: Tensor) -> Tensor:
    """Return the Euclidean lengths, (N, 1, 1, 1), of (N, C, h, w) changes."""
    norms: Tensor = torch.linalg.vector_norm(stacked, dim=(1, 2, 3), keepdim=True)
    return norms
