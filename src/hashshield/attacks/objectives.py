"""Objectives: the bits each network should give each photo, the losses towards them, and what a step observes.

Losses are pure functions: relaxed code (N, K) and target bits `wanted` (N, K) in {-1, +1} -> one loss per photo (N,).
The numbers a step needs are read from the device in one go, because each read waits for the device.
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
"""Default least margin: the goal is reached when every margin, code x target bit, is at least this."""
MARGIN_SLACK = 0.25
"""How far beyond the least margin the loss pulls, unless a method says otherwise."""

LossTerm = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""code (N, K), target bits (N, K), step numbers (N,), aimed margins (N,) -> losses (N,)"""


def signs(code: Tensor) -> Tensor:
    """Return sign(code) in {-1, +1}, with sign(0) = -1, detached from the graph."""
    return torch.where(code > 0, 1.0, -1.0).to(code.dtype).detach()


def straight_through(code: Tensor) -> Tensor:
    """Return sign(code) with the identity as gradient (paper equations 10 and 11; GreedyHash, Su et al. 2018)."""
    return code + (signs(code) - code).detach()


def margin(code: Tensor, wanted: Tensor, aimed: Tensor) -> Tensor:
    """Return (N,) sums of relu(aimed - code x wanted)^2: squared distances to the codes with margins of `aimed` (N,).

    This is the paper's relaxation norm (equation 12, p = 2), taken to the target bits instead of the nearest bits, so
    it never holds a bit on the wrong side.
    """
    return torch.relu(aimed[:, None] - code * wanted).square().sum(1)


def inner_product(code: Tensor, wanted: Tensor) -> Tensor:
    """Return -<sign(code), wanted> / K, (N,) in [-1, 1], with a straight-through gradient (paper equations 1, 11)."""
    return -(straight_through(code) * wanted).mean(1)


def relaxation_norm(code: Tensor, wanted: Tensor, *, alpha: float, p: float) -> Tensor:
    """Return alpha * ||code - sign(code)||_p^p - <sign(code), wanted> / K, (N,) (paper equation 12).

    The paper sets alpha to 1 / K and leaves p open; GreedyHash uses p = 3. For a wrong bit with abs(code) < 1 the norm
    pulls with p * alpha * (1 - abs(code))^(p - 1) against the 1 / K of the product, so above alpha = 1 / (p K) bits can
    get stuck on the wrong side.
    """
    penalty = (code - signs(code)).abs().pow(p).sum(1)
    return alpha * penalty + inner_product(code, wanted)


def tanh_product(code: Tensor, wanted: Tensor, alpha: Tensor) -> Tensor:
    """Return -<tanh(alpha * code), wanted> / K, (N,), with (N,) alpha (paper equation 2; DHTA, Bai et al. 2020)."""
    return -(torch.tanh(alpha[:, None] * code) * wanted).mean(1)


def hag(code: Tensor, wanted: Tensor, alpha: Tensor) -> Tensor:
    """Return HAG's loss (Yang et al. 2020), (N,): (<tanh(alpha code), wanted> / m - 1)^2 plus a balance term.

    Bits whose relaxed value is within 0.5 of the target are masked out; m counts the others. The balance term is the
    squared mean of the relaxed code over all K bits, with masked bits as 0.
    """
    relaxed = torch.tanh(alpha[:, None] * code)
    unmet = ((relaxed - wanted).abs() > 0.5).to(code.dtype)
    count = unmet.sum(1).clamp_min(1.0)
    towards = ((relaxed * wanted * unmet).sum(1) / count - 1).square() * (unmet.sum(1) > 0)
    return towards + (relaxed * unmet).mean(1).square()


def feature_similarity(features: Tensor, original: Tensor) -> Tensor:
    """Return the cosines, (N,) in [-1, 1], of (N, D) features and the originals' (N, D) features."""
    return torch.nn.functional.cosine_similarity(features, original, dim=1)


def certainty_gap(margins: Tensor, flipped: Tensor) -> Tensor:
    """Return how far the (N, K) margins give away which bits were `flipped`, (N, K) bool: a squared distance, (N,).

    The margins of flipped bits and of the others are sorted and compared pairwise, smallest first: the squared
    2-Wasserstein distance of the two sets, times the number of pairs. At 0, however many of the least certain bits a
    service flips, it hits flipped and kept bits alike. Surplus bits of the larger set are ignored.
    """
    infinite = torch.full_like(margins, torch.inf)
    sides = [torch.where(mask, margins, infinite).sort(1).values for mask in (flipped, ~flipped)]
    paired = torch.isfinite(sides[0]) & torch.isfinite(sides[1])
    one, other = (torch.where(paired, side, torch.zeros_like(side)) for side in sides)
    return (one - other).square().sum(1)


@dataclass(frozen=True, slots=True, eq=False)
class Objective:
    """What one network view should return for one photo."""

    wanted: Tensor
    """(K,) target bits in {-1, +1}."""
    original_features: Tensor | None = None
    """(D,) features of the original, if the photo's should move away from them; None if only bits matter."""
    original_bits: Tensor | None = None
    """(K,) bits of the original, if the code must not give away which were flipped; None if it may."""
    min_margin: float = MIN_MARGIN
    allowed_misses: int = 0
    """Bits that may be below `min_margin` in one observation."""

    def to(self, device: torch.device | str) -> Objective:
        """Return the objective on another device."""
        features, original_bits = (
            None if t is None else t.to(device) for t in (self.original_features, self.original_bits)
        )
        return Objective(self.wanted.to(device), features, original_bits, self.min_margin, self.allowed_misses)


@dataclass(frozen=True, slots=True, eq=False)
class BatchObjective:
    """The objectives of N photos on one network view, as tensors."""

    bits: Tensor
    """(N, K) target bits."""
    min_margin: Tensor
    """(N,) least margins."""
    term: LossTerm
    steps: Tensor
    """(N,) step numbers."""
    features: Tensor
    """(N, D) features of the originals."""
    leaving: Tensor
    """(N,) weights of the cosine to `features`; 0 for objectives without original features."""
    original_bits: Tensor
    """(N, K)"""
    hiding: Tensor
    """(N,) weights of the certainty gap; 0 for objectives without original bits."""
    allowed_misses: Tensor
    """(N,) bits that may be below the least margin."""
    leaves: bool
    """True if `leaving` is not all zeros; stored, so that nothing has to be read from the device."""
    hides: bool
    """True if `hiding` is not all zeros; stored for the same reason."""
    aimed: Tensor
    """(N,) margins that the loss pulls towards: `min_margin` plus the slack."""
    undecided: Tensor
    """(N,) values of `term` at a code of zeros and step 0."""

    def observe(self, codes: Codes, /) -> ViewObservation:
        """Return loss, missed bits, leaked bits and residual of the codes; each is also a method of its own."""
        term, missed = self._term(codes.code), self.missed_bits(codes)
        return ViewObservation(
            self._loss(term, missed == 0, codes), missed, self.leaked_bits(codes), term / self.undecided
        )

    def loss(self, codes: Codes, /) -> Tensor:
        """Return the (N,) losses: the method's term, plus weighted feature cosine and certainty gap.

        The gap counts only once every margin is reached; before that it would hold bits back.
        """
        return self._loss(self._term(codes.code), self.reached(codes), codes)

    def reached(self, codes: Codes, /) -> Tensor:
        """Return (N,) bool: whether all margins but the allowed misses are at least the least margin."""
        return self.missed_bits(codes) == 0

    def missed_bits(self, codes: Codes, /) -> Tensor:
        """Return (N,) numbers of margins below the least margin, in excess of the allowed misses."""
        return ((codes.code * self.bits < self.min_margin[:, None]).sum(1) - self.allowed_misses).clamp_min(0)

    def residual(self, codes: Codes, /) -> Tensor:
        """Return (N,) values of the method's term, relative to a code of undecided bits; 1 means no progress."""
        return self._term(codes.code) / self.undecided

    def leaked_bits(self, codes: Codes, /) -> Tensor:
        """Return (N,) leaked bits: how much nearer than chance flipping the less certain half gets to the old code.

        Distances above the band count as well. Chance is K / 2, not the band's lower end, because the smallest change
        ends at whichever bound it is given.
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
    """What one step observes of N photos on one network view; every field is (N,). See `BatchObjective`."""

    loss: Tensor
    missed_bits: Tensor
    leaked_bits: Tensor
    residual: Tensor


def batch_objectives(
    objectives: Sequence[Objective],
    term: LossTerm,
    steps: Tensor,
    *,
    feature_weight: float,
    certainty_weight: float,
    margin_slack: float = MARGIN_SLACK,
) -> BatchObjective:
    """Return the objectives of a batch on one network view as one; `steps` are the photos' (N,) step numbers.

    `feature_weight` and `certainty_weight` apply to objectives with original features or bits. `margin_slack` is how
    far beyond each least margin the loss pulls.
    """
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
    """Return the fields of `BatchObjective` that stay the same from step to step.

    Cached, because computing them takes a dozen operators, some of which copy to the device.
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
    """Return the bits of an (N, K) code with the less certain half flipped: a service's guess at the old code."""
    least = code.abs().argsort(1)[:, : code.shape[1] // 2]
    bits = signs(code)
    return bits.scatter(1, least, -bits.gather(1, least))


class Observation(NamedTuple):
    """What one step observes of one photo on all network views."""

    loss: float
    """Summed over network views."""
    missed_bits: int
    """Missed bits beyond the allowed ones, summed over network views."""
    leaked_bits: int
    """Leaked bits, summed over network views; see `BatchObjective.leaked_bits`."""
    residual: float
    """The largest residual of any network view."""
    as_it_is: bool = True
    """True if the photo was observed without a transform."""
    pending: Sequence[float] = ()
    """The values of the photo's `pending` tensors."""


def observed(
    views: Sequence[ViewObservation], as_it_is: Sequence[bool], pending: Sequence[Sequence[Tensor]], *, exact: bool
) -> tuple[Tensor, list[Observation]]:
    """Return the (N,) losses, summed over network views, and each photo's observation.

    `as_it_is` says for each photo whether it was observed without a transform. `pending` holds further 0-dim tensors to
    read in the same transfer, the same number for each photo. `exact` is False for low precision: such an observation
    counts at least one missed bit, so that it never meets the goal.
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
