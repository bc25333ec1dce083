"""Protect files: plan, prefilter, then process the remaining photos. Only the last, slow part imports torch."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from hashshield import imaging
from hashshield.checkpoints.catalog import full_name
from hashshield.errors import GoalError, PhotoError, StorageError, UsageError
from hashshield.paths import exists, is_folder
from hashshield.pipeline.places import require_away
from hashshield.pipeline.plan import Job, already_row, credentials_notice, plan, prefilter, text_of
from hashshield.pipeline.twins import results_of
from hashshield.storage import SpaceReport, Store, digest, preflight
from hashshield.types import Outcome, Progress, Request

__all__ = ["check", "check_names", "protect", "protect_bytes"]


_LONG_MINUTES = 10


def protect(
    paths: Sequence[Path],
    request: Request,
    *,
    progress: Progress,
    agree: Callable[[str], None] = lambda question: None,
    within: Path | None = None,
    finish_first: bool = False,
) -> list[Outcome]:
    """Protect files and folders; return one row per file, sorted by path.

    With `within` the paths are files found in that folder, and no link below it is followed. `agree` is called with a
    question before a run that takes long or fills the disk; it raises to stop the run. `finish_first` is as in
    `execute.carry_out`. Raises UsageError, CheckpointError and StorageError (also if disk space is short) for problems
    of the whole run; problems of one photo are in its row. Photos are written as they finish, so an interrupted run has
    protected the photos it reported.
    """
    check(request)
    with Store.open(request.vault, reading=request.dry_run) as store:
        for notice in store.notices:
            progress.notice(notice)
        todo = plan(paths, request, store, within=within)
        rows = {row.path: row for row in todo.resolved}
        jobs = todo.jobs
        if request.sample is not None and len(jobs) > request.sample:
            from hashshield.pipeline.estimate import sampled_evenly

            jobs = sampled_evenly(jobs, request.sample)
            rows = {path: row for path, row in rows.items() if row.status == "failed"}
        if request.dry_run:
            check_names(request)
            rows |= _planned(jobs, request, store, progress)
        elif left := prefilter(jobs, request, store, rows):
            from hashshield.pipeline.execute import carry_out

            _preflight(left, request, store, agree)
            progress.start(len(left))
            began = time.monotonic()
            for row in carry_out(left, request, store, progress, finish_first=finish_first):
                rows[row.path] = row
                progress.done(row)
            if len(jobs) < len(todo.jobs):
                _tell_of_all(time.monotonic() - began, len(left), len(todo.jobs), progress)
        return sorted(rows.values(), key=lambda row: row.path)


def protect_bytes(
    data: bytes, request: Request, *, name: str, notice: Callable[[str], None] = lambda text: None
) -> tuple[bytes | None, Outcome]:
    """Protect one photo's bytes without touching a file; return the protected bytes, or None, and the photo's row.

    `name` is the photo's name in messages; `notice` is called with messages for the user. Bytes that are an earlier
    run's result are returned unchanged; one that was rotated or mirrored since is `short`. With `force` both start
    again from the vault's original. Raises UsageError, CheckpointError, StorageError for problems of the request.
    """
    check(request)
    if request.place_name is not None:
        raise UsageError(
            f"--for {request.place_name}: the ledger has to know which code each place was given, and a photo that is "
            "not a file is not recorded there; protect a file, with --output DIR for a copy"
        )
    with Store.open(request.vault) as store:
        store.require_sound()
        known = store.known(digest(data))
        if known is not None and not request.force:
            return data, already_row(Path(name), known, request)
        if known is not None:
            data = store.original(known)  # never change on top of a change

        from hashshield.pipeline.execute import make_context
        from hashshield.pipeline.rows import row_of
        from hashshield.pipeline.work import Source, work

        if known is None and request.force:
            data = _original_of(data, store, name)
        before = None if request.force else results_of(store)
        context = make_context(request, store.key(), notice, results_before=before)
        source = Source(name, data, digest(data))
        said = credentials_notice(name, data, request)
        if said is not None:
            notice(said)
        (result,) = work([source], context)
        if result.earlier_result is not None and not result.reoriented:
            known = store.known(source.sha256, result.earlier_result)
            if known is not None:
                return data, already_row(Path(name), known, request)
    row = row_of(result, Path(name), None, request)
    return (result.data if row.status in ("protected", "partial") else None), row


def _original_of(data: bytes, store: Store, name: str) -> bytes:
    """Return the vault's original if `data` is an earlier result with edited metadata or orientation; else `data`."""
    from hashshield.pipeline.twins import earlier_record

    results = results_of(store)
    if not results:
        return data
    try:
        earlier = earlier_record(imaging.read(data, name=name), digest(data), store, results)
    except PhotoError:
        return data  # `work` will report why it cannot be read
    return data if earlier is None else store.original(earlier[0])


def check_names(request: Request) -> None:
    """Check names and device without opening a network. Raises UnknownNameError, CheckpointError.

    Raises UsageError for an unavailable device or an unfit witness.
    """
    from hashshield.models.device import choose_device
    from hashshield.pipeline.request import witnesses
    from hashshield.pipeline.rows import method_of

    for name in request.models:
        full_name(name)
    method_of(request)
    witnesses(request)
    choose_device(request.device)


def _planned(jobs: Sequence[Job], request: Request, store: Store, progress: Progress) -> dict[str, Outcome]:
    """Return the rows of a dry run with each photo's expected seconds; report total time and disk space."""
    if not jobs:
        return {}
    from hashshield.pipeline.estimate import cores_in_words, in_words, seconds_each, total_seconds

    seconds = seconds_each(jobs, request)
    if seconds is not None:
        progress.notice(
            f"{len(jobs)} photo{'s' * (len(jobs) > 1)}: {in_words([total_seconds(seconds)])} on {cores_in_words()}"
        )
    for volume in _space(jobs, request, store).volumes:
        progress.notice(
            f"{volume.folder}: needs at most {volume.needed / 1e6:,.1f} MB, has {volume.free / 1e6:,.0f} MB free"
            + ("" if volume.enough else ", which is too little")
        )
    each: Sequence[float | None] = [None] * len(jobs) if seconds is None else seconds
    return {
        str(job.path): Outcome(str(job.path), "planned", output=text_of(job.output), seconds=expected)
        for job, expected in zip(jobs, each, strict=True)
    }


def _tell_of_all(seconds: float, tried: int, total: int, progress: Progress) -> None:
    from hashshield.pipeline.estimate import in_words

    progress.notice(f"tried {tried} of {total} photos; all of them would take {in_words([seconds * total / tried])}")


def _space(jobs: Sequence[Job], request: Request, store: Store) -> SpaceReport:
    sizes = [job.size for job in jobs]
    folders = {job.path.parent for job in jobs} if request.output is None else {_existing(request.output)}
    return preflight(
        sum(sizes),
        store.root,
        folders=sorted(folders),
        largest_bytes=max(sizes),
        backup=request.backup and not request.output,
    )


def _preflight(jobs: Sequence[Job], request: Request, store: Store, agree: Callable[[str], None]) -> None:
    """Check disk space, and ask the user about long or large runs. Raises StorageError if space is short."""
    from hashshield.pipeline.estimate import cores_in_words, in_words, seconds_each, total_seconds

    space = _space(jobs, request, store)
    if space.reason is not None:
        raise StorageError(space.reason)
    seconds = seconds_each(jobs, request)
    asked = []
    if seconds is not None and total_seconds(seconds) > 60 * _LONG_MINUTES:
        asked.append(f"will take {in_words([total_seconds(seconds)])} on {cores_in_words()}")
    if space.more_than_half:
        asked.append("may take more than half of the free disk space")
    if asked:
        agree(f"{len(jobs)} photos {' and '.join(asked)}. Go on?")


def _existing(folder: Path) -> Path:
    """Return the folder, or its nearest parent that exists."""
    return next(place for place in (folder, *folder.absolute().parents) if is_folder(place))


def check(request: Request) -> None:
    """Check the request's values. Raises UsageError for one that no photo can be protected with.

    Raises GoalError for a target that is not there.
    """
    if not 1 / 255 <= request.tau <= 1:
        raise UsageError(
            f"tau is {request.tau}, it must lie in [1/255, 1]: below 1/255 ({1 / 255:.4f}) no pixel can change at all"
        )
    if request.sample is not None and (request.sample < 1 or request.output is None):
        raise UsageError(
            f"sample is {request.sample} and output {request.output}; a number and a folder for copies are needed"
        )
    if request.rename and request.output is None:
        raise UsageError("rename gives copies names that tell nothing; name the folder for copies with output too")
    require_away(request)
    goal = request.goal
    if goal.kind in ("image", "set") and not exists(Path(str(goal.value))):
        raise GoalError(f"{goal.value}: no such file or folder to aim at")
    if request.steps is not None and request.steps < 1:
        raise UsageError(f"steps is {request.steps}, at least 1 is needed")
