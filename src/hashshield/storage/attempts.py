"""The ledger's table of attempts that fell short: which photo, under which settings, and what came of it."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

__all__ = ["LARGEST", "AttemptTable"]

LARGEST = 20_000
"""Rows kept, of about half a kilobyte; the oldest go first. One that went costs a search, nothing else."""


class AttemptTable:
    """Part of `Ledger`, on its connection and within its transactions."""

    def __init__(
        self,
        db: sqlite3.Connection,
        transaction: Callable[[str], AbstractContextManager[None]],
        errors: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self._db, self._transaction, self._errors = db, transaction, errors

    def add(self, sha256: str, settings: str, path: Path, details: Mapping[str, Any]) -> None:
        """Remember an attempt on this content, in the place of an earlier one under the same settings."""
        text = json.dumps(details, separators=(",", ":"), allow_nan=True)
        with self._transaction("attempt"):
            self._db.execute(
                "INSERT OR REPLACE INTO attempts (sha256, settings, path, details) VALUES (?, ?, ?, ?)",
                (sha256, settings, os.fsencode(path), text),
            )
            self._db.execute("DELETE FROM attempts WHERE id <= (SELECT max(id) FROM attempts) - ?", (LARGEST,))

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
