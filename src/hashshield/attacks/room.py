"""How a batch is shared out: over processor cores, and within what fits a device's memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch

__all__ = ["PIECE", "Room", "lanes"]

PIECE = 2
"""Photos a lane takes at once: a step of eight together is not quicker per photo on a processor core, and holds four
times the activations (measured: 50 MB a photo, EfficientNet-Lite0)."""

T = TypeVar("T")
R = TypeVar("R")


@contextmanager
def lanes(count: int) -> Iterator[Executor | None]:
    """Threads that compute side by side, one core each; None for a single one.

    Sharing a batch out costs one meeting a step. Splitting each operation over the cores, torch's way, costs one
    meeting an operation: when anything else runs on the machine, cores then mostly wait for each other (measured: three
    times as long on two busy cores).
    """
    if count <= 1:
        yield None
        return
    with ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        yield pool


@dataclass
class Room:
    """A batch size that halves when the device runs out of memory, and stays halved."""

    size: int
    lanes: int = 1
    pool: Executor | None = None
    piece: int = PIECE
    """Photos a lane takes at once."""

    def share(self, items: Sequence[T], work: Callable[[Sequence[T]], Sequence[R]]) -> list[R]:
        """Apply `work` to `items` in pieces, side by side where there are lanes; results in order.

        How items are put together depends on their number only, so results can be repeated. Raises
        torch.OutOfMemoryError when not even one item fits.
        """
        if self.pool is not None and len(items) > 1:

            def lane(share: Sequence[T]) -> list[R]:
                return [result for piece in _pieces(share, self.piece) for result in work(piece)]

            shares = _pieces(items, -(-len(items) // self.lanes))
            return [result for share in self.pool.map(lane, shares) for result in share]
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


def _pieces(items: Sequence[T], size: int) -> list[Sequence[T]]:
    return [items[first : first + size] for first in range(0, len(items), size)]
