"""The ledger: the SQLite file that records what was done to which file."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hashshield.errors import LedgerError, StorageError
from hashshield.storage import calls, ledger_file
from hashshield.storage.calls import storage_errors
from hashshield.storage.folder import Folder
from hashshield.storage.ledger_file import AttemptTable, DeletionTable
from hashshield.storage.record_files import RecordFiles
from hashshield.storage.schema import (
    MIGRATIONS,
    REPAIR,
    SELECT,
    PendingRecord,
    Record,
    check_seals,
    insert,
    migrate,
    seal,
    seal_originals,
    seal_records,
    text_of,
    to_record,
)

__all__ = ["Ledger"]

_NEWEST = " ORDER BY records.id DESC LIMIT 1"
_CARRIED_OUT = "state IN ('done', 'restored')"
# Open intents count too: a file that holds an intent's result proves that it was carried out, even if the file moved.
_ANY_STATE = "state IN ('done', 'restored', 'intent')"


class Ledger:
    """The rows on what was done. Changes are durable once a call returns; threads and processes may share a ledger."""

    def __init__(
        self,
        root: Path,
        *,
        wal: bool,
        files: RecordFiles | None = None,
        used: bool = False,
        name: str = ledger_file.NAME,
        read_only: bool = False,
    ) -> None:
        """Open or create `root/ledger.sqlite`, mode 0600; use `wal` only on a local file system.

        With `files` every row gets a record file too. `used` says that the vault holds originals, so that a ledger of
        an earlier format without rows must have lost them. With `read_only` nothing is created, and methods that write
        raise StorageError. Raises LedgerError if the file is damaged, StorageError if it is unreadable or from a newer
        version, which is left untouched.
        """
        self.path = root / name
        self.files = files
        self.changed = False
        """Whether this connection has committed anything since it was opened."""
        self.read_only = False
        self._guard = threading.RLock()
        self._copied: TemporaryDirectory[str] | None = None
        if read_only:
            self._open_to_read()
        else:
            self._open(root, wal=wal, used=used)
        self.attempts = AttemptTable(self._db, self._transaction, self._errors)
        """Searches that fell short; `restore` and `verify` do not use them."""
        self.deletions = DeletionTable(self._db, self._transaction, self._errors)
        """Rows marked for deletion."""

    def _open_to_read(self) -> None:
        with self._errors():
            self._db, self._copied = ledger_file.connect_read_only(self.path, version=len(MIGRATIONS))
        try:
            self._db.text_factory = text_of
            with self._errors():
                ledger_file.check_version(self._db, self.path)
            if self._copied is not None:
                with self._transaction("migrate"):
                    migrate(self._db, self.path, used=False)
        except BaseException:
            self.close()
            raise
        self.read_only = True

    def _open(self, root: Path, *, wal: bool, used: bool) -> None:
        with storage_errors(f"opening the ledger {self.path}"), Folder.open(root) as folder:
            # Created here, because SQLite would use the umask; its journals then copy the mode.
            try:
                os.close(folder.create(self.path.name))
                folder.sync()
            except FileExistsError:
                pass
            ledger_file.check_header(self.path)
        with self._errors():
            self._db = sqlite3.connect(self.path, timeout=30, isolation_level=None, check_same_thread=False)
        try:
            self._db.text_factory = text_of
            with self._errors():
                ledger_file.check_version(self._db, self.path)
                for pragma in (
                    "secure_delete = ON",
                    "foreign_keys = ON",
                    "synchronous = EXTRA",
                    # Rewritten rows must not pass through another folder.
                    "temp_store = MEMORY",
                ):
                    self._db.execute(f"PRAGMA {pragma}")
                self._db.execute(f"PRAGMA journal_mode = {'WAL' if wal else 'DELETE'}")
                with self._transaction("migrate"):
                    migrate(self._db, self.path, used=used)
        except BaseException:
            self._db.close()
            raise

    def close(self) -> None:
        """Close the file; may be called twice."""
        self._db.close()
        if self._copied is not None:
            self._copied.cleanup()

    def announce(self, *temporaries: Path) -> None:
        """Record temporary files about to be created, so that a later run can remove them after a crash."""
        with self._transaction("announce"):
            self._remember(temporaries)

    def forget_temporaries(self, temporaries: Sequence[Path]) -> None:
        """Delete the records of temporary files that no longer exist."""
        with self._transaction("forget_temporaries"):
            self._release(temporaries)

    def intend(self, entry: PendingRecord, *, originals: Mapping[str, int], temporary: Path) -> int:
        """Record an intent and its temporary file; return the row's number. `originals`: sizes by new vault id."""
        with self._transaction("intend"):
            for name, size in originals.items():
                self._db.execute(
                    "INSERT INTO originals (id, size) VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET pruned = NULL",
                    (name, size),
                )
            seal_originals(self._db, originals)
            self._remember((temporary,))
            number = insert(self._db, entry, None, "intent")
        if number is None:
            raise StorageError(f"{self.path}: a new row got no number; the ledger is damaged")
        if self.files is not None:
            try:
                self.files.write(self.record(number))
            except BaseException:
                self.drop(number, (temporary,))
                raise
        return number

    def commit(self, number: int, temporaries: Sequence[Path] = ()) -> None:
        """Mark an intent as done, and the row that it undoes, if any, as restored."""
        with self._transaction("commit"):
            self._db.execute("UPDATE records SET state = 'done' WHERE id = ? AND state = 'intent'", (number,))
            self._db.execute(
                "UPDATE records SET state = 'restored' WHERE id = (SELECT undoes FROM records WHERE id = ?)", (number,)
            )
            touched = [
                row[0]
                for row in self._db.execute(
                    "SELECT id FROM records WHERE id = ?1 OR id = (SELECT undoes FROM records WHERE id = ?1)", (number,)
                )
            ]
            seal_records(self._db, touched)
            self._release(temporaries)
        if self.files is not None:
            for row in touched:
                self.files.follow(self.record(row))

    def drop(self, number: int, temporaries: Sequence[Path] = ()) -> None:
        """Delete an intent that was not carried out."""
        intent = self.find(number)
        if self.files is not None and intent is not None and intent.state == "intent":
            self.files.remove(self.files.of(intent))
        with self._transaction("drop"):
            self._db.execute("DELETE FROM records WHERE id = ? AND state = 'intent'", (number,))
            self._release(temporaries)

    def mark_pruned(self, names: Sequence[str], when: str) -> None:
        """Mark originals as deleted at the user's request, at the time `when` (ISO 8601, UTC)."""
        with self._transaction("mark_pruned"):
            self._db.executemany("UPDATE originals SET pruned = ? WHERE id = ?", [(when, name) for name in names])
            seal_originals(self._db, names)

    def fill(
        self,
        records: Sequence[Record],
        originals: Mapping[str, tuple[int, str | None]],
        attempts: Sequence[tuple[int, str, str, bytes, str]],
        temporaries: Sequence[Path],
    ) -> None:
        """Fill an empty ledger with rows under their numbers; `originals`: size and time of pruning by vault id."""
        known_ids = {record.id for record in records}
        with self._transaction("fill"):
            self._db.execute("PRAGMA defer_foreign_keys = ON")
            for name, (size, pruned) in originals.items():
                self._db.execute("INSERT INTO originals (id, size, pruned) VALUES (?, ?, ?)", (name, size, pruned))
            seal_originals(self._db, originals)
            for record in records:
                undoes = record.undoes if record.undoes in known_ids else None
                insert(self._db, replace(record, undoes=undoes), record.id, record.state)
            self._db.executemany(
                "INSERT OR IGNORE INTO attempts (id, sha256, settings, path, details) VALUES (?, ?, ?, ?, ?)", attempts
            )
            self._remember(temporaries)

    def backup(self, destination: Path) -> None:
        """Copy the ledger as of the last transaction into the empty file `destination`."""
        with self._errors():
            copy = sqlite3.connect(destination, isolation_level=None)
            try:
                # No journal, which could survive a crash; an incomplete copy does not matter before it is renamed.
                copy.execute("PRAGMA journal_mode = OFF")
                copy.execute("PRAGMA synchronous = OFF")
                self._db.backup(copy)
            finally:
                copy.close()

    def rows(self) -> list[list[tuple[Any, ...]]]:
        """Return the rows of each table that a backup holds; see `ledger_file.rows_of`."""
        with self._errors():
            return ledger_file.rows_of(self._db)

    def find(self, number: int) -> Record | None:
        """Return the row with this number, or None."""
        return self._one("WHERE records.id = ?", number)

    def record(self, number: int) -> Record:
        """Return the row with this number; raise StorageError if there is none."""
        found = self.find(number)
        if found is None:
            raise StorageError(f"{self.path}: row {number} is missing; the ledger was changed by something else")
        return found

    def result(self, sha256: str, pixel_digest: str | None = None, *, path: Path | None = None) -> Record | None:
        """Return the protection whose result has this content, or else these pixels; None if there is none.

        Of several, one in place is preferred to a copy, then one that can be restored, then one of the file at `path`,
        then one not restored yet, then the newest.
        """
        order = (
            f" AND kind IN ('protect', 'copy') AND {_ANY_STATE} ORDER BY kind = 'protect' DESC,"
            " original IS NOT NULL AND originals.pruned IS NULL DESC, path = ? DESC, state = 'done' DESC,"
            " records.id DESC LIMIT 1"
        )
        encoded_path = os.fsencode(path) if path is not None else b""
        found = self._one("WHERE sha256_after = ?" + order, sha256, encoded_path)
        if found is None and pixel_digest is not None:
            found = self._one("WHERE pixels_after = ?" + order, pixel_digest, encoded_path)
        return found

    def holds_pixels(self) -> bool:
        """Return whether any row has a digest of pixels."""
        return self._one("WHERE pixels_after IS NOT NULL LIMIT 1") is not None

    def result_pixels(self) -> frozenset[str]:
        """Return the pixel digests of all results, to skip the lookup of photos that match none."""
        with self._errors():
            rows = self._db.execute(
                "SELECT DISTINCT pixels_after FROM records WHERE pixels_after IS NOT NULL"
                f" AND kind IN ('protect', 'copy') AND {_ANY_STATE}"
            )
            return frozenset(row[0] for row in rows)

    def by_original(self, sha256: str) -> Record | None:
        """Return the newest carried-out protection of a photo with this content, or None."""
        return self._one(
            f"WHERE kind IN ('protect', 'copy') AND {_CARRIED_OUT} AND sha256_before = ?" + _NEWEST,
            sha256,
        )

    def by_path(self, path: Path) -> Record | None:
        """Return the newest protection in place of the file at this path, carried out or interrupted; or None."""
        return self._one(f"WHERE kind = 'protect' AND {_ANY_STATE} AND path = ?" + _NEWEST, os.fsencode(path))

    def replaced(self, path: Path) -> Record | None:
        """Return the newest copy written over the file at this path, which the vault keeps as `kept`; or None."""
        return self._one(
            "WHERE kind = 'copy' AND state = 'done' AND kept IS NOT NULL AND path = ?" + _NEWEST, os.fsencode(path)
        )

    def open_intents(self) -> list[Record]:
        """Return the intents neither carried out nor dropped, oldest first."""
        return self._all("WHERE state = 'intent' ORDER BY records.id")

    def every(self) -> list[Record]:
        """Return all rows, oldest first."""
        return self._all("ORDER BY records.id")

    def anchors(self) -> dict[int, str]:
        """Return the digest that names each row's record file, by number. Raises LedgerError if a row is damaged."""
        found = {}
        with self._errors():
            for row in self._db.execute(SELECT):
                check_seals(row)
                # Columns 8, 9 and 4 are original, kept and sha256_before.
                found[row[0]] = row[8] or row[9] or row[4]
        return found

    def of_path(self, path: Path) -> list[Record]:
        """Return the rows about a path, oldest first."""
        return self._all("WHERE path = ? ORDER BY records.id", os.fsencode(path))

    def of_content(self, sha256: str) -> list[Record]:
        """Return the rows with this content as original, replaced file or result, oldest first."""
        return self._all(
            "WHERE sha256_after = ?1 OR sha256_before = ?1 OR sha256_replaced = ?1 OR original = ?1 OR kept = ?1"
            " ORDER BY records.id",
            sha256,
        )

    def last_run(self) -> list[Record]:
        """Return the in-place protections of the newest run that made any, oldest first."""
        return self._all(
            f"WHERE kind = 'protect' AND {_ANY_STATE} AND run = (SELECT run FROM records"
            f" WHERE kind = 'protect' AND {_ANY_STATE} ORDER BY id DESC LIMIT 1) ORDER BY records.id"
        )

    def pruned(self) -> set[str]:
        """Return the vault ids of originals deleted at the user's request. Raises LedgerError if a row is damaged."""
        return {name for name, (_, pruned) in self.originals().items() if pruned is not None}

    def originals(self) -> dict[str, tuple[int, str | None]]:
        """Return size and time of pruning, or None, by vault id. Raises LedgerError if a row is damaged."""
        with self._errors():
            rows = self._db.execute("SELECT id, size, pruned, seal FROM originals").fetchall()
        for *columns, own in rows:
            if own != seal(*columns):
                raise LedgerError(
                    f"{self.path}: damaged: its entry of original {columns[0]} is not as it was written; {REPAIR}"
                )
        return {name: (size, pruned) for name, size, pruned, _ in rows}

    def temporaries(self) -> list[Path]:
        """Return the recorded temporary files, which may still exist."""
        with self._errors():
            return [Path(os.fsdecode(row[0])) for row in self._db.execute("SELECT path FROM temporaries")]

    def integrity_errors(self) -> list[str]:
        """Return what SQLite finds wrong with the file, of which it reads everything; empty if it is sound."""
        with self._errors():
            return ledger_file.integrity_errors(self._db)

    def _remember(self, temporaries: Sequence[Path]) -> None:
        self._db.executemany(
            "INSERT OR IGNORE INTO temporaries (path) VALUES (?)", [(os.fsencode(path),) for path in temporaries]
        )

    def _release(self, temporaries: Sequence[Path]) -> None:
        self._db.executemany("DELETE FROM temporaries WHERE path = ?", [(os.fsencode(path),) for path in temporaries])

    def _one(self, clause: str, *values: object) -> Record | None:
        found = self._all(clause, *values)
        return found[0] if found else None

    def _all(self, clause: str, *values: object) -> list[Record]:
        with self._errors():
            return [to_record(row) for row in self._db.execute(SELECT + clause, values)]

    @contextmanager
    def _transaction(self, name: str) -> Iterator[None]:
        if self.read_only:
            raise StorageError(
                f"{self.path}: cannot be written; mount it for writing or fix the permissions of the vault folder"
            )
        with self._errors():
            calls.step(f"ledger.{name}", self.path)
            self._db.execute("BEGIN IMMEDIATE")
            before = self._db.total_changes
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise
            self.changed = self.changed or self._db.total_changes > before
            calls.step(f"ledger.{name}.done", self.path)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        with self._guard, storage_errors(f"writing the ledger {self.path}"):
            try:
                yield
            except ledger_file.ERRORS as error:
                raise ledger_file.explained(error, self.path) from error
