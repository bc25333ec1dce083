"""Files that no ledger is about: what workers of a fleet write, whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hashshield.storage import atomic
from hashshield.storage.attributes import Attributes
from hashshield.storage.folder import Folder
from hashshield.storage.lock import Lock
from hashshield.storage.os_errors import storage_errors
from hashshield.storage.temporaries import temporary_name

__all__ = ["locked", "remove", "sweep", "write_copy"]


def write_copy(path: Path, data: bytes, *, mode: int = 0o600, mtime_ns: int | None = None) -> None:
    """Make the file hold `data`, whatever was there; folders that are missing are made. Raises StorageError."""
    with storage_errors(f"writing {path}"), Folder.made(path.parent) as folder:
        attributes = Attributes(mode=mode, mtime_ns=mtime_ns)
        atomic.put(folder, path.name, data, temporary=temporary_name(), attributes=attributes)


def remove(path: Path) -> None:
    """Remove a file; one that is not there is as good as removed. Raises StorageError."""
    with storage_errors(f"removing {path}"), Folder.open(path.parent) as folder:
        folder.remove(path.name)


def sweep(directory: Path) -> None:
    """Remove what writers that died have left in a folder; nobody may write there now. Raises StorageError."""
    with storage_errors(f"cleaning {directory}"), Folder.open(directory) as folder:
        for name in folder.temporaries():
            folder.remove(name)


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Keep other processes out of a folder, which is made (mode 0700) if need be. Raises StorageError."""
    with storage_errors(f"opening {directory}"), Folder.made(directory.parent), Folder.made(directory, mode=0o700):
        lock = Lock(directory / "lock", wait_seconds=0)
    try:
        with lock:
            yield
    finally:
        lock.close()
