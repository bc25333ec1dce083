"""Steps: how a change moves along its gradient, and the rules that make a step for each photo.

A step is one object per photo and holds its momentum. Sizes are Euclidean lengths (for sign steps: per pixel) in [0, 1]
units. Gradients point uphill; every step moves downhill. On a GPU the changes of several photos are put into one
tensor, a `Stack`, so that each operator is launched once for all: a GPU takes as long for one small tensor as for many.
On the CPU each photo is a stack of its own, because small tensors stay in the cache.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

__all__ = [
    "Adam",
    "AdamRule",
    "GradientRule",
    "HeavyBall",
    "HeavyBallRule",
    "L2Momentum",
    "Momentum",
    "MomentumRule",
    "NormalisedRule",
    "NormalisedSpace",
    "NormalisedSpaceRule",
    "Schedule",
    "Scheduled",
    "SignMomentumRule",
    "Stack",
    "Step",
    "constant",
    "cosine",
    "decaying",
    "l2_normalised",
    "raw",
    "sign",
]


@dataclass(frozen=True, slots=True, eq=False)
class Stack:
    """Layout of N photos' (C, h, w) tensors in one (N, C, H, W) tensor: at the top left, padded by repeating edges."""

    sizes: Sequence[torch.Size]
    """(h, w) of each photo."""
    inner: Tensor | None
    """(N, 1, H, W): 1 inside the photo, 0 in the padding; None if all photos have the same size."""

    @classmethod
    def of(cls, photos: Sequence[Tensor]) -> Stack:
        """Return the stack for photos of the sizes of these (C, h, w) tensors."""
        sizes = [photo.shape[-2:] for photo in photos]
        if len(set(sizes)) == 1:
            return cls(sizes, None)
        device, dtype = photos[0].device, photos[0].dtype
        lasts = torch.tensor(sizes).to(device, non_blocking=True)
        rows, columns = (
            torch.arange(max(size[axis] for size in sizes), device=device) < lasts[:, axis, None] for axis in (0, 1)
        )
        return cls(sizes, (rows[:, None, :, None] & columns[:, None, None, :]).to(dtype))

    def put(self, *kinds: Sequence[Tensor]) -> Sequence[Tensor]:
        """Return each of `kinds`, a sequence of one (C, h, w) tensor per photo, as one (N, C, H, W) tensor."""
        if len(self.sizes) == 1:
            return [photos[0][None] for photos in kinds]
        if self.inner is None:
            return [torch.stack(list(photos)) for photos in kinds]
        height, width = self.inner.shape[-2:]
        joined = kinds[0] if len(kinds) == 1 else [torch.cat(of_photo) for of_photo in zip(*kinds, strict=True)]
        wide = [pad(photo, (0, width - photo.shape[2], 0, height - photo.shape[1]), "replicate") for photo in joined]
        return torch.split(torch.stack(wide), [len(photos[0]) for photos in kinds], dim=1)

    def within(self, stacked: Tensor) -> Tensor:
        """Return an (N, C, H, W) tensor with the padding set to zero."""
        return stacked if self.inner is None else stacked * self.inner

    def take(self, stacked: Tensor) -> list[Tensor]:
        """Return the photos' (C, h, w) parts of an (N, C, H, W) tensor, without copying."""
        return [part[:, :height, :width] for part, (height, width) in zip(stacked, self.sizes, strict=True)]


Schedule = Callable[[int], float]
"""Step number, from 0 -> factor on the step's size."""

_TINY = 1e-12
_IMAGENET_STD = (0.229, 0.224, 0.225)
"""Standard deviation of red, green and blue over ImageNet, in [0, 1] units."""


def constant(_t: int) -> float:
    """Return 1: every step has full size."""
    return 1.0


def cosine(total: int) -> Schedule:
    """Return half a cosine: factor 1 at step 0, 0 from step `total` on."""
    return lambda t: (1 + math.cos(math.pi * min(t / total, 1.0))) / 2


def decaying(rate: float, least: float, size: float = 1.0) -> Schedule:
    """Return the schedule t -> size * max(least, rate^t)."""
    return lambda t: size * max(least, float(rate**t))


class Step(ABC):
    """The step of one photo. `met`, `missed`, ... return the step to take after an observation."""

    @abstractmethod
    def __call__(self, delta: Tensor, grad: Tensor, /) -> Tensor:
        """Return the moved (C, h, w) `delta`, in [0, 1] units. `grad` points uphill."""

    @property
    def kind(self) -> Hashable:
        """Key of steps that can move together in one stack; None: each moves alone."""
        return None

    @staticmethod
    def together(steps: Sequence[Any], batch: Stack, delta: Tensor, grad: Tensor) -> Tensor:
        """Return (N, C, H, W) changes moved by N `steps` of one kind; the padding of the result is zero."""
        del batch
        return torch.stack([step(*each) for step, *each in zip(steps, delta, grad, strict=True)])

    def starting_from(self, _length: float, /) -> Step:
        """Return the step of a search that starts from a change of Euclidean length `_length`."""
        return self

    def met(self, _length: float, /) -> Step:
        """Return the step after an observation that met the goal; the change shrank to Euclidean length `_length`."""
        return self

    def missed(self, *, far: bool, promised: bool, overshot: bool) -> Step:
        """Return the step after an observation that missed the goal.

        `far`: its residual was above 1. `promised`: the goal must be met in such an observation; False for transforms
        that are only prepared for. `overshot`: its residual was larger than that of the previous one of its kind.
        """
        del far, promised, overshot
        return self

    def unread(self) -> Tensor | None:
        """Return a 0-dim tensor whose value the next step needs, or None; the search reads all of them in one go."""
        return None

    def read(self, _value: float, /) -> Step:
        """Return the step with the value of `unread`."""
        return self

    def next_round(self, fresh: Step, /) -> Step:
        """Return the step of a search that takes all its steps again: `fresh`, or one that carries on this one."""
        return fresh


@dataclass
class Scheduled(Step):
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
    """Return a step of plain gradient descent."""
    return Scheduled(lambda grad: grad, size, schedule)


def l2_normalised(size: float, schedule: Schedule = constant) -> Scheduled:
    """Return a step of Euclidean length `size` along the gradient (DHTA, Bai et al. 2020)."""
    return Scheduled(lambda grad: grad / grad.norm().clamp_min(_TINY), size, schedule)


def sign(size: float, schedule: Schedule = constant) -> Scheduled:
    """Return a step of `size` in every pixel, by the gradient's sign (PGD, Madry et al. 2018)."""
    return Scheduled(torch.sign, size, schedule)


@dataclass
class Momentum(Step):
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
class HeavyBall(Step):
    """Gradient descent with momentum, as `torch.optim.SGD` defines it (Polyak 1964)."""

    size: float
    decay: float
    velocity: Tensor | None = None

    def __call__(self, delta: Tensor, grad: Tensor, /) -> Tensor:
        """Return delta - size * v, v = decay * v + grad."""
        self.velocity = grad if self.velocity is None else self.decay * self.velocity + grad
        return delta - self.size * self.velocity


@dataclass
class NormalisedSpace(Step):
    """Step of a fixed Euclidean length, and a bound per pixel, both in ImageNet-normalised units (DHTA's code).

    A network that takes (image - mean) / std sees a change of `std` as 1, so `bound` allows bound * std in [0, 1]
    units: at 0.032 less than two of 255 levels.
    """

    size: float
    bound: float
    std: Tensor | None = None
    """(3, 1, 1), cached on the change's device, so that no step waits for a copy to it."""

    def __call__(self, delta: Tensor, grad: Tensor, /) -> Tensor:
        """Return (3, h, w) delta - size * std * n, clamped to bound * std; n is the unit normalised-space gradient."""
        if self.std is None:
            self.std = torch.tensor(_IMAGENET_STD, dtype=delta.dtype).to(delta.device, non_blocking=True)[:, None, None]
        std = self.std
        normalised = std * grad
        moved = delta - self.size * std * normalised / normalised.norm().clamp_min(_TINY)
        within: Tensor = moved.clamp(-self.bound * std, self.bound * std)
        return within


@dataclass
class L2Momentum(Step):
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
class Adam(Step):
    """Adam (Kingma and Ba 2015) on the change."""

    size: float
    schedule: Schedule = constant
    betas: tuple[float, float] = (0.9, 0.999)
    t: int = 0
    moments: tuple[Tensor, Tensor] | None = field(default=None)

    def __call__(self, delta: Tensor, grad: Tensor, /) -> Tensor:
        """Return delta minus size times the bias-corrected first moment over the root of the second."""
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
class HeavyBallRule:
    """Gradient descent with momentum."""

    size: float
    decay: float

    def __call__(self, _total: int, _scale: float, /) -> HeavyBall:
        """Make the step of one photo."""
        return HeavyBall(self.size, self.decay)


@dataclass(frozen=True, slots=True)
class NormalisedSpaceRule:
    """Steps and bound in ImageNet-normalised units."""

    size: float
    bound: float

    def __call__(self, _total: int, _scale: float, /) -> NormalisedSpace:
        """Make the step of one photo."""
        return NormalisedSpace(self.size, self.bound)


@dataclass(frozen=True, slots=True)
class NormalisedRule:
    """Steps of a given Euclidean length along the gradient (DHTA; Bai et al. 2020)."""

    size: float
    scaled: bool = False
    """True to lengthen steps with the photo's scale."""
    cosine: bool = False
    """True to shorten steps along half a cosine, towards 0 after the last one."""

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
    """Ratio of each step's length to the one before; None: half a cosine, towards 0 after the last step."""
    least: float = 0.0
    """Share of `size` below which no step falls, with `rate`."""

    def __call__(self, total: int, scale: float, /) -> L2Momentum:
        """Make the step of one photo."""
        schedule = cosine(total) if self.rate is None else decaying(self.rate, self.least)
        return L2Momentum(self.size * scale, self.decay, schedule)


@dataclass(frozen=True, slots=True)
class SignMomentumRule:
    """Sign steps along accumulated, L1-normalised gradients (MI-FGSM; Dong et al. 2018); the change fills tau."""

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
