"""Objectives: the code each network should give each photo, and the loss that measures the way to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hashshield.attacks.goals import away_band
from hashshield.attacks.losses import certainty_gap, feature_similarity, signs
from hashshield.types import Codes

__all__ = [
    "MARGIN_SLACK",
    "MIN_MARGIN",
    "BatchObjective",
    "LossTerm",
    "Objective",
    "batch_objectives",
    "predicted_flip",
]

MIN_MARGIN = 0.05
"""Every margin, code x wanted bit, must be at least this for the goal to count as reached."""
MARGIN_SLACK = 0.25
"""How far beyond the kept margin the search aims, unless a method says otherwise."""

LossTerm = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""code (N, K), wanted (N, K), step numbers (N,), aimed margins (N,) -> (N,)"""


@dataclass(frozen=True, slots=True, eq=False)
class Objective:
    """What one network should answer for one photo."""

    wanted: Tensor
    """(K,) in {-1, +1}"""
    original_features: Tensor | None = None
    """(D,) when the features should also leave the original's; None when only bits matter."""
    original_bits: Tensor | None = None
    """(K,) the photo's own bits, when the code must not tell which of them were turned; None when it may."""
    min_margin: float = MIN_MARGIN
    allowed_misses: int = 0
    """How many bits may miss the kept margin in a look."""

    def to(self, device: torch.device | str) -> Objective:
        """The same aim on another device."""
        features, original_bits = (
            None if t is None else t.to(device) for t in (self.original_features, self.original_bits)
        )
        return Objective(self.wanted.to(device), features, original_bits, self.min_margin, self.allowed_misses)


@dataclass(frozen=True, slots=True, eq=False)
class BatchObjective:
    """`Goal` for a batch of aims at one network."""

    bits: Tensor
    min_margin: Tensor
    term: LossTerm
    steps: Tensor
    features: Tensor
    """(N, D)"""
    leaving: Tensor
    """(N,) weight of the cosine to `features`; 0 for aims that are about bits only."""
    original_bits: Tensor
    """(N, K)"""
    hiding: Tensor
    """(N,) weight of the certainty gap; 0 for aims that have nothing to hide."""
    allowed_misses: Tensor
    """(N,) bits that may miss the kept margin."""
    margin_slack: float = MARGIN_SLACK
    """How far beyond the kept margin the search aims."""

    def loss(self, codes: Codes, /) -> Tensor:
        """(N,): the method's term, and where the aim wants that, feature cosine and certainty gap.

        The gap counts once every margin is kept: before that it would only hold bits back.
        """
        loss = self.term(codes.code, self.bits, self.steps, self.min_margin + self.margin_slack)
        if bool(self.leaving.any()):
            loss = loss + self.leaving * feature_similarity(codes.features, self.features)
        if bool(self.hiding.any()):
            gap = certainty_gap(codes.code * self.bits, self.bits != self.original_bits)
            loss = loss + self.hiding * self.reached(codes) * gap
        return loss

    def reached(self, codes: Codes, /) -> Tensor:
        """(N,) bool: every margin, but for those to spare, is at least the kept one."""
        return (codes.code * self.bits < self.min_margin[:, None]).sum(1) <= self.allowed_misses

    def residual(self, codes: Codes, /) -> Tensor:
        """(N,): the method's term as a share of what it would be if every bit were undecided; 1 is no better."""
        aimed = self.min_margin + self.margin_slack
        undecided = self.term(torch.zeros_like(codes.code), self.bits, self.steps, aimed)
        return self.term(codes.code, self.bits, self.steps, aimed) / undecided

    def leaked_bits(self, codes: Codes, /) -> Tensor:
        """(N,): by how many bits turning the less certain half over leads nearer to the own code than chance does.

        Chance is half of the bits, not the band's lower end: the smallest change is found at the end it is held to.
        """
        length = self.bits.shape[1]
        distance = (predicted_flip(codes.code) != self.original_bits).sum(1)
        outside = (-(-length // 2) - distance).clamp_min(0) + (distance - away_band(length)[1]).clamp_min(0)
        return outside * (self.hiding != 0)


def batch_objectives(
    objectives: Sequence[Objective],
    term: LossTerm,
    steps: Tensor,
    *,
    feature_weight: float,
    certainty_weight: float,
    margin_slack: float = MARGIN_SLACK,
) -> BatchObjective:
    """Put the aims of a batch at one network together."""
    wanted = torch.stack([objective.wanted for objective in objectives])
    nothing = wanted.new_zeros(0)
    present = next(
        (objective.original_features for objective in objectives if objective.original_features is not None), nothing
    )
    return BatchObjective(
        wanted,
        wanted.new_tensor([objective.min_margin for objective in objectives]),
        term,
        steps,
        torch.stack(
            [
                present if objective.original_features is None else objective.original_features
                for objective in objectives
            ]
        ),
        wanted.new_tensor([0.0 if objective.original_features is None else feature_weight for objective in objectives]),
        torch.stack(
            [
                objective.wanted if objective.original_bits is None else objective.original_bits
                for objective in objectives
            ]
        ),
        wanted.new_tensor([0.0 if objective.original_bits is None else certainty_weight for objective in objectives]),
        wanted.new_tensor([objective.allowed_misses for objective in objectives]),
        margin_slack,
    )


def predicted_flip(code: Tensor) -> Tensor:
    """(N, K) relaxed -> its bits with the less certain half turned over: a service's guess at the code from before."""
    least = code.abs().argsort(1)[:, : code.shape[1] // 2]
    bits = signs(code)
    return bits.scatter(1, least, -bits.gather(1, least))
