"""Banded matrices: resampling touches neighbours only, and a dense product cost a fifth of a gradient step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

__all__ = ["Band", "resampled"]


@dataclass(frozen=True, slots=True, eq=False)
class Band:
    """A square matrix by its diagonals, and its transpose."""

    offsets: tuple[int, ...]
    weights: Tensor
    """(D, n): element (i, i + offset) in column i, zero outside the matrix."""
    transposed: Tensor
    """The same of the transpose."""

    @classmethod
    def of(cls, matrix: Tensor) -> Band:
        """The diagonals of a (n, n) matrix that hold anything, in it or in its transpose."""
        places = matrix.nonzero()
        found = set((places[:, 1] - places[:, 0]).tolist())
        offsets = tuple(sorted(found | {-offset for offset in found}))
        return cls(offsets, _diagonals(matrix, offsets), _diagonals(matrix.T, offsets))

    @classmethod
    def of_diagonals(cls, diagonals: Mapping[int, Tensor]) -> Band:
        """The same from the diagonals, each (n,): element (i, i + offset) at i, zero outside the matrix."""
        offsets = tuple(sorted({*diagonals, *(-offset for offset in diagonals)}))
        none = torch.zeros_like(next(iter(diagonals.values())))
        rows = [diagonals.get(offset, none) for offset in offsets]
        # Element (i, i + offset) of the transpose is (i + offset, i) of the matrix.
        turned = [diagonals.get(-offset, none).roll(-offset) for offset in offsets]
        return cls(offsets, torch.stack(rows), torch.stack(turned))

    def to(self, device: torch.device | str) -> Band:
        """The same on another device."""
        return Band(self.offsets, self.weights.to(device), self.transposed.to(device))


def _diagonals(matrix: Tensor, offsets: tuple[int, ...]) -> Tensor:
    weights = matrix.new_zeros(len(offsets), len(matrix))
    for row, offset in zip(weights, offsets, strict=True):
        first, count = max(0, -offset), len(matrix) - abs(offset)
        row[first : first + count] = torch.diagonal(matrix, offset)
    return weights


def _product(x: Tensor, offsets: tuple[int, ...], weights: Tensor, *, dim: int) -> Tensor:
    """Matrix times `x` along `dim`."""
    size = x.shape[dim]
    shape = [size if i == dim else 1 for i in range(x.ndim)]
    factors = {offset: row.view(shape) for offset, row in zip(offsets, weights, strict=True)}
    # The main diagonal starts the sum: one pass over memory less than from zeros.
    out: Tensor = x * factors.pop(0, x.new_zeros(shape))
    for offset, row in factors.items():
        first, count = max(0, -offset), size - abs(offset)
        out.narrow(dim, first, count).addcmul_(x.narrow(dim, first + offset, count), row.narrow(dim, first, count))
    return out


class _Resampled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, image: Tensor, rows: Band, columns: Band) -> Tensor:
        ctx.bands = rows, columns
        tall = _product(image, rows.offsets, rows.weights, dim=1)
        return _product(tall, columns.offsets, columns.weights, dim=2)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        rows, columns = ctx.bands
        wide = _product(gradients[0].contiguous(), columns.offsets, columns.transposed, dim=2)
        return _product(wide, rows.offsets, rows.transposed, dim=1), None, None


def resampled(image: Tensor, rows: Band, columns: Band) -> Tensor:
    """Rows @ image @ columns.T for a (C, h, w) image, with its gradient."""
    found: Tensor = _Resampled.apply(image, rows, columns)
    return found
