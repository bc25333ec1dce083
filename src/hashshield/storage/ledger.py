"""The ledger: an SQLite file that says what was done to which file, and nothing else is believed."""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from hashshield.errors import StorageError
from hashshield.storage import calls
from hashshield.storage.attempts import Attempts
from hashshield.storage.folder import Folder
from hashshield.storage.os_errors import storage_errors
from hashshield.storage.record_files import RecordFiles
from hashshield.storage.records import Entry, Record
from hashshield.storage.schema import (
    ATTEMPT_COLUMNS,
    COLUMNS,
    MIGRATIONS,
    ORIGINAL_COLUMNS,
    SELECT,
    digest_of,
    to_record,
)
from hashshield.storage.temporaries import temporary_name

__all__ = ["BACKUP_NAME", "LEDGER_NAME", "REPAIR_HINT", "Ledger"]

LEDGER_NAME = "ledger.sqlite"
BACKUP_NAME = "ledger.backup.sqlite"
REPAIR_HINT = "run `hashshield originals repair`, which rebuilds it from the records beside the originals"

_NEWEST = " ORDER BY records.id DESC LIMIT 1"
_WITH_DIGESTS = 3
"""Format from which on rows have digests."""
_NOT_WORTH_A_BACKUP = frozenset({"announce", "forget_temporaries", "migrate"})
_CORRUPT = {11, 26}
"""SQLITE_CORRUPT and SQLITE_NOTADB."""
_TABLES: dict[str, tuple[str, ...]] = {
    "records": COLUMNS,
    "originals": ORIGINAL_COLUMNS,
    "attempts": ATTEMPT_COLUMNS,
}
"""Tables whose rows carry a digest of these columns."""


class Ledger:
    """Durable once a call returns; safe to use from several threads and processes."""

    def __init__(self, root: Path, *, wal: bool) -> None:
        """Open or create `root/ledger.sqlite`, mode 0600; `wal` only where the file system is local.

        Raises StorageError if the file is damaged, unreadable or from a newer version.
        """
        self.path = root / LEDGER_NAME
        self._root = root
        self._guard = threading.RLock()
        self._changed = False
        self.record_files = RecordFiles(root)
        """Written after the ledger, at each change of a row."""
        with storage_errors(f"opening the ledger {self.path}"), Folder.open(root) as folder:
            # Made here and not by SQLite, which would use the umask; its journals then copy the mode.
            try:
                os.close(folder.create(self.path.name))
                folder.sync()
            except FileExistsError:
                pass
        with self._errors():
            self._db = sqlite3.connect(self.path, timeout=30, isolation_level=None, check_same_thread=False)
        try:
            with self._errors():
                for pragma in ("secure_delete = ON", "foreign_keys = ON", "synchronous = EXTRA"):
                    self._db.execute(f"PRAGMA {pragma}")
                self._db.execute(f"PRAGMA journal_mode = {'WAL' if wal else 'DELETE'}")
                self.version_found = self._migrate()
                """Format of the file that was there; 0 for a new or an empty one."""
        except BaseException:
            self._db.close()
            raise
        self.attempts = Attempts(self._db, self._transaction, self._errors, self._seal)
        """What was tried without success; neither `restore` nor `verify` asks."""

    def close(self) -> None:
        """Back the ledger up if it was changed, and close it; may be called twice. Raises StorageError."""
        try:
            if self._changed:
                self.back_up()
        finally:
            self._db.close()

    def discard(self) -> None:
        """Close a ledger that was just made, and remove its files. Raises StorageError."""
        self._changed = False
        self._db.close()
        with storage_errors(f"removing {self.path}"), Folder.open(self._root) as folder:
            for suffix in ("", "-wal", "-shm", "-journal"):
                folder.remove(self.path.name + suffix)

    def back_up(self) -> None:
        """Copy the ledger to `ledger.backup.sqlite`, whole or not at all, mode 0600. Raises StorageError."""
        temporary = temporary_name()
        with storage_errors(f"backing up the ledger {self.path}"), Folder.open(self._root) as folder:
            calls.step("ledger.back_up", self.path)
            os.close(folder.create(temporary))
            try:
                with self._errors(), closing(sqlite3.connect(self._root / temporary)) as copy:
                    copy.execute("PRAGMA journal_mode = MEMORY")
                    self._db.backup(copy)
                    copy.execute("PRAGMA journal_mode = DELETE")
                folder.rename(temporary, BACKUP_NAME)
            except BaseException:
                folder.remove(temporary)
                raise
            folder.sync()
        self._changed = False

    # -- writing ------------------------------------------------------------------------------------------------

    def announce(self, *temporaries: Path) -> None:
        """Remember temporary files about to be made, so that a later run can remove what a crash leaves."""
        with self._transaction("announce"):
            self._remember(temporaries)

    def forget_temporaries(self, temporaries: Sequence[Path]) -> None:
        """Stop remembering temporary files that are gone."""
        with self._transaction("forget_temporaries"):
            self._release(temporaries)

    def intend(self, entry: Entry, *, originals: Mapping[str, int], temporary: Path) -> int:
        """Announce a replacement and its temporary file, and return the row id; `originals`: size by new vault id."""
        with self._transaction("intend"):
            for name, size in originals.items():
                self._db.execute(
                    "INSERT INTO originals (id, size) VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET pruned = NULL",
                    (name, size),
                )
                self._seal("originals", name)
            self._remember((temporary,))
            row = (
                entry.kind,
                os.fsencode(entry.path),
                entry.sha256_before,
                entry.sha256_replaced,
                entry.sha256_after,
                entry.pixels_after,
                entry.original,
                entry.kept,
                entry.created,
                entry.tool,
                entry.run,
                entry.mode,
                entry.mtime_ns,
                entry.size,
                entry.undoes,
                json.dumps(entry.details, separators=(",", ":"), allow_nan=True),
            )
            cursor = self._db.execute(
                "INSERT INTO records (state, kind, path, sha256_before, sha256_replaced, sha256_after, pixels_after,"
                " original, kept, created, tool, run, mode, mtime_ns, size, undoes, details)"
                f" VALUES ('intent', {', '.join('?' * len(row))})",
                row,
            )
            number = cursor.lastrowid
            self._seal("records", number)
        if number is None:
            raise StorageError(f"{self.path}: a new row got no number; {REPAIR_HINT}")
        self.record_files.write(self.rows([number]))
        return number

    def commit(self, number: int, temporaries: Sequence[Path] = ()) -> None:
        """Mark an intent as carried out, and the row it takes back, if any, as restored."""
        with self._transaction("commit"):
            self._db.execute("UPDATE records SET state = 'done' WHERE id = ?", (number,))
            undone = self._db.execute("SELECT undoes FROM records WHERE id = ?", (number,)).fetchone()
            changed = [number] if undone is None or undone[0] is None else [number, undone[0]]
            for other in changed[1:]:
                self._db.execute("UPDATE records SET state = 'restored' WHERE id = ?", (other,))
            for each in changed:
                self._seal("records", each)
            self._release(temporaries)
        self.record_files.write(self.rows(changed))

    def drop(self, number: int, temporaries: Sequence[Path] = ()) -> None:
        """Delete an intent that was not carried out."""
        with self._transaction("drop"):
            dropped = self._db.execute("DELETE FROM records WHERE id = ? AND state = 'intent'", (number,)).rowcount
            self._release(temporaries)
        if dropped:
            self.record_files.remove([number])

    def mark_pruned(self, names: Sequence[str], when: str) -> None:
        """Mark originals as deleted at the user's wish."""
        with self._transaction("mark_pruned"):
            for name in names:
                self._db.execute("UPDATE originals SET pruned = ? WHERE id = ?", (when, name))
                self._seal("originals", name)

    def plan_erasure(self, numbers: Sequence[int], attempts: Sequence[int], originals: Sequence[str]) -> None:
        """Note what is about to be deleted for good, so that an interruption cannot leave half of it."""
        with self._transaction("plan_erasure"):
            rows: list[tuple[int | None, int | None, str | None]] = [(n, None, None) for n in numbers]
            rows += [(None, n, None) for n in attempts]
            rows += [(None, None, name) for name in originals]
            self._db.executemany("INSERT INTO erasing (record, attempt, original) VALUES (?, ?, ?)", rows)

    def erasing(self) -> tuple[list[int], list[str]]:
        """Return the rows and vault ids that are noted for deletion."""
        with self._errors():
            rows = self._db.execute("SELECT record, original FROM erasing").fetchall()
        return [row[0] for row in rows if row[0] is not None], [row[1] for row in rows if row[1] is not None]

    def erase(self) -> None:
        """Delete the rows noted for deletion, and every trace of them in the file and its write-ahead log."""
        with self._transaction("erase"):
            self._db.execute("DELETE FROM records WHERE id IN (SELECT record FROM erasing)")
            self._db.execute("DELETE FROM attempts WHERE id IN (SELECT attempt FROM erasing)")
            self._db.execute(
                "DELETE FROM originals WHERE NOT EXISTS"
                " (SELECT 1 FROM records WHERE records.original = originals.id OR records.kept = originals.id)"
            )
        with self._errors():
            # Old pages live on in free pages and the write-ahead log.
            for statement in ("PRAGMA wal_checkpoint(TRUNCATE)", "VACUUM", "PRAGMA wal_checkpoint(TRUNCATE)"):
                self._db.execute(statement).fetchall()

    def erasure_done(self) -> None:
        """Note that nothing is left to delete, files included."""
        with self._transaction("erasure_done"):
            self._db.execute("DELETE FROM erasing")
        with self._errors():
            for statement in ("PRAGMA wal_checkpoint(TRUNCATE)", "VACUUM", "PRAGMA wal_checkpoint(TRUNCATE)"):
                self._db.execute(statement).fetchall()

    # -- reading ------------------------------------------------------------------------------------------------

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
        """Return the protection whose result is this content, or failing that, these pixels.

        Of several, one that can be taken back comes first, then one of the file at `path`, then the newest. An intent
        counts too: content equal to its result proves that it was carried out, wherever the file is now.
        """
        order = (
            " AND kind IN ('protect', 'copy') ORDER BY state != 'intent' DESC, kind = 'protect' DESC,"
            " original IS NOT NULL AND originals.pruned IS NULL DESC, path = ? DESC, state = 'done' DESC,"
            " records.id DESC LIMIT 1"
        )
        place = os.fsencode(path) if path is not None else b""
        found = self._one("WHERE sha256_after = ?" + order, sha256, place)
        if found is None and pixel_digest is not None:
            found = self._one("WHERE pixels_after = ?" + order, pixel_digest, place)
        return found

    def holds_pixels(self) -> bool:
        """Whether any row can be recognised by its pixels at all."""
        return self._one("WHERE pixels_after IS NOT NULL LIMIT 1") is not None

    def result_pixels(self) -> frozenset[str]:
        """Pixel digests of all results, for telling which photos are worth asking about."""
        with self._errors():
            rows = self._db.execute(
                "SELECT DISTINCT pixels_after FROM records WHERE pixels_after IS NOT NULL"
                " AND kind IN ('protect', 'copy') AND state IN ('done', 'restored')"
            )
            return frozenset(row[0] for row in rows)

    def by_original(self, sha256: str) -> Record | None:
        """Newest carried-out protection of this content."""
        return self._one(
            "WHERE kind IN ('protect', 'copy') AND state IN ('done', 'restored') AND sha256_before = ?" + _NEWEST,
            sha256,
        )

    def by_path(self, path: Path) -> Record | None:
        """Newest carried-out protection of the file at this path."""
        return self._one(
            "WHERE kind = 'protect' AND state IN ('done', 'restored') AND path = ?" + _NEWEST, os.fsencode(path)
        )

    def open_intents(self) -> list[Record]:
        """Rows announced and neither carried out nor dropped, oldest first."""
        return self._all("WHERE state = 'intent' ORDER BY records.id")

    def every(self) -> list[Record]:
        """All rows, oldest first."""
        return self._all("ORDER BY records.id")

    def touching(self, path: Path, sha256: str | None) -> list[Record]:
        """Rows about a path, or about content as original or as result."""
        return self._all(
            "WHERE path = ? OR sha256_after = ? OR sha256_before = ? ORDER BY records.id",
            os.fsencode(path),
            sha256,
            sha256,
        )

    def last_run(self) -> list[Record]:
        """The protections of the newest run that protected anything, oldest first."""
        return self._all(
            "WHERE kind = 'protect' AND state IN ('done', 'restored') AND run = (SELECT run FROM records"
            " WHERE kind = 'protect' AND state IN ('done', 'restored') ORDER BY id DESC LIMIT 1) ORDER BY records.id"
        )

    def pruned(self) -> set[str]:
        """Vault ids of originals that were deleted at the user's wish."""
        with self._errors():
            return {row[0] for row in self._db.execute("SELECT id FROM originals WHERE pruned IS NOT NULL")}

    def temporaries(self) -> list[Path]:
        """Temporary files that were announced and may still exist."""
        with self._errors():
            return [Path(os.fsdecode(row[0])) for row in self._db.execute("SELECT path FROM temporaries")]

    def faults(self) -> list[str]:
        """What SQLite finds wrong with the file; empty when it is sound. Reads all of it."""
        with self._errors():
            said = [str(row[0]) for row in self._db.execute("PRAGMA integrity_check")]
        return ([] if said == ["ok"] else said) + self.damaged_rows()

    def damaged_rows(self) -> list[str]:
        """Name each row that no longer has its digest."""
        found = []
        with self._errors():
            for table, columns in _TABLES.items():
                names = ", ".join((*columns, "digest"))
                for row in self._db.execute(f"SELECT {names} FROM {table}"):
                    if digest_of(row[:-1]) != row[-1]:
                        found.append(f"row {row[0]} of {table} is damaged")
        return found

    def rows(self, numbers: Sequence[int] | None = None) -> list[tuple[Any, ...]]:
        """Return the values of rows in the order of `COLUMNS`; of all by default."""
        with self._errors():
            columns = ", ".join(COLUMNS)
            if numbers is None:
                return self._db.execute(f"SELECT {columns} FROM records ORDER BY id").fetchall()
            query = f"SELECT {columns} FROM records WHERE id = ?"
            return [row for number in numbers for row in self._db.execute(query, (number,))]

    def states(self) -> dict[int, str]:
        """Return the state of every row."""
        with self._errors():
            return dict(self._db.execute("SELECT id, state FROM records").fetchall())

    def lost_rows(self) -> list[int]:
        """Return the rows of which only the record file is left, which nothing but damage explains."""
        known, being_erased = self.states(), set(self.erasing()[0])
        files = self.record_files.states()
        return [n for n, state in files.items() if state != "intent" and n not in known and n not in being_erased]

    def sync_record_files(self) -> None:
        """Write the record files that a kill left behind the ledger, and remove those of dropped intents."""
        known, files = self.states(), self.record_files.states()
        stale = [number for number, state in known.items() if files.get(number) != state]
        if stale:
            self.record_files.write(self.rows(stale))
        dropped = [number for number, state in files.items() if state == "intent" and number not in known]
        if dropped:
            self.record_files.remove(dropped)

    # -- inside -------------------------------------------------------------------------------------------------

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

    def _seal(self, table: str, key: object) -> None:
        """Give a row the digest of what it holds now; within a transaction."""
        columns = ", ".join(_TABLES[table])
        row = self._db.execute(f"SELECT {columns} FROM {table} WHERE id = ?", (key,)).fetchone()
        if row is not None:
            self._db.execute(f"UPDATE {table} SET digest = ? WHERE id = ?", (digest_of(row), key))

    def _migrate(self) -> int:
        """Bring the file to this version's format; return the one it had."""
        with self._transaction("migrate"):
            version: int = self._db.execute("PRAGMA user_version").fetchone()[0]
            if version > len(MIGRATIONS):
                raise StorageError(
                    f"{self.path}: written by a newer HashShield (format {version}, this one knows "
                    f"{len(MIGRATIONS)}); update HashShield"
                )
            for number, statements in enumerate(MIGRATIONS[version:], version + 1):
                for statement in statements:
                    self._db.execute(statement)
                self._db.execute(f"PRAGMA user_version = {number}")
            if 0 < version < _WITH_DIGESTS:
                for table in _TABLES:
                    for (key,) in self._db.execute(f"SELECT id FROM {table}").fetchall():
                        self._seal(table, key)
        return version

    @contextmanager
    def _transaction(self, name: str) -> Iterator[None]:
        with self._errors():
            calls.step(f"ledger.{name}", self.path)
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
                self._changed = self._changed or name not in _NOT_WORTH_A_BACKUP
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise
            calls.step(f"ledger.{name}.done", self.path)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        with self._guard, storage_errors(f"writing the ledger {self.path}"):
            try:
                yield
            except sqlite3.DatabaseError as error:
                if getattr(error, "sqlite_errorcode", None) in _CORRUPT or "malformed" in str(error):
                    raise StorageError(f"{self.path}: the ledger is damaged ({error}); {REPAIR_HINT}") from error
                raise StorageError(
                    f"{self.path}: the ledger cannot be used ({error}); make sure its disk has space and its folder "
                    f"can be written; if they are in order, {REPAIR_HINT}"
                ) from error
