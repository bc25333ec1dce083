"""Turn photos' bytes into protected bytes and receipts. Nothing here touches a file.

A pool of threads decodes, encodes and, on the CPU, hashes photos, one core per thread, so that the search need not wait
for it. The calling thread runs the search (`attacks.search`), and on a GPU every network.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from hashshield.attacks.batching import ByteSemaphore, on_processor
from hashshield.attacks.search import Execution, search
from hashshield.attacks.state import SearchResult, SearchTask
from hashshield.boundary import boundary, never
from hashshield.errors import HashshieldError
from hashshield.models.device import memory_errors, release_cache, return_freed_memory
from hashshield.pipeline.aim import HashedAhead, search_task, set_objectives, waiting_tasks
from hashshield.pipeline.receipt import WrittenPhoto, build_receipt, lowered
from hashshield.pipeline.task import (
    ProtectContext,
    Result,
    Source,
    Task,
    prepare,
    with_writing_model,
    write,
)
from hashshield.types import Receipt

__all__ = ["ProtectContext", "Result", "Source", "work"]

_TRIES = 3

_BYTES_OF_A_THREAD = 150_000_000
"""Average bytes that a thread which decodes and encodes may hold."""
_PREPARING = 40
"""Bytes of memory to decode a byte of a file: about 7 bytes per pixel, and cameras write at least 0.2 per pixel."""
_WRITING = 16
"""Bytes of memory per pixel to write a photo and read it again."""

_LARGE = 50_000_000
"""Least size, in bytes, of an allocation whose memory is returned to the system immediately."""


def work(
    sources: Iterable[Source], context: ProtectContext, *, stopping: Callable[[], bool] = never
) -> Iterator[Result]:
    """Protect photos as they come; yield a result for each, in the order they finish.

    A photo whose written bytes miss the goal is tried again, up to three tries in all, with larger margins. One that
    meets the goal above the ceiling is written with a part of its change. If no try passes, the best bytes are returned
    with a receipt that says so. A photo that cannot be processed has a result with a `reason`.

    Once `stopping` returns True, no further photo enters the search: those in it are finished, the others get no
    result.
    """
    with (
        _one_thread_each() as threads,
        ThreadPoolExecutor(context.jobs, initializer=torch.set_num_threads, initargs=(1,)) as pool,
    ):
        photos, method, tau = _Protector(sources, context, pool, threads, stopping), context.method, context.tau
        photos.prepare_ahead()
        while photos.unfinished:
            # The search ends when no photo is waiting. Photos to be tried again start another one.
            try:
                tasks = iter(photos.next_search, None)
                for found in search(tasks, photos.networks, method, tau, photos.execution, context.surrogates):
                    photos.write_behind(found)
                    photos.collect()
                    yield from photos.drain()
                photos.release(photos.written)
                full = False
            except torch.OutOfMemoryError:
                full = True
            if full:
                photos.make_room()
            yield from photos.drain()


@contextmanager
def _one_thread_each() -> Iterator[int]:
    """Limit torch to one thread, because `attacks.batching` has threads of its own; yield the previous number."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield threads
    finally:
        torch.set_num_threads(threads)


@dataclass(frozen=True, slots=True, eq=False)
class _Written:
    """The bytes that a thread wrote, and what was measured on them."""

    data: bytes
    written_photo: WrittenPhoto
    applied: int
    """Largest change before encoding, in levels."""
    receipt: Receipt | None
    """None until the networks hashed it; on the CPU the thread does that itself."""


class _Protector:
    """Photos in progress: decoded ahead of the search, searched in batches, and written while others are searched."""

    def __init__(
        self,
        sources: Iterable[Source],
        context: ProtectContext,
        pool: ThreadPoolExecutor,
        threads: int,
        stopping: Callable[[], bool],
    ) -> None:
        self.context, self.pool, self.threads, self.stopping = context, pool, threads, stopping
        self.gate = ByteSemaphore(context.jobs * _BYTES_OF_A_THREAD)
        self.sources = iter(sources)
        self.device = context.models[0].model.mean.device
        self.networks = context.promised_views
        self.execution = context.execution
        self.prepared: deque[tuple[Source, Future[Task]]] = deque()
        self.again: deque[Task] = deque()
        self.missed: dict[int, Task] = {}
        self.written = 0
        self.writing: deque[tuple[int, Task, Future[_Written]]] = deque()
        self.results: deque[Result] = deque()
        self.searching: list[Task] = []
        self.warned = False
        self.hashed_ahead = HashedAhead()

    @property
    def unfinished(self) -> bool:
        """Whether any photo is being prepared, written or waiting for another try."""
        return bool(self.prepared or self.again or self.missed or self.writing)

    def make_room(self) -> None:
        """Go on with less memory: halve the batch, then use the CPU, then fail the photos that were in the search.

        Photos in the search start again. The search halves its own batches (`AdaptiveBatcher`), but that does not help
        if hashing, measuring or a new photo finds the device full.
        """
        tasks, self.searching = self.searching, []
        for task in tasks:
            task.seconds += time.monotonic()
        release_cache()
        if self.device.type != "cpu" and self.execution.batch_size > 1:
            self.execution = replace(self.execution, batch_size=self.execution.batch_size // 2)
        elif self.device.type != "cpu":
            self.context.notice(f"{self.device} ran out of memory with a single photo; going on with the CPU")
            self.hashed_ahead.clear()
            surrogates = (each.opened for each in self.context.surrogates)
            for opened in (*self.context.models, *surrogates, *self.context.witnesses):
                opened.model.to("cpu")
            self.device = torch.device("cpu")
            self.execution = Execution(on_processor(self.threads), cpu_workers=self.threads)
        elif self.execution.batch_size > 1:
            self.execution = Execution(batch_size=1)
        else:
            reason = "not even one photo's gradient step fits into memory; close other programs"
            self.results.extend(Result(task.source, reason=f"{task.source.name}: {reason}") for task in tasks)
            return
        self.again.extend(tasks)

    @property
    def _let_through(self) -> tuple[type[Exception], ...]:
        """Exceptions that `make_room` handles."""
        return (torch.OutOfMemoryError,) if self.device.type != "cpu" else ()

    def drain(self) -> Iterator[Result]:
        """Yield and remove the results that are ready."""
        while self.results:
            yield self.results.popleft()

    def prepare_ahead(self) -> None:
        """Submit the next photos for decoding, up to a batch plus one per thread."""
        while len(self.prepared) < self.context.execution.batch_size + self.context.jobs:
            source = next(self.sources, None)
            if source is None:
                return
            self.prepared.append((source, self.pool.submit(self._prepare, source)))

    def _prepare(self, source: Source) -> Task:
        with self._room(len(source.data) * _PREPARING):
            with boundary("decode", source.name):
                task = prepare(source, self.context)
            if self._hashing_in_threads and task.earlier is None:
                self._objective(task)
            return task

    def _write(self, task: Task, delta: Tensor) -> _Written:
        with self._room(task.pixels * _WRITING):
            written = self._written(task, delta)
            return self._lowered(task, written) if self._hashing_in_threads else written

    def _written(self, task: Task, delta: Tensor) -> _Written:
        with boundary("write", task.source.name):
            return _Written(*write(task, delta, self.context), None)

    def _lowered(self, task: Task, written: _Written) -> _Written:
        """Add the receipt; if the change is too visible, return the photo with a part of it instead, if that passes."""
        first = self._judged(task, written)
        if self.context.method.noise:
            return first
        assert task.delta is not None
        delta = task.delta
        return lowered(
            first, self.context.max_visible, lambda share: self._judged(task, self._written(task, share * delta))
        )

    @property
    def _hashing_in_threads(self) -> bool:
        return self.device.type == "cpu"

    @contextmanager
    def _room(self, size: int) -> Iterator[None]:
        with self.gate.held(size):
            yield
            if size > _LARGE:
                return_freed_memory()

    def next_search(self) -> SearchTask | None:
        """Return the next photo for the search: one to try again, else a new one, else None."""
        self.release(self.written - self.context.execution.batch_size - self.context.jobs)
        if self.stopping():
            self._drop_waiting()
        while self.again:
            task = self.again.popleft()
            try:
                return self._start(task)
            except HashshieldError as error:
                self.results.append(Result(task.source, reason=str(error), **_spent(task)))
            except torch.OutOfMemoryError:
                self.again.appendleft(task)
                raise
        while self.prepared:
            source, future = self.prepared.popleft()
            self.prepare_ahead()
            try:
                task = future.result()
                if task.earlier is not None:
                    self.results.append(
                        Result(source, earlier_result=task.earlier.digest, reoriented=task.earlier.reoriented)
                    )
                    continue
                self._warn(task)
                if not task.objectives:
                    self._hash_ahead(task)
                    self._objective(task)
                return self._start(task)
            except HashshieldError as error:
                self.results.append(Result(source, reason=str(error)))
            except torch.OutOfMemoryError:
                # The device is full before the search has begun: the photo waits until `make_room` has freed memory.
                self.prepared.appendleft((source, future))
                raise
        return None

    def _drop_waiting(self) -> None:
        """Drop the photos that are not in the search; their files are untouched."""
        self.sources = iter(())
        for _, future in self.prepared:
            future.cancel()
        self.prepared.clear()
        self.again.clear()

    def _warn(self, task: Task) -> None:
        if task.lossy_format and not self.warned:
            self.warned = True
            self.context.notice("HEIC and AVIF lose a little with each writing, also where the photo is not changed")

    def _hash_ahead(self, task: Task) -> None:
        """Hash the next photos together with this one. Errors are ignored: each photo is hashed again in its turn."""
        if not self._hashing_in_threads:
            name = task.source.name
            with suppress(HashshieldError), boundary("hash", name, passes=self._let_through), memory_errors():
                self.hashed_ahead.hash_together(waiting_tasks(task, self.prepared), self.context)

    def _objective(self, task: Task) -> None:
        with boundary("hash", task.source.name, passes=self._let_through), memory_errors(), torch.inference_mode():
            set_objectives(task, self.context, self.hashed_ahead.hash_view)

    def _start(self, task: Task) -> SearchTask:
        with boundary("aim", task.source.name, passes=self._let_through), memory_errors():
            started = search_task(task, self.context, self.device)
        task.seconds -= time.monotonic()
        self.searching.append(task)
        return started

    def write_behind(self, found: SearchResult) -> None:
        """Submit a search result for writing, or record its error."""
        task = found.key
        assert isinstance(task, Task)
        self.searching.remove(task)
        task.seconds += time.monotonic()
        task.steps += found.steps
        task.evaluations += found.evaluations
        if found.error is not None:
            self.results.append(Result(task.source, reason=str(found.error), **_spent(task)))
            return
        task.delta = found.delta.cpu()
        self.writing.append((self.written, task, self.pool.submit(self._write, task, task.delta)))
        self.written += 1

    def release(self, count: int) -> None:
        """Queue another try for those of the first `count` written photos that missed their goal.

        The moment is counted in photos instead of depending on the threads' speed, because it decides which photos
        share a batch, and with that the last bits of the result.
        """
        self.collect(until=count)
        for number in [n for n in self.missed if n < count]:
            self.again.append(self.missed.pop(number))

    def collect(self, *, until: int = 0) -> None:
        """Measure the photos that are written, waiting for the first `until`; finish each or note that it missed."""
        while self.writing and (self.writing[0][0] < until or self.writing[0][2].done()):
            number, task, future = self.writing.popleft()
            try:
                written = future.result()
                if written.receipt is None:
                    written = self._lowered(task, written)
                assert written.receipt is not None
                with boundary("aim", task.source.name):
                    self._settle(number, task, written.data, written.written_photo, written.receipt)
            except HashshieldError as error:
                self.results.append(Result(task.source, reason=str(error), **_spent(task)))
            except torch.OutOfMemoryError:
                # Measure it again after `make_room`.
                self.writing.appendleft((number, task, future))
                raise

    def _judged(self, task: Task, written: _Written) -> _Written:
        with boundary("judge", task.source.name, passes=self._let_through), memory_errors():
            return replace(written, receipt=self._receipt(task, written))

    def _receipt(self, task: Task, written: _Written) -> Receipt:
        return build_receipt(
            written.written_photo,
            task.targets,
            self.context.promised_views,
            linf_applied=written.applied,
            surrogates=tuple(zip(task.surrogate_features, [s.opened for s in self.context.surrogates], strict=True)),
            witnesses=tuple(zip(task.witness_bits, self.context.witnesses, strict=True)),
            no_witness=self.context.no_witness,
            tolerance=self.context.tolerance,
            lossless=task.lossless,
            max_visible=self.context.max_visible,
            place_codes=task.source.place_codes,
        )

    def _settle(self, number: int, task: Task, data: bytes, written_photo: WrittenPhoto, receipt: Receipt) -> None:
        task.tries += 1
        if task.best is None or _nearer(receipt, task.best[1]):
            task.best = (data, receipt, written_photo)
        if not receipt.reached and task.tries < _TRIES and self.context.method.retries:
            assert task.delta is not None
            task.grid = with_writing_model(task, written_photo, task.delta, self.context)
            self.missed[number] = task
            return
        data, receipt, written_photo = task.best
        self.results.append(
            Result(
                task.source,
                data,
                receipt,
                task.targets,
                written_photo.pixels_after,
                unprotected_copies=written_photo.unprotected_copies,
                links_to_owner=written_photo.links_to_owner,
                orientation=written_photo.orientation,
                **_spent(task),
            )
        )


def _spent(task: Task) -> dict[str, Any]:
    return {"steps": task.steps, "evaluations": task.evaluations, "seconds": task.seconds}


def _nearer(one: Receipt, other: Receipt) -> bool:
    """Whether `one` is better than `other`: it passed, else it met the goal, else it is fewer bits away from it."""

    def rank(receipt: Receipt) -> tuple[bool, bool, int]:
        return not receipt.passed, not receipt.reached, max(row.distance_to_goal for row in receipt.codes)

    return rank(one) < rank(other)
