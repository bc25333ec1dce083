"""Record files: a second copy of the ledger's rows, one small file each, beside the originals they are about.

`originals/ab/ID.NUMBER.STATE.json`: ID is the original's vault id, or for a row without one the digest of the earlier
file; NUMBER and STATE are the row's. The content never changes; a new state is a rename. A file is created after its
row and removed before it, so a file without a row means that the ledger has lost something.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, cast

from hashshield.storage import atomic
from hashshield.storage.calls import storage_errors
from hashshield.storage.folder import Folder, temporary_name
from hashshield.storage.schema import Record, RecordState
from hashshield.storage.snapshot import digest, read_file

__all__ = ["DAMAGED", "RecordFile", "RecordFiles", "decode", "encode"]

FORMAT = 1
DAMAGED = ".damaged"
"""Suffix that `originals repair` adds to the name of an unreadable file without a row to replace it."""
_LARGEST_BYTES = 1 << 24
_STATES: tuple[RecordState, ...] = ("intent", "done", "restored")
_NAME = re.compile(r"(?P<anchor>[0-9a-f]{64})\.(?P<number>[1-9][0-9]*)\.(?P<state>intent|done|restored)\.json")
_ID = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class RecordFile:
    """One record file, as described by its name."""

    anchor: str
    number: int
    state: RecordState

    @property
    def name(self) -> str:
        """The file's name."""
        return f"{self.anchor}.{self.number}.{self.state}.json"


class RecordFiles:
    """The record files of one vault; modes 0600. Each method raises StorageError."""

    def __init__(self, root: Path) -> None:
        self.path = root / "originals"

    def write(self, record: Record) -> None:
        """Write a row's file durably."""
        file = RecordFile(_anchor(record), record.id, record.state)
        with storage_errors(f"writing the record of {record.path}"):
            with Folder.open(self.path) as folder:
                folder.make(file.anchor[:2])
            with self._shelf(file.anchor) as folder:
                atomic.put(folder, file.name, encode(record), temporary=temporary_name())

    def follow(self, record: Record) -> None:
        """Rename a row's file to the row's current state, if the file exists.

        The rename is not flushed. After a power cut the file may have its earlier name, which the next run corrects.
        """
        anchor = _anchor(record)
        with storage_errors(f"renaming the record of {record.path}"), self._shelf(anchor) as folder:
            for state in _STATES:
                old = RecordFile(anchor, record.id, state).name
                if state != record.state and _there(folder, old):
                    folder.rename(old, RecordFile(anchor, record.id, record.state).name)

    def remove(self, files: Iterable[RecordFile]) -> None:
        """Remove files durably; missing ones are ignored."""
        shelves: dict[str, list[str]] = {}
        for file in files:
            shelves.setdefault(file.anchor[:2], []).append(file.name)
        for shelf, names in sorted(shelves.items()):
            with storage_errors(f"removing records from {self.path}"):
                try:
                    folder = self._shelf(shelf)
                except FileNotFoundError:
                    continue
                with folder:
                    for name in names:
                        folder.remove(name)
                    folder.sync()

    def of(self, record: Record) -> list[RecordFile]:
        """Return the row's file in each state that it may have."""
        return [RecordFile(_anchor(record), record.id, state) for state in _STATES]

    def all(self) -> Iterator[RecordFile]:
        """Yield every record file, without reading it."""
        for name in self._names():
            found = _NAME.fullmatch(name)
            if found:
                yield RecordFile(found["anchor"], int(found["number"]), cast(RecordState, found["state"]))

    def damaged(self) -> list[str]:
        """Return the names of files that a repair has set aside."""
        return [name for name in self._names() if name.endswith(DAMAGED)]

    def read(self, file: RecordFile) -> Record | None:
        """Return the row in a file, with the state from its name; None if the file is damaged."""
        doing = f"reading the record {self.path / file.anchor[:2] / file.name}"
        with storage_errors(doing), self._shelf(file.anchor) as folder:
            descriptor = folder.open_file(file.name)
            try:
                data = read_file(descriptor, _LARGEST_BYTES)
            finally:
                os.close(descriptor)
        record = decode(data, file.state)
        return record if record is not None and file in self.of(record) else None

    def set_aside(self, file: RecordFile) -> None:
        """Rename a damaged file, so that it is kept but no longer read."""
        with storage_errors(f"renaming the damaged record {file.name}"), self._shelf(file.anchor) as folder:
            folder.rename(file.name, file.name + DAMAGED)
            folder.sync()

    def remove_damaged(self) -> None:
        """Remove the files that `set_aside` renamed."""
        for name in self.damaged():
            with storage_errors(f"removing the damaged record {name}"), self._shelf(name) as folder:
                folder.remove(name)
                folder.sync()

    def _shelf(self, anchor: str) -> Folder:
        return Folder.open(self.path / anchor[:2], within=self.path)

    def _names(self) -> Iterator[str]:
        with storage_errors(f"listing the vault {self.path}"):
            if not self.path.is_dir():
                return
            for shelf in sorted(self.path.iterdir()):
                if shelf.is_dir():
                    with os.scandir(shelf) as entries:
                        names = sorted(entry.name for entry in entries)
                    yield from names


def encode(record: Record) -> bytes:
    """Return a row as JSON, without `state` and `pruned`, and with a digest of its content."""
    row: dict[str, Any] = {f.name: getattr(record, f.name) for f in fields(Record) if f.name not in ("state", "pruned")}
    row["path"] = os.fsdecode(record.path)
    row["details"] = dict(record.details)
    return json.dumps({"format": FORMAT, "record": row, "digest": _digest(row)}).encode() + b"\n"


def decode(data: bytes, state: RecordState) -> Record | None:
    """Return the row that `encode` wrote; None for other data."""
    try:
        document = json.loads(data)
        row = document["record"]
        if document["format"] != FORMAT or document["digest"] != _digest(row):
            return None
        return Record(**{**row, "path": Path(row["path"]), "state": state, "pruned": False})
    except (ValueError, TypeError, KeyError, RecursionError):
        return None


def _digest(row: object) -> str:
    return digest(json.dumps(row, sort_keys=True, separators=(",", ":")).encode())


def _anchor(record: Record) -> str:
    anchor = record.original or record.kept or record.sha256_before
    if not _ID.fullmatch(anchor):
        raise ValueError(f"row {record.id} has no digest to be filed under")
    return anchor


def _there(folder: Folder, name: str) -> bool:
    try:
        folder.stat(name)
    except FileNotFoundError:
        return False
    return True
