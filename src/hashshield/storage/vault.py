"""The store of originals: content-addressed files that are written once and never deleted unasked."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

from hashshield.errors import StorageError
from hashshield.storage import atomic
from hashshield.storage.folder import Folder
from hashshield.storage.os_errors import storage_errors
from hashshield.storage.snapshot import LIMIT_BYTES, digest, read_file
from hashshield.storage.temporaries import temporary_name

__all__ = ["Vault"]

_ID = re.compile(r"[0-9a-f]{64}")


class Vault:
    """Files named by the SHA-256 of what they hold, in `originals/ab/`; folders 0700, files 0600."""

    def __init__(self, root: Path, *, read_only: bool = False) -> None:
        self.path = root / "originals"
        if read_only:
            return
        with storage_errors(f"opening the vault {self.path}"), Folder.open(root) as folder:
            folder.make(self.path.name)

    def put(self, data: bytes) -> str:
        """Store `data` durably and return its id; a copy that is already there is reused once it proves intact.

        Raises StorageError.
        """
        name = digest(data)
        with storage_errors(f"keeping the original in the vault {self.path}"):
            with Folder.open(self.path) as folder:
                folder.make(name[:2])
            with Folder.open(self.path / name[:2], within=self.path) as folder:
                if self._read(folder, name) != data:
                    atomic.put(folder, name, data, temporary=temporary_name())
                else:
                    # The copy may be left from a run that died before it made the name durable.
                    folder.sync()
        return name

    def get(self, name: str) -> bytes:
        """Return what was stored under an id, its digest checked; raises StorageError if it is gone or damaged."""
        self._require_id(name)
        with storage_errors(f"reading original {name} from the vault {self.path}"):
            try:
                with Folder.open(self.path / name[:2], within=self.path) as folder:
                    data = self._read(folder, name)
            except FileNotFoundError:
                data = None
        if data is None:
            raise StorageError(f"{self.path}: original {name} is not in the vault; look for a backup of this folder")
        if digest(data) != name:
            raise StorageError(
                f"{self.path / name[:2] / name}: damaged: its content no longer has the digest in its name; "
                "bring this one file back from a backup of the vault"
            )
        return data

    def holds(self, name: str) -> bool:
        """Whether there is a file of this id, whatever it holds by now."""
        self._require_id(name)
        return (self.path / name[:2] / name).is_file()

    def remove(self, name: str) -> None:
        """Delete one original for good; one that is not there counts as deleted. Raises StorageError."""
        self._require_id(name)
        with storage_errors(f"deleting original {name} from the vault {self.path}"):
            try:
                folder = Folder.open(self.path / name[:2], within=self.path)
            except FileNotFoundError:
                return
            with folder:
                folder.remove(name)
                folder.sync()

    def sizes(self) -> Iterator[tuple[str, int]]:
        """Yield (id, bytes) of everything stored, sorted by id."""
        with storage_errors(f"listing the vault {self.path}"):
            for shelf in sorted(self.path.iterdir()):
                for entry in sorted(shelf.iterdir()):
                    if _ID.fullmatch(entry.name):
                        yield entry.name, entry.lstat().st_size

    def written(self, name: str) -> str | None:
        """Return when a file was stored, ISO 8601 UTC, by its own time; None if it is gone. Raises StorageError."""
        self._require_id(name)
        with storage_errors(f"looking at original {name} in the vault {self.path}"):
            try:
                seconds = (self.path / name[:2] / name).lstat().st_mtime
            except FileNotFoundError:
                return None
        return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="seconds")

    def clean(self) -> None:
        """Remove temporary files of runs that died; only while no other process writes. Raises StorageError."""
        with storage_errors(f"cleaning the vault {self.path}"):
            for shelf in sorted(self.path.iterdir()):
                with Folder.open(shelf, within=self.path) as folder:
                    for name in folder.temporaries():
                        folder.remove(name)

    def _read(self, folder: Folder, name: str) -> bytes | None:
        try:
            descriptor = folder.open_file(name)
        except FileNotFoundError:
            return None
        try:
            return read_file(descriptor, LIMIT_BYTES)
        finally:
            os.close(descriptor)

    @staticmethod
    def _require_id(name: str) -> None:
        if not _ID.fullmatch(name):
            raise StorageError(f"{name!r} is no vault id: 64 hexadecimal digits are expected")
