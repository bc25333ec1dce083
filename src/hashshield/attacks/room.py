"""How many photos fit a device at once, learnt by running out of memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch

__all__ = ["Room"]

T = TypeVar("T")
R = TypeVar("R")


@dataclass
class Room:
    """A batch size that halves when the device runs out of memory, and stays halved."""

    size: int

    def share(self, items: Sequence[T], work: Callable[[Sequence[T]], list[R]]) -> list[R]:
        """Apply `work` to `items` in pieces that fit; results in order.

        Raises torch.OutOfMemoryError when not even one item fits.
        """
        results: list[R] = []
        while len(results) < len(items):
            piece = items[len(results) : len(results) + self.size]
            try:
                results += work(piece)
            except torch.OutOfMemoryError:
                if len(piece) == 1:
                    raise
                self.size = len(piece) // 2
                if torch.cuda.is_available():
                    torch.cuda.empty_cache()
        return results
