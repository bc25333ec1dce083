"""`protect`: plan, then carry out what is left. Only that imports torch, so a run with nothing to do is quick."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from hashshield.checkpoints.catalog import full_name
from hashshield.errors import GoalError, StorageError, UsageError
from hashshield.pipeline.look import look
from hashshield.pipeline.plan import Job, already, plan, text_of
from hashshield.storage import Store, digest, preflight
from hashshield.types import Outcome, Progress, Request

__all__ = ["protect", "protect_bytes"]

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
        elif left := look(todo.jobs, request, store, rows):
            from hashshield.pipeline.execute import carry_out

            _preflight(left, request, store, agree)
            progress.start(len(left))
            for row in carry_out(left, request, store, progress):
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

        from hashshield.pipeline.execute import make_tools
        from hashshield.pipeline.rows import row_of
        from hashshield.pipeline.work import Source, work

        tools = make_tools(request, store.key())
    source = Source(name, data, digest(data))
    (result,) = work([source], tools)
    row = row_of(result, Path(name), None, request)
    return (result.data if row.status in ("protected", "partial") else None), row


def _check_names(request: Request) -> None:
    """What a dry run can tell without opening a network. Raises UnknownNameError, CheckpointError, GoalError."""
    from hashshield.models.device import choose_device
    from hashshield.pipeline.rows import method_of

    for name in request.models:
        full_name(name)
    method_of(request)
    choose_device(request.device)
    goal = request.goal
    if goal.kind in ("image", "set") and not Path(str(goal.value)).exists():
        raise GoalError(f"{goal.value}: no such file or folder to aim at")


def _preflight(jobs: Sequence[Job], request: Request, store: Store, agree: Callable[[str], None]) -> None:
    """Look before byte one: room on the disks, and a word with the user about long or large runs."""
    from hashshield.pipeline.rows import method_of

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
