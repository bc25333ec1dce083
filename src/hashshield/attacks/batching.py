"""How a batch is shared out: over processor cores, and within what fits a device's memory."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

import torch
from torch import Tensor, nn

from hashshield.models.device import release_cache

__all__ = [
    "MICRO_BATCH",
    "AdaptiveBatcher",
    "ByteSemaphore",
    "cpu_workers",
    "fitting",
    "on_processor",
    "step_bytes",
]

MICRO_BATCH = 2
"""Photos a lane takes at once: a step of eight together is not quicker per photo on a processor core, and holds four
times the activations (measured: 50 MB a photo, EfficientNet-Lite0)."""

_LEAST = 2
"""Photos at once on a processor of one or two cores. More are hardly quicker (six photos on two busy cores, twice
each: 29.5 s of processor time two at once, 28.2 eight at once), and an interruption loses, or waits for, as many."""
_MOST = 64
"""Photos at once on any device; decoded photos wait in the memory of the host meanwhile."""
_SHARE = 0.7
"""Of the free memory; the rest is for hashing and for what the allocator cannot use."""
_OVER = 2
"""Times what a step keeps that it holds at its peak: gradients on their way down, and room of the kernels."""

T = TypeVar("T")
R = TypeVar("R")


def on_processor(cores: int) -> int:
    """Photos to search at once on so many processor cores: one each, and at least two, one of which may be written."""
    return min(max(cores, _LEAST), _MOST)


def fitting(free: int, each: int) -> int:
    """Photos to search at once on a device with `free` bytes when a step keeps `each` for one.

    Never less than one: whether that fits is found out by trying, and `AdaptiveBatcher` halves what does not.
    """
    return min(max(int(free * _SHARE) // (each * _OVER), 1), _MOST)


def step_bytes(network: nn.Module, side: int, device: torch.device) -> int:
    """Bytes that one photo's forward pass keeps for the gradient to its (1, 3, side, side) input, weights apart."""
    weights = {tensor.untyped_storage().data_ptr() for tensor in (*network.parameters(), *network.buffers())}
    min_margin: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        # Held until all is counted: what is let go may have its place taken by another, and count for nothing.
        min_margin[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    image = torch.zeros(1, 3, side, side, device=device, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        network(image)
    return sum(tensor.untyped_storage().nbytes() for place, tensor in min_margin.items() if place not in weights)


@contextmanager
def cpu_workers(count: int) -> Iterator[Executor | None]:
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
class AdaptiveBatcher:
    """A batch size that halves when the device runs out of memory, and stays halved."""

    size: int
    cpu_workers: int = 1
    pool: Executor | None = None
    micro_batch: int = MICRO_BATCH
    """Photos a lane takes at once."""

    def map(self, items: Sequence[T], work: Callable[[Sequence[T]], Sequence[R]]) -> list[R]:
        """Apply `work` to `items` in pieces, side by side where there are lanes; results in order.

        How items are put together depends on their number only, so results can be repeated. Raises
        torch.OutOfMemoryError when not even one item fits.
        """
        if self.pool is not None and len(items) > 1:
            # Whichever lane is free takes the next piece, since those that write photos take a core now and then.
            done = self.pool.map(work, _even(items, self.micro_batch, self.cpu_workers))
            return [result for micro_batch in done for result in micro_batch]
        results: list[R] = []
        while len(results) < len(items):
            micro_batch = items[len(results) : len(results) + self.size]
            try:
                results += work(micro_batch)
                continue
            except torch.OutOfMemoryError:
                if len(micro_batch) == 1:
                    raise
                self.size = len(micro_batch) // 2
            release_cache()
        return results


def _even(items: Sequence[T], most: int, cpu_workers: int) -> list[Sequence[T]]:
    """Pieces of at most that many, larger ones first, so many that each lane gets as many as the others."""
    count = min(cpu_workers * -(-len(items) // (most * cpu_workers)), len(items))
    least, larger = divmod(len(items), count)
    ends = [least * n + min(n, larger) for n in range(count + 1)]
    return [items[first:last] for first, last in pairwise(ends)]


class ByteSemaphore:
    """Admit threads while what they hold together fits into `size` bytes; one that needs more runs alone."""

    def __init__(self, size: int) -> None:
        self._size = self._free = size
        self._changed = threading.Condition()

    @contextmanager
    def held(self, size: int) -> Iterator[None]:
        """Wait for room for `size` bytes, and keep it meanwhile; a thread that is inside must not ask again."""
        size = min(size, self._size)
        with self._changed:
            self._changed.wait_for(lambda: self._free >= size)
            self._free -= size
        try:
            yield
        finally:
            with self._changed:
                self._free += size
                self._changed.notify_all()
