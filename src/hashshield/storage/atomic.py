"""Atomic writes: files are written by one process at a time, and completely or not at all.

`put` is the only function that writes files: temporary file, flush, rename, flush. Copies that are not in the ledger (a
fleet's) and report pages go through it too.
"""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from filelock import FileLock, Timeout

from hashshield.errors import ChangedError, StorageError, UsageError
from hashshield.paths import is_folder
from hashshield.storage import calls
from hashshield.storage.calls import storage_errors
from hashshield.storage.folder import Attributes, Folder, temporary_name

__all__ = [
    "PRIVATE",
    "WAIT_SECONDS",
    "Lock",
    "check_page",
    "locked",
    "put",
    "put_page",
    "remove_file",
    "sweep_temporaries",
    "write_copy",
]

WAIT_SECONDS = 60.0
_POLL_SECONDS = 0.01
# Errors of file systems without hard links (FAT, some network ones).
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EINVAL}

PRIVATE = Attributes(mode=0o600)


class Lock:
    """A lock against other processes and other threads; the thread that holds it may enter it again."""

    def __init__(self, path: Path | None, *, wait_seconds: float = WAIT_SECONDS) -> None:
        """Open or create the lock file; with None, for folders that cannot be written, lock out only threads.

        Raises OSError, also if the file is a link.
        """
        self._path, self._wait_seconds = path, wait_seconds
        self._threads = threading.RLock()
        self._file: FileLock | None = None
        if path is not None:
            # Created here, so that opening a folder that cannot be written fails at once.
            flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
            os.close(os.open(path, flags, 0o600))
            # `_threads` separates threads; the file lock belongs to the whole object.
            self._file = FileLock(path, timeout=wait_seconds, mode=0o600, thread_local=False, fallback_to_soft=False)

    def __enter__(self) -> Lock:
        self._threads.acquire()
        try:
            if self._file is not None:
                self._file.acquire(poll_interval=_POLL_SECONDS)
        except Timeout as error:
            self._threads.release()
            raise StorageError(
                f"{self._path}: another HashShield process has held the lock for {self._wait_seconds:.0f} s; "
                "let it finish or end it, then run again"
            ) from error
        except (OSError, NotImplementedError) as error:
            self._threads.release()
            reason = getattr(error, "strerror", None) or str(error)
            raise StorageError(f"{self._path}: cannot be locked ({reason}); choose a folder on a local disk") from error
        except BaseException:
            self._threads.release()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._file is not None:
                self._file.release()
        finally:
            self._threads.release()

    def close(self) -> None:
        """Release the lock file; may be called twice."""
        if self._file is not None:
            self._file.release(force=True)


def put(
    folder: Folder,
    name: str,
    data: bytes,
    *,
    temporary: str,
    attributes: Attributes = PRIVATE,
    check: Callable[[], None] | None = None,
    overwrite: bool = True,
) -> None:
    """Write `data` to the file `name`, or leave everything as it was.

    `check` runs just before the rename; an exception it raises stops the replacement. Raises OSError (FileExistsError
    without `overwrite`), StorageError from `attributes`, ChangedError, and the exceptions of `check`.
    """
    try:
        made = _fill(folder, temporary, data, attributes, what=str(folder.path / name))
        attributes.apply_by_name(folder.path / temporary)
        if check is not None:
            check()
        now = folder.stat(temporary)
        if (now.st_dev, now.st_ino, now.st_size) != (made.st_dev, made.st_ino, len(data)):
            raise ChangedError(f"{folder.path / temporary}: something replaced the temporary file; nothing was changed")
        if overwrite:
            folder.rename(temporary, name)
        else:
            _rename_to_new(folder, temporary, name)
    except BaseException:
        folder.remove(temporary)
        raise
    folder.sync()


def _fill(folder: Folder, temporary: str, data: bytes, attributes: Attributes, *, what: str) -> os.stat_result:
    descriptor = folder.create(temporary)
    try:
        calls.write(descriptor, data)
        attributes.give_to(descriptor, what=what)
        calls.sync(descriptor)
        return os.fstat(descriptor)
    finally:
        os.close(descriptor)


def _rename_to_new(folder: Folder, temporary: str, name: str) -> None:
    try:
        # A rename would silently replace a file created meanwhile; a link fails instead.
        folder.link(temporary, name)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
    else:
        folder.remove(temporary)
        return
    try:
        folder.stat(name)
    except FileNotFoundError:
        folder.rename(temporary, name)
        return
    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(folder.path / name))


def write_copy(
    path: Path, data: bytes, *, mode: int = 0o600, mtime_ns: int | None = None, overwrite: bool = True
) -> None:
    """Write `data` to the file, creating missing folders, and with `overwrite` replacing an existing one.

    Raises StorageError, also for an existing file without `overwrite`.
    """
    with storage_errors(f"writing {path}"), Folder.made(path.parent) as folder:
        attributes = Attributes(mode=mode, mtime_ns=mtime_ns)
        put(folder, path.name, data, temporary=temporary_name(), attributes=attributes, overwrite=overwrite)


def remove_file(path: Path) -> None:
    """Remove a file; do nothing if it does not exist. Raises StorageError."""
    with storage_errors(f"removing {path}"), Folder.open(path.parent) as folder:
        folder.remove(path.name)


def sweep_temporaries(directory: Path) -> None:
    """Remove the temporary files of killed writers; nobody may be writing to the folder. Raises StorageError."""
    with storage_errors(f"cleaning {directory}"), Folder.open(directory) as folder:
        for name in folder.temporaries():
            folder.remove(name)


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Keep other processes out of a folder, created (mode 0700) if necessary. Raises StorageError."""
    with storage_errors(f"opening {directory}"), Folder.made(directory.parent), Folder.made(directory, mode=0o700):
        lock = Lock(directory / "lock", wait_seconds=0)
    try:
        with lock:
            yield
    finally:
        lock.close()


def check_page(path: Path, *, mark: bytes | None = None) -> None:
    """Raise the UsageError or StorageError with which `put_page` would refuse this path."""
    if not is_folder(path.parent):
        raise UsageError(f"{path}: its folder {path.parent} does not exist; make it or name another")
    with storage_errors(f"looking at {path}"), Folder.open(path.parent) as folder:
        _is_ours(folder, path, mark)


def put_page(path: Path, data: bytes, *, mark: bytes | None = None) -> None:
    """Write a file of mode 0600; an existing file is replaced only if it begins with `mark`, never without a mark.

    The folder must exist; a link is not followed. Raises UsageError, StorageError.
    """
    with storage_errors(f"writing {path}"), Folder.open(path.parent) as folder:
        there = _is_ours(folder, path, mark)
        put(folder, path.name, data, temporary=temporary_name(), overwrite=there)


def _is_ours(folder: Folder, path: Path, mark: bytes | None) -> bool:
    """Return whether a file that begins with `mark` exists. Raises UsageError for any other existing file."""
    try:
        regular = stat.S_ISREG(folder.stat(path.name).st_mode)
    except FileNotFoundError:
        return False
    found = b""
    if regular and mark is not None:
        descriptor = folder.open_file(path.name)
        try:
            found = os.read(descriptor, len(mark))
        finally:
            os.close(descriptor)
    if found != mark:
        what = "exists" if mark is None else "exists and is none of these pages"
        raise UsageError(f"{path}: {what}, so it is left as it is; name another file")
    return True
