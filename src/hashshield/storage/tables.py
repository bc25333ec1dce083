"""The ledger's tables beside its records: attempts that fell short, and what is being forgotten."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Literal, get_args

from hashshield.errors import LedgerError
from hashshield.storage.schema import REPAIR, seal, seal_records

__all__ = ["MOST_ATTEMPTS", "AttemptTable", "DeletionTable", "Marked"]

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
