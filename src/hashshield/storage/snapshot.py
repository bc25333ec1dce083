"""The first steps of replacing a file: read it once, refuse what is unsafe, and later confirm that it is unchanged."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import BinaryIO

from hashshield.errors import ChangedError, NotAPhotoError, PhotoError, StorageError
from hashshield.storage.calls import explain, storage_errors
from hashshield.storage.folder import Attributes, Folder

__all__ = [
    "LIMIT_BYTES",
    "Accept",
    "Permissions",
    "Snapshot",
    "Target",
    "check_replaceable",
    "digest",
    "opened_target",
    "read_file",
    "read_snapshot",
    "read_stream",
    "require_ours",
    "require_outside",
    "require_replaceable",
    "snapshot_of",
]

LIMIT_BYTES = 1 << 30
"""Largest file that is read. No photo is larger, and two copies must fit into memory."""

_HEAD_BYTES = 64

Accept = Callable[[bytes], bool]
"""Returns whether to read a file that begins with these bytes (at most 64)."""

_KINDS = (
    (stat.S_ISLNK, "a symbolic link, and links are followed only when named as arguments"),
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
_WRITE_BITS = stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A file's bytes and the identity of the file and folder they were read from."""

    path: Path
    """Absolute, with symbolic links resolved when it was read."""
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


def read_snapshot(
    path: Path,
    *,
    follow: bool,
    within: Path | None = None,
    limit_bytes: int = LIMIT_BYTES,
    accept: Accept | None = None,
) -> Snapshot:
    """Read a regular file once, together with everything needed to recognise it again.

    `follow` is for a path that the user named: a link is resolved here, once, and its target will be replaced. For
    files found in a folder, pass the folder that the user named as `within`; no link below it is followed. Raises
    NotAPhotoError for a file whose first bytes `accept` refuses, PhotoError for anything that is not a readable regular
    file, ChangedError if it changed while it was read.
    """
    try:
        target = Path(os.path.realpath(path, strict=True)) if follow else path
        with Folder.open(target.parent, within=None if follow else within) as folder:
            return snapshot_of(folder, target.name, limit_bytes=limit_bytes, accept=accept)
    except OSError as error:
        raise PhotoError(f"{path}: cannot be read: {explain(error)}") from error
    except ValueError as error:
        raise PhotoError(f"{path}: cannot be read: {error}") from error


def snapshot_of(folder: Folder, name: str, *, limit_bytes: int = LIMIT_BYTES, accept: Accept | None = None) -> Snapshot:
    """Read one file of an open folder. Raises OSError, PhotoError, ChangedError."""
    path = folder.path / name
    # Checked before it is opened, because opening a device can have side effects.
    _require_regular(path, folder.stat(name))
    descriptor = folder.open_file(name)
    try:
        before = os.fstat(descriptor)
        _require_regular(path, before)
        if accept is not None:
            head = os.read(descriptor, _HEAD_BYTES)
            _require_accepted(str(path), head, accept)
            os.lseek(descriptor, 0, os.SEEK_SET)
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
    """Return the bytes up to the end of the file, or up to one byte past the limit."""
    return _read_all(partial(os.read, descriptor), limit_bytes)


def read_stream(stream: BinaryIO, *, name: str, accept: Accept, limit_bytes: int = LIMIT_BYTES) -> bytes:
    """Read one photo from a stream to its end; messages call it `name`.

    Raises NotAPhotoError for data whose first bytes `accept` refuses, of which no more is read, and PhotoError for more
    than `limit_bytes` and for a stream that cannot be read.
    """
    try:
        head = stream.read(_HEAD_BYTES)
        _require_accepted(name, head, accept)
        data = _read_all(stream.read, limit_bytes, head)
    except OSError as error:
        raise PhotoError(f"{name}: cannot be read: {explain(error)}") from error
    if len(data) > limit_bytes:
        raise PhotoError(f"{name}: is longer than the {limit_bytes} bytes a photo may have; give a smaller one")
    return data


def _read_all(read: Callable[[int], bytes], limit_bytes: int, head: bytes = b"") -> bytes:
    parts = [head]
    left = limit_bytes + 1 - len(head)
    while left > 0:
        part = read(min(left, 1 << 24))
        if not part:
            break
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def same_content_times(one: os.stat_result, other: os.stat_result) -> bool:
    """Return whether two stat results show the same file with the same size and modification time."""
    return (one.st_dev, one.st_ino, one.st_size, one.st_mtime_ns) == (
        other.st_dev,
        other.st_ino,
        other.st_size,
        other.st_mtime_ns,
    )


def _require_accepted(name: str, head: bytes, accept: Accept) -> None:
    if accept(head):
        return
    empty = f"{name}: the file is empty; get it again from its source"
    other = f"{name}: not an image; its first bytes are no image format known here"
    raise NotAPhotoError(other if head else empty)


def _require_regular(path: Path, status: os.stat_result) -> None:
    if stat.S_ISREG(status.st_mode):
        return
    kind = next((words for test, words in _KINDS if test(status.st_mode)), "no regular file")
    raise PhotoError(f"{path}: is {kind}; name a regular file")


def require_replaceable(
    folder: Folder, name: str, status: os.stat_result, *, break_links: bool, allow_root: bool
) -> None:
    """Raise StorageError for a read-only file or folder, a file with hard links, or root in a folder of others."""
    path = folder.path / name
    if status.st_nlink > 1 and not break_links:
        raise StorageError(
            f"{path}: has {status.st_nlink} names (hard links), and replacing one would part it from the others; "
            "give --break-links to do so, or copy the photo first"
        )
    if not status.st_mode & _WRITE_BITS:
        raise StorageError(f"{path}: is read-only, so it is left as it is; make it writable to have it changed")
    if not folder.may_write(name):
        raise StorageError(f"{path}: may not be written by this user; run as its owner")
    if not folder.may_add():
        raise StorageError(
            f"{path}: this user may make no files in its folder, so it cannot be replaced; "
            "make the folder writable, or write a copy with --output"
        )
    if not allow_root:
        require_ours(folder)


def require_ours(folder: Folder) -> None:
    """Raise StorageError if this is root and another user can exchange files in the folder."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return
    status = folder.status()
    # The sticky bit of /tmp keeps others from renaming our files, but not from placing links that we would follow.
    if status.st_uid != 0 or status.st_mode & _OTHERS_WRITE:
        raise StorageError(
            f"{folder.path}: other users can write to this folder, and root should not work there; "
            "run as the photos' owner, or give --allow-root"
        )


def require_outside(path: Path, root: Path) -> None:
    """Raise StorageError for a path inside the vault."""
    if path.is_relative_to(root):
        raise StorageError(f"{path}: belongs to the vault {root}, whose files are never changed")


@dataclass(frozen=True, slots=True)
class Permissions:
    """What the user explicitly allowed, and is refused otherwise."""

    break_links: bool = False
    allow_root: bool = False


@dataclass(frozen=True, slots=True)
class Target:
    """A file about to be replaced, with its folder held open and its content and identity confirmed."""

    folder: Folder
    name: str
    source: Snapshot
    status: os.stat_result
    attributes: Attributes

    def check(self) -> None:
        """Raise ChangedError unless the name still refers to the same, unchanged file."""
        path = self.source.path
        try:
            now = self.folder.stat(self.name)
            folder_now = self.folder.path.stat()
        except OSError as error:
            raise ChangedError(f"{path}: is gone or was moved since it was read; nothing was changed") from error
        if _identity(now) != _identity(self.status) or not os.path.samestat(folder_now, self.folder.status()):
            raise ChangedError(f"{path}: changed while it was being replaced; it was left as it is, run again")


def check_replaceable(source: Snapshot, allowed: Permissions, *, root: Path) -> None:
    """Raise what `opened_target` would raise for missing permissions, without reading the file again."""
    with _held(source, root) as folder:
        try:
            status = folder.stat(source.path.name)
        except OSError as error:
            raise ChangedError(f"{source.path}: cannot be opened as when it was read: {explain(error)}") from error
        _require_allowed(folder, source.path.name, status, allowed)


@contextmanager
def opened_target(source: Snapshot, allowed: Permissions, *, root: Path) -> Iterator[Target]:
    """Open the folder again, confirm that it and the file are unchanged since they were read, and check permissions.

    `root` is the vault, whose own files are refused. Raises ChangedError, StorageError.
    """
    with _held(source, root) as folder:
        target = _confirmed(folder, source)
        _require_allowed(folder, target.name, target.status, allowed)
        yield target


@contextmanager
def _held(source: Snapshot, root: Path) -> Iterator[Folder]:
    """Hold open the folder that the file was read from. Raises ChangedError if it was exchanged, StorageError."""
    path = source.path
    require_outside(path, root)
    with storage_errors(f"writing {path}"):
        try:
            folder = Folder.open(path.parent)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise ChangedError(f"{path}: its folder is gone or was moved since it was read") from error
        with folder:
            held = folder.status()
            if (held.st_dev, held.st_ino) != (source.folder_dev, source.folder_inode):
                raise ChangedError(f"{path}: its folder was replaced since it was read")
            yield folder


def _require_allowed(folder: Folder, name: str, status: os.stat_result, allowed: Permissions) -> None:
    require_replaceable(folder, name, status, break_links=allowed.break_links, allow_root=allowed.allow_root)


def _confirmed(folder: Folder, source: Snapshot) -> Target:
    path = source.path
    try:
        descriptor = folder.open_file(path.name)
    except OSError as error:
        raise ChangedError(f"{path}: cannot be opened as when it was read: {explain(error)}") from error
    try:
        status = os.fstat(descriptor)
        if (status.st_dev, status.st_ino, status.st_size) != (source.dev, source.inode, source.size):
            raise ChangedError(f"{path}: was replaced or changed since it was read; it was left as it is, run again")
        # Times are not enough: a tool may touch the file without changing it, or change it within one clock tick.
        if digest(read_file(descriptor, LIMIT_BYTES)) != source.sha256:
            raise ChangedError(f"{path}: its content changed since it was read; it was left as it is, run again")
        return Target(folder, path.name, source, status, Attributes.of(descriptor))
    finally:
        os.close(descriptor)


def _identity(status: os.stat_result) -> tuple[int, ...]:
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
