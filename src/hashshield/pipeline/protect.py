"""`protect`: plan, prefilter, carry out what is left. Only the last imports torch: with nothing to do it is quick."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from hashshield import imaging
from hashshield.checkpoints.catalog import full_name
from hashshield.errors import GoalError, PhotoError, StorageError, UsageError
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
    """Protect files and folders; one row per file, sorted by path.

    With `within` the paths are files that were met in that folder, not named: no link below it is followed.
    `agree` is asked before a run that takes long or fills the disk, and raises to stop it. `finish_first` as in
    `execute.carry_out`. Raises UsageError,
    CheckpointError, StorageError (also when space is short) for what concerns the whole run; what concerns one photo
    is a row. Photos are written as they finish, so an interrupted run has protected what it reported.
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

            jobs, rows = sampled_evenly(jobs, request.sample), {}
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
    """Protect one photo's bytes without touching a file; None for bytes that were not protected.

    `notice` is told, before the work, what the user should know.

    Bytes that are some earlier run's result come back as they are, or with `force` start from the vault's original;
    a result that was turned since is `short`, or with `force` starts from there too. Raises UsageError,
    CheckpointError, StorageError for what concerns the request.
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
    """The vault's original of an earlier result of which the metadata was edited, or that was turned; else the same."""
    from hashshield.pipeline.twins import earlier_record

    results = results_of(store)
    if not results:
        return data
    try:
        earlier = earlier_record(imaging.read(data, name=name), digest(data), store, results)
    except PhotoError:
        return data  # the work says why it cannot be read
    return data if earlier is None else store.original(earlier[0])


def check_names(request: Request) -> None:
    """Refuse what can be told without opening a network. Raises UnknownNameError, CheckpointError, GoalError."""
    from hashshield.models.device import choose_device
    from hashshield.pipeline.request import witnesses
    from hashshield.pipeline.rows import method_of

    for name in request.models:
        full_name(name)
    method_of(request)
    witnesses(request)
    choose_device(request.device)
    goal = request.goal
    if goal.kind in ("image", "set") and not Path(str(goal.value)).exists():
        raise GoalError(f"{goal.value}: no such file or folder to aim at")


def _planned(jobs: Sequence[Job], request: Request, store: Store, progress: Progress) -> dict[str, Outcome]:
    """The rows of a dry run, with what each is expected to take; what all need of the disks is told."""
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
        store,
        folders=sorted(folders),
        largest_bytes=max(sizes),
        backup=request.backup and not request.output,
    )


def _preflight(jobs: Sequence[Job], request: Request, store: Store, agree: Callable[[str], None]) -> None:
    """Look before byte one: room on the disks, and a word with the user about long or large runs."""
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
    """The folder, or the nearest one above it that is already there."""
    return next(place for place in (folder, *folder.absolute().parents) if place.is_dir())


def check(request: Request) -> None:
    """Refuse what no photo can be protected with. Raises UsageError."""
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
    if request.steps is not None and request.steps < 1:
        raise UsageError(f"steps is {request.steps}, at least 1 is needed")
