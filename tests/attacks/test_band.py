from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hashshield.attacks.grid import Band, resampled


def banded(size: int, reach: int, seed: int) -> Tensor:
    dense = torch.randn(size, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    index = torch.arange(size)
    return dense * ((index[:, None] - index).abs() <= reach)


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 12), st.integers(2, 12), st.integers(0, 13), st.integers(0, 13), st.integers(0, 99))
def test_the_product_and_its_gradient_are_those_of_the_dense_matrices(
    height: int, width: int, tall: int, wide: int, seed: int
) -> None:
    rows, columns = banded(height, tall, seed), banded(width, wide, seed + 1)
    image = torch.randn(3, height, width, dtype=torch.float64).requires_grad_()
    weight = torch.randn(3, height, width, dtype=torch.float64)
    dense = rows @ image @ columns.T
    found = resampled(image, Band.of(rows), Band.of(columns))
    assert torch.allclose(found, dense)
    gradients = [torch.autograd.grad((out * weight).sum(), image)[0] for out in (found, dense)]
    assert torch.allclose(*gradients)


def test_only_diagonals_that_hold_anything_are_kept() -> None:
    assert Band.of(banded(9, 1, 0)).offsets == (-1, 0, 1)
    assert Band.of(torch.eye(5)).offsets == (0,)


def test_a_lopsided_matrix_has_a_transpose_too() -> None:
    lopsided, image = torch.eye(4).roll(1, 0).tril(), torch.rand(1, 4, 4)
    band = Band.of(lopsided)
    assert band.offsets == (-1, 1)
    assert torch.equal(resampled(image, band, band), lopsided @ image @ lopsided.T)
