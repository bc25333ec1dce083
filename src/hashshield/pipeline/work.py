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

from hashshield.attacks.goals import photo_generator
from hashshield.attacks.loop import Found, Search, Viewed, search
from hashshield.errors import HashshieldError
from hashshield.metrics.hamming import bits_of
from hashshield.models.device import return_freed_memory
from hashshield.pipeline.aims import Mark, aim_elsewhere, aim_for, tolerance_for
from hashshield.pipeline.gate import Gate
from hashshield.pipeline.receipt import Reread, judge
from hashshield.pipeline.task import Result, Source, Task, Tools, aware, prepare, write
from hashshield.pipeline.witness import statement
from hashshield.types import Receipt, View

__all__ = ["Result", "Source", "Tools", "work"]

_TRIES = 3

_BYTES_OF_A_THREAD = 150_000_000
"""What each thread that decodes and encodes may hold on average."""
_PREPARING = 40
"""Bytes that decoding takes per byte of a file: seven a pixel, and a camera needs a fifth of a byte a pixel or more."""
_WRITING = 16
"""Bytes that writing and reading again take per pixel."""

_LARGE = 50_000_000
"""Bytes from which on what was held is given back to the system at once."""


def work(sources: Iterable[Source], tools: Tools) -> Iterator[Result]:
    """Protect photos as they come; yield a result for each, in the order they finish.

    A photo that cannot be worked on is a result with a reason. A photo whose written bytes miss the goal is tried
    again with larger margins; after the last try the best bytes come back with a receipt that has not passed.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the search has lanes of its own; see attacks.room
    try:
        with ThreadPoolExecutor(tools.jobs, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield from _Flow(sources, tools, pool).run()
    finally:
        torch.set_num_threads(threads)


@dataclass(frozen=True, slots=True, eq=False)
class _Written:
    """What a thread wrote, read again and, on the CPU, hashed."""

    data: bytes
    reread: Reread
    applied: int
    """Largest change in levels that was meant."""
    receipt: Receipt | None


class _Flow:
    """Photos streaming through: decoded ahead, searched together, written behind."""

    def __init__(self, sources: Iterable[Source], tools: Tools, pool: ThreadPoolExecutor) -> None:
        self.tools, self.pool = tools, pool
        self.gate = Gate(tools.jobs * _BYTES_OF_A_THREAD)
        self.sources = iter(sources)
        self.device = tools.models[0].model.mean.device
        self.networks = [Viewed.of(look.model, look.view) for look in tools.looks]
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
                for found in search(iter(self._next_search, None), self.networks, self.tools.method, self.tools.budget):
                    self._write_behind(found)
                    self._collect()
                    yield from self._drain()
            except torch.OutOfMemoryError:
                self._fall_back()
            self._release(self.written)
            yield from self._drain()

    def _fall_back(self) -> None:
        """Go on with the CPU where not even one photo fits the device; what was being searched starts again."""
        if self.device.type == "cpu":
            raise MemoryError("not even one photo's gradient step fits into memory; close other programs")
        self.tools.notice(f"{self.device} ran out of memory with a single photo; going on with the CPU")
        for opened in (*self.tools.models, *self.tools.witnesses):
            opened.model.to("cpu")
        self.device = torch.device("cpu")
        for task in self.searching:
            task.aims = tuple(aim.to(self.device) for aim in task.aims)
            task.seconds += time.monotonic()
        self.again.extend(self.searching)
        self.searching.clear()

    def _drain(self) -> Iterator[Result]:
        while self.results:
            yield self.results.popleft()

    def _prepare_ahead(self) -> None:
        while len(self.prepared) < self.tools.budget.batch_size + self.tools.jobs:
            source = next(self.sources, None)
            if source is None:
                return
            self.prepared.append((source, self.pool.submit(self._prepare, source)))

    def _prepare(self, source: Source) -> Task:
        with self._room(len(source.data) * _PREPARING):
            task = prepare(source, self.tools)
            if self._hashing_in_threads and task.already is None:
                self._aim(task)
            return task

    def _write(self, task: Task, delta: Tensor) -> _Written:
        with self._room(task.pixels * _WRITING):
            written = _Written(*write(task, delta, self.tools), None)
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

    def _next_search(self) -> Search | None:
        """The next photo for the search: one to try again, else a new one; None when neither is waiting."""
        self._release(self.written - self.tools.budget.batch_size - self.tools.jobs)
        if self.again:
            return self._start(self.again.popleft())
        while self.prepared:
            source, future = self.prepared.popleft()
            self._prepare_ahead()
            try:
                task = future.result()
                if task.already is not None:
                    self.results.append(Result(source, already=task.already))
                    continue
                self._warn(task)
                if not task.aims:
                    self._aim(task)
            except HashshieldError as error:
                self.results.append(Result(source, reason=str(error)))
                continue
            return self._start(task)
        return None

    def _warn(self, task: Task) -> None:
        if task.lossy_format and not self.warned:
            self.warned = True
            self.tools.notice("HEIC and AVIF lose a little with each writing, also where the photo is not changed")

    @torch.inference_mode()
    def _aim(self, task: Task) -> None:
        tools = self.tools
        pairs = []
        views = iter(task.views)
        for index, model in enumerate(tools.models):
            seen = [model.model(next(views)[None].to(self.device)) for _ in tools.preset.views]
            codes = [codes.code[0].float().cpu().numpy() for codes in seen]
            features = [codes.features[0].clone() for codes in seen]
            mark, aim = aim_for(
                tools.goal,
                model,
                codes[0],
                features[0],
                fixed=None if tools.fixed is None else tools.fixed[index],
                key=tools.secret,
                sha256=task.source.sha256,
                others=[bits_of(code) for code in codes[1:]],
            )
            pairs.append((mark, aim))
            for name, code, feature in list(zip(tools.preset.views, codes, features, strict=True))[1:]:
                pairs.append(aim_elsewhere(mark, name, code, feature))
        task.marks = tuple(mark for mark, _ in pairs)
        task.aims = tuple(aim.to(self.device) for _, aim in pairs)
        task.statements = tuple(
            statement(model, view) for model, view in zip(tools.witnesses, task.witness_views, strict=True)
        )
        task.views = task.witness_views = ()

    def _start(self, task: Task) -> Search:
        kept = self.tools.preset.margins.of(
            task.tries,
            sees_writing=task.grid.written is not None,
            lossless=task.lossless,
            own=self.tools.method.kept,
        )
        task.seconds -= time.monotonic()
        self.searching.append(task)
        preset = self.tools.preset
        spare = [
            min(preset.spare_in_band if mark.band else preset.spare, mark.forgives(self._tolerance(mark, task)))
            for mark in task.marks
        ]
        aims = [replace(aim, kept=kept, spare=s) for aim, s in zip(task.aims, spare, strict=True)]
        start = None if task.delta is None else task.delta.to(self.device)
        return Search(
            task.grid.to(self.device),
            aims,
            start,
            key=task,
            transform=self._transform(task),
            looks=self.tools.preset.looks,
            masking=None if task.masking is None else task.masking.to(self.device),
        )

    def _tolerance(self, mark: Mark, task: Task) -> int:
        return tolerance_for(self.tools.tolerance, len(mark.own), lossless=task.lossless)

    def _transform(self, task: Task) -> Callable[[int], View] | None:
        """What the preset does to the photo before each look, from randomness of its own for each try."""
        draw = self.tools.preset.transforms
        if draw is None:
            return None
        generator = photo_generator(self.tools.secret, task.source.sha256, f"transforms of try {task.tries}")
        return lambda look: draw(look, generator, task.scale)

    def _write_behind(self, found: Found) -> None:
        task = found.key
        assert isinstance(task, Task)
        self.searching.remove(task)
        task.seconds += time.monotonic()
        task.steps += found.steps
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
            except HashshieldError as error:
                self.results.append(Result(task.source, reason=str(error)))
                continue
            receipt = self._judge(task, written) if written.receipt is None else written.receipt
            self._settle(number, task, written.data, written.reread, receipt)

    def _judge(self, task: Task, written: _Written) -> Receipt:
        return judge(
            written.reread,
            task.marks,
            self.tools.looks,
            linf_applied=written.applied,
            witnesses=tuple(zip(task.statements, self.tools.witnesses, strict=True)),
            tolerance=self.tools.tolerance,
            lossless=task.lossless,
        )

    def _settle(self, number: int, task: Task, data: bytes, reread: Reread, receipt: Receipt) -> None:
        task.tries += 1
        if task.best is None or _nearer(receipt, task.best[1]):
            task.best = (data, receipt, reread)
        if not receipt.passed and task.tries < _TRIES and self.tools.method.retries:
            assert task.delta is not None
            task.grid = aware(task, reread, task.delta, self.tools)
            self.missed[number] = task
            return
        data, receipt, reread = task.best
        self.results.append(
            Result(
                task.source,
                data,
                receipt,
                task.marks,
                reread.pixels_after,
                task.steps,
                task.seconds,
                unprotected_copies=reread.unprotected_copies,
                links_to_owner=reread.links_to_owner,
            )
        )


def _nearer(one: Receipt, other: Receipt) -> bool:
    """Whether a receipt is the better one: passed, then fewer bits from the goal."""
    worst = (max(r.distance_to_goal for r in one.codes), max(r.distance_to_goal for r in other.codes))
    return (not one.passed, worst[0]) < (not other.passed, worst[1])
