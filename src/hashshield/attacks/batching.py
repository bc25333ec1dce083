"""Share a batch out over CPU cores, and keep it within a device's memory."""

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
"""Photos per task of a CPU thread. Eight per step are no faster per photo on one core than two, and hold four times the
activations (measured: 50 MB per photo, EfficientNet-Lite0)."""

_LEAST = 2
"""Batch size on one or two cores. Larger batches are hardly faster (six photos on two busy cores, twice each: 29.5 s of
CPU time with two at once, 28.2 with eight), and an interruption loses, or waits for, a whole batch."""
_MOST = 64
"""Largest batch on any device, because decoded photos wait in host memory."""
_SHARE = 0.7
"""Share of the free memory to use; the rest is for hashing and for what the allocator cannot use."""
_OVER = 2
"""Peak memory of a step, as a multiple of what it keeps for the gradient: gradients and workspace of the kernels."""

T = TypeVar("T")
R = TypeVar("R")


def on_processor(cores: int) -> int:
    """Return the batch size for that many CPU cores: one photo per core, at least 2 and at most 64."""
    return min(max(cores, _LEAST), _MOST)


def fitting(free: int, each: int) -> int:
    """Return the batch size for a device with `free` bytes, if a step keeps `each` bytes per photo; 1 to 64.

    It is an estimate: `AdaptiveBatcher` halves a batch that does not fit.
    """
    return min(max(int(free * _SHARE) // (each * _OVER), 1), _MOST)


def step_bytes(network: nn.Module, side: int, device: torch.device) -> int:
    """Return the bytes, without weights, that a forward pass of one (1, 3, side, side) input keeps for its gradient."""
    weights = {tensor.untyped_storage().data_ptr() for tensor in (*network.parameters(), *network.buffers())}
    saved: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        # Hold each tensor until all are counted: the address of a freed one could be reused by the next.
        saved[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    image = torch.zeros(1, 3, side, side, device=device, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        network(image)
    return sum(tensor.untyped_storage().nbytes() for place, tensor in saved.items() if place not in weights)


@contextmanager
def cpu_workers(count: int) -> Iterator[Executor | None]:
    """Yield a pool of `count` threads that use one core each, or None if `count` is at most 1.

    Sharing a batch out synchronises the threads once per step. torch's own threads split every operation and
    synchronise once per operation, so on a machine that runs anything else they mostly wait for each other (measured:
    three times as long on two busy cores).
    """
    if count <= 1:
        yield None
        return
    with ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        yield pool


@dataclass
class AdaptiveBatcher:
    """Run work in batches whose size is halved, for good, whenever the device runs out of memory."""

    size: int
    cpu_workers: int = 1
    pool: Executor | None = None
    """Threads that share a batch, from `cpu_workers`; None: no threads."""
    micro_batch: int = MICRO_BATCH
    """Photos per task of a CPU thread."""

    def map(self, items: Sequence[T], work: Callable[[Sequence[T]], Sequence[R]]) -> list[R]:
        """Apply `work` to `items` in batches, in parallel if there is a pool; return the results in order.

        With a pool, batches depend only on the number of items, so results are reproducible. Raises
        torch.OutOfMemoryError if not even one item fits.
        """
        if self.pool is not None and len(items) > 1:
            # Any free thread takes the next batch, because threads that encode photos occupy a core now and then.
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
    """Split `items` into batches of at most `most`, larger ones first, the same number for each worker if possible."""
    count = min(cpu_workers * -(-len(items) // (most * cpu_workers)), len(items))
    least, larger = divmod(len(items), count)
    ends = [least * n + min(n, larger) for n in range(count + 1)]
    return [items[first:last] for first, last in pairwise(ends)]


class ByteSemaphore:
    """Admit threads as long as they hold at most `size` bytes together; one that needs more runs alone."""

    def __init__(self, size: int) -> None:
        self._size = self._free = size
        self._changed = threading.Condition()

    @contextmanager
    def held(self, size: int) -> Iterator[None]:
        """Wait for `size` free bytes and hold them inside the context; not reentrant: a thread must not nest it."""
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
