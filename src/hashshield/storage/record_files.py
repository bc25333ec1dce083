"""Record files: beside the originals, one small file per row of the ledger, from which the ledger can be rebuilt."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from hashshield.storage import atomic
from hashshield.storage.folder import Folder
from hashshield.storage.os_errors import storage_errors
from hashshield.storage.schema import COLUMNS, digest_of
from hashshield.storage.temporaries import temporary_name

__all__ = ["RECORDS_NAME", "RecordFiles"]

RECORDS_NAME = "records"
_FORMAT = 1
_NAME = re.compile(r"(\d{9,})\.(intent|done|restored)\.json")
_LARGEST_BYTES = 4_000_000


class RecordFiles:
    """Files `records/000000012.done.json`, mode 0600: the whole row, and a digest of it.

    The ledger is always written first; a row without a file, or with the file of its last state, is the trace of a kill
    between the two.
    """

    def __init__(self, root: Path, *, create: bool = True) -> None:
        self.path = root / RECORDS_NAME
        if create:
            with storage_errors(f"opening {self.path}"), Folder.open(root) as folder:
                folder.make(self.path.name)

    def write(self, rows: Iterable[Sequence[Any]]) -> None:
        """Write the files of rows (values in the order of `COLUMNS`). Raises StorageError."""
        with storage_errors(f"writing records to {self.path}"), Folder.open(self.path) as folder:
            for row in rows:
                values = dict(zip(COLUMNS, row, strict=True))
                name = _name(values["id"], values["state"])
                plain = {key: _plain(value) for key, value in values.items()}
                document = {"format": _FORMAT, "row": plain, "digest": digest_of(row)}
                atomic.put(folder, name, json.dumps(document).encode(), temporary=temporary_name())
                for state in ("intent", "done", "restored"):
                    if state != values["state"]:
                        folder.remove(_name(values["id"], state))

    def remove(self, numbers: Iterable[int]) -> None:
        """Delete the files of rows; those that are not there count as deleted. Raises StorageError."""
        with storage_errors(f"deleting records in {self.path}"), Folder.open(self.path) as folder:
            for number in numbers:
                for state in ("intent", "done", "restored"):
                    folder.remove(_name(number, state))
            folder.sync()

    def clean(self) -> None:
        """Remove temporary files of runs that died; only while no other process writes. Raises StorageError."""
        with storage_errors(f"cleaning {self.path}"), Folder.open(self.path) as folder:
            for name in folder.temporaries():
                folder.remove(name)

    def states(self) -> dict[int, str]:
        """Return the state of every row that has a file, from the files' names. Raises StorageError."""
        found = {}
        with storage_errors(f"listing {self.path}"):
            if not self.path.is_dir():
                return {}
            for entry in self.path.iterdir():
                match = _NAME.fullmatch(entry.name)
                if match is not None:
                    found[int(match[1])] = match[2]
        return found

    def read(self) -> tuple[list[tuple[Any, ...]], list[str]]:
        """Return all rows whose files are sound, oldest first, and the names of the files that are not."""
        rows: dict[int, tuple[Any, ...]] = {}
        damaged = []
        with storage_errors(f"reading {self.path}"):
            names = sorted(entry.name for entry in self.path.iterdir()) if self.path.is_dir() else []
            for name in names:
                if _NAME.fullmatch(name) is None:
                    continue
                row = _row_of((self.path / name).read_bytes()[:_LARGEST_BYTES])
                if row is None:
                    damaged.append(name)
                elif row[0] not in rows or rows[row[0]][2] == "intent":
                    rows[row[0]] = row
        return [rows[number] for number in sorted(rows)], damaged


def _name(number: int, state: str) -> str:
    return f"{number:09}.{state}.json"


def _plain(value: Any) -> Any:
    """A value as JSON holds it; paths are bytes in the ledger."""
    return os.fsdecode(value) if isinstance(value, bytes) else value


def _row_of(data: bytes) -> tuple[Any, ...] | None:
    """Return the row that a file holds; None if it is damaged."""
    try:
        document = json.loads(data)
        values = document["row"]
        row = [values[name] for name in COLUMNS]
        row[COLUMNS.index("path")] = os.fsencode(row[COLUMNS.index("path")])
        return tuple(row) if document["format"] == _FORMAT and digest_of(row) == document["digest"] else None
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
