"""Which bits a photo should get, and when they count as reached."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hashshield.attacks.losses import certainty_gap, feature_similarity, signs
from hashshield.errors import GoalError
from hashshield.types import Codes

__all__ = [
    "MARGIN_SLACK",
    "MIN_MARGIN",
    "BatchObjective",
    "Objective",
    "away_band",
    "batch_objectives",
    "draw_away",
    "draw_decoy",
    "in_band",
    "nearest_class",
    "photo_generator",
    "predicted_flip",
]

MIN_MARGIN = 0.05
"""Every margin, code x wanted bit, must be at least this for the goal to count as reached."""
MARGIN_SLACK = 0.25
"""How far beyond the kept margin the search aims, unless a method says otherwise."""

Bits = NDArray[np.int8]
LossTerm = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""code (N, K), wanted (N, K), step numbers (N,), aimed margins (N,) -> (N,)"""

_MOST_DRAWS = 20_000


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


def away_band(bits: int) -> tuple[int, int]:
    """Fewest and most bits that `away` may differ by: 45 to 55% of the code, rounded to whole bits."""
    return round(0.45 * bits), round(0.55 * bits)


def in_band(distance: int, bits: int) -> bool:
    """Whether a distance lies in `away_band`."""
    low, high = away_band(bits)
    return low <= distance <= high


def photo_generator(key: bytes, sha256: str, purpose: str) -> np.random.Generator:
    """Randomness of one photo: HMAC-SHA256 of its digest and a purpose under the installation's key.

    A public seed would let anyone rerun the tool on a candidate photo and confirm it.
    """
    digest = hmac.new(key, f"{sha256}:{purpose}".encode(), hashlib.sha256).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest, "big")))


def draw_away(
    original_bits: Bits, anchor: Bits | None, generator: np.random.Generator, other_view_bits: Sequence[Bits] = ()
) -> Bits:
    """Turn over a random half of the photo's own (K,) bits, in `away_band` of the anchor of its nearest class too.

    `others` are the photo's bits in other views; of those the draw differs in half as well, give or take one.

    Bits are never picked by how easily they flip: that is what an adaptive service guesses first. Exactly half leaves
    room on both sides of the band for what encoding changes. For code lengths and anchors where no draw fits the
    anchor's band, the one nearest to it is kept.
    """
    length = len(original_bits)
    low, high = away_band(length)
    best, best_gap = original_bits, length + 1
    for _ in range(_MOST_DRAWS):
        drawn = original_bits.copy()
        drawn[generator.permutation(length)[: length // 2]] *= -1
        gap = 0 if anchor is None else _outside(int(np.count_nonzero(drawn != anchor)), low, high)
        gap += sum(
            _outside(int(np.count_nonzero(drawn != bits)), length // 2 - 1, length // 2 + 1) for bits in other_view_bits
        )
        if gap < best_gap:
            best, best_gap = drawn, gap
        if gap == 0:
            break
    return best


def _outside(distance: int, low: int, high: int) -> int:
    return max(low - distance, distance - high, 0)


def draw_decoy(original_bits: Bits, anchors: Bits, generator: np.random.Generator) -> int:
    """Row of (C, K) `anchors` of a random class at least 35% of the bits from the photo's own.

    Raises GoalError when no class is that far.
    """
    distances = np.count_nonzero(anchors != original_bits, axis=1)
    far = np.flatnonzero(distances >= 0.35 * len(original_bits))
    if not len(far):
        raise GoalError(
            f"no class anchor is at least 35% of {len(original_bits)} bits from this photo's code (the farthest is "
            f"{int(distances.max())} bits away); use --goal away"
        )
    return int(generator.choice(far))


def nearest_class(original_bits: Bits, anchors: Bits) -> int:
    """Row of (C, K) `anchors` nearest to the (K,) bits; the first of equals."""
    return int(np.count_nonzero(anchors != original_bits, axis=1).argmin())
