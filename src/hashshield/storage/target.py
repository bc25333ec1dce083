"""The file about to be replaced: found again, proven the same, held until it is done."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hashshield.errors import ChangedError
from hashshield.storage import policy
from hashshield.storage.attributes import Attributes
from hashshield.storage.folder import Folder
from hashshield.storage.os_errors import explain, storage_errors
from hashshield.storage.snapshot import LIMIT_BYTES, Snapshot, digest, read_file

__all__ = ["Permissions", "Target", "opened"]


@dataclass(frozen=True, slots=True)
class Permissions:
    """What the user allowed that is refused otherwise."""

    break_links: bool = False
    allow_root: bool = False


@dataclass(frozen=True, slots=True)
class Target:
    """A file about to be replaced: its folder held open, its content and identity confirmed."""

    folder: Folder
    name: str
    source: Snapshot
    status: os.stat_result
    attributes: Attributes

    def check(self) -> None:
        """Raise ChangedError unless the name still leads to this very file, unchanged."""
        path = self.source.path
        try:
            now = self.folder.stat(self.name)
            folder_now = self.folder.path.stat()
        except OSError as error:
            raise ChangedError(f"{path}: is gone or was moved since it was read; nothing was changed") from error
        if _identity(now) != _identity(self.status) or not os.path.samestat(folder_now, self.folder.status()):
            raise ChangedError(f"{path}: changed while it was being replaced; it was left as it is, run again")


@contextmanager
def opened(source: Snapshot, allowed: Permissions, *, root: Path) -> Iterator[Target]:
    """Open the folder again, prove it and the file the same as when read, and refuse what policy refuses.

    `root` is the vault, whose own files are no targets. Raises ChangedError, StorageError.
    """
    path = source.path
    policy.require_outside(path, root)
    with storage_errors(f"writing {path}"):
        try:
            folder = Folder.open(path.parent)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise ChangedError(f"{path}: its folder is gone or was moved since it was read") from error
        with folder:
            held = folder.status()
            if (held.st_dev, held.st_ino) != (source.folder_dev, source.folder_inode):
                raise ChangedError(f"{path}: its folder is another one now than when it was read")
            target = _confirmed(folder, source)
            policy.require_replaceable(
                folder,
                path.name,
                target.status,
                break_links=allowed.break_links,
                allow_root=allowed.allow_root,
            )
            yield target


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
        # Times alone do not decide: a tool may touch the file without changing it, or change it within one tick.
        if digest(read_file(descriptor, LIMIT_BYTES)) != source.sha256:
            raise ChangedError(f"{path}: its content changed since it was read; it was left as it is, run again")
        return Target(folder, path.name, source, status, Attributes.of(descriptor))
    finally:
        os.close(descriptor)


def _identity(status: os.stat_result) -> tuple[int, ...]:
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
