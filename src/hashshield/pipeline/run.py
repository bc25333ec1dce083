"""`protect`: plan, work, and write. Only this process writes; the work returns bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from hashshield import imaging
from hashshield.attacks.loop import Budget
from hashshield.checkpoints.catalog import full_name
from hashshield.errors import ChangedError, GoalError, HashshieldError, StorageError, UsageError
from hashshield.models.device import choose_device, keep_freed_memory
from hashshield.models.load import open_models
from hashshield.pipeline.aims import fixed_bits
from hashshield.pipeline.plan import Job, already, plan
from hashshield.pipeline.rows import details_of, method_of, row_of, text_of
from hashshield.pipeline.work import Result, Source, Tools, work
from hashshield.storage import NewRecord, Snapshot, Store, digest, preflight, read_snapshot
from hashshield.types import Outcome, Progress, Request

__all__ = ["make_tools", "protect", "protect_bytes"]

_BATCH = 8
_STEP_SECONDS = 0.03
"""One gradient step of one photo on two CPU cores, roughly (`bench speed`)."""
_LONG_MINUTES = 10


def protect(
    paths: Sequence[Path], request: Request, *, progress: Progress, agree: Callable[[str], None] = lambda question: None
) -> list[Outcome]:
    """Protect files and folders; one row per file, sorted by path.

    `agree` is asked before a run that takes long or fills the disk, and raises to stop it. Raises UsageError,
    CheckpointError, StorageError (also when space is short) for what concerns the whole run; what concerns one photo
    is a row. Photos are written as they finish, so an interrupted run has protected what it reported.
    """
    check(request)
    with Store.open(request.vault) as store:
        for notice in store.notices:
            progress.notice(notice)
        todo = plan(paths, request, store)
        rows = {row.path: row for row in todo.settled}
        if request.dry_run:
            _check_names(request)
            rows |= {str(j.path): Outcome(str(j.path), "planned", output=text_of(j.output)) for j in todo.jobs}
        elif todo.jobs:
            _preflight(todo.jobs, request, store, agree)
            progress.start(len(todo.jobs))
            for row in _carry_out(todo.jobs, request, store, progress):
                rows[row.path] = row
                progress.done(row)
        return sorted(rows.values(), key=lambda row: row.path)


def protect_bytes(data: bytes, request: Request, *, name: str) -> tuple[bytes | None, Outcome]:
    """Protect one photo's bytes without touching a file; None for bytes that were not protected.

    Bytes that are some earlier run's result come back as they are, or with `force` start from the vault's original.
    Raises UsageError, CheckpointError, StorageError for what concerns the request.
    """
    check(request)
    with Store.open(request.vault) as store:
        known = store.known(digest(data))
        if known is not None and not request.force:
            return data, already(Path(name), known, request)
        if known is not None:
            data = store.original(known)  # never change on top of a change
        tools = make_tools(request, store.key())
    source = Source(name, data, digest(data))
    (result,) = work([source], tools)
    row = row_of(result, Path(name), None, request)
    return (result.data if row.status in ("protected", "partial") else None), row


def _check_names(request: Request) -> None:
    """What a dry run can tell without opening a network. Raises UnknownNameError, CheckpointError, GoalError."""
    for name in request.models:
        full_name(name)
    method_of(request)
    choose_device(request.device)
    goal = request.goal
    if goal.kind in ("image", "set") and not Path(str(goal.value)).exists():
        raise GoalError(f"{goal.value}: no such file or folder to aim at")


def _preflight(jobs: Sequence[Job], request: Request, store: Store, agree: Callable[[str], None]) -> None:
    """Look before byte one: room on the disks, and a word with the user about long or large runs."""
    sizes = [job.size for job in jobs]
    folders = {job.path.parent for job in jobs} if request.output is None else {_existing(request.output)}
    space = preflight(
        sum(sizes),
        store,
        folders=sorted(folders),
        largest_bytes=max(sizes),
        backup=request.backup and not request.output,
    )
    if space.reason is not None:
        raise StorageError(space.reason)
    minutes = len(jobs) * (request.steps or method_of(request).steps) * len(request.models) * _STEP_SECONDS / 60
    asked = []
    if minutes > _LONG_MINUTES:
        asked.append(f"will take about {minutes:,.0f} minutes on two processor cores")
    if space.more_than_half:
        asked.append("may take more than half of the free disk space")
    if asked:
        agree(f"{len(jobs)} photos {' and '.join(asked)}. Go on?")


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that is already there."""
    return next(place for place in (folder, *folder.absolute().parents) if place.is_dir())


def check(request: Request) -> None:
    """Refuse what no photo can be protected with. Raises UsageError."""
    if not 1 / 255 <= request.tau <= 1:
        raise UsageError(
            f"tau is {request.tau}, it must lie in [1/255, 1]: below 1/255 ({1 / 255:.4f}) no pixel can change at all"
        )
    if request.steps is not None and request.steps < 1:
        raise UsageError(f"steps is {request.steps}, at least 1 is needed")


def make_tools(request: Request, secret: bytes, notice: Callable[[str], None] = lambda text: None) -> Tools:
    """Open the networks and settle what all photos share. Raises UsageError, CheckpointError, GoalError."""
    keep_freed_memory()
    chosen = method_of(request)
    device = choose_device(request.device)
    models = tuple(open_models(request.models, device=device))
    return Tools(
        models=models,
        method=chosen,
        budget=Budget(
            request.tau,
            chosen.steps if request.steps is None else request.steps,
            request.batch_size or _BATCH,
            lanes=torch.get_num_threads() if device == "cpu" else 1,
        ),
        goal=request.goal,
        fixed=fixed_bits(request.goal, models),
        secret=secret if request.seed is None else str(request.seed).encode(),
        tolerance=request.tolerance,
        strip=imaging.Strip(
            copies=bool(request.options.get("strip_copies")),
            gps=bool(request.options.get("strip_gps")),
            metadata=bool(request.options.get("strip_metadata")),
        ),
        lossy_formats=bool(request.options.get("lossy_formats")),
        jobs=request.jobs or 2,
        notice=notice,
    )


@dataclass(frozen=True, slots=True)
class _Origin:
    """Where a source came from; its bytes are not held a second time."""

    job: Job
    snapshot: Snapshot


def _carry_out(jobs: Sequence[Job], request: Request, store: Store, progress: Progress) -> Iterator[Outcome]:
    tools = make_tools(request, store.key(), progress.notice)
    if not request.force:
        tools = replace(tools, results_before=store.ledger.result_pixels())
    trouble: list[Outcome] = []
    for result in work(_sources(jobs, request, store, trouble, progress), tools):
        yield from _taken(trouble)
        origin = result.source.key
        assert isinstance(origin, _Origin)
        yield _store(result, origin.job, origin.snapshot, request, store)
    yield from _taken(trouble)


def _taken(rows: list[Outcome]) -> list[Outcome]:
    taken = list(rows)
    rows.clear()
    return taken


def _sources(
    jobs: Sequence[Job], request: Request, store: Store, trouble: list[Outcome], progress: Progress
) -> Iterator[Source]:
    """Read each photo as it is needed; what cannot be read goes to `trouble`."""
    for job in jobs:
        progress.photo(str(job.path))
        try:
            snapshot = read_snapshot(job.path, follow=job.within is None, within=job.within)
            data, sha256 = snapshot.data, snapshot.sha256
            known = store.known(sha256)
            if known is not None and job.again is None:
                trouble.append(already(job.path, known, request))
                continue
            again = job.again
            if again is None and request.force and store.ledger.holds_pixels():
                # Only the metadata may have been edited: then too the original is the place to start from.
                again = store.known(sha256, imaging.pixel_digest(imaging.read(data, name=str(job.path))))
                job = replace(job, again=again)
            if again is not None:
                data, sha256 = store.original(again), again.sha256_before
        except HashshieldError as error:
            trouble.append(Outcome(str(job.path), "failed", reason=str(error)))
            continue
        yield Source(str(job.path), data, sha256, _Origin(job, replace(snapshot, data=b"")))


def _store(result: Result, job: Job, snapshot: Snapshot, request: Request, store: Store) -> Outcome:
    """Write what passed (or the best, when told so) and report it."""
    if result.already is not None:
        earlier = store.known(snapshot.sha256, result.already)
        if earlier is not None:
            return already(job.path, earlier, request)
    row = row_of(result, job.path, job.output, request)
    if row.status not in ("protected", "partial") or result.data is None:
        return row
    try:
        known = None if job.again is not None else store.known(snapshot.sha256)
        if known is not None:
            return already(job.path, known, request)
        # The work keeps no second copy of the bytes alive; the store reads the photo again and compares.
        current = read_snapshot(job.path, follow=job.within is None, within=job.within)
        if current.sha256 != snapshot.sha256:
            raise ChangedError(f"{job.path}: changed while it was worked on; it was left as it is, run again")
        record = NewRecord(result.pixels_after, details_of(result, row, request), job.again)
        options = request.options
        if job.output is None:
            store.replace(
                current,
                result.data,
                record,
                backup=request.backup,
                keep_mtime=bool(options.get("keep_mtime")),
                break_links=bool(options.get("break_links")),
                allow_root=bool(options.get("allow_root")),
            )
        else:
            store.write_new(
                job.output,
                result.data,
                like=current,
                record=record,
                keep_mtime=bool(options.get("keep_mtime")),
                overwrite=request.force,
            )
    except HashshieldError as error:
        return replace(row, status="failed", reason=str(error), sha256_after=None)
    return row
