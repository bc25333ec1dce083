"""Losses of the field, per photo and pure: relaxed code (N, K) and wanted bits (N, K) in {-1, +1} -> (N,)."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = [
    "certainty_gap",
    "feature_similarity",
    "hag",
    "inner_product",
    "margin",
    "relaxation_norm",
    "signs",
    "tanh_product",
]


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
    """HAG's objective (Yang et al. 2020) towards `wanted`: (<tanh(alpha code), wanted> / m - 1)^2 over unmet bits.

    Bits whose relaxed value is within 0.5 of the wanted one are masked out; m counts the others.
    """
    relaxed = torch.tanh(alpha[:, None] * code)
    unmet = ((relaxed - wanted).abs() > 0.5).to(code.dtype)
    count = unmet.sum(1).clamp_min(1.0)
    return ((relaxed * wanted * unmet).sum(1) / count - 1).square() * (unmet.sum(1) > 0)


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
