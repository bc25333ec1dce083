"""The ledger's file: whether it is sound, lost, damaged or from a newer version, and how to open it read-only.

Also the tables beside its records: searches that fell short, and rows marked for deletion.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, get_args

from hashshield.errors import LedgerError, StorageError
from hashshield.paths import exists
from hashshield.storage.calls import storage_errors
from hashshield.storage.schema import APPLICATION, MIGRATIONS, REPAIR, SEALED_SINCE, seal, seal_records

__all__ = [
    "ASIDE",
    "BACKUPS",
    "ERRORS",
    "JOURNALS",
    "MOST_ATTEMPTS",
    "NAME",
    "PARTIAL",
    "REBUILT",
    "SALVAGE",
    "AttemptTable",
    "DeletionTable",
    "Marked",
    "cannot_be_written",
    "check_header",
    "check_version",
    "connect_read_only",
    "explained",
    "integrity_errors",
    "is_empty",
    "mended_header",
    "read_rows",
    "rows_of",
    "sealed",
    "with_journals",
]


NAME = "ledger.sqlite"
BACKUPS = ("ledger.backup.sqlite", "ledger.backup-older.sqlite")
"""The backups, newest first."""
_BACKED_UP = ("records", "originals", "attempts")
"""The tables that a backup holds."""
JOURNALS = ("-wal", "-shm", "-journal")
SALVAGE, PARTIAL, REBUILT = "ledger.salvage.sqlite", "ledger.partial.sqlite", "ledger.rebuilt.sqlite"
"""Files of a repair: a copy of the damaged ledger to read from, a new ledger being filled, and a complete one."""
ERRORS = (sqlite3.DatabaseError, UnicodeDecodeError)
"""What SQLite raises; UnicodeDecodeError if its message quotes a damaged name."""
ASIDE = "ledger.damaged.sqlite"
"""The name that a repair gives to the damaged ledger."""

_HEADER_BYTES = 100
_MAGIC = b"SQLite format 3\0"
_FRACTIONS = bytes((64, 32, 32))
_PAGE_BYTES = 4096
_DAMAGE = (
    "no such",
    "malformed",
    "already exists",
    "duplicate column",
    "could not decode",
    "unsupported file format",
    "unknown database",
)
"""Words in SQLite's messages that mean damage, although the error class blames the caller."""
_WRITE_JOURNALS = ("-wal", "-journal")


def with_journals(name: str) -> tuple[str, ...]:
    """Return the name of a ledger and those of its SQLite journals."""
    return (name, *(name + suffix for suffix in JOURNALS))


def is_empty(path: Path) -> bool:
    """Return whether the ledger is missing or an empty file."""
    with storage_errors(f"opening the ledger {path}"):
        try:
            return path.lstat().st_size == 0
        except FileNotFoundError:
            return True


def check_header(path: Path) -> None:
    """Raise LedgerError if the first bytes are not those of a ledger; an empty file is one being created.

    SQLite would take some damage in these bytes for settings, such as a file that must not be written.
    """
    with storage_errors(f"opening the ledger {path}"), path.open("rb") as file:
        header = file.read(_HEADER_BYTES)
    if not header:
        return
    sound = (
        len(header) == _HEADER_BYTES
        and header.startswith(_MAGIC)
        and header[18] in (1, 2)
        and header[18] == header[19]
        and header[20] == 0
        and header[21:24] == _FRACTIONS
        and int.from_bytes(header[44:48], "big") in (0, 1, 2, 3, 4)
        and int.from_bytes(header[56:60], "big") in (0, 1)
    )
    if not sound:
        raise LedgerError(f"{path}: the ledger is damaged: it does not begin as one does; {REPAIR}")


def mended_header(data: bytes, *, wal: bool) -> bytes:
    """Return a damaged ledger's bytes with the constant header fields written again, so that the rest can be read."""
    version = 2 if wal else 1
    constant = _MAGIC + _PAGE_BYTES.to_bytes(2, "big") + bytes((version, version, 0)) + _FRACTIONS
    return constant + data[24:44] + (4).to_bytes(4, "big") + data[48:56] + (1).to_bytes(4, "big") + data[60:]


def check_version(db: sqlite3.Connection, path: Path) -> None:
    """Raise StorageError for a ledger of a newer version, LedgerError for one with contradictory format numbers."""
    version = int(db.execute("PRAGMA user_version").fetchone()[0])
    mark = int(db.execute("PRAGMA application_id").fetchone()[0])
    newest = len(MIGRATIONS)
    agreed = mark == APPLICATION | version or (mark == 0 and not SEALED_SINCE <= version <= newest)
    if version > newest:
        text = (
            f"{path}: written by a newer HashShield (format {version}, this one knows {newest}); update HashShield, "
            "nothing was changed"
        )
        if agreed:
            raise StorageError(text)
        raise LedgerError(f"{text}. If none was ever used here, the ledger is damaged: {REPAIR}")
    if not agreed or version < 0:
        raise LedgerError(f"{path}: the ledger is damaged: its format cannot be told; {REPAIR}")


def sealed(db: sqlite3.Connection) -> bool:
    """Return whether a ledger's rows have seals: unless version and application id both show an earlier format."""
    version = int(db.execute("PRAGMA user_version").fetchone()[0])
    mark = int(db.execute("PRAGMA application_id").fetchone()[0])
    return not (mark == 0 and 0 < version < SEALED_SINCE)


def explained(error: sqlite3.DatabaseError | UnicodeDecodeError, path: Path) -> StorageError:
    """Return a StorageError or LedgerError with SQLite's message and what to do."""
    # SQLite's messages quote statements over several lines.
    text = " ".join(str(error).split())
    if type(error) in (sqlite3.DatabaseError, UnicodeDecodeError) or any(words in text.lower() for words in _DAMAGE):
        return LedgerError(f"{path}: the ledger is damaged ({text}); {REPAIR}")
    return StorageError(
        f"{path}: the ledger cannot be used ({text}); make sure its disk has space and its folder can be written; "
        f"if both are so, {REPAIR}"
    )


def cannot_be_written(root: Path) -> bool:
    """Return whether a vault folder exists and this process, with its effective user, may not write to it."""
    effective = os.access in os.supports_effective_ids
    places = [place for place in (root, root / "originals", root / "ledger.sqlite") if exists(place)]
    return not all(os.access(place, os.W_OK, effective_ids=effective) for place in places)


def connect_read_only(path: Path, *, version: int) -> tuple[sqlite3.Connection, TemporaryDirectory[str] | None]:
    """Open a ledger file for reading; return the connection, and a temporary folder to remove afterwards or None.

    Where SQLite cannot create a journal, it reads a file only if told that nobody changes it, and then ignores an
    existing journal. With a journal, or a format older than `version`, a temporary copy is therefore opened instead.
    The ledger of a vault that does not exist is empty. Raises OSError, sqlite3.DatabaseError, and the errors of
    `check_header`.
    """
    if exists(path.parent):
        check_header(path)
    journals = [file for file in (path.with_name(path.name + end) for end in _WRITE_JOURNALS) if _size(file) > 0]
    if exists(path) and not journals:
        database = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True, isolation_level=None, check_same_thread=False
        )
        try:
            (found,) = database.execute("PRAGMA user_version").fetchone()
        except BaseException:
            database.close()
            raise
        if found >= version:
            return database, None
        database.close()
    folder = TemporaryDirectory(prefix="hashshield-")
    try:
        copy = Path(folder.name) / path.name
        for file in (path, *journals):
            if exists(file):
                shutil.copyfile(file, copy.with_name(file.name))
        return sqlite3.connect(copy, isolation_level=None, check_same_thread=False), folder
    except BaseException:
        folder.cleanup()
        raise


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def integrity_errors(db: sqlite3.Connection) -> list[str]:
    """Return what SQLite finds wrong with a ledger, of which it reads everything; empty if it is sound."""
    lines = [line for row in db.execute("PRAGMA integrity_check") for line in str(row[0]).splitlines()]
    said = [line for line in lines if not line.startswith("***")]
    strays = db.execute("PRAGMA foreign_key_check").fetchall()
    return ([] if said == ["ok"] else said) + [f"row {row[1]} of {row[0]} refers to nothing" for row in strays]


def rows_of(database: sqlite3.Connection) -> list[list[tuple[Any, ...]]]:
    """Return all rows of each table that a backup holds, ordered by their first columns."""
    return [database.execute(f"SELECT * FROM {table} ORDER BY 1").fetchall() for table in _BACKED_UP]


def read_rows(path: Path) -> list[list[tuple[Any, ...]]] | None:
    """Return the rows of the ledger at `path` as `rows_of` does, without changing it; None if it is unreadable."""
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)) as database:
            return rows_of(database)
    except ERRORS:
        return None


MOST_ATTEMPTS = 20_000
"""Number of attempts kept, about half a kilobyte each. The oldest are dropped, which only costs another search."""
Marked = Literal["record", "attempt", "everything", "traces"]
"""What is marked: a row of `records` or `attempts`, everything, or only the traces of rows already deleted."""


class _Table:
    """A table of `Ledger`, which uses its connection and its transactions."""

    def __init__(
        self,
        db: sqlite3.Connection,
        transaction: Callable[[str], AbstractContextManager[None]],
        errors: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self._db, self._transaction, self._errors = db, transaction, errors


class AttemptTable(_Table):
    """The searches that fell short, so that they are not repeated with the same settings."""

    def add(self, sha256: str, settings: str, path: Path, details: Mapping[str, Any]) -> None:
        """Record an attempt on this content; it replaces an earlier one with the same settings (a digest)."""
        text = json.dumps(details, separators=(",", ":"), allow_nan=True)
        with self._transaction("attempt"):
            self._db.execute(
                "INSERT OR REPLACE INTO attempts (sha256, settings, path, details) VALUES (?, ?, ?, ?)",
                (sha256, settings, os.fsencode(path), text),
            )
            self._db.execute("DELETE FROM attempts WHERE id <= (SELECT max(id) FROM attempts) - ?", (MOST_ATTEMPTS,))

    def count(self) -> int:
        """Return the number of recorded attempts."""
        with self._errors():
            return int(self._db.execute("SELECT count(*) FROM attempts").fetchone()[0])

    def about(self, sha256: str) -> bool:
        """Return whether an attempt on this content is recorded."""
        with self._errors():
            return self._db.execute("SELECT 1 FROM attempts WHERE sha256 = ? LIMIT 1", (sha256,)).fetchone() is not None

    def find(self, sha256: str, settings: str) -> dict[str, Any] | None:
        """Return the details of the attempt on this content with these settings, or None."""
        with self._errors():
            row = self._db.execute(
                "SELECT details FROM attempts WHERE sha256 = ? AND settings = ?", (sha256, settings)
            ).fetchone()
        if row is None:
            return None
        try:
            details: dict[str, Any] = json.loads(row[0])
        except ValueError:
            # Damaged: treated as missing, which only costs another search.
            return None
        return details

    def touching(self, path: Path, contents: Iterable[str]) -> list[int]:
        """Return the numbers of the attempts on the file at this path, or on any of these contents."""
        found: set[int] = set()
        with self._errors():
            found.update(n for (n,) in self._db.execute("SELECT id FROM attempts WHERE path = ?", (os.fsencode(path),)))
            for sha256 in set(contents):
                found.update(n for (n,) in self._db.execute("SELECT id FROM attempts WHERE sha256 = ?", (sha256,)))
        return sorted(found)


class DeletionTable(_Table):
    """The marks of what is to be deleted for good, so that an interrupted deletion can be finished."""

    def mark(self, records: Iterable[int], attempts: Iterable[int] = (), *, everything: bool = False) -> None:
        """Mark rows durably for deletion, with their originals and traces, before anything is deleted."""
        with self._transaction("mark_deletions"):
            for number in records:
                self._add("record", number)
            for number in attempts:
                self._add("attempt", number)
            if everything:
                self._add("everything", 0)

    def marked(self) -> dict[Marked, set[int]]:
        """Return the numbers marked, by kind. Raises LedgerError if the table is damaged."""
        found: dict[Marked, set[int]] = {kind: set() for kind in get_args(Marked)}
        with self._errors():
            rows = self._db.execute("SELECT kind, id, seal FROM deletions").fetchall()
        for kind, number, own in rows:
            # A changed byte must not cause another photo to be forgotten.
            if kind not in found or own != seal(kind, number):
                raise LedgerError(f"the ledger is damaged: its list of deletions is not as it was written; {REPAIR}")
            found[kind].add(number)
        return found

    def erase(self, marked: dict[Marked, set[int]]) -> None:
        """Delete the marked rows, and the rows of originals that no record refers to any more."""
        with self._transaction("erase"):
            if marked["everything"]:
                for table in ("records", "attempts", "originals", "temporaries"):
                    self._db.execute(f"DELETE FROM {table}")
            record_ids = [(number,) for number in marked["record"]]
            restores = self._db.execute("SELECT id, undoes FROM records WHERE undoes IS NOT NULL").fetchall()
            self._db.executemany("DELETE FROM records WHERE id = ?", record_ids)
            # The foreign key has set their `undoes` to NULL, so they need new seals.
            seal_records(self._db, [number for number, target in restores if target in marked["record"]])
            self._db.executemany("DELETE FROM attempts WHERE id = ?", [(number,) for number in marked["attempt"]])
            self._db.execute(
                "DELETE FROM originals WHERE NOT EXISTS"
                " (SELECT 1 FROM records WHERE records.original = originals.id OR records.kept = originals.id)"
            )
            self._db.execute("DELETE FROM deletions")
            self._add("traces", 0)

    def scrub(self) -> None:
        """Rewrite the file without free pages and empty the write-ahead log, since both hold deleted rows."""
        with self._errors():
            self._db.execute("VACUUM")
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def scrubbed(self) -> None:
        """Record that no traces are left."""
        with self._transaction("scrubbed"):
            self._db.execute("DELETE FROM deletions WHERE kind = 'traces'")

    def _add(self, kind: Marked, number: int) -> None:
        self._db.execute(
            "INSERT OR REPLACE INTO deletions (kind, id, seal) VALUES (?, ?, ?)", (kind, number, seal(kind, number))
        )
