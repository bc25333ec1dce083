"""Thin wrappers of all system calls of this package that change a file system, and explanations of their errors.

The calls are gathered here so that the fault tests can stop, fail or record each of them. Only tests use the hook
`observe`: just before a call, the observer gets its name and arguments, and may raise OSError or end the process. The
module also holds `ErrorLog`, which appends internal errors to a private log beside the ledger.
"""

from __future__ import annotations

import errno
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from hashshield.boundary import LogFormatter, logger
from hashshield.errors import StorageError

__all__ = [
    "CHUNK_BYTES",
    "DIR_FD",
    "LOG_NAME",
    "OPEN_FILES_BLOCK",
    "CallObserver",
    "ErrorLog",
    "change_group",
    "change_mode",
    "change_mode_of",
    "change_owner",
    "create",
    "explain",
    "link",
    "make_folder",
    "observe",
    "remove",
    "remove_attribute",
    "rename",
    "reopen",
    "set_attribute",
    "set_times",
    "set_times_of",
    "step",
    "storage_errors",
    "sync",
    "sync_folder",
    "truncate",
    "write",
]


CallObserver = Callable[[str, tuple[object, ...]], None]

CHUNK_BYTES = 1 << 20
"""Largest single write, so that tests can interrupt a file after each megabyte."""

DIR_FD = os.open in os.supports_dir_fd and os.rename in os.supports_dir_fd
"""Whether files can be named relative to an open folder; otherwise (Windows) full paths are used."""

OPEN_FILES_BLOCK = sys.platform == "win32"
"""Whether a file cannot be replaced while another program has it open; viewers, indexers and virus scanners mostly do
so for a moment."""
_PAUSES_SECONDS = (0.02, 0.05, 0.1, 0.2, 0.3, 0.4)

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
_CREATE |= getattr(os, "O_BINARY", 0)
_REOPEN = _CREATE & ~os.O_EXCL
_NO_FOLDER_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.EBADF}

_observer: CallObserver | None = None


def observe(observer: CallObserver | None) -> None:
    """Call `observer(name, arguments)` before each step from now on; None stops that. For tests."""
    global _observer
    _observer = observer


def step(name: str, *arguments: object) -> None:
    """Tell the observer of a step that is about to be taken."""
    if _observer is not None:
        _observer(name, arguments)


def create(name: str, folder: int | None) -> int:
    """Create a file that did not exist, mode 0600, and return its descriptor."""
    step("create", name, folder)
    return os.open(name, _CREATE, 0o600, dir_fd=folder)


def reopen(name: str, folder: int | None) -> int:
    """Open a file for writing, created with mode 0600 if it is missing, and return its descriptor."""
    step("reopen", name, folder)
    return os.open(name, _REOPEN, 0o600, dir_fd=folder)


def truncate(descriptor: int, length: int) -> None:
    """Cut a file to `length` bytes and move its position there."""
    step("truncate", descriptor, length)
    os.ftruncate(descriptor, length)
    os.lseek(descriptor, length, os.SEEK_SET)


def write(descriptor: int, data: bytes) -> None:
    """Write all of `data`, in as many calls as necessary."""
    view = memoryview(data)
    while view:
        chunk = view[:CHUNK_BYTES]
        step("write", descriptor, chunk)
        view = view[os.write(descriptor, chunk) :]


def sync(descriptor: int) -> None:
    """Flush the file's bytes to the medium."""
    step("sync", descriptor)
    _flush(descriptor)


def sync_folder(descriptor: int | None) -> None:
    """Flush the folder's names to the medium, if the file system supports that."""
    if descriptor is None:
        return
    step("sync_folder", descriptor)
    try:
        _flush(descriptor)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise


def _flush(descriptor: int) -> None:
    if sys.platform == "darwin":
        import fcntl

        # fsync on macOS stops at the drive's cache.
        try:
            fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
        except OSError:
            os.fsync(descriptor)
    else:
        os.fsync(descriptor)


def rename(source: str, target: str, folder: int | None) -> None:
    """Rename `source` to `target`, atomically; if open readers can block that, retry for about a second."""
    step("rename", source, target, folder)
    for pause in _PAUSES_SECONDS if OPEN_FILES_BLOCK else ():
        try:
            os.replace(source, target, src_dir_fd=folder, dst_dir_fd=folder)
        except PermissionError:
            time.sleep(pause)
        else:
            return
    os.replace(source, target, src_dir_fd=folder, dst_dir_fd=folder)


def link(source: str, target: str, folder: int | None) -> None:
    """Give `source` a second name; fails if `target` exists."""
    step("link", source, target, folder)
    if folder is None:
        os.link(source, target)
    else:
        follow = os.link not in os.supports_follow_symlinks
        os.link(source, target, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=follow)


def remove(name: str, folder: int | None) -> None:
    """Remove one name."""
    step("remove", name, folder)
    os.unlink(name, dir_fd=folder)


def make_folder(name: str, mode: int, folder: int | None) -> None:
    """Create a folder; `mode` is subject to the umask."""
    step("make_folder", name, mode, folder)
    os.mkdir(name, mode, dir_fd=folder)


def change_mode(descriptor: int, mode: int) -> None:
    """Set the permission bits."""
    step("change_mode", descriptor, mode)
    os.fchmod(descriptor, mode)


def change_mode_of(path: Path, mode: int) -> None:
    """Set the permission bits of a file by its name."""
    step("change_mode", path, mode)
    path.chmod(mode)


def change_owner(descriptor: int, uid: int) -> None:
    """Set the owner."""
    step("change_owner", descriptor, uid)
    os.fchown(descriptor, uid, -1)


def change_group(descriptor: int, gid: int) -> None:
    """Set the group."""
    step("change_group", descriptor, gid)
    os.fchown(descriptor, -1, gid)


def set_times(descriptor: int, atime_ns: int, mtime_ns: int) -> None:
    """Set the times of last access and modification."""
    step("set_times", descriptor, mtime_ns)
    os.utime(descriptor, ns=(atime_ns, mtime_ns))


def set_times_of(path: Path, atime_ns: int, mtime_ns: int) -> None:
    """Set the times of last access and modification of a file by its name."""
    step("set_times", path, mtime_ns)
    os.utime(path, ns=(atime_ns, mtime_ns))


def set_attribute(descriptor: int, name: str, value: bytes) -> None:
    """Set one extended attribute."""
    step("set_attribute", descriptor, name)
    os.setxattr(descriptor, name, value)


def remove_attribute(descriptor: int, name: str) -> None:
    """Remove one extended attribute."""
    step("remove_attribute", descriptor, name)
    os.removexattr(descriptor, name)


_ADVICE = {
    errno.ENOSPC: "the disk is full; free some space and run again",
    errno.EDQUOT: "the disk quota is used up; free some space and run again",
    errno.EFBIG: "the file is larger than the file system or this process may write; raise the limit",
    errno.EIO: "the disk reported an error; check the disk before anything else",
    errno.EROFS: "the file system is mounted read-only; mount it for writing or copy the photos elsewhere",
    errno.EACCES: "permission denied; check who owns it and whether this user may read and write there",
    errno.EPERM: "not permitted; check who owns the file and whether it is marked immutable",
    errno.ENOENT: "it is not there",
    errno.ELOOP: "it is a symbolic link, and links are followed only when named as arguments",
    errno.ENOTDIR: "it is not a folder (or a symbolic link to one, which is not followed)",
    errno.ENAMETOOLONG: "the name is too long for this file system",
    errno.EEXIST: "it exists already",
}
LOG_NAME = "errors.log"
_LARGEST_BYTES = 256 * 1024
"""Size at which the log is renamed to `errors.log.1`, replacing the previous one."""


def explain(error: OSError) -> str:
    """Return a clause that says what went wrong and what to do."""
    advice = _ADVICE.get(error.errno or 0)
    system = error.strerror or type(error).__name__
    return f"{advice} ({system})" if advice else system


@contextmanager
def storage_errors(doing: str) -> Iterator[None]:
    """Turn an OSError into a StorageError whose message begins with `doing` ("writing /photos/a.jpg")."""
    try:
        yield
    except OSError as error:
        raise StorageError(f"{doing}: {explain(error)}") from error


class ErrorLog(logging.Handler):
    """Appends each internal error to the log in the vault folder.

    Failures to log are ignored: a full disk or a read-only vault must not end the run. With the logger at DEBUG
    (--verbose) entries include messages and names of photos.
    """

    def __init__(self, root: Path) -> None:
        super().__init__(logging.ERROR)
        self._path = root / LOG_NAME

    def attach(self) -> ErrorLog:
        """Start listening to the package's logger; return self."""
        logger.addHandler(self)
        return self

    def close(self) -> None:
        """Stop listening; may be called twice."""
        logger.removeHandler(self)
        super().close()

    def emit(self, record: logging.LogRecord) -> None:
        """Append one entry, mode 0600, never through a link."""
        text = LogFormatter(names=logger.isEnabledFor(logging.DEBUG)).format(record)
        try:
            self._rotate()
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
            descriptor = os.open(self._path, flags, 0o600)
            try:
                os.write(descriptor, f"{text}\n".encode())
            finally:
                os.close(descriptor)
        except OSError:
            return

    def _rotate(self) -> None:
        try:
            if self._path.lstat().st_size < _LARGEST_BYTES:
                return
        except FileNotFoundError:
            return
        os.replace(self._path, self._path.with_name(f"{LOG_NAME}.1"))  # noqa: PTH105 -- beside os.open
