"""The work itself, pure: photos' bytes in, protected bytes and receipts out. Nothing here touches a file.

Threads decode and encode, and on the CPU hash what they read, on one core each: while the calling thread did that, the
search waited. The search runs in the calling thread's lanes, and on a GPU so does every network.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from hashshield.attacks.batching import ByteSemaphore, fitting
from hashshield.attacks.goals import photo_generator
from hashshield.attacks.search import Execution, SearchResult, SearchTask, search
from hashshield.boundary import boundary
from hashshield.errors import HashshieldError
from hashshield.models.device import return_freed_memory
from hashshield.pipeline.networks import witness_bits
from hashshield.pipeline.receipt import WrittenPhoto, build_receipt
from hashshield.pipeline.targets import CodeTarget, make_target, target_for_view, tolerance_for
from hashshield.pipeline.task import ProtectContext, Result, Source, Task, prepare, with_writing_model, write
from hashshield.types import Receipt, View

__all__ = ["ProtectContext", "Result", "Source", "work"]

_TRIES = 3

_BYTES_OF_A_THREAD = 150_000_000
"""What each thread that decodes and encodes may hold on average."""
_PREPARING = 40
"""Bytes that decoding takes per byte of a file: seven a pixel, and a camera needs a fifth of a byte a pixel or more."""
_WRITING = 16
"""Bytes that writing and reading again take per pixel."""

_LARGE = 50_000_000
"""Bytes from which on what was held is given back to the system at once."""


def work(sources: Iterable[Source], context: ProtectContext) -> Iterator[Result]:
    """Protect photos as they come; yield a result for each, in the order they finish.

    A photo that cannot be worked on is a result with a reason. A photo whose written bytes miss the goal is tried
    again with larger margins; after the last try the best bytes come back with a receipt that has not passed.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the search has lanes of its own; see attacks.batching
    try:
        with ThreadPoolExecutor(context.jobs, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield from _Protector(sources, context, pool, threads).run()
    finally:
        torch.set_num_threads(threads)


@dataclass(frozen=True, slots=True, eq=False)
class _Written:
    """What a thread wrote, read again and, on the CPU, hashed."""

    data: bytes
    written_photo: WrittenPhoto
    applied: int
    """Largest change in levels that was meant."""
    receipt: Receipt | None


class _Protector:
    """Photos streaming through: decoded ahead, searched together, written behind."""

    def __init__(
        self, sources: Iterable[Source], context: ProtectContext, pool: ThreadPoolExecutor, threads: int
    ) -> None:
        self.context, self.pool, self.threads = context, pool, threads
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

    def run(self) -> Iterator[Result]:
        self._prepare_ahead()
        while self.prepared or self.again or self.missed or self.writing:
            # The search ends when no photo is waiting; photos tried again start it anew.
            try:
                tasks, c = iter(self._next_search, None), self.context
                for found in search(tasks, self.networks, c.method, c.tau, self.execution):
                    self._write_behind(found)
                    self._collect()
                    yield from self._drain()
                self._release(self.written)
            except torch.OutOfMemoryError:
                self._make_room()
            yield from self._drain()

    def _make_room(self) -> None:
        """Go on with less memory: one photo at a time on the CPU; what was being searched starts again.

        Called when not even one photo fits the device. If that is the CPU already, the photos that do not fit fail.
        """
        tasks, self.searching = self.searching, []
        for task in tasks:
            task.seconds += time.monotonic()
        if self.device.type != "cpu":
            self.context.notice(f"{self.device} ran out of memory with a single photo; going on with the CPU")
            for opened in (*self.context.models, *self.context.witnesses):
                opened.model.to("cpu")
            self.device = torch.device("cpu")
            self.execution = Execution(fitting(None, 0), cpu_workers=self.threads)
        elif self.execution.batch_size > 1:
            self.execution = Execution(batch_size=1)
        else:
            reason = "not even one photo's gradient step fits into memory; close other programs"
            self.results.extend(Result(task.source, reason=f"{task.source.name}: {reason}") for task in tasks)
            return
        self.again.extend(tasks)

    @property
    def _let_through(self) -> tuple[type[Exception], ...]:
        """Exceptions that `_make_room` answers."""
        return (torch.OutOfMemoryError,) if self.device.type != "cpu" else ()

    def _drain(self) -> Iterator[Result]:
        while self.results:
            yield self.results.popleft()

    def _prepare_ahead(self) -> None:
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
            with boundary("write", task.source.name):
                written = _Written(*write(task, delta, self.context), None)
            if self._hashing_in_threads:
                return replace(written, receipt=self._judge(task, written))
            return written

    @property
    def _hashing_in_threads(self) -> bool:
        return self.device.type == "cpu"

    @contextmanager
    def _room(self, size: int) -> Iterator[None]:
        with self.gate.held(size):
            yield
            if size > _LARGE:
                return_freed_memory()

    def _next_search(self) -> SearchTask | None:
        """The next photo for the search: one to try again, else a new one; None when neither is waiting."""
        self._release(self.written - self.context.execution.batch_size - self.context.jobs)
        while self.again:
            task = self.again.popleft()
            try:
                return self._start(task)
            except HashshieldError as error:
                self.results.append(Result(task.source, reason=str(error), steps=task.steps, seconds=task.seconds))
            except torch.OutOfMemoryError:
                self.again.appendleft(task)
                raise
        while self.prepared:
            source, future = self.prepared.popleft()
            self._prepare_ahead()
            try:
                task = future.result()
                if task.earlier is not None:
                    self.results.append(
                        Result(source, earlier_result=task.earlier.digest, reoriented=task.earlier.reoriented)
                    )
                    continue
                self._warn(task)
                if not task.objectives:
                    self._objective(task)
                return self._start(task)
            except HashshieldError as error:
                self.results.append(Result(source, reason=str(error)))
            except torch.OutOfMemoryError:
                # The device is full before the search has begun: this photo waits for what the fallback finds.
                self.prepared.appendleft((source, future))
                raise
        return None

    def _warn(self, task: Task) -> None:
        if task.lossy_format and not self.warned:
            self.warned = True
            self.context.notice("HEIC and AVIF lose a little with each writing, also where the photo is not changed")

    def _objective(self, task: Task) -> None:
        with boundary("hash", task.source.name, passes=self._let_through), torch.inference_mode():
            self._hash_original(task)

    def _hash_original(self, task: Task) -> None:
        context = self.context
        pairs = []
        views = iter(task.views)
        for model in context.models:
            hashed = [model.hash_view(next(views)) for _ in context.preset.views]
            target, objective = make_target(
                context.goal,
                model,
                hashed[0].code,
                hashed[0].features,
                key=context.secret,
                sha256=task.source.sha256,
                other_view_bits=[elsewhere.bits for elsewhere in hashed[1:]],
            )
            pairs.append((target, objective))
            for name, elsewhere in zip(context.preset.views[1:], hashed[1:], strict=True):
                pairs.append(target_for_view(target, name, elsewhere.code, elsewhere.features))
        task.targets = tuple(target for target, _ in pairs)
        task.objectives = tuple(objective.to("cpu") for _, objective in pairs)
        task.witness_bits = tuple(
            witness_bits(model, view) for model, view in zip(context.witnesses, task.witness_views, strict=True)
        )
        task.views = task.witness_views = ()

    def _start(self, task: Task) -> SearchTask:
        with boundary("aim", task.source.name, passes=self._let_through):
            started = self._search_task(task)
        task.seconds -= time.monotonic()
        self.searching.append(task)
        return started

    def _search_task(self, task: Task) -> SearchTask:
        min_margin = self.context.preset.margins.of(
            task.tries,
            sees_writing=task.grid.written is not None,
            lossless=task.lossless,
            method_margin=self.context.method.min_margin,
        )
        preset = self.context.preset
        allowed_misses = [
            min(
                preset.allowed_misses_in_band if target.band else preset.allowed_misses,
                target.forgives(self._tolerance(target, task)),
            )
            for target in task.targets
        ]
        objectives = [
            replace(objective.to(self.device), min_margin=min_margin, allowed_misses=s)
            for objective, s in zip(task.objectives, allowed_misses, strict=True)
        ]
        start = None if task.delta is None else task.delta.to(self.device)
        return SearchTask(
            task.grid.to(self.device),
            objectives,
            start,
            key=task,
            name=task.source.name,
            transform=self._transform(task),
            required_hits=self.context.preset.required_hits,
            masking=None if task.masking is None else task.masking.to(self.device),
        )

    def _tolerance(self, target: CodeTarget, task: Task) -> int:
        return tolerance_for(self.context.tolerance, len(target.original_bits), lossless=task.lossless)

    def _transform(self, task: Task) -> Callable[[int], View] | None:
        """What the preset does to the photo before each look, from randomness of its own for each try."""
        draw = self.context.preset.transforms
        if draw is None:
            return None
        generator = photo_generator(self.context.secret, task.source.sha256, f"transforms of try {task.tries}")
        return lambda step: draw(step, generator, task.scale)

    def _write_behind(self, found: SearchResult) -> None:
        task = found.key
        assert isinstance(task, Task)
        self.searching.remove(task)
        task.seconds += time.monotonic()
        task.steps += found.steps
        if found.error is not None:
            self.results.append(Result(task.source, reason=str(found.error), steps=task.steps, seconds=task.seconds))
            return
        task.delta = found.delta.cpu()
        self.writing.append((self.written, task, self.pool.submit(self._write, task, task.delta)))
        self.written += 1

    def _release(self, count: int) -> None:
        """Send round again what missed among the first `count` photos written.

        When a photo goes round again is counted in photos, not left to how fast threads write: it decides who shares
        a batch with whom, and with that the last bits of the result.
        """
        self._collect(until=count)
        for number in [n for n in self.missed if n < count]:
            self.again.append(self.missed.pop(number))

    def _collect(self, *, until: int = 0) -> None:
        """Judge what has been written, waiting for the first `until` photos; settle each or note that it missed."""
        while self.writing and (self.writing[0][0] < until or self.writing[0][2].done()):
            number, task, future = self.writing.popleft()
            try:
                written = future.result()
                receipt = self._judge(task, written) if written.receipt is None else written.receipt
                with boundary("aim", task.source.name):
                    self._settle(number, task, written.data, written.written_photo, receipt)
            except HashshieldError as error:
                self.results.append(Result(task.source, reason=str(error), steps=task.steps, seconds=task.seconds))
            except torch.OutOfMemoryError:
                # Judged again once the networks are on the CPU.
                self.writing.appendleft((number, task, future))
                raise

    def _judge(self, task: Task, written: _Written) -> Receipt:
        with boundary("judge", task.source.name, passes=self._let_through):
            return self._receipt(task, written)

    def _receipt(self, task: Task, written: _Written) -> Receipt:
        return build_receipt(
            written.written_photo,
            task.targets,
            self.context.promised_views,
            linf_applied=written.applied,
            witnesses=tuple(zip(task.witness_bits, self.context.witnesses, strict=True)),
            tolerance=self.context.tolerance,
            lossless=task.lossless,
        )

    def _settle(self, number: int, task: Task, data: bytes, written_photo: WrittenPhoto, receipt: Receipt) -> None:
        task.tries += 1
        if task.best is None or _nearer(receipt, task.best[1]):
            task.best = (data, receipt, written_photo)
        if not receipt.passed and task.tries < _TRIES and self.context.method.retries:
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
                task.steps,
                task.seconds,
                unprotected_copies=written_photo.unprotected_copies,
                links_to_owner=written_photo.links_to_owner,
                orientation=written_photo.orientation,
            )
        )


def _nearer(one: Receipt, other: Receipt) -> bool:
    """Whether a receipt is the better one: passed, then fewer bits from the goal."""
    worst = (max(r.distance_to_goal for r in one.codes), max(r.distance_to_goal for r in other.codes))
    return (not one.passed, worst[0]) < (not other.passed, worst[1])
