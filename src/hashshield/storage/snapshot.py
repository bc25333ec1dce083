"""Step one of the in-place protocol: what a file held, and which file it was."""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

from hashshield.errors import ChangedError, PhotoError
from hashshield.storage.folder import Folder
from hashshield.storage.os_errors import explain

__all__ = ["LIMIT_BYTES", "Snapshot", "digest", "read_file", "read_snapshot", "snapshot_of"]

LIMIT_BYTES = 1 << 30
"""Files larger than this are not read: no photograph is, and two copies must fit into memory."""

_KINDS = (
    (stat.S_ISLNK, "a symbolic link, and links are followed only when named as arguments"),
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A file's bytes and the identity of the file and folder they were read from."""

    path: Path
    """Absolute and without symbolic links as of reading."""
    data: bytes = field(repr=False)
    sha256: str
    folder_dev: int
    folder_inode: int
    dev: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int
    mode: int
    """Permission bits only."""
    uid: int
    gid: int
    nlink: int


def digest(data: bytes) -> str:
    """Return the SHA-256 of `data` in lower-case hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def read_snapshot(path: Path, *, follow: bool, within: Path | None = None, limit_bytes: int = LIMIT_BYTES) -> Snapshot:
    """Read a regular file once, together with everything needed to recognise it again.

    `follow` is for a path the user named: a link is resolved once, here, and its target is what will be replaced.
    For files met in a folder, give the folder the user named as `within`: no link below it is followed.
    Raises PhotoError for anything that is not a readable regular file, ChangedError if it changed while being read.
    """
    try:
        target = Path(os.path.realpath(path, strict=True)) if follow else path
        with Folder.open(target.parent, within=None if follow else within) as folder:
            return snapshot_of(folder, target.name, limit_bytes=limit_bytes)
    except OSError as error:
        raise PhotoError(f"{path}: cannot be read: {explain(error)}") from error
    except ValueError as error:
        raise PhotoError(f"{path}: cannot be read: {error}") from error


def snapshot_of(folder: Folder, name: str, *, limit_bytes: int = LIMIT_BYTES) -> Snapshot:
    """Read one file of an open folder; raises OSError, PhotoError and ChangedError."""
    path = folder.path / name
    # Looked at before opening: opening a device can have effects of its own.
    _require_regular(path, folder.stat(name))
    descriptor = folder.open_file(name)
    try:
        before = os.fstat(descriptor)
        _require_regular(path, before)
        if before.st_size > limit_bytes:
            raise PhotoError(f"{path}: {before.st_size} bytes are more than the {limit_bytes} a photo may have")
        data = read_file(descriptor, limit_bytes)
        after = os.fstat(descriptor)
    finally:
        os.close(descriptor)
    if len(data) != after.st_size or not same_content_times(before, after):
        raise ChangedError(f"{path}: changed while it was being read; run again when nothing else writes to it")
    held = folder.status()
    return Snapshot(
        path=path,
        data=data,
        sha256=digest(data),
        folder_dev=held.st_dev,
        folder_inode=held.st_ino,
        dev=after.st_dev,
        inode=after.st_ino,
        size=after.st_size,
        mtime_ns=after.st_mtime_ns,
        ctime_ns=after.st_ctime_ns,
        mode=stat.S_IMODE(after.st_mode),
        uid=after.st_uid,
        gid=after.st_gid,
        nlink=after.st_nlink,
    )


def read_file(descriptor: int, limit_bytes: int) -> bytes:
    """Read to the end, or one byte past the limit."""
    parts = []
    left = limit_bytes + 1
    while left > 0:
        part = os.read(descriptor, min(left, 1 << 24))
        if not part:
            break
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def same_content_times(one: os.stat_result, other: os.stat_result) -> bool:
    """Whether two looks at a file show the same file with the same size and modification time."""
    return (one.st_dev, one.st_ino, one.st_size, one.st_mtime_ns) == (
        other.st_dev,
        other.st_ino,
        other.st_size,
        other.st_mtime_ns,
    )


def _require_regular(path: Path, status: os.stat_result) -> None:
    if stat.S_ISREG(status.st_mode):
        return
    kind = next((words for test, words in _KINDS if test(status.st_mode)), "no regular file")
    raise PhotoError(f"{path}: is {kind}; name a regular file")
