"""Losses of pairwise deep hashing; pure functions of codes and labels."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import softplus

__all__ = ["pairwise_likelihood", "quantisation"]


def pairwise_likelihood(code: Tensor, other: Tensor, similar: Tensor, *, positive_share: float | None = 0.5) -> Tensor:
    """Negative log-likelihood of pairwise labels (DPSH, Li et al. 2016, equation 2), a scalar.

    `code` (N, K) and `other` (M, K) are relaxed, `similar` (N, M) is bool: -sum(s * theta - log(1 + e^theta)) with
    theta = <u, v> / 2, here a mean. Similar pairs are about 1% of all; `positive_share` weights them so that they
    carry that share of the loss (None: as they come).
    """
    theta = code @ other.T / 2
    loss = softplus(theta) - similar * theta
    if positive_share is None or not bool(similar.any()) or bool(similar.all()):
        return loss.mean()
    return positive_share * loss[similar].mean() + (1 - positive_share) * loss[~similar].mean()


def quantisation(code: Tensor) -> Tensor:
    """Mean squared distance of a relaxed code to its bits (DPSH, equation 4), a scalar."""
    return (code - torch.where(code > 0, 1.0, -1.0)).square().mean()
