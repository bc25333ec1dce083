"""Rebuild a ledger that is lost or damaged, from whatever is left of it, and look at the originals it speaks of."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hashshield.errors import StorageError
from hashshield.storage import calls
from hashshield.storage.folder import Folder
from hashshield.storage.ledger import BACKUP_NAME, LEDGER_NAME
from hashshield.storage.os_errors import storage_errors
from hashshield.storage.record_files import RecordFiles
from hashshield.storage.records import Record
from hashshield.storage.schema import COLUMNS, MIGRATIONS, ORIGINAL_COLUMNS, digest_of, insert, to_record
from hashshield.storage.temporaries import temporary_name
from hashshield.storage.vault import Vault

__all__ = ["DAMAGED_NAME", "Salvage", "rebuild", "salvage"]

DAMAGED_NAME = "ledger.damaged.sqlite"
"""What the ledger is called while a repair is under way; it goes when the new one stands."""

_ID, _STATE, _ORIGINAL, _KEPT, _UNDOES = (COLUMNS.index(c) for c in ("id", "state", "original", "kept", "undoes"))
_SIZE = COLUMNS.index("size")


@dataclass(frozen=True, slots=True)
class Salvage:
    """What is left of a ledger."""

    rows: tuple[tuple[Any, ...], ...]
    """Sound rows, values in the order of `COLUMNS`, oldest first."""
    pruned: dict[str, str]
    """When originals were deleted at the user's wish, by vault id."""
    from_ledger: int
    """How many rows the ledger itself still had."""
    damaged: tuple[str, ...]
    """Rows and files that do not have their digest."""

    def records(self) -> list[Record]:
        """Return the rows as values."""
        marked = self.pruned
        return [to_record((*row, digest_of(row), row[_ORIGINAL] in marked)) for row in self.rows]


def salvage(root: Path) -> Salvage:
    """Gather every sound row: from the ledger, then the record files, then a ledger put aside, then the backup.

    The ledger is always written first, so what it still holds is the newest. Nothing is changed. Raises StorageError
    for a ledger of a newer version.
    """
    rows: dict[int, tuple[Any, ...]] = {}
    pruned: dict[str, str] = {}
    damaged: list[str] = []
    from_ledger = 0
    files, broken = RecordFiles(root, create=False).read()
    for source in (LEDGER_NAME, None, DAMAGED_NAME, BACKUP_NAME):
        if source is None:
            found, faults = files, [f"records/{name}" for name in broken]
            gone: dict[str, str] = {}
        else:
            found, gone, faults = _read(root / source)
            # An intent of the backup was settled long ago.
            found = [row for row in found if source != BACKUP_NAME or row[_STATE] != "intent"]
        if source == LEDGER_NAME:
            from_ledger = len(found)
        for row in found:
            _take(rows, row)
        for name, when in gone.items():
            pruned.setdefault(name, when)
        if source in (LEDGER_NAME, None):
            damaged += faults
    ordered = tuple(rows[number] for number in sorted(rows))
    return Salvage(ordered, pruned, from_ledger, tuple(damaged))


def rebuild(root: Path, found: Salvage, vault: Vault) -> None:
    """Put a new ledger with the salvaged rows in the place of the old one, and write their record files.

    May be killed at any step: until the new ledger stands, the old one, or what it was renamed to, is still there and
    the next repair starts from it. The caller holds the lock. Raises StorageError.
    """
    temporary = temporary_name()
    present = dict(vault.sizes())
    with storage_errors(f"rebuilding the ledger {root / LEDGER_NAME}"), Folder.open(root) as folder:
        calls.step("repair.build", root)
        os.close(folder.create(temporary))
        try:
            _build(root / temporary, found, present)
        except BaseException:
            folder.remove(temporary)
            raise
        calls.step("repair.put_aside", root)
        if LEDGER_NAME in folder.names():
            folder.rename(LEDGER_NAME, DAMAGED_NAME)
        for suffix in ("-wal", "-shm", "-journal"):
            folder.remove(LEDGER_NAME + suffix)
        folder.sync()
        folder.rename(temporary, LEDGER_NAME)
        folder.sync()
    RecordFiles(root).write(found.rows)
    with storage_errors(f"deleting {root / DAMAGED_NAME}"), Folder.open(root) as folder:
        calls.step("repair.delete_damaged", root)
        folder.remove(DAMAGED_NAME)
        folder.sync()


def _take(rows: dict[int, tuple[Any, ...]], row: tuple[Any, ...]) -> None:
    """Take a row unless it is there; under a new number if that is another row's."""
    there = rows.get(row[_ID])
    if there is None:
        rows[row[_ID]] = row
    elif not _same(there, row) and not any(_same(other, row) for other in rows.values()):
        number = max(rows) + 1
        rows[number] = (number, *row[1:])


def _same(one: Sequence[Any], other: Sequence[Any]) -> bool:
    """Tell whether two rows are states of one."""
    return all(a == b for i, (a, b) in enumerate(zip(one, other, strict=True)) if i not in (_ID, _STATE, _UNDOES))


def _read(path: Path) -> tuple[list[tuple[Any, ...]], dict[str, str], list[str]]:
    """Return the sound rows of a ledger file, when originals were pruned, and what is wrong with the rest."""
    if not path.is_file() or path.stat().st_size == 0:
        return [], {}, []
    faults: list[str] = []
    rows: list[tuple[Any, ...]] = []
    pruned: dict[str, str] = {}
    try:
        with closing(sqlite3.connect(path.absolute().as_uri() + "?mode=rw", uri=True)) as db:
            db.execute("PRAGMA writable_schema = ON")  # a damaged schema still lets sound tables be read
            version = db.execute("PRAGMA user_version").fetchone()[0]
            if path.name == LEDGER_NAME and version > len(MIGRATIONS) and _is_sound(db):
                raise StorageError(f"{path}: written by a newer HashShield (format {version}); update HashShield")
            has_digests = version >= 3
            for row in _rows(db, "records", COLUMNS, faults, digest=has_digests):
                rows.append(row)
            for row in _rows(db, "originals", ORIGINAL_COLUMNS, faults, digest=has_digests):
                if row[2] is not None:
                    pruned[row[0]] = row[2]
    except sqlite3.DatabaseError as error:
        faults.append(f"{path.name}: {error}")
    return rows, pruned, faults


def _is_sound(db: sqlite3.Connection) -> bool:
    try:
        return bool(db.execute("PRAGMA integrity_check(1)").fetchone()[0] == "ok")
    except sqlite3.DatabaseError:
        return False


def _rows(
    db: sqlite3.Connection, table: str, columns: Sequence[str], faults: list[str], *, digest: bool
) -> Iterator[tuple[Any, ...]]:
    """Yield the sound rows of a table, by number from both ends: a damaged page hides what follows it."""
    names = ", ".join((*columns, "digest") if digest else columns)
    seen = set()
    for order in ("ASC", "DESC"):
        try:
            for row in db.execute(f"SELECT {names} FROM {table} NOT INDEXED ORDER BY rowid {order}"):
                values = row[:-1] if digest else row
                if row[0] in seen:
                    continue
                if not digest or digest_of(values) == row[-1]:
                    seen.add(row[0])
                    yield values
                elif order == "ASC":
                    faults.append(f"row {row[0]} of {table} is damaged")
        except (sqlite3.DatabaseError, UnicodeDecodeError, OverflowError, TypeError, ValueError) as error:
            if order == "ASC":
                faults.append(f"{table}: {error}")


def _build(path: Path, found: Salvage, present: dict[str, int]) -> None:
    """Write a new ledger file, durably."""
    rows = {row[_ID]: row for row in found.rows}
    needed: dict[str, int] = {}
    for row in found.rows:
        for name in (row[_ORIGINAL], row[_KEPT]):
            if name is not None:
                needed.setdefault(name, present.get(name, row[_SIZE]))
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = MEMORY")
        db.execute("PRAGMA synchronous = EXTRA")
        db.execute("BEGIN")
        for number, statements in enumerate(MIGRATIONS, 1):
            for statement in statements:
                db.execute(statement)
            db.execute(f"PRAGMA user_version = {number}")
        for name, size in needed.items():
            insert(db, "originals", ORIGINAL_COLUMNS, (name, size, found.pruned.get(name)))
        for row in sorted(rows.values(), key=lambda row: row[_ID]):
            undone = row[_UNDOES] if row[_UNDOES] in rows else None
            insert(db, "records", COLUMNS, (*row[:_UNDOES], undone, *row[_UNDOES + 1 :]))
        db.execute("COMMIT")
        db.execute("PRAGMA journal_mode = DELETE")
    descriptor = os.open(path, os.O_RDWR)
    try:
        calls.sync(descriptor)
    finally:
        os.close(descriptor)
