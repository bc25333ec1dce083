"""The ledger as a file: sound, lost, damaged, from a newer version, or in a vault that cannot be written.

With it, the tables beside its records: attempts that fell short, and what is being deleted for good.
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
"""The newest first."""
_BACKED_UP = ("records", "originals", "attempts")
"""The tables that a backup has to hold."""
JOURNALS = ("-wal", "-shm", "-journal")
SALVAGE, PARTIAL, REBUILT = "ledger.salvage.sqlite", "ledger.partial.sqlite", "ledger.rebuilt.sqlite"
"""What a repair makes: a copy of a damaged ledger to read from; one being filled; one that is complete."""
ERRORS = (sqlite3.DatabaseError, UnicodeDecodeError)
"""What SQLite raises; the second where its message quotes a damaged name."""
ASIDE = "ledger.damaged.sqlite"
"""Where a repair puts the damaged ledger."""

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
"""How SQLite words damage that it reports as a mistake of the caller."""
_WRITE_JOURNALS = ("-wal", "-journal")


def with_journals(name: str) -> tuple[str, ...]:
    """Return the name of a ledger, and those SQLite gives to what belongs to it."""
    return (name, *(name + suffix for suffix in JOURNALS))


def is_empty(path: Path) -> bool:
    """Whether there is no ledger, or a file without a byte."""
    with storage_errors(f"opening the ledger {path}"):
        try:
            return path.lstat().st_size == 0
        except FileNotFoundError:
            return True


def check_header(path: Path) -> None:
    """Raise LedgerError if the first bytes are not those of a ledger; an empty file is one that is being made.

    SQLite reads some damage here as wishes, such as not to write.
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
    """Return the first page with what is the same in every ledger written anew, so that the rest can be read."""
    version = 2 if wal else 1
    constant = _MAGIC + _PAGE_BYTES.to_bytes(2, "big") + bytes((version, version, 0)) + _FRACTIONS
    return constant + data[24:44] + (4).to_bytes(4, "big") + data[48:56] + (1).to_bytes(4, "big") + data[60:]


def check_version(db: sqlite3.Connection, path: Path) -> None:
    """Raise StorageError for a ledger of a newer version, LedgerError for one whose format cannot be told."""
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
    """Whether the rows of a ledger carry seals: in all but one that says twice that it is of an earlier format."""
    version = int(db.execute("PRAGMA user_version").fetchone()[0])
    mark = int(db.execute("PRAGMA application_id").fetchone()[0])
    return not (mark == 0 and 0 < version < SEALED_SINCE)


def explained(error: sqlite3.DatabaseError | UnicodeDecodeError, path: Path) -> StorageError:
    """Return what SQLite said, with what to do."""
    # SQLite quotes statements over several lines.
    text = " ".join(str(error).split())
    if type(error) in (sqlite3.DatabaseError, UnicodeDecodeError) or any(words in text.lower() for words in _DAMAGE):
        return LedgerError(f"{path}: the ledger is damaged ({text}); {REPAIR}")
    return StorageError(
        f"{path}: the ledger cannot be used ({text}); make sure its disk has space and its folder can be written; "
        f"if both are so, {REPAIR}"
    )


def cannot_be_written(root: Path) -> bool:
    """Return whether a vault folder is there and this process, as who it acts, may not write to it or its ledger."""
    effective = os.access in os.supports_effective_ids
    places = [place for place in (root, root / "originals", root / "ledger.sqlite") if place.exists()]
    return not all(os.access(place, os.W_OK, effective_ids=effective) for place in places)


def connect_read_only(path: Path, *, version: int) -> tuple[sqlite3.Connection, TemporaryDirectory[str] | None]:
    """Open a ledger file to read it; returns the connection, and the folder to remove after it if there is one.

    SQLite cannot read a file beside which it may make no journal, unless it is told that nobody changes it; that would
    leave out what a journal still holds. So with a journal, or a format older than `version`, a private copy is opened.
    Raises OSError, sqlite3.DatabaseError.
    """
    journals = [file for file in (path.with_name(path.name + end) for end in _WRITE_JOURNALS) if _size(file) > 0]
    if path.exists() and not journals:
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
            if file.exists():
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
    """Return what SQLite finds wrong with a ledger; empty when it is sound. Reads all of it."""
    lines = [line for row in db.execute("PRAGMA integrity_check") for line in str(row[0]).splitlines()]
    said = [line for line in lines if not line.startswith("***")]
    strays = db.execute("PRAGMA foreign_key_check").fetchall()
    return ([] if said == ["ok"] else said) + [f"row {row[1]} of {row[0]} refers to nothing" for row in strays]


def rows_of(database: sqlite3.Connection) -> list[list[tuple[Any, ...]]]:
    """Return all rows of each table that a backup has to hold, in order of their first columns."""
    return [database.execute(f"SELECT * FROM {table} ORDER BY 1").fetchall() for table in _BACKED_UP]


def read_rows(path: Path) -> list[list[tuple[Any, ...]]] | None:
    """Return `rows_of` the ledger at `path`, which is left as it is; None where it cannot be read."""
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)) as database:
            return rows_of(database)
    except ERRORS:
        return None


MOST_ATTEMPTS = 20_000
"""Rows kept, of about half a kilobyte; the oldest go first. One that went costs a search, nothing else."""
Marked = Literal["record", "attempt", "everything", "traces"]
"""A row of `records` or `attempts`; all there is; or nothing but what SQLite and backups remember of deleted rows."""


class _Table:
    """Part of `Ledger`, on its connection and within its transactions."""

    def __init__(
        self,
        db: sqlite3.Connection,
        transaction: Callable[[str], AbstractContextManager[None]],
        errors: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self._db, self._transaction, self._errors = db, transaction, errors


class AttemptTable(_Table):
    """What was tried without success."""

    def add(self, sha256: str, settings: str, path: Path, details: Mapping[str, Any]) -> None:
        """Remember an attempt on this content, in the place of an earlier one under the same settings."""
        text = json.dumps(details, separators=(",", ":"), allow_nan=True)
        with self._transaction("attempt"):
            self._db.execute(
                "INSERT OR REPLACE INTO attempts (sha256, settings, path, details) VALUES (?, ?, ?, ?)",
                (sha256, settings, os.fsencode(path), text),
            )
            self._db.execute("DELETE FROM attempts WHERE id <= (SELECT max(id) FROM attempts) - ?", (MOST_ATTEMPTS,))

    def count(self) -> int:
        """Return how many attempts are remembered."""
        with self._errors():
            return int(self._db.execute("SELECT count(*) FROM attempts").fetchone()[0])

    def about(self, sha256: str) -> bool:
        """Whether anything was tried on this content without success."""
        with self._errors():
            return self._db.execute("SELECT 1 FROM attempts WHERE sha256 = ? LIMIT 1", (sha256,)).fetchone() is not None

    def find(self, sha256: str, settings: str) -> dict[str, Any] | None:
        """The details of an attempt on this content under these settings."""
        with self._errors():
            row = self._db.execute(
                "SELECT details FROM attempts WHERE sha256 = ? AND settings = ?", (sha256, settings)
            ).fetchone()
        if row is None:
            return None
        try:
            details: dict[str, Any] = json.loads(row[0])
        except ValueError:
            # Damaged; it costs a search, nothing else.
            return None
        return details

    def touching(self, path: Path, contents: Iterable[str]) -> list[int]:
        """Numbers of the attempts on the file at this path, or on any of these contents."""
        found: set[int] = set()
        with self._errors():
            found.update(n for (n,) in self._db.execute("SELECT id FROM attempts WHERE path = ?", (os.fsencode(path),)))
            for sha256 in set(contents):
                found.update(n for (n,) in self._db.execute("SELECT id FROM attempts WHERE sha256 = ?", (sha256,)))
        return sorted(found)


class DeletionTable(_Table):
    """What is to be deleted."""

    def mark(self, records: Iterable[int], attempts: Iterable[int] = (), *, everything: bool = False) -> None:
        """Say durably what is to be deleted, rows, originals and all traces, before the first of it is."""
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
            # One changed byte must not have another photo forgotten.
            if kind not in found or own != seal(kind, number):
                raise LedgerError(f"the ledger is damaged: its list of deletions is not as it was written; {REPAIR}")
            found[kind].add(number)
        return found

    def erase(self, marked: dict[Marked, set[int]]) -> None:
        """Delete the rows marked, and what is known of originals that no row refers to any more."""
        with self._transaction("erase"):
            if marked["everything"]:
                for table in ("records", "attempts", "originals", "temporaries"):
                    self._db.execute(f"DELETE FROM {table}")
            record_ids = [(number,) for number in marked["record"]]
            restores = self._db.execute("SELECT id, undoes FROM records WHERE undoes IS NOT NULL").fetchall()
            self._db.executemany("DELETE FROM records WHERE id = ?", record_ids)
            # Their `undoes` is empty now.
            seal_records(self._db, [number for number, target in restores if target in marked["record"]])
            self._db.executemany("DELETE FROM attempts WHERE id = ?", [(number,) for number in marked["attempt"]])
            self._db.execute(
                "DELETE FROM originals WHERE NOT EXISTS"
                " (SELECT 1 FROM records WHERE records.original = originals.id OR records.kept = originals.id)"
            )
            self._db.execute("DELETE FROM deletions")
            self._add("traces", 0)

    def scrub(self) -> None:
        """Rewrite the file without free pages, and empty the write-ahead log, where old pages live on."""
        with self._errors():
            self._db.execute("VACUUM")
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def scrubbed(self) -> None:
        """Say that no trace is left."""
        with self._transaction("scrubbed"):
            self._db.execute("DELETE FROM deletions WHERE kind = 'traces'")

    def _add(self, kind: Marked, number: int) -> None:
        self._db.execute(
            "INSERT OR REPLACE INTO deletions (kind, id, seal) VALUES (?, ?, ?)", (kind, number, seal(kind, number))
        )
