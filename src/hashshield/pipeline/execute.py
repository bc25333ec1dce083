"""Carrying a plan out: networks, work, and writing what passed. Only this process writes; the work returns bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from hashshield import imaging
from hashshield.attacks.batching import fitting, step_bytes
from hashshield.attacks.presets import preset
from hashshield.attacks.search import Execution
from hashshield.boundary import boundary
from hashshield.errors import ChangedError, HashshieldError
from hashshield.imaging.formats import read_photo_file
from hashshield.models.device import choose_device, free_bytes, keep_freed_memory
from hashshield.models.load import OpenModel, open_models
from hashshield.pipeline.interrupts import defer_interrupts
from hashshield.pipeline.networks import witness_name
from hashshield.pipeline.plan import Job, already_row, asked_now, base_fields, credentials_notice, kept_of
from hashshield.pipeline.rows import details_of, method_of, row_of
from hashshield.pipeline.targets import goal_for
from hashshield.pipeline.twins import Results, earlier_record, results_of
from hashshield.pipeline.work import ProtectContext, Result, Source, work
from hashshield.storage import NewRecord, Snapshot, Store
from hashshield.types import Outcome, Progress, Request

__all__ = ["Origin", "carry_out", "make_context"]


def make_context(
    request: Request,
    secret: bytes,
    notice: Callable[[str], None] = lambda text: None,
    *,
    results_before: Results | None = None,
) -> ProtectContext:
    """Open the networks and settle what all photos share.

    `results_before` are earlier runs' results, which are left alone; None: there are none, or they are to be replaced.
    Raises UsageError, CheckpointError, GoalError.
    """
    keep_freed_memory()
    device = choose_device(request.device)
    models = tuple(open_models(request.models, device=device))
    witness = witness_name(request)
    return ProtectContext(
        models=models,
        preset=preset(request.preset),
        witnesses=tuple(open_models([witness], device=device)) if witness else (),
        method=method_of(request),
        tau=request.tau,
        execution=Execution(
            request.batch_size or _batch_size(models),
            cpu_workers=torch.get_num_threads() if device == "cpu" else 1,
        ),
        goal=goal_for(request.goal, models),
        secret=secret if request.seed is None else str(request.seed).encode(),
        tolerance=request.tolerance,
        survival=request.survival,
        strip=imaging.StripOptions(
            copies=request.file_options.strip_copies,
            gps=request.file_options.strip_gps,
            metadata=request.file_options.strip_metadata,
            credentials=request.file_options.remove_credentials,
        ),
        lossy_formats=request.file_options.lossy_formats,
        jobs=request.jobs or 2,
        results_before=results_before or {},
        notice=notice,
    )


def _batch_size(models: Sequence[OpenModel]) -> int:
    """Photos to search at once, as many as the memory is good for."""
    device = models[0].model.mean.device
    free = free_bytes(device)
    if free is None:
        return fitting(None, 0)
    return fitting(free, sum(step_bytes(opened.model, opened.card.input.crop, device) for opened in models))


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a source came from; its bytes are not held a second time."""

    job: Job
    snapshot: Snapshot


def carry_out(jobs: Sequence[Job], request: Request, store: Store, progress: Progress) -> Iterator[Outcome]:
    """Work on each job and write what passed; a row as each finishes. Raises as `make_context` does."""
    before = None if request.force else results_of(store)
    context = make_context(request, store.key(), progress.notice, results_before=before)
    # Before the work: a checkpoint or target that is exchanged meanwhile must not be taken for what was tried.
    settings = asked_now(request, store.key())
    trouble: list[Outcome] = []
    for result in work(_sources(jobs, request, store, trouble, progress), context):
        yield from _taken(trouble)
        origin = result.source.key
        assert isinstance(origin, Origin)
        with defer_interrupts():
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
            # Still held back, so that what was written is reported too.
            yield row
    yield from _taken(trouble)


def _taken(rows: list[Outcome]) -> list[Outcome]:
    taken = list(rows)
    rows.clear()
    return taken


def _sources(
    jobs: Sequence[Job], request: Request, store: Store, trouble: list[Outcome], progress: Progress
) -> Iterator[Source]:
    """Read each photo as it is needed; what cannot be read goes to `trouble`."""
    results = results_of(store) if request.force else {}
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
        said = None if signed else credentials_notice(str(job.path), source.data, request)
        if said is not None:
            signed = True
            progress.notice(said)
        yield source


def _source(job: Job, request: Request, store: Store, results: Results) -> Source | Outcome:
    """Read one photo, or the original it is protected anew from; or return its row if it is protected already."""
    snapshot = read_photo_file(job.path, follow=job.within is None, within=job.within)
    data, sha256 = snapshot.data, snapshot.sha256
    known = store.known(sha256)
    if known is not None and job.again is None:
        return already_row(job.path, known, request)
    again = job.again
    if again is None and results:
        # Only the metadata may have been edited, or it was turned: then too work starts from the original.
        earlier = earlier_record(imaging.read(data, name=str(job.path)), sha256, store, results)
        again = None if earlier is None else earlier[0]
        job = replace(job, again=again)
    if again is not None:
        data, sha256 = store.original(again), again.sha256_before
    return Source(str(job.path), data, sha256, Origin(job, replace(snapshot, data=b"")))


def _store(result: Result, job: Job, snapshot: Snapshot, request: Request, store: Store) -> Outcome:
    """Write what passed (or the best, when told so) and report it."""
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
        # The work keeps no second copy of the bytes alive; the store reads the photo again and compares.
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
