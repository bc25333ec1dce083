from __future__ import annotations

import math

import pytest
import torch

from hashshield.training.learner import pairwise_likelihood, quantisation


def term(similar: bool, theta: float) -> float:
    """DPSH, equation 2, one pair: -(s * theta - log(1 + e^theta))."""
    return math.log(1 + math.exp(theta)) - (theta if similar else 0.0)


CODE = torch.tensor([[1.0, 2.0], [0.5, -1.0]], dtype=torch.float64)
OTHER = torch.tensor([[2.0, 0.0], [-1.0, 1.0], [0.0, 3.0]], dtype=torch.float64)
SIMILAR = torch.tensor([[True, False, False], [False, False, True]])
THETA = [[1.0, 0.5, 3.0], [0.5, -0.75, -1.5]]


def terms(similar: bool) -> list[float]:
    return [term(similar, THETA[i][j]) for i in range(2) for j in range(3) if bool(SIMILAR[i, j]) is similar]


def test_pairs_as_they_come() -> None:
    expected = (sum(terms(True)) + sum(terms(False))) / 6
    assert float(pairwise_likelihood(CODE, OTHER, SIMILAR, positive_share=None)) == pytest.approx(expected)


@pytest.mark.parametrize("share", [0.25, 0.5])
def test_similar_pairs_carry_their_share(share: float) -> None:
    expected = share * sum(terms(True)) / 2 + (1 - share) * sum(terms(False)) / 4
    assert float(pairwise_likelihood(CODE, OTHER, SIMILAR, positive_share=share)) == pytest.approx(expected)


@pytest.mark.parametrize("similar", [True, False])
def test_a_batch_of_one_kind_has_no_share_to_give(similar: bool) -> None:
    one_kind = torch.full((2, 3), similar)
    expected = sum(term(similar, theta) for row in THETA for theta in row) / 6
    assert float(pairwise_likelihood(CODE, OTHER, one_kind, positive_share=0.5)) == pytest.approx(expected)


def test_large_products_do_not_overflow() -> None:
    code = torch.tensor([[1e4, 1e4]])
    assert float(pairwise_likelihood(code, code, torch.tensor([[False]]), positive_share=None)) == pytest.approx(1e8)
    assert float(pairwise_likelihood(code, code, torch.tensor([[True]]), positive_share=None)) == 0.0


def test_quantisation_is_the_squared_distance_to_the_bits() -> None:
    assert float(quantisation(torch.tensor([[0.5, -2.0], [0.0, 1.0]]))) == pytest.approx((0.25 + 1 + 1 + 0) / 4)


def test_gradients_bring_similar_codes_together() -> None:
    code = torch.tensor([[1.0, 0.1], [-0.1, 1.0]], dtype=torch.float64, requires_grad=True)
    similar = torch.eye(2, dtype=torch.bool) | True
    (gradient,) = torch.autograd.grad(pairwise_likelihood(code, code, similar, positive_share=0.5), code)
    moved = (code - 0.5 * gradient).detach()
    assert float(moved[0] @ moved[1]) > float((code[0] @ code[1]).detach())
