"""The work itself, pure: photos' bytes in, protected bytes and receipts out. Nothing here touches a file.

Threads decode and encode; the networks run in the calling thread only, so that two teams of compute threads never
fight over the cores.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hashshield import imaging
from hashshield.attacks.finish import apply, uniform_noise
from hashshield.attacks.goals import KEPT, Aim, photo_generator
from hashshield.attacks.grid import Grid, make_grid
from hashshield.attacks.loop import Budget, Found, Search, Viewed, search
from hashshield.attacks.methods import Method
from hashshield.errors import HashshieldError, UnsupportedError
from hashshield.metrics.image import linf_levels
from hashshield.models.hash_files import upright_rgb
from hashshield.models.load import OpenModel
from hashshield.pipeline.aims import Mark, aim_for
from hashshield.pipeline.receipt import Reread, judge, read_again
from hashshield.types import GoalSpec, Receipt
from hashshield.views import card_view, pillow_view, resized, to_image

__all__ = ["Result", "Source", "Tools", "work"]

_TRIES = 3
_KEPT_FIRST = {True: KEPT, False: 0.15}
"""Kept margin of the first try, which knows nothing of writing, by losslessness."""
_KEPT_WRITTEN = (KEPT, 0.2)
"""Of later tries that write at every step: what is reached there is reached in the file."""
_KEPT_DRIFT = (0.2, 0.5)
"""Of later tries that know only the last write."""
_KEEP_DECODED = 8_000_000
_CODEC_IN_LOOP = 1_500_000
"""Pixels up to which a later try writes and reads the photo at every step."""

Bits = NDArray[np.int8]


@dataclass(frozen=True, slots=True)
class Source:
    """One photo's bytes, and how it is named."""

    name: str
    data: bytes = field(repr=False)
    sha256: str
    key: object = None
    """Handed back with the result."""


@dataclass(frozen=True, slots=True, eq=False)
class Tools:
    """Everything the work needs but the photos."""

    models: tuple[OpenModel, ...]
    method: Method
    budget: Budget
    goal: GoalSpec
    fixed: Sequence[Bits] | None
    """Wanted bits per model where they do not depend on the photo."""
    secret: bytes
    """Key of the per-photo randomness."""
    tolerance: int | None
    strip: imaging.Strip = field(default_factory=imaging.Strip)
    lossy_formats: bool = False
    """Whether HEIC and AVIF are worked on."""
    jobs: int = 2
    results_before: frozenset[str] = frozenset()
    """Pixel digests of earlier runs' results: a photo with one of these had only its metadata edited since."""
    notice: Callable[[str], None] = lambda text: None
    """Told what the user should know, such as a change of device."""


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """What became of one photo; `data` is None when it could not be worked on."""

    source: Source
    data: bytes | None = None
    receipt: Receipt | None = None
    marks: tuple[Mark, ...] = ()
    pixels_after: str | None = None
    steps: int = 0
    seconds: float = 0.0
    reason: str | None = None
    unprotected_copies: tuple[str, ...] = ()
    links_to_owner: tuple[str, ...] = ()
    already: str | None = None
    """Pixel digest of a photo that is an earlier run's result; nothing was done to it."""


@dataclass(eq=False)
class _Task:
    """One photo on its way through."""

    source: Source
    grid: Grid
    views: tuple[Tensor, ...]
    photo: imaging.Photo | None
    """The decoded photo while it is small enough to keep."""
    lossless: bool
    unprotected_copies: tuple[str, ...]
    links_to_owner: tuple[str, ...]
    already: str | None = None
    lossy_format: bool = False
    """Whether its container is one that has to be asked for."""
    marks: tuple[Mark, ...] = ()
    aims: tuple[Aim, ...] = ()
    tries: int = 0
    steps: int = 0
    seconds: float = 0.0
    best: tuple[bytes, Receipt, str] | None = None
    delta: Tensor | None = None

    def decoded(self) -> imaging.Photo:
        return self.photo or imaging.read(self.source.data, name=self.source.name)


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


class _Flow:
    """Photos streaming through: decoded ahead, searched together, written behind."""

    def __init__(self, sources: Iterable[Source], tools: Tools, pool: ThreadPoolExecutor) -> None:
        self.tools, self.pool = tools, pool
        self.sources = iter(sources)
        self.device = tools.models[0].model.mean.device
        self.networks = [Viewed(m.model, card_view(m.card.input)) for m in tools.models]
        self.prepared: deque[tuple[Source, Future[_Task]]] = deque()
        self.again: deque[_Task] = deque()
        self.writing: deque[tuple[_Task, Future[tuple[bytes, Reread, int, Tensor]]]] = deque()
        self.results: deque[Result] = deque()
        self.searching: list[_Task] = []
        self.warned = False

    def run(self) -> Iterator[Result]:
        self._prepare_ahead()
        while self.prepared or self.again or self.writing:
            # The search ends when no photo is waiting; photos tried again start it anew.
            try:
                for found in search(iter(self._next_search, None), self.networks, self.tools.method, self.tools.budget):
                    self._write_behind(found)
                    self._collect(wait=False)
                    yield from self._drain()
            except torch.OutOfMemoryError:
                self._fall_back()
            self._collect(wait=True)
            yield from self._drain()

    def _fall_back(self) -> None:
        """Go on with the CPU where not even one photo fits the device; what was being searched starts again."""
        if self.device.type == "cpu":
            raise MemoryError("not even one photo's gradient step fits into memory; close other programs")
        self.tools.notice(f"{self.device} ran out of memory with a single photo; going on with the CPU")
        for opened in self.tools.models:
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
            self.prepared.append((source, self.pool.submit(_prepare, source, self.tools)))

    def _next_search(self) -> Search | None:
        """The next photo for the search: one to try again, else a new one; None when neither is waiting."""
        self._collect(wait=False)
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
                self._aim(task)
            except HashshieldError as error:
                self.results.append(Result(source, reason=str(error)))
                continue
            return self._start(task)
        return None

    def _warn(self, task: _Task) -> None:
        if task.lossy_format and not self.warned:
            self.warned = True
            self.tools.notice("HEIC and AVIF lose a little with each writing, also where the photo is not changed")

    @torch.inference_mode()
    def _aim(self, task: _Task) -> None:
        tools = self.tools
        pairs = []
        for index, (model, view) in enumerate(zip(tools.models, task.views, strict=True)):
            codes = model.model(view[None].to(self.device))
            mark, aim = aim_for(
                tools.goal,
                model,
                codes.code[0].float().cpu().numpy(),
                codes.features[0].clone(),
                fixed=None if tools.fixed is None else tools.fixed[index],
                key=tools.secret,
                sha256=task.source.sha256,
            )
            pairs.append((mark, aim.to(self.device)))
        task.marks = tuple(mark for mark, _ in pairs)
        task.aims = tuple(aim for _, aim in pairs)
        task.views = ()

    def _start(self, task: _Task) -> Search:
        kept = _KEPT_FIRST[task.lossless]
        if task.tries:
            kept = (_KEPT_DRIFT if task.grid.written is None else _KEPT_WRITTEN)[task.tries - 1]
        task.seconds -= time.monotonic()
        self.searching.append(task)
        aims = [replace(aim, kept=kept) for aim in task.aims]
        start = None if task.delta is None else task.delta.to(self.device)
        return Search(task.grid.to(self.device), aims, start, key=task)

    def _write_behind(self, found: Found) -> None:
        task = found.key
        assert isinstance(task, _Task)
        self.searching.remove(task)
        task.seconds += time.monotonic()
        task.steps += found.steps
        task.delta = found.delta.cpu()
        self.writing.append((task, self.pool.submit(_write, task, task.delta, self.tools)))

    def _collect(self, *, wait: bool) -> None:
        """Judge what has been written; settle it or send it round again."""
        while self.writing and (wait or self.writing[0][1].done()):
            task, future = self.writing.popleft()
            try:
                data, reread, applied, meant = future.result()
            except HashshieldError as error:
                self.results.append(Result(task.source, reason=str(error)))
                continue
            receipt = judge(
                reread,
                task.marks,
                self.tools.models,
                linf_applied=applied,
                tolerance=self.tools.tolerance,
                lossless=task.lossless,
            )
            self._settle(task, data, reread, receipt, meant)

    def _settle(self, task: _Task, data: bytes, reread: Reread, receipt: Receipt, missed: Tensor) -> None:
        task.tries += 1
        if task.best is None or _nearer(receipt, task.best[1]):
            task.best = (data, receipt, reread.pixels_after)
        if not receipt.passed and task.tries < _TRIES and self.tools.method.retries:
            task.grid = _aware(task, missed, self.tools)
            self.again.append(task)
            return
        data, receipt, digest = task.best
        self.results.append(
            Result(
                task.source,
                data,
                receipt,
                task.marks,
                digest,
                task.steps,
                task.seconds,
                unprotected_copies=task.unprotected_copies,
                links_to_owner=task.links_to_owner,
            )
        )


def _nearer(one: Receipt, other: Receipt) -> bool:
    """Whether a receipt is the better one: passed, then fewer bits from the goal."""
    worst = (max(r.distance_to_goal for r in one.codes), max(r.distance_to_goal for r in other.codes))
    return (not one.passed, worst[0]) < (not other.passed, worst[1])


def _prepare(source: Source, tools: Tools) -> _Task:
    container = imaging.sniff(source.data[:64])
    lossy_format = container in imaging.LOSSY_FORMATS
    if lossy_format and not tools.lossy_formats:
        raise UnsupportedError(
            f"{source.name}: {str(container).upper()} loses a little with each writing; accept that with "
            "--lossy-formats, or convert it to JPEG, PNG or WebP first"
        )
    photo = imaging.read(source.data, name=source.name)
    shown = upright_rgb(photo)
    opaque = None if photo.alpha is None else imaging.upright(photo.alpha, photo.orientation)
    return _Task(
        source=source,
        grid=make_grid(shown, channels=photo.pixels.shape[2], opaque=opaque),
        views=tuple(pillow_view(shown, model.card.input) for model in tools.models),
        photo=photo if photo.pixels.nbytes <= _KEEP_DECODED else None,
        lossless=photo.lossless,
        unprotected_copies=photo.unprotected_copies,
        links_to_owner=photo.links_to_owner,
        already=_result_before(photo, tools),
        lossy_format=lossy_format,
    )


def _result_before(photo: imaging.Photo, tools: Tools) -> str | None:
    digest = imaging.pixel_digest(photo) if tools.results_before else None
    return digest if digest in tools.results_before else None


def _changed_pixels(photo: imaging.Photo, delta: Tensor, source: Source, tools: Tools) -> NDArray[np.uint8]:
    """Pixels after `delta`; the rounding draws the same numbers each time, so a change that passed passes again."""
    seed = int(photo_generator(tools.secret, source.sha256, "rounding").integers(2**62))
    if tools.method.noise:
        generator = torch.Generator().manual_seed(seed)
        return uniform_noise(photo.pixels, tau=tools.budget.tau, generator=generator, opaque=photo.alpha)
    return apply(
        photo.pixels,
        delta,
        tau=tools.budget.tau,
        orientation=photo.orientation,
        generator=torch.Generator().manual_seed(seed),
        opaque=photo.alpha,
    )


def _write(task: _Task, delta: Tensor, tools: Tools) -> tuple[bytes, Reread, int, Tensor]:
    """Encode, read again, and tell by how much the grid's copy of it misses what was meant: (3, h, w)."""
    photo = task.decoded()
    pixels = _changed_pixels(photo, delta, task.source, tools)
    data = imaging.write(photo, pixels, strip=tools.strip)
    applied = linf_levels(pixels, photo.pixels)
    del pixels
    reread = read_again(data, photo, tools.models, name=task.source.name)
    plain = replace(task.grid, written=None, drift=None)
    missed = _on_grid(data, task) - plain.changed(delta)[0]
    return data, reread, applied, missed


def _on_grid(data: bytes, task: _Task) -> Tensor:
    """(3, h, w) image that encoded bytes come to on the task's grid."""
    shown = upright_rgb(imaging.read(data, name=task.source.name))
    height, width = task.grid.image.shape[1:]
    return to_image(resized(shown, height, width))


def _aware(task: _Task, missed: Tensor, tools: Tools) -> Grid:
    """The task's grid, knowing what writing does: at every step for small photos, from the last write for large."""
    photo = task.photo
    if photo is None or photo.pixels.shape[0] * photo.pixels.shape[1] > _CODEC_IN_LOOP:
        return replace(task.grid, drift=missed)

    def written(delta: Tensor) -> Tensor:
        pixels = _changed_pixels(photo, delta, task.source, tools)
        image = _on_grid(imaging.write(photo, pixels, strip=tools.strip), task)
        return image.to(delta.device)

    return replace(task.grid, written=written)
