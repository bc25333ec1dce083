"""Carry out a plan: open the networks, read each photo, run `work` on it, and store the bytes that passed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch

from hashshield import imaging
from hashshield.attacks.batching import fitting, on_processor, step_bytes
from hashshield.attacks.features import Surrogate, surrogates_among
from hashshield.attacks.goals import Goal
from hashshield.attacks.search import Execution
from hashshield.boundary import boundary, defer_interrupts, finishing_first, never
from hashshield.errors import ChangedError, HashshieldError
from hashshield.imaging.photo import read_photo_file
from hashshield.models.device import (
    choose_device,
    free_bytes,
    keep_freed_memory,
    limit_memory,
    memory_errors,
    release_cache,
)
from hashshield.models.load import OpenModel, open_models
from hashshield.pipeline.estimate import steps_beside_search, usual_steps
from hashshield.pipeline.places import codes_of_place, protections
from hashshield.pipeline.plan import Job, already_row, asked_now, base_fields, credentials_notice
from hashshield.pipeline.request import witnesses
from hashshield.pipeline.rows import ceiling_for, details_of, kept_of, method_of, preset_for, row_of
from hashshield.pipeline.targets import goal_for
from hashshield.pipeline.twins import Results, earlier_record, results_of
from hashshield.pipeline.work import ProtectContext, Result, Source, work
from hashshield.storage import NewRecord, Snapshot, Store
from hashshield.types import Outcome, Progress, Request, StepProgress

__all__ = ["Origin", "carry_out", "make_context"]


def make_context(
    request: Request,
    secret: bytes,
    notice: Callable[[str], None] = lambda text: None,
    *,
    results_before: Results | None = None,
    memory_share: float = 1.0,
    stepped: Callable[[str], None] | None = None,
) -> ProtectContext:
    """Open the networks of a request and return the context that all its photos share.

    `secret` is the installation's key; a seed in the request replaces it. `results_before` are earlier runs' results,
    which are left unchanged; None protects them again. `memory_share` is this process's share of the device's memory,
    0 < share <= 1. If the device cannot even hold the networks, the CPU is used. `stepped` is called with the photo's
    name after each gradient step, from any thread. Raises UsageError, CheckpointError, GoalError.
    """
    keep_freed_memory()
    device = choose_device(request.device)
    limit_memory(torch.device(device), memory_share)
    opened = None
    try:
        with memory_errors():
            opened = _open(request, device, memory_share)
    except torch.OutOfMemoryError:
        if device == "cpu":
            raise
    if opened is None:
        release_cache()
        notice(f"{device} has no memory left for the networks; going on with the CPU")
        opened = _open(request, "cpu", 1.0)
    options = request.file_options
    return ProtectContext(
        models=opened.models,
        surrogates=opened.surrogates,
        preset=preset_for(request),
        witnesses=opened.witnesses,
        no_witness=opened.no_witness,
        method=method_of(request),
        tau=request.tau,
        execution=opened.execution,
        goal=opened.goal,
        secret=secret if request.seed is None else str(request.seed).encode(),
        tolerance=request.tolerance,
        max_visible=ceiling_for(request),
        survival=request.survival,
        strip=imaging.StripOptions(
            copies=options.strip_copies,
            gps=options.strip_gps,
            metadata=options.strip_metadata,
            credentials=options.remove_credentials,
        ),
        lossy_formats=options.lossy_formats,
        jobs=request.jobs or 2,
        results_before=results_before or {},
        notice=notice,
        stepped=stepped,
    )


class _Opened(NamedTuple):
    """The parts of a `ProtectContext` that depend on opened networks; see its fields."""

    models: tuple[OpenModel, ...]
    surrogates: tuple[Surrogate, ...]
    witnesses: tuple[OpenModel, ...]
    no_witness: str | None
    execution: Execution
    goal: Goal


def _open(request: Request, device: str, memory_share: float) -> _Opened:
    models = tuple(open_models(request.models, device=device))
    judges = witnesses(request)
    return _Opened(
        models,
        _surrogates(models, request, device),
        tuple(open_models(judges.names, device=device)),
        judges.none_because,
        Execution(
            request.batch_size or _batch_size(models, len(preset_for(request).views), memory_share),
            cpu_workers=torch.get_num_threads() if device == "cpu" else 1,
            encoders=1 if device == "cpu" else torch.get_num_threads(),
        ),
        goal_for(request.goal, models),
    )


def _surrogates(models: Sequence[OpenModel], request: Request, device: str) -> tuple[Surrogate, ...]:
    """Return the surrogates, if the method moves features: from the searched networks and `request.surrogates`."""
    if method_of(request).features is None:
        return ()
    return surrogates_among((*models, *open_models(request.surrogates, device=device)))


def _batch_size(models: Sequence[OpenModel], views: int, memory_share: float) -> int:
    """Return the number of photos whose step fits in memory; a step keeps activations of each network and view."""
    device = models[0].device
    free = free_bytes(device, memory_share)
    if free is None:
        return on_processor(torch.get_num_threads())
    return fitting(free, views * sum(step_bytes(opened.model, opened.card.input.crop, device) for opened in models))


@dataclass(frozen=True, slots=True)
class Origin:
    """The job and snapshot of a source."""

    job: Job
    snapshot: Snapshot
    """Without its bytes, which the source holds."""


def carry_out(
    jobs: Sequence[Job], request: Request, store: Store, progress: Progress, *, finish_first: bool = False
) -> Iterator[Outcome]:
    """Protect each job's photo and write it if it passed; yield a row as each finishes. Raises as `make_context` does.

    With `finish_first` an interruption first lets the photos in the search finish, then raises KeyboardInterrupt unless
    all are done. A second interruption raises it at once.
    """
    before = None if request.force else results_of(store)
    steps = progress if isinstance(progress, StepProgress) else None
    context = make_context(
        request,
        store.key(),
        progress.notice,
        results_before=before,
        stepped=None if steps is None else steps.stepped,
    )
    if steps is not None:
        steps.expect(usual_steps(request), {str(job.path): steps_beside_search(job) for job in jobs})
    # Computed before the search: a checkpoint or target file that is replaced meanwhile must not count as tried.
    settings = asked_now(request, store.key())
    trouble: list[Outcome] = []
    left = len(jobs)
    with finishing_first(progress.notice) if finish_first else nullcontext(never) as stopping:
        sources = _sources(jobs, request, store, trouble, progress)
        for result in work(sources, context, stopping=stopping):
            for row in _taken(trouble):
                left -= 1
                yield row
            origin = result.source.key
            assert isinstance(origin, Origin)
            left -= 1
            with defer_interrupts():
                # Interrupts stay deferred during the yield, so that a written photo is also reported.
                yield _written(result, origin, request, store, settings, progress)
        for row in _taken(trouble):
            left -= 1
            yield row
        if left and stopping():
            raise KeyboardInterrupt


def _written(
    result: Result, origin: Origin, request: Request, store: Store, settings: str, progress: Progress
) -> Outcome:
    """Store one result, remember it if it fell short, and return its row."""
    try:
        with boundary("store", result.source.name):
            row = _store(result, origin.job, origin.snapshot, request, store)
    except HashshieldError as error:
        common = base_fields(origin.job.path, origin.job.output, result.source.sha256, request)
        row = Outcome(status="failed", reason=str(error), **common)
    if row.status == "short" and not result.reoriented:
        try:
            store.remember_short(origin.snapshot.path, result.source.sha256, settings, kept_of(row))
        except HashshieldError as error:
            progress.notice(f"{row.path}: that it fell short could not be noted ({error})")
    return row


def _taken(rows: list[Outcome]) -> list[Outcome]:
    taken = list(rows)
    rows.clear()
    return taken


def _sources(
    jobs: Sequence[Job], request: Request, store: Store, trouble: list[Outcome], progress: Progress
) -> Iterator[Source]:
    """Yield each job's source, read when needed; rows of photos that need no work or cannot be read go to `trouble`."""
    results = results_of(store) if request.force else {}
    copies = protections(store) if request.place_name is not None else {}
    signed = False
    for job in jobs:
        progress.photo(str(job.path))
        try:
            with boundary("read", str(job.path)):
                source = _source(job, request, store, results)
        except HashshieldError as error:
            trouble.append(Outcome(str(job.path), "failed", reason=str(error)))
            continue
        if isinstance(source, Outcome):
            trouble.append(source)
            continue
        if request.place_name is not None:
            source = replace(source, place_codes=codes_of_place(request.place_name, copies.get(source.sha256, ())))
        said = None if signed else credentials_notice(str(job.path), source.data, request)
        if said is not None:
            signed = True
            progress.notice(said)
        yield source


def _source(job: Job, request: Request, store: Store, results: Results) -> Source | Outcome:
    """Return a photo's source, with the original's bytes if it is protected again, or its row if it is a result."""
    snapshot = read_photo_file(job.path, follow=job.within is None, within=job.within)
    data, sha256 = snapshot.data, snapshot.sha256
    known = store.known(sha256)
    if known is not None and job.again is None:
        return already_row(job.path, known, request)
    again = job.again
    if again is None and results:
        # An earlier result with edited metadata or orientation starts from the original too.
        earlier = earlier_record(imaging.read(data, name=str(job.path)), sha256, store, results)
        again = None if earlier is None else earlier[0]
        job = replace(job, again=again)
    if again is not None:
        data, sha256 = store.original(again), again.sha256_before
    return Source(str(job.path), data, sha256, Origin(job, replace(snapshot, data=b"")))


def _store(result: Result, job: Job, snapshot: Snapshot, request: Request, store: Store) -> Outcome:
    """Write a result that passed, or with `accept_best` the best try; return its row."""
    if result.earlier_result is not None and not result.reoriented:
        earlier = store.known(snapshot.sha256, result.earlier_result)
        if earlier is not None:
            return already_row(job.path, earlier, request)
    row = row_of(result, job.path, job.output, request)
    if row.status not in ("protected", "partial") or result.data is None:
        return row
    try:
        known = None if job.again is not None else store.known(snapshot.sha256)
        if known is not None:
            return already_row(job.path, known, request)
        # The file is read again: no copy of its bytes was kept, and it must not have changed meanwhile.
        current = read_photo_file(job.path, follow=job.within is None, within=job.within)
        if current.sha256 != snapshot.sha256:
            raise ChangedError(f"{job.path}: changed while it was worked on; it was left as it is, run again")
        record = NewRecord(result.pixels_after, details_of(result, row, request), job.again)
        options = request.file_options
        if job.output is None:
            store.replace(
                current,
                result.data,
                record,
                backup=request.backup,
                keep_mtime=options.keep_mtime,
                break_links=options.break_links,
                allow_root=options.allow_root,
            )
        else:
            store.write_new(
                job.output,
                result.data,
                like=current,
                record=record,
                keep_mtime=options.keep_mtime,
                overwrite=request.force,
                allow_root=options.allow_root,
            )
    except HashshieldError as error:
        return replace(row, status="failed", reason=str(error), sha256_after=None)
    return row
