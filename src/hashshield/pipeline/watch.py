"""`watch`: protect photos as they arrive in a folder, until told to stop."""

from __future__ import annotations

import gc
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path

from hashshield.errors import HashshieldError, StorageError, UsageError
from hashshield.pipeline.protect import check, protect
from hashshield.storage import Arrivals, FileFingerprint, Store, read_snapshot
from hashshield.types import Outcome, Progress, Request

__all__ = ["SETTLE_SECONDS", "watch"]

SETTLE_SECONDS = 2.0
"""How long nothing may have written to a file before it counts as complete."""

_STEP_MILLISECONDS = 500
"""How often the watcher looks up; with events gathered by the system, this is all that idling costs."""
_TICK_MILLISECONDS = 1000
_BLIND_SECONDS = 60.0
"""How often everything is looked at when the system tells of nothing."""
_SWEEP_SECONDS = 300.0
"""How often everything is looked at: the system forgets events when too many come at once."""


def watch(
    folder: Path,
    request: Request,
    *,
    progress: Progress,
    settle: float = SETTLE_SECONDS,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Protect in place what is in the folder and what arrives, and report each row to `progress`; never returns.

    Links below the folder are not followed. A photo that is already protected, also by an earlier run, is left alone.
    One that failed is tried again after a minute, then after longer pauses; when the folder is moved away or the disk
    is full, this waits. `clock` gives seconds, for all but the pace of looking. Ends by KeyboardInterrupt. Raises
    UsageError (no folder, or the extra `watch` is not installed), CheckpointError, and StorageError for a vault that
    cannot be opened at the start.
    """
    check(request)
    if not folder.is_dir():
        raise UsageError(f"{folder}: is no folder; name the one photos arrive in")
    if find_spec("watchfiles") is None:
        raise UsageError(
            "watching needs the package watchfiles; add it with `pipx inject hashshield watchfiles`, or install "
            "HashShield with the extra watch"
        )
    progress.notice(f"Watching {folder}; end it with Ctrl-C.")

    folder = folder.resolve()
    with Store.open(request.vault) as store:
        root = store.root
        for notice in store.notices:
            progress.notice(notice)
    arrivals = Arrivals(folder, skip=root, exclude=request.exclude, settle=settle, clock=clock)
    swept = None
    for changed in _changes(folder, progress):
        # The first comes when the system is already watching, so nothing falls between the two.
        if changed is None or swept is None or clock() - swept > _SWEEP_SECONDS:
            arrivals.sweep()
            swept = clock()
        arrivals.notice(changed or ())
        ready = arrivals.complete()
        if ready:
            _protect(ready, folder, request, arrivals, progress)


def _changes(folder: Path, progress: Progress) -> Iterator[list[Path] | None]:
    """Yield what the system tells of, about once a second; None when everything has to be looked at. Never ends.

    The system watches a folder, not a path: one that is moved away, unplugged or made anew is watched anew once
    there is a folder of that name again.
    """
    from watchfiles import watch as changes

    while True:
        before = _identity(folder)
        if before is None:
            progress.notice(f"{folder}: is gone; waiting until it is there again")
        while before is None:
            time.sleep(_TICK_MILLISECONDS / 1000)
            before = _identity(folder)
        fresh = True
        try:
            for batch in changes(
                folder,
                watch_filter=None,
                step=_STEP_MILLISECONDS,
                rust_timeout=_TICK_MILLISECONDS,
                yield_on_timeout=True,
                ignore_permission_denied=True,
            ):
                yield None if fresh else [Path(path) for _, path in batch]
                fresh = False
                if _identity(folder) != before:
                    break
        except (OSError, RuntimeError) as error:
            # Also when the system has no more watches to give (inotify's limit): then looking has to do.
            progress.notice(f"{folder}: the system does not tell of new files ({error}); looking every minute instead")
            yield None
            time.sleep(_BLIND_SECONDS)


def _identity(folder: Path) -> tuple[int, int] | None:
    """Device and inode number of a folder; None where there is none or it cannot be looked at."""
    try:
        status = folder.stat()
    except OSError:
        return None
    return (status.st_dev, status.st_ino) if stat.S_ISDIR(status.st_mode) else None


def _protect(ready: list[Path], folder: Path, request: Request, arrivals: Arrivals, progress: Progress) -> None:
    told = _Telling(progress, arrivals)
    try:
        rows = protect(ready, request, progress=told, within=folder)
    except StorageError as error:
        # The disk is full, the vault out of reach: it may pass, and the photos wait for it.
        rows = [Outcome(str(path), "failed", reason=str(error)) for path in ready]
    told.rest(rows)
    for path in ready:
        if str(path) not in told.failed:
            arrivals.succeeded(path)
    if told.worked:
        from hashshield.models.device import return_freed_memory

        # Nothing else may come for days, and the networks' memory would wait for it.
        gc.collect()
        return_freed_memory()


class _Telling:
    """A `Progress` that passes every row on once, and keeps what was written from being taken for an arrival.

    A photo that fails again for the same reason has no second row.
    """

    def __init__(self, progress: Progress, arrivals: Arrivals) -> None:
        self._progress, self._arrivals = progress, arrivals
        self._told: set[str] = set()
        self.failed: set[str] = set()
        self.worked = False
        self.start, self.photo, self.notice = progress.start, progress.photo, progress.notice

    def done(self, outcome: object) -> None:
        """Take a row of work."""
        self.worked = True
        if not isinstance(outcome, Outcome):
            self._progress.done(outcome)
            return
        if outcome.sha256_after is not None:
            self._ours(Path(outcome.path), outcome.sha256_after)
        self._tell(outcome)

    def rest(self, rows: Iterable[Outcome]) -> None:
        """Take the rows that needed no work."""
        for row in rows:
            if row.path not in self._told:
                self._tell(row)

    def _tell(self, row: Outcome) -> None:
        self._told.add(row.path)
        if row.status == "failed":
            self.failed.add(row.path)
            if not self._arrivals.failed(Path(row.path), str(row.reason)):
                return
        self._progress.done(row)

    def _ours(self, path: Path, sha256: str) -> None:
        try:
            now = read_snapshot(path, follow=False)
        except HashshieldError:
            return
        # Somebody may have been quick to put another photo there: then it is an arrival.
        if now.sha256 == sha256:
            self._arrivals.wrote(path, FileFingerprint(now.dev, now.inode, now.size, now.mtime_ns))
