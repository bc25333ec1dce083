"""What can still be read of a ledger, of its backups and of the records beside originals. Nothing is changed here.

SQLite reads from copies, because opening a file may already write to it.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hashshield.errors import LedgerError, StorageError
from hashshield.storage import calls, ledger_file, soundness
from hashshield.storage.folder import Folder, is_temporary
from hashshield.storage.ledger import Ledger
from hashshield.storage.os_errors import storage_errors
from hashshield.storage.record_files import RecordFile, RecordFiles
from hashshield.storage.schema import COLUMNS, Record, record_of, seal, text_of
from hashshield.storage.tables import Marked
from hashshield.storage.vault import Vault

__all__ = ["Salvaged", "gather"]

_SUFFIXES = ("", "-wal")


@dataclass
class Salvaged:
    """Rows that are as they were written, and how many are not."""

    sound: bool = False
    """Whether the ledger in use is sound as it is; then all of this comes from it."""
    records: dict[int, Record] = field(default_factory=dict)
    sources: dict[int, str] = field(default_factory=dict)
    """Where each of `records` comes from: "ledger", "record" or "backup"."""
    originals: dict[str, tuple[int, str | None]] = field(default_factory=dict)
    """Size, and when it was pruned, by vault id."""
    attempts: dict[int, tuple[int, str, str, bytes, str]] = field(default_factory=dict)
    temporaries: set[Path] = field(default_factory=set)
    marked: dict[Marked, set[int]] = field(default_factory=dict)
    damaged_rows: set[int] = field(default_factory=set)
    """Numbers of rows whose seal does not match."""
    damaged_files: list[RecordFile] = field(default_factory=list)
    said: str = ""
    """What is wrong with the ledger in use."""

    @property
    def lost(self) -> set[int]:
        """Numbers of rows of which nothing good is left."""
        return (self.damaged_rows | {file.number for file in self.damaged_files}) - set(self.records)


def gather(root: Path, files: RecordFiles) -> Salvaged:
    """Read the ledger, and if it is not sound also what an earlier repair set aside, the records and the backups.

    What comes first counts. Raises StorageError, also for a ledger from a newer version.
    """
    found = Salvaged()
    with _copied(root, ledger_file.NAME) as copy:
        if copy is not None:
            found.said = _faults(copy, files)
            found.sound = not found.said
            _read(copy, found, "ledger")
        else:
            found.said = "it is gone or empty"
    if not found.sound:
        with _copied(root, ledger_file.ASIDE) as copy:
            _read(copy, found, "ledger")
    for file in files.all():
        record = files.read(file)
        if record is None:
            found.damaged_files.append(file)
        elif not found.sound:
            _take(found, record, "record")
    if not found.sound:
        for name in ledger_file.BACKUPS:
            with _copied(root, name) as copy:
                _read(copy, found, "backup")
    return found


@contextmanager
def _copied(root: Path, name: str) -> Iterator[Path | None]:
    """Copy a ledger and its write-ahead log, with its header mended where that is needed; None if there is none."""
    with storage_errors(f"reading {root / name}"), Folder.open(root) as folder:
        for part in ledger_file.with_journals(ledger_file.SALVAGE):
            folder.remove(part)
        if ledger_file.is_empty(root / name):
            yield None
            return
        try:
            for suffix in _SUFFIXES:
                if suffix and ledger_file.is_empty(root / (name + suffix)):
                    continue
                data = (root / (name + suffix)).read_bytes()
                if not suffix and not _begins_well(root / name):
                    data = ledger_file.mended_header(data, wal=not ledger_file.is_empty(root / (name + "-wal")))
                descriptor = folder.create(ledger_file.SALVAGE + suffix)
                try:
                    calls.write(descriptor, data)
                finally:
                    os.close(descriptor)
            yield root / ledger_file.SALVAGE
        finally:
            for part in ledger_file.with_journals(ledger_file.SALVAGE):
                folder.remove(part)


def _begins_well(path: Path) -> bool:
    try:
        ledger_file.check_header(path)
    except LedgerError:
        return False
    return True


def _faults(copy: Path, files: RecordFiles) -> str:
    """Say what is wrong with a copy of the ledger in use; empty if nothing is. Raises StorageError for a newer one."""
    root = copy.parent
    try:
        ledger_file.check_header(root / ledger_file.NAME)
        used = next(Vault(root).sizes(), None) is not None
        ledger = Ledger(root, wal=False, used=used, name=copy.name)
    except StorageError as error:
        text = str(error).replace(str(copy), str(root / ledger_file.NAME))
        if not isinstance(error, LedgerError):
            raise StorageError(text) from error
        return text
    try:
        return "; ".join(soundness.integrity_errors(ledger, files)[:3])
    finally:
        ledger.close()


def _read(copy: Path | None, found: Salvaged, source: str) -> None:
    """Add every row of a copy that is as it was written, and is not known yet."""
    if copy is None:
        return
    db = sqlite3.connect(copy, isolation_level=None)
    try:
        db.text_factory = text_of
        # Told by the format and not by the columns, whose names may be damaged too.
        sealed = ledger_file.sealed(db)
        for name, size, pruned, own in _table(db, "originals", "id, size, pruned", sealed=sealed):
            if own is None or own == seal(name, size, pruned):
                found.originals.setdefault(name, (size, pruned))
        for *columns, own in _table(db, "records", COLUMNS, sealed=sealed):
            record = _record(columns) if own is None or own == seal(*columns) else None
            if record is not None:
                _take(found, record, source)
            elif isinstance(columns[0], int):
                found.damaged_rows.add(columns[0])
        for number, *columns, _ in _table(db, "attempts", "id, sha256, settings, path, details", sealed=False):
            if [type(value) for value in columns] == [str, str, bytes, str]:
                found.attempts.setdefault(number, (number, *columns))
        for path, _ in _table(db, "temporaries", "path", sealed=False):
            if isinstance(path, bytes) and is_temporary(Path(os.fsdecode(path)).name):
                found.temporaries.add(Path(os.fsdecode(path)))
        for kind, number, own in _table(db, "deletions", "kind, id", sealed=True):
            if own == seal(kind, number) and source == "ledger":
                found.marked.setdefault(kind, set()).add(number)
    except ledger_file.ERRORS:
        # Not a table could be read; the other sources are still there.
        return
    finally:
        db.close()


def _take(found: Salvaged, record: Record, source: str) -> None:
    if record.id not in found.records:
        found.records[record.id] = record
        found.sources[record.id] = source


def _record(columns: list[Any]) -> Record | None:
    try:
        return record_of(columns, pruned=False)
    except (ValueError, TypeError):
        return None


def _table(db: sqlite3.Connection, table: str, columns: str, *, sealed: bool) -> Iterator[tuple[Any, ...]]:
    """Yield each row once, with its seal or None; from the end too where the way from the start is broken."""
    yielded: set[tuple[Any, ...]] = set()
    for order in ("", " DESC"):
        text = f"SELECT {columns}, {'seal' if sealed else 'NULL'} FROM {table} NOT INDEXED ORDER BY rowid{order}"
        try:
            for row in db.execute(text):
                if row not in yielded:
                    yielded.add(row)
                    yield row
        except ledger_file.ERRORS:
            continue
        return
