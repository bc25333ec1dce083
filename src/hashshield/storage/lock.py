"""One writer at a time: an advisory lock on a file, released by the kernel if its holder dies."""

from __future__ import annotations

import errno
import os
import sys
import threading
import time
from pathlib import Path
from types import TracebackType

from hashshield.errors import StorageError

__all__ = ["WAIT_SECONDS", "Lock"]

WAIT_SECONDS = 60.0
_POLL_SECONDS = 0.01
_BUSY = {errno.EAGAIN, errno.EACCES, errno.EDEADLK}

if sys.platform == "win32":
    import msvcrt

    def _try_lock(descriptor: int) -> None:
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)

    def _unlock(descriptor: int) -> None:
        os.lseek(descriptor, 0, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)
else:
    import fcntl

    def _try_lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _unlock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_UN)


class Lock:
    """Excludes other processes, and other threads of this one; may be entered again by the thread that holds it."""

    def __init__(self, path: Path | None, *, wait_seconds: float = WAIT_SECONDS) -> None:
        """Open or create the lock file; None where nothing can be written, and only threads need to be kept apart."""
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
        self._path = path
        self._wait_seconds = wait_seconds
        self._descriptor = -1 if path is None else os.open(path, flags, 0o600)
        self._threads = threading.RLock()
        self._depth = 0

    def __enter__(self) -> Lock:
        self._threads.acquire()
        try:
            if self._depth == 0 and self._path is not None:
                self._wait()
            self._depth += 1
        except BaseException:
            self._threads.release()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._depth -= 1
            if self._depth == 0 and self._path is not None:
                _unlock(self._descriptor)
        finally:
            self._threads.release()

    def _wait(self) -> None:
        deadline = time.monotonic() + self._wait_seconds
        while True:
            try:
                _try_lock(self._descriptor)
                return
            except OSError as error:
                if error.errno not in _BUSY:
                    raise StorageError(
                        f"{self._path}: cannot be locked ({error.strerror}); choose a folder on a local disk"
                    ) from error
                if time.monotonic() > deadline:
                    raise StorageError(
                        f"{self._path}: another HashShield process has held the lock for {self._wait_seconds:.0f} s; "
                        "let it finish or end it, then run again"
                    ) from error
            time.sleep(_POLL_SECONDS)

    def close(self) -> None:
        """Let go of the lock file; may be called twice."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)
