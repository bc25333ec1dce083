"""`watch`: protect photos as they arrive in a folder, until told to stop."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

from hashshield.errors import HashshieldError, UsageError
from hashshield.pipeline.run import check, protect
from hashshield.storage import Arrivals, FileFingerprint, Store, read_snapshot
from hashshield.types import Outcome, Progress, Request

__all__ = ["SETTLE_SECONDS", "watch"]

SETTLE_SECONDS = 2.0
"""How long nothing may have written to a file before it counts as complete."""

_STEP_MILLISECONDS = 500
"""How often the watcher looks up; with events gathered by the system, this is all that idling costs."""
_TICK_MILLISECONDS = 1000
_SWEEP_SECONDS = 300.0
"""How often everything is looked at: the system forgets events when too many come at once."""


def watch(folder: Path, request: Request, *, progress: Progress, settle: float = SETTLE_SECONDS) -> None:
    """Protect in place what is in the folder and what arrives, and report each row to `progress`; never returns.

    Links below the folder are not followed. A photo that is already protected, also by an earlier run, is left alone.
    Ends by KeyboardInterrupt. Raises UsageError (no folder, or the extra `watch` is not installed), and what `protect`
    raises for a whole run.
    """
    check(request)
    if not folder.is_dir():
        raise UsageError(f"{folder}: is no folder; name the one photos arrive in")
    if find_spec("watchfiles") is None:
        raise UsageError("watching needs the package watchfiles; install HashShield with the extra watch")
    from watchfiles import watch as changes

    folder = folder.resolve()
    with Store.open(request.vault) as store:
        root = store.root
        for notice in store.notices:
            progress.notice(notice)
    arrivals = Arrivals(folder, skip=root, exclude=request.exclude, settle=settle, clock=time.monotonic)
    swept = None
    for batch in changes(
        folder,
        watch_filter=None,
        step=_STEP_MILLISECONDS,
        rust_timeout=_TICK_MILLISECONDS,
        yield_on_timeout=True,
        ignore_permission_denied=True,
    ):
        # The first comes when the system is already watching, so nothing falls between the two.
        if swept is None or time.monotonic() - swept > _SWEEP_SECONDS:
            arrivals.sweep()
            swept = time.monotonic()
        arrivals.notice(Path(path) for _, path in batch)
        ready = arrivals.complete()
        if ready:
            _protect(ready, folder, request, arrivals, progress)


def _protect(ready: list[Path], folder: Path, request: Request, arrivals: Arrivals, progress: Progress) -> None:
    told = _Telling(progress, arrivals)
    rows = protect(ready, request, progress=told, within=folder)
    told.rest(rows)
    if told.worked:
        from hashshield.models.device import return_freed_memory

        # Nothing else may come for days, and the networks' memory would wait for it.
        gc.collect()
        return_freed_memory()


class _Telling:
    """A `Progress` that passes every row on once, and keeps what was written from being taken for an arrival."""

    def __init__(self, progress: Progress, arrivals: Arrivals) -> None:
        self._progress, self._arrivals = progress, arrivals
        self._told: set[str] = set()
        self.worked = False
        self.start, self.photo, self.notice = progress.start, progress.photo, progress.notice

    def done(self, outcome: object) -> None:
        """Take a row of work."""
        self.worked = True
        if isinstance(outcome, Outcome):
            self._told.add(outcome.path)
            if outcome.sha256_after is not None:
                self._ours(Path(outcome.path), outcome.sha256_after)
        self._progress.done(outcome)

    def rest(self, rows: Iterable[Outcome]) -> None:
        """Take the rows that needed no work."""
        for row in rows:
            if row.path not in self._told:
                self._progress.done(row)

    def _ours(self, path: Path, sha256: str) -> None:
        try:
            now = read_snapshot(path, follow=False)
        except HashshieldError:
            return
        # Somebody may have been quick to put another photo there: then it is an arrival.
        if now.sha256 == sha256:
            self._arrivals.wrote(path, FileFingerprint(now.dev, now.inode, now.size, now.mtime_ns))
