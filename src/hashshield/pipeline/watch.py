"""`watch`: protect photos as they arrive in a folder, until interrupted."""

from __future__ import annotations

import gc
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path

from hashshield.errors import HashshieldError, StorageError, UsageError
from hashshield.paths import is_folder
from hashshield.pipeline.protect import check, protect
from hashshield.storage import Arrivals, FileFingerprint, Store, read_snapshot
from hashshield.types import Outcome, Progress, Request

__all__ = ["SETTLE_SECONDS", "watch"]

SETTLE_SECONDS = 2.0
"""Seconds without a write after which a file counts as complete."""

_STEP_MILLISECONDS = 500
"""Interval at which the watcher collects events from the system; the only cost of idling."""
_TICK_MILLISECONDS = 1000
"""Longest wait for events, after which files are checked for completeness anyway."""
_BLIND_SECONDS = 60.0
"""Interval between scans of the whole folder if the system reports no events."""
_SWEEP_SECONDS = 300.0
"""Interval between scans of the whole folder otherwise: the system drops events when too many come at once."""


def watch(
    folder: Path,
    request: Request,
    *,
    progress: Progress,
    settle: float = SETTLE_SECONDS,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Protect in place the photos in a folder and those that arrive; report each row to `progress`; never return.

    Links below the folder are not followed. Photos that are protected already are left unchanged. One that failed is
    tried again after a minute, then after longer pauses. If the folder is moved away or the disk is full, wait until
    that changes. A file is complete after `settle` seconds without a write. `clock` returns seconds; the polling
    interval does not depend on it. Ends by KeyboardInterrupt. Raises UsageError (no such folder, or the extra `watch`
    is not installed), CheckpointError, and StorageError if the vault cannot be opened at the start.
    """
    check(request)
    if not is_folder(folder):
        raise UsageError(f"{folder}: is not a folder; name the folder where photos arrive")
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
        # The first item comes when the system is already watching, so no arrival is missed between sweep and watch.
        if changed is None or swept is None or clock() - swept > _SWEEP_SECONDS:
            arrivals.sweep()
            swept = clock()
        arrivals.notice(changed or ())
        ready = arrivals.complete()
        if ready:
            _protect(ready, folder, request, arrivals, progress)


def _changes(folder: Path, progress: Progress) -> Iterator[list[Path] | None]:
    """Yield the paths of the system's events, about once a second; None when the whole folder must be scanned.

    The system watches a directory, not a path. If the folder is moved, unplugged or recreated, the watch starts again
    once a folder with that name exists. Never ends.
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
            # For example at inotify's limit of watches: scan the folder instead.
            progress.notice(f"{folder}: the system does not tell of new files ({error}); looking every minute instead")
            yield None
            time.sleep(_BLIND_SECONDS)


def _identity(folder: Path) -> tuple[int, int] | None:
    """Return (device, inode) of a folder; None if it does not exist or cannot be read."""
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
        # Disk full or vault out of reach: this may pass, so the photos are tried again later.
        rows = [Outcome(str(path), "failed", reason=str(error)) for path in ready]
    told.rest(rows)
    for path in ready:
        if str(path) not in told.failed:
            arrivals.succeeded(path)
    if told.worked:
        from hashshield.models.device import return_freed_memory

        # The next photo may arrive in days; release the networks' memory until then.
        gc.collect()
        return_freed_memory()


class _Telling:
    """A `Progress` that passes each row on once, and tells `Arrivals` which files this process wrote itself.

    A photo that fails again for the same reason gets no second row.
    """

    def __init__(self, progress: Progress, arrivals: Arrivals) -> None:
        self._progress, self._arrivals = progress, arrivals
        self._told: set[str] = set()
        self.failed: set[str] = set()
        self.worked = False
        self.start, self.photo, self.notice = progress.start, progress.photo, progress.notice

    def done(self, outcome: object) -> None:
        """Pass on the row of a photo that was processed."""
        self.worked = True
        if not isinstance(outcome, Outcome):
            self._progress.done(outcome)
            return
        if outcome.sha256_after is not None:
            self._ours(Path(outcome.path), outcome.sha256_after)
        self._tell(outcome)

    def rest(self, rows: Iterable[Outcome]) -> None:
        """Pass on the rows of photos that needed no work."""
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
        # If another photo was put there meanwhile, that one is an arrival.
        if now.sha256 == sha256:
            self._arrivals.wrote(path, FileFingerprint(now.dev, now.inode, now.size, now.mtime_ns))
