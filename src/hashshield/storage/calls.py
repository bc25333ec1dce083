"""Every call of this package that changes a file system, one thin function each.

They are gathered here for one reason: the fault tests must be able to stop, fail or record each of them. `observe`
is that private hook; nothing outside the tests sets it. The observer is told of a call just before it is made, with
the call's name and arguments, and may raise OSError in its stead or end the process.
"""

from __future__ import annotations

import errno
import os
import sys
import time
from collections.abc import Callable

__all__ = [
    "CHUNK_BYTES",
    "DIR_FD",
    "OPEN_FILES_BLOCK",
    "CallObserver",
    "change_group",
    "change_mode",
    "change_owner",
    "create",
    "link",
    "make_folder",
    "observe",
    "remove",
    "remove_attribute",
    "rename",
    "reopen",
    "set_attribute",
    "set_times",
    "step",
    "sync",
    "sync_folder",
    "truncate",
    "write",
]

CallObserver = Callable[[str, tuple[object, ...]], None]

CHUNK_BYTES = 1 << 20
"""Largest single write; a full disk or a kill then shows within a megabyte."""

DIR_FD = os.open in os.supports_dir_fd and os.rename in os.supports_dir_fd
"""Whether files can be named relative to a held folder; where not (Windows), full paths are used."""

OPEN_FILES_BLOCK = sys.platform == "win32"
"""Whether a file that another program has open cannot be replaced: a viewer, an indexer or a virus scanner, mostly for
a moment."""
_PAUSES_SECONDS = (0.02, 0.05, 0.1, 0.2, 0.3, 0.4)

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
_CREATE |= getattr(os, "O_BINARY", 0)
_REOPEN = _CREATE & ~os.O_EXCL
_NO_FOLDER_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.EBADF}

_observer: CallObserver | None = None


def observe(observer: CallObserver | None) -> None:
    """Call `observer(name, arguments)` before each step from now on; None ends it. For tests."""
    global _observer
    _observer = observer


def step(name: str, *arguments: object) -> None:
    """Announce a step that is about to be taken."""
    if _observer is not None:
        _observer(name, arguments)


def create(name: str, folder: int | None) -> int:
    """Create a file that did not exist, mode 0600, and return its descriptor."""
    step("create", name, folder)
    return os.open(name, _CREATE, 0o600, dir_fd=folder)


def reopen(name: str, folder: int | None) -> int:
    """Open a file for writing, made with mode 0600 if it is missing, and return its descriptor."""
    step("reopen", name, folder)
    return os.open(name, _REOPEN, 0o600, dir_fd=folder)


def truncate(descriptor: int, length: int) -> None:
    """Cut a file to `length` bytes and go on from there."""
    step("truncate", descriptor, length)
    os.ftruncate(descriptor, length)
    os.lseek(descriptor, length, os.SEEK_SET)


def write(descriptor: int, data: bytes) -> None:
    """Write all of `data`, however few bytes each call takes."""
    view = memoryview(data)
    while view:
        chunk = view[:CHUNK_BYTES]
        step("write", descriptor, chunk)
        view = view[os.write(descriptor, chunk) :]


def sync(descriptor: int) -> None:
    """Return only when the file's bytes are on the medium."""
    step("sync", descriptor)
    _flush(descriptor)


def sync_folder(descriptor: int | None) -> None:
    """Return only when the folder's names are on the medium, as far as the file system offers that at all."""
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
    """Put `source` in the place of `target`, at once; where a reader blocks that, tried again for a second."""
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


def set_attribute(descriptor: int, name: str, value: bytes) -> None:
    """Set one extended attribute."""
    step("set_attribute", descriptor, name)
    os.setxattr(descriptor, name, value)


def remove_attribute(descriptor: int, name: str) -> None:
    """Remove one extended attribute."""
    step("remove_attribute", descriptor, name)
    os.removexattr(descriptor, name)
