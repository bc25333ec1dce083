"""The ledger: an SQLite file that says what was done to which file, and nothing else is believed."""

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
# A file that holds the result of an open intent proves that it was carried out, wherever the file is by now.
_ANY_STATE = "state IN ('done', 'restored', 'intent')"


class Ledger:
    """Durable once a call returns; safe to use from several threads and processes."""

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
        """Open or create `root/ledger.sqlite`, mode 0600; `wal` only where the file system is local.

        With `files` every row has its record file too. `used` says that originals are kept, so that a ledger of an
        earlier format without a row has lost them. With `read_only` nothing is made, and whatever would write raises
        StorageError. Raises LedgerError if the file is damaged, StorageError if it is
        unreadable or from a newer version, in which case it is left untouched.
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
        """What was tried without success; neither `restore` nor `verify` asks."""
        self.deletions = DeletionTable(self._db, self._transaction, self._errors)
        """What is being forgotten."""

    def _open_to_read(self) -> None:
        with self._errors():
            ledger_file.check_header(self.path)
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
            # Made here and not by SQLite, which would use the umask; its journals then copy the mode.
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
                    # What is being rewritten must not pass through another folder.
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
        """Remember temporary files about to be made, so that a later run can remove what a crash leaves."""
        with self._transaction("announce"):
            self._remember(temporaries)

    def forget_temporaries(self, temporaries: Sequence[Path]) -> None:
        """Stop remembering temporary files that are gone."""
        with self._transaction("forget_temporaries"):
            self._release(temporaries)

    def intend(self, entry: PendingRecord, *, originals: Mapping[str, int], temporary: Path) -> int:
        """Announce a replacement and its temporary file, and return the row id; `originals`: size by new vault id."""
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
        """Mark an intent as carried out, and the row it takes back, if any, as restored."""
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
        """Mark originals as deleted at the user's wish."""
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
        """Put rows into an empty ledger, under their numbers; `originals`: size and time of pruning by vault id."""
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
                # Another journal beside it would outlive a crash; the copy counts only once it is renamed.
                copy.execute("PRAGMA journal_mode = OFF")
                copy.execute("PRAGMA synchronous = OFF")
                self._db.backup(copy)
            finally:
                copy.close()

    def rows(self) -> list[list[tuple[Any, ...]]]:
        """Return `ledger_file.rows_of` this one."""
        with self._errors():
            return ledger_file.rows_of(self._db)

    def find(self, number: int) -> Record | None:
        """Return one row, if it is there."""
        return self._one("WHERE records.id = ?", number)

    def record(self, number: int) -> Record:
        """Return one row; raises StorageError if there is none of that number."""
        found = self.find(number)
        if found is None:
            raise StorageError(f"{self.path}: row {number} is missing; the ledger was changed by something else")
        return found

    def result(self, sha256: str, pixel_digest: str | None = None, *, path: Path | None = None) -> Record | None:
        """Carried-out protection whose result is this content, or failing that, these pixels.

        Of several, one that can be taken back comes first, then one of the file at `path`, then the newest.
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
        """Whether any row can be recognised by its pixels at all."""
        return self._one("WHERE pixels_after IS NOT NULL LIMIT 1") is not None

    def result_pixels(self) -> frozenset[str]:
        """Pixel digests of all results, for telling which photos are worth asking about."""
        with self._errors():
            rows = self._db.execute(
                "SELECT DISTINCT pixels_after FROM records WHERE pixels_after IS NOT NULL"
                f" AND kind IN ('protect', 'copy') AND {_ANY_STATE}"
            )
            return frozenset(row[0] for row in rows)

    def by_original(self, sha256: str) -> Record | None:
        """Newest carried-out protection of this content."""
        return self._one(
            f"WHERE kind IN ('protect', 'copy') AND {_CARRIED_OUT} AND sha256_before = ?" + _NEWEST,
            sha256,
        )

    def by_path(self, path: Path) -> Record | None:
        """Newest protection of the file at this path, carried out or cut short."""
        return self._one(f"WHERE kind = 'protect' AND {_ANY_STATE} AND path = ?" + _NEWEST, os.fsencode(path))

    def replaced(self, path: Path) -> Record | None:
        """Newest protected copy at this path that took the place of a file, which the vault has in `kept`."""
        return self._one(
            "WHERE kind = 'copy' AND state = 'done' AND kept IS NOT NULL AND path = ?" + _NEWEST, os.fsencode(path)
        )

    def open_intents(self) -> list[Record]:
        """Rows announced and neither carried out nor dropped, oldest first."""
        return self._all("WHERE state = 'intent' ORDER BY records.id")

    def every(self) -> list[Record]:
        """All rows, oldest first."""
        return self._all("ORDER BY records.id")

    def anchors(self) -> dict[int, str]:
        """Return what each row's record file is named after, by number. Raises LedgerError if a row is damaged."""
        found = {}
        with self._errors():
            for row in self._db.execute(SELECT):
                check_seals(row)
                # original, kept, sha256_before
                found[row[0]] = row[8] or row[9] or row[4]
        return found

    def of_path(self, path: Path) -> list[Record]:
        """Rows about a path, oldest first."""
        return self._all("WHERE path = ? ORDER BY records.id", os.fsencode(path))

    def of_content(self, sha256: str) -> list[Record]:
        """Rows in which content was the original, what was replaced, or the result; oldest first."""
        return self._all(
            "WHERE sha256_after = ?1 OR sha256_before = ?1 OR sha256_replaced = ?1 OR original = ?1 OR kept = ?1"
            " ORDER BY records.id",
            sha256,
        )

    def last_run(self) -> list[Record]:
        """The protections of the newest run that protected anything, oldest first."""
        return self._all(
            f"WHERE kind = 'protect' AND {_ANY_STATE} AND run = (SELECT run FROM records"
            f" WHERE kind = 'protect' AND {_ANY_STATE} ORDER BY id DESC LIMIT 1) ORDER BY records.id"
        )

    def pruned(self) -> set[str]:
        """Vault ids of originals that were deleted at the user's wish. Raises LedgerError if one is damaged."""
        return {name for name, (_, pruned) in self.originals().items() if pruned is not None}

    def originals(self) -> dict[str, tuple[int, str | None]]:
        """Size, and when it was pruned, by vault id. Raises LedgerError if one is damaged."""
        with self._errors():
            rows = self._db.execute("SELECT id, size, pruned, seal FROM originals").fetchall()
        for *columns, own in rows:
            if own != seal(*columns):
                raise LedgerError(
                    f"{self.path}: damaged: what it says of original {columns[0]} is not as it was written; {REPAIR}"
                )
        return {name: (size, pruned) for name, size, pruned, _ in rows}

    def temporaries(self) -> list[Path]:
        """Temporary files that were announced and may still exist."""
        with self._errors():
            return [Path(os.fsdecode(row[0])) for row in self._db.execute("SELECT path FROM temporaries")]

    def integrity_errors(self) -> list[str]:
        """What SQLite finds wrong with the file; empty when it is sound. Reads all of it."""
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
                f"{self.path}: cannot be written; mount it for writing or mend the permissions of the vault folder"
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
