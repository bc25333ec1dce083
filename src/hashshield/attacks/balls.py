"""Steps within a ball that grows with each look that misses, for one photo or for several in one tensor."""

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
"""Share of its radius that a change must have for the ball to grow."""
_LEAST_DAMPING = 0.02
"""Of `BallStep`: on a rough loss long moves lead nowhere (measured on a network of random weights)."""


@dataclass(frozen=True, slots=True)
class Growth:
    """How a ball grows with each look that misses."""

    near: float
    """Factor of the radius where the goal is near."""
    far: float
    """The same where it is far."""


@dataclass
class BallStep(Step):
    """Moves within a ball that misses widen (FMN; Pintor et al. 2021).

    Directions are conjugate (Polak and Ribière 1969), since the gradient of the squared margins is close to linear in a
    small change; or they accumulate, which averages what each look draws at random (measured: ADR 011 and 014).
    """

    radius: float
    """Longest change now, as a Euclidean length."""
    size: Schedule
    """Length of each move, as a share of the radius."""
    growth: Growth
    decay: float | None = None
    """Share of the accumulated direction that each move keeps; None: conjugate directions."""
    room: float = 0.0
    """First radius, up to which looks that are only prepared for let it grow again."""
    keeps: bool = False
    """Whether a search that goes on keeps its ball; else the ball grows anew, which ends near the smallest."""
    t: int = 0
    damping: float = 1.0
    """Factor on the length of moves, for moves that overshoot."""
    filled: float | Tensor = 0.0
    """Length of the last change, as a share of the radius; a tensor while it waits on another device than the CPU."""
    direction: Tensor | None = None
    gradient: Tensor | None = None

    @property
    def kind(self) -> Hashable:
        """Balls move together if their directions are of one kind."""
        return BallStep, self.decay

    def __call__(self, delta: Tensor, grad: Tensor, /) -> Tensor:
        """Return delta moved along the next direction, and shortened to the radius."""
        moved: Tensor
        (moved,) = self.together([self], Stack.of([delta]), delta[None], grad[None])
        return moved

    @staticmethod
    def together(steps: Sequence[Any], batch: Stack, delta: Tensor, grad: Tensor) -> Tensor:
        """Do the same for (N, C, H, W) changes of as many steps."""
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
        """Return the same with a ball of that length, if balls are kept and it is larger."""
        return replace(self, radius=max(self.radius, length)) if self.keeps else self

    def met(self, length: float, /) -> BallStep:
        """Return the same with that radius."""
        return replace(self, radius=length)

    def unread(self) -> Tensor | None:
        """Return how far the last change filled the ball, if that was not read yet."""
        return self.filled if isinstance(self.filled, Tensor) else None

    def read(self, value: float, /) -> BallStep:
        """Return the same with what `unread` was."""
        return replace(self, filled=value)

    def missed(self, *, far: bool, promised: bool, overshot: bool) -> BallStep:
        """Return the same with a longer radius, if moves fill the ball and there is room, and shorter moves if needed.

        Conjugate moves that did not overshoot grow to their full length again.
        """
        factor = self.growth.far if far else self.growth.near
        damping = max(self.damping * 0.7, _LEAST_DAMPING) if overshot else min(self.damping * 1.15, 1.0)
        return replace(
            self,
            radius=max(self.radius, min(self.radius * factor, self._room(promised=promised))),
            damping=1.0 if self.decay is not None else damping,
        )

    def _room(self, *, promised: bool) -> float:
        """Radius up to which the ball may grow now."""
        if float(self.filled) <= _FILLED:
            return 0.0
        return math.inf if promised else self.room

    def next_round(self, fresh: Step, /) -> Step:
        """Return the same if the ball is kept: long moves would lead away again."""
        return self if self.keeps else fresh


@dataclass(frozen=True, slots=True)
class BallRule:
    """Moves within a ball; see `BallStep`. Lengths grow with the photo's scale."""

    radius: float
    """Of the first ball."""
    first: float
    """Length of the first move, as a share of the radius."""
    rate: float
    """Factor by which each move's share is smaller than the last."""
    least: float
    """Share of the radius below which no move falls."""
    growth: Growth
    decay: float | None = None
    """Share of the accumulated direction that each move keeps; None: conjugate directions."""
    keeps: bool = False
    """Whether a search that goes on keeps its ball."""

    def __call__(self, _total: int, scale: float, /) -> BallStep:
        """Make the step of one photo."""
        size = decaying(self.rate, self.least / self.first, self.first)
        radius = self.radius * scale
        return BallStep(radius, size, self.growth, self.decay, room=radius, keeps=self.keeps)


def _norms(stacked: Tensor) -> Tensor:
    """Euclidean lengths of (N, C, h, w) changes, (N, 1, 1, 1)."""
    norms: Tensor = torch.linalg.vector_norm(stacked, dim=(1, 2, 3), keepdim=True)
    return norms
