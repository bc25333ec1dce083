"""Objectives: the code each network should give each photo, the losses that measure the way, and what a step sees.

Losses are pure and per photo: relaxed code (N, K) and wanted bits (N, K) in {-1, +1} -> (N,). What a step sees of each
photo is read from the device all at once, because each reading waits until the device is done.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hashshield.attacks.goals import away_band
from hashshield.types import Codes

__all__ = [
    "MARGIN_SLACK",
    "MIN_MARGIN",
    "BatchObjective",
    "LossTerm",
    "Objective",
    "Observation",
    "ViewObservation",
    "batch_objectives",
    "certainty_gap",
    "feature_similarity",
    "hag",
    "inner_product",
    "margin",
    "observed",
    "predicted_flip",
    "relaxation_norm",
    "signs",
    "tanh_product",
]


MIN_MARGIN = 0.05
"""Every margin, code x wanted bit, must be at least this for the goal to count as reached."""
MARGIN_SLACK = 0.25
"""How far beyond the kept margin the search aims, unless a method says otherwise."""

LossTerm = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""code (N, K), wanted (N, K), step numbers (N,), aimed margins (N,) -> (N,)"""


def signs(code: Tensor) -> Tensor:
    """sign(code) in {-1, +1} with sign(0) = -1; no gradient."""
    return torch.where(code > 0, 1.0, -1.0).to(code.dtype).detach()


def straight_through(code: Tensor) -> Tensor:
    """sign(code) forwards, identity backwards (paper equations 10 and 11; GreedyHash, Su et al. 2018)."""
    return code + (signs(code) - code).detach()


def margin(code: Tensor, wanted: Tensor, aimed: Tensor) -> Tensor:
    """Sum of relu(aimed - code x wanted)^2 with (N,) aimed: the squared distance to the wanted bits' orthant.

    This is the paper's relaxed norm (equation 12, p = 2) taken to the set that is wanted instead of the set that is
    nearest, so that it never holds a bit on its wrong side.
    """
    return torch.relu(aimed[:, None] - code * wanted).square().sum(1)


def inner_product(code: Tensor, wanted: Tensor) -> Tensor:
    """-<sign(code), wanted> / K with a straight-through gradient (paper equations 1 and 11)."""
    return -(straight_through(code) * wanted).mean(1)


def relaxation_norm(code: Tensor, wanted: Tensor, *, alpha: float, p: float) -> Tensor:
    """Alpha * ||code - sign(code)||_p^p - <sign(code), wanted> / K (paper equation 12).

    The paper sets the balance to 1 / K and leaves p open; p = 3 is GreedyHash's. For a wrong bit with abs(code) < 1 the
    norm pulls with p * alpha * (1 - abs(code))^(p - 1) against the 1 / K of the product: above alpha = 1 / (p K) bits
    can stick on the wrong side.
    """
    penalty = (code - signs(code)).abs().pow(p).sum(1)
    return alpha * penalty + inner_product(code, wanted)


def tanh_product(code: Tensor, wanted: Tensor, alpha: Tensor) -> Tensor:
    """-<tanh(alpha * code), wanted> / K with (N,) alpha (paper equation 2; DHTA, Bai et al. 2020)."""
    return -(torch.tanh(alpha[:, None] * code) * wanted).mean(1)


def hag(code: Tensor, wanted: Tensor, alpha: Tensor) -> Tensor:
    """HAG's objective (Yang et al. 2020) towards `wanted`: (<tanh(alpha code), wanted> / m - 1)^2 plus a balance term.

    Bits whose relaxed value is within 0.5 of the wanted one are masked out; m counts the others. The balance term is
    the squared mean over all K bits of the relaxed code with the masked ones at 0.
    """
    relaxed = torch.tanh(alpha[:, None] * code)
    unmet = ((relaxed - wanted).abs() > 0.5).to(code.dtype)
    count = unmet.sum(1).clamp_min(1.0)
    towards = ((relaxed * wanted * unmet).sum(1) / count - 1).square() * (unmet.sum(1) > 0)
    return towards + (relaxed * unmet).mean(1).square()


def feature_similarity(features: Tensor, original: Tensor) -> Tensor:
    """Cosine of (N, D) features and the original's, -1 to 1."""
    return torch.nn.functional.cosine_similarity(features, original, dim=1)


def certainty_gap(margins: Tensor, flipped: Tensor) -> Tensor:
    """How far (N, K) margins give away which bits were `turned` ((N, K) bool): a squared distance per photo, (N,).

    The margins of turned bits and those of the others are sorted and held against each other, least certain first (the
    2-Wasserstein distance of the two distributions). At zero a service that turns the least certain bits over, any
    number of them, meets turned and kept ones alike. A bit that one side has more than the other is left out.
    """
    infinite = torch.full_like(margins, torch.inf)
    sides = [torch.where(mask, margins, infinite).sort(1).values for mask in (flipped, ~flipped)]
    paired = torch.isfinite(sides[0]) & torch.isfinite(sides[1])
    one, other = (torch.where(paired, side, torch.zeros_like(side)) for side in sides)
    return (one - other).square().sum(1)


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
    leaves: bool
    """True if `leaving` is not all zeros; known without asking the device, as is the next."""
    hides: bool
    """True if `hiding` is not all zeros."""
    aimed: Tensor
    """(N,) margins that the search aims for, a little beyond those that are kept."""
    undecided: Tensor
    """(N,): the term where every value of the code is 0, which is the same at every step."""

    def observe(self, codes: Codes, /) -> ViewObservation:
        """Return what a step wants to know of the codes, with what its parts have in common computed once."""
        term, missed = self._term(codes.code), self.missed_bits(codes)
        return ViewObservation(
            self._loss(term, missed == 0, codes), missed, self.leaked_bits(codes), term / self.undecided
        )

    def loss(self, codes: Codes, /) -> Tensor:
        """(N,): the method's term, and where the aim wants that, feature cosine and certainty gap.

        The gap counts once every margin is kept: before that it would only hold bits back.
        """
        return self._loss(self._term(codes.code), self.reached(codes), codes)

    def reached(self, codes: Codes, /) -> Tensor:
        """(N,) bool: every margin, but for those to spare, is at least the kept one."""
        return self.missed_bits(codes) == 0

    def missed_bits(self, codes: Codes, /) -> Tensor:
        """(N,): margins below the kept one, beyond those that may be."""
        return ((codes.code * self.bits < self.min_margin[:, None]).sum(1) - self.allowed_misses).clamp_min(0)

    def residual(self, codes: Codes, /) -> Tensor:
        """(N,): the method's term as a share of what it would be if every bit were undecided; 1 is no better."""
        return self._term(codes.code) / self.undecided

    def leaked_bits(self, codes: Codes, /) -> Tensor:
        """(N,): by how many bits turning the less certain half over leads nearer to the own code than chance does.

        Chance is half of the bits, not the band's lower end: the smallest change is found at the end it is held to.
        """
        if not self.hides:
            return torch.zeros_like(self.allowed_misses)
        length = self.bits.shape[1]
        distance = (predicted_flip(codes.code) != self.original_bits).sum(1)
        outside = (-(-length // 2) - distance).clamp_min(0) + (distance - away_band(length)[1]).clamp_min(0)
        return outside * (self.hiding != 0)

    def _term(self, code: Tensor) -> Tensor:
        return self.term(code, self.bits, self.steps, self.aimed)

    def _loss(self, term: Tensor, reached: Tensor, codes: Codes) -> Tensor:
        loss = term
        if self.leaves:
            loss = loss + self.leaving * feature_similarity(codes.features, self.features)
        if self.hides:
            gap = certainty_gap(codes.code * self.bits, self.bits != self.original_bits)
            loss = loss + self.hiding * reached * gap
        return loss


class ViewObservation(NamedTuple):
    """What one step sees of a batch through one network; see `BatchObjective`."""

    loss: Tensor
    """(N,)"""
    missed_bits: Tensor
    """(N,)"""
    leaked_bits: Tensor
    """(N,)"""
    residual: Tensor
    """(N,)"""


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
    together = _together(tuple(objectives), term, feature_weight, certainty_weight, margin_slack)
    return BatchObjective(term=term, steps=steps, **together)


@lru_cache(maxsize=32)
def _together(
    objectives: tuple[Objective, ...],
    term: LossTerm,
    feature_weight: float,
    certainty_weight: float,
    margin_slack: float,
) -> dict[str, Any]:
    """What of a batch's objective stays the same from step to step.

    Kept, because it takes a dozen operators, some of which copy to the device.
    """
    wanted = torch.stack([objective.wanted for objective in objectives])
    nothing = wanted.new_zeros(0)

    def there(values: Sequence[float]) -> Tensor:
        return torch.tensor(values, dtype=wanted.dtype).to(wanted.device, non_blocking=True)

    present = next(
        (objective.original_features for objective in objectives if objective.original_features is not None), nothing
    )
    leaving = [0.0 if objective.original_features is None else feature_weight for objective in objectives]
    hiding = [0.0 if objective.original_bits is None else certainty_weight for objective in objectives]
    features = [present if o.original_features is None else o.original_features for o in objectives]
    min_margin = there([objective.min_margin for objective in objectives])
    aimed = min_margin + margin_slack
    original_bits = [o.wanted if o.original_bits is None else o.original_bits for o in objectives]
    return {
        "bits": wanted,
        "min_margin": min_margin,
        "aimed": aimed,
        "undecided": term(torch.zeros_like(wanted), wanted, torch.zeros_like(min_margin).long(), aimed),
        "features": torch.stack(features),
        "leaving": there(leaving),
        "original_bits": torch.stack(original_bits),
        "hiding": there(hiding),
        "allowed_misses": there([objective.allowed_misses for objective in objectives]),
        "leaves": any(leaving),
        "hides": any(hiding),
    }


def predicted_flip(code: Tensor) -> Tensor:
    """(N, K) relaxed -> its bits with the less certain half turned over: a service's guess at the code from before."""
    least = code.abs().argsort(1)[:, : code.shape[1] // 2]
    bits = signs(code)
    return bits.scatter(1, least, -bits.gather(1, least))


class Observation(NamedTuple):
    """What one look sees of one photo."""

    loss: float
    missed_bits: int
    """Bits that miss their margin, beyond those that may, in all network views."""
    leaked_bits: int
    """Bits by which the codes give the original away; see `BatchObjective.leaked_bits`."""
    residual: float
    """The loss as a share of that of undecided bits, in the view where it is largest."""
    as_it_is: bool = True
    """It saw the photo without a transform."""
    pending: Sequence[float] = ()
    """The further numbers that were asked for."""


def observed(
    views: Sequence[ViewObservation], as_it_is: Sequence[bool], pending: Sequence[Sequence[Tensor]], *, exact: bool
) -> tuple[Tensor, list[Observation]]:
    """Return the (N,) losses, summed over network views, and what was seen of each photo.

    `as_it_is` says of each photo whether it was seen without a transform. `pending` are further 0-dim tensors to read,
    as many for each photo. What is not `exact` misses at least one bit.
    """
    loss, missed, leaked, residual = (torch.stack(each) for each in zip(*views, strict=True))
    losses = loss.sum(0)
    dtype = losses.dtype
    columns = [losses.detach(), missed.sum(0).to(dtype), leaked.sum(0).to(dtype), residual.detach().amax(0)]
    table = torch.stack(columns, 1)
    if pending[0]:
        further = torch.stack([number for numbers in pending for number in numbers]).to(dtype)
        table = torch.cat([table, further.view(len(pending), -1)], 1)
    rows: list[list[float]] = table.tolist()
    return losses, [
        Observation(loss, max(int(missed), 0 if exact else 1), int(leaked), residual, plain, further)
        for plain, (loss, missed, leaked, residual, *further) in zip(as_it_is, rows, strict=True)
    ]
