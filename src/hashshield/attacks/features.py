"""The feature move: before the code search, move the photo's features away from the original's on surrogate networks.

The network that a service runs is unknown. Codes of different networks have nothing in common, but features do: a
change that moves the features of a few surrogates away from the original's moves those of unknown networks too (Wu et
al. 2020; Xie et al. 2019). Each step uses one surrogate in one view. Even steps compare the middle layer position by
position; odd steps see a random window and compare means. Gradients through a surrogate's residual branches are halved,
so that more comes through the skip connections, which transfers better (SGM; Wu et al. 2020).

The rule, once a step, for the change `delta` within the budget of each pixel:

    velocity <- momentum * velocity + gradient / mean(abs(gradient))
    delta    <- delta - size * budget * sign(velocity), clipped to [-budget, budget] and the photo to [0, 1]
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, interpolate

from hashshield.attacks.methods import FeatureMoves
from hashshield.attacks.objectives import MARGIN_SLACK, margin
from hashshield.attacks.state import SearchTask
from hashshield.errors import InternalError
from hashshield.models.backbones import InvertedResidual, LiteTrunk
from hashshield.models.load import OpenModel, viewed
from hashshield.transforms import CARD, SQUASH
from hashshield.transforms.differentiable import crop, flip, soft_jpeg
from hashshield.types import View

__all__ = [
    "FeatureMove",
    "Surrogate",
    "SurrogateFeatures",
    "feature_losses",
    "remember_clean",
    "surrogates_among",
]

_TINY = 1e-12
_QUALITY = 75
"""JPEG quality simulated in four of every eight steps, so that the change survives services."""
_coded = soft_jpeg(_QUALITY)
_COARSE = 6.0
"""Photo pixels per grid pixel from which JPEG is not simulated, because it averages out on the grid."""
_FIRST = 0.25
"""Largest initial random change, as a share of each pixel's budget."""
_RESIDUAL_GRADIENT = 0.5
"""Share of the gradient that each residual branch passes on (measured: .2 and 1 are worse, ADR 015)."""


class SurrogateFeatures(NamedTuple):
    """What a surrogate computes for N images."""

    pooled: Tensor
    """(N, D): features averaged over the image."""
    middle: Tensor
    """(N, C, h, w): features of the middle layer."""
    code: Tensor
    """(N, K): codes."""


@dataclass(frozen=True, slots=True, eq=False)
class Surrogate:
    """An EfficientNet-Lite whose features are differentiable with respect to the image."""

    opened: OpenModel

    @property
    def name(self) -> str:
        """The network's `checkpoint:bits`."""
        return self.opened.name

    def features(self, images: Sequence[Tensor], view: str, windows: Sequence[View] = (), /) -> SurrogateFeatures:
        """Return the features of N images, each (1, 3, h, w) in [0, 1], seen through `view`.

        `windows` are N functions applied to the viewed images, one each; empty: none.
        """
        inputs = viewed(images, self.opened.card.input, view)
        if windows:
            inputs = torch.cat([window(one[None]) for window, one in zip(windows, inputs, strict=True)])
        return self._features(inputs)

    def _features(self, inputs: Tensor) -> SurrogateFeatures:
        model = self.opened.model
        trunk = model.trunk
        assert isinstance(trunk, LiteTrunk)
        x = trunk.stem(((inputs - model.mean) / model.std).contiguous(memory_format=torch.channels_last))
        middle = x
        for index, block in enumerate(trunk.blocks):
            assert isinstance(block, InvertedResidual)
            out = block.layers(x)
            x = x + _damped(out) if block.residual else out
            if index == trunk.middle:
                middle = x
        pooled = trunk.head(x).mean((2, 3)).float()
        return SurrogateFeatures(pooled, middle.float(), model.codes(pooled).code)


def _damped(out: Tensor) -> Tensor:
    """Return the same values, with the gradient multiplied by `_RESIDUAL_GRADIENT`."""
    return _RESIDUAL_GRADIENT * out + (1 - _RESIDUAL_GRADIENT) * out.detach()


def surrogates_among(models: Sequence[OpenModel]) -> tuple[Surrogate, ...]:
    """Return a surrogate for each EfficientNet-Lite trunk among the networks; a shared trunk counts once."""
    trunks: dict[int, OpenModel] = {}
    for opened in models:
        if isinstance(opened.model.trunk, LiteTrunk):
            trunks.setdefault(id(opened.model.trunk), opened)
    return tuple(Surrogate(opened) for opened in trunks.values())


class _Original(NamedTuple):
    """The features of one original, (1, D) and (1, C, h, w)."""

    pooled: Tensor
    middle: Tensor


class _FeatureView(NamedTuple):
    """How a step sees photos."""

    surrogate: int
    view: str
    diverse: bool
    """Through a random window, comparing means of the middle layer."""
    coded: bool
    """With simulated JPEG."""


@dataclass(eq=False)
class FeatureMove:
    """One photo whose features are being moved."""

    task: SearchTask
    moves: FeatureMoves
    tau: float
    """L-infinity bound on the change, in [0, 1] units."""
    surrogates: int
    """Number of surrogates; they take turns."""
    delta: Tensor = field(init=False)
    """(C, h, w): the current change."""
    steps_taken: int = 0
    evaluations: int = 0
    error: InternalError | None = None
    clean: dict[tuple[int, str], _Original] = field(default_factory=dict)
    """Features of the original, by (surrogate, view); filled by `remember_clean`."""
    _velocity: Tensor | None = None
    _budget: Tensor = field(init=False)
    _bounds: tuple[Tensor, Tensor] = field(init=False)

    def __post_init__(self) -> None:
        nothing = self.task.grid.start()
        mask = self.task.masking
        budget = torch.full_like(nothing, self.moves.budget)
        self._budget = (budget if mask is None else mask.unweight(budget)).clamp_max(self.tau)
        self._bounds = self.task.grid.bounds(self.tau)
        drawn = self._generator(0).uniform(-_FIRST, _FIRST, tuple(nothing.shape)).astype(np.float32)
        self.delta = (torch.from_numpy(drawn).to(nothing.device) * self._budget).clamp(*self._bounds)

    @property
    def finished(self) -> bool:
        """Whether all steps are taken, or the photo failed."""
        return self.error is not None or self.steps_taken >= self.moves.steps

    @property
    def next_view(self) -> _FeatureView:
        """How the next step sees the photo; the same for all photos with the same number of steps taken."""
        step = self.steps_taken
        turn = np.random.default_rng(step // self.surrogates).permutation(self.surrogates)
        view = SQUASH if step // 2 % 2 else CARD
        return _FeatureView(int(turn[step % self.surrogates]), view, bool(step % 2), bool(step // 4 % 2))

    def as_seen(self, delta: Tensor, *, coded: bool) -> Tensor:
        """Return the (1, 3, h, w) photo after `delta`, with simulated JPEG if `coded`, before the surrogate's view."""
        image = replace(self.task.grid, written=None, drift=None).changed(delta)
        return _coded(image) if coded and self.task.scale < _COARSE else image

    def window(self) -> View:
        """Return the random crop of the next step, resized back and mirrored half of the time."""
        generator = self._generator(1 + self.steps_taken)
        share = generator.uniform(self.moves.least_window, 1.0)
        cut = crop(generator.uniform(), generator.uniform(), share)
        mirrored = generator.uniform() < 0.5

        def view(images: Tensor) -> Tensor:
            window = cut(flip(images) if mirrored else images)
            return interpolate(window, images.shape[-2:], mode="bilinear", align_corners=False)

        return view

    def moved(self, gradient: Tensor) -> Callable[[], None]:
        """Return a function that takes the step along a (C, h, w) gradient; nothing changes before it is called.

        So if one photo of a step raises, no photo has moved yet.
        """
        mask = self.task.masking
        gradient = gradient if mask is None else mask.condition(gradient)
        scaled = gradient / gradient.abs().mean().clamp_min(_TINY)
        velocity = scaled if self._velocity is None else self.moves.momentum * self._velocity + scaled
        length = self.moves.size_at(self.steps_taken) * self._budget
        delta = self.delta - length * velocity.sign()
        delta = torch.minimum(torch.maximum(delta, -self._budget), self._budget).clamp(*self._bounds)

        def move() -> None:
            self.delta, self._velocity = delta, velocity
            self.steps_taken += 1
            self.evaluations += 1

        return move

    def fail(self, error: InternalError) -> None:
        """End the feature move of this photo."""
        self.error = error

    def _generator(self, number: int) -> np.random.Generator:
        assert self.task.feature_seed is not None
        return np.random.default_rng((self.task.feature_seed, number))


def feature_losses(moves: Sequence[FeatureMove], deltas: Sequence[Tensor], surrogate: Surrogate) -> Tensor:
    """Return the (N,) losses of photos with the same `next_view`: the cosines to the originals' features, summed.

    They are those of the pooled and the middle features, plus the code loss in even steps.
    """
    view = moves[0].next_view
    images = [each.as_seen(delta, coded=view.coded) for each, delta in zip(moves, deltas, strict=True)]
    found = surrogate.features(images, view.view, [each.window() for each in moves] if view.diverse else ())
    pooled, middle = (
        torch.cat([getattr(each.clean[view.surrogate, view.view], part) for each in moves])
        for part in ("pooled", "middle")
    )
    if view.diverse:
        alike = cosine_similarity(found.middle.mean((2, 3)), middle.mean((2, 3)))
    else:
        alike = cosine_similarity(found.middle.flatten(1), middle.flatten(1))
    losses: Tensor = cosine_similarity(found.pooled, pooled) + alike
    return losses if view.diverse else losses + _code_losses(moves, found.code, view)


def _code_losses(moves: Sequence[FeatureMove], codes: Tensor, view: _FeatureView) -> Tensor:
    """Return the (N,) weighted code losses; zeros if the surrogate is not searched on in this view.

    Which surrogates are searched on is the same for all photos of a run.
    """
    place = moves[0].task.code_looks.get((view.surrogate, view.view))
    if place is None:
        return codes.new_zeros(len(moves))
    objectives = [each.task.objectives[place] for each in moves]
    wanted = torch.stack([objective.wanted for objective in objectives])
    aimed = torch.tensor([objective.min_margin + MARGIN_SLACK for objective in objectives]).to(codes, non_blocking=True)
    undecided = margin(torch.zeros_like(wanted), wanted, aimed)
    return moves[0].moves.code_weight * margin(codes, wanted, aimed) / undecided


def remember_clean(moves: Sequence[FeatureMove], surrogate: Surrogate) -> None:
    """Store the originals' features for this surrogate and view in `clean`, where they are missing."""
    view = moves[0].next_view
    new = [each for each in moves if (view.surrogate, view.view) not in each.clean]
    if not new:
        return
    with torch.no_grad():
        found = surrogate.features([each.task.grid.image[None] for each in new], view.view)
    for row, each in enumerate(new):
        each.clean[view.surrogate, view.view] = _Original(found.pooled[row : row + 1], found.middle[row : row + 1])
        each.evaluations += 1
