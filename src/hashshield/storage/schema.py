"""The ledger's tables, their migrations, and rows as values; every row carries a digest of itself."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hashshield.errors import StorageError
from hashshield.storage.records import Record

__all__ = ["ATTEMPT_COLUMNS", "COLUMNS", "MIGRATIONS", "ORIGINAL_COLUMNS", "SELECT", "digest_of", "insert", "to_record"]

COLUMNS = (
    "id",
    "kind",
    "state",
    "path",
    "sha256_before",
    "sha256_replaced",
    "sha256_after",
    "pixels_after",
    "original",
    "kept",
    "created",
    "tool",
    "run",
    "mode",
    "mtime_ns",
    "size",
    "undoes",
    "details",
)
"""Columns of a record, in the order in which its digest takes them."""
ORIGINAL_COLUMNS = ("id", "size", "pruned")
ATTEMPT_COLUMNS = ("id", "sha256", "settings", "path", "details")

_STRICT = "STRICT" if sqlite3.sqlite_version_info >= (3, 37) else ""

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        f"""CREATE TABLE originals (
            id TEXT PRIMARY KEY,
            size INTEGER NOT NULL,
            pruned TEXT
        ) {_STRICT}""",
        f"""CREATE TABLE records (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            kind TEXT NOT NULL CHECK (kind IN ('protect', 'copy', 'restore')),
            state TEXT NOT NULL CHECK (state IN ('intent', 'done', 'restored')),
            path BLOB NOT NULL,
            sha256_before TEXT NOT NULL,
            sha256_replaced TEXT,
            sha256_after TEXT NOT NULL,
            pixels_after TEXT,
            original TEXT REFERENCES originals (id),
            kept TEXT REFERENCES originals (id),
            created TEXT NOT NULL,
            tool TEXT NOT NULL,
            run TEXT NOT NULL,
            mode INTEGER NOT NULL,
            mtime_ns INTEGER NOT NULL,
            size INTEGER NOT NULL,
            undoes INTEGER REFERENCES records (id) ON DELETE SET NULL,
            details TEXT NOT NULL
        ) {_STRICT}""",
        "CREATE INDEX records_after ON records (sha256_after)",
        "CREATE INDEX records_before ON records (sha256_before)",
        "CREATE INDEX records_pixels ON records (pixels_after)",
        "CREATE INDEX records_path ON records (path)",
        "CREATE INDEX records_run ON records (run)",
        "CREATE INDEX records_open ON records (id) WHERE state = 'intent'",
        f"CREATE TABLE temporaries (path BLOB PRIMARY KEY) {_STRICT}",
    ),
    (
        f"""CREATE TABLE attempts (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            sha256 TEXT NOT NULL,
            settings TEXT NOT NULL,
            path BLOB NOT NULL,
            details TEXT NOT NULL,
            UNIQUE (sha256, settings)
        ) {_STRICT}""",
        "CREATE INDEX attempts_path ON attempts (path)",
    ),
    (
        "ALTER TABLE records ADD COLUMN digest TEXT",
        "ALTER TABLE originals ADD COLUMN digest TEXT",
        "ALTER TABLE attempts ADD COLUMN digest TEXT",
        # Rows and originals that `forget` is about to delete, so that an interrupted one is finished later.
        f"CREATE TABLE erasing (record INTEGER, attempt INTEGER, original TEXT) {_STRICT}",
    ),
)

SELECT = (
    "SELECT "
    + ", ".join(f"records.{name}" for name in COLUMNS)
    + ", records.digest, originals.pruned IS NOT NULL"
    + " FROM records LEFT JOIN originals ON originals.id = records.original "
)


def digest_of(values: Sequence[object]) -> str:
    """Return the SHA-256 of a row's values, in the order of its columns."""
    plain = [os.fsdecode(value) if isinstance(value, bytes) else value for value in values]
    return hashlib.sha256(json.dumps(plain, separators=(",", ":")).encode()).hexdigest()


def insert(db: sqlite3.Connection, table: str, columns: Sequence[str], values: Sequence[object]) -> None:
    """Insert a row, or replace the one of its key, with its digest."""
    names, marks = ", ".join((*columns, "digest")), ", ".join("?" * (len(columns) + 1))
    db.execute(f"INSERT OR REPLACE INTO {table} ({names}) VALUES ({marks})", (*values, digest_of(values)))


def to_record(row: tuple[Any, ...]) -> Record:
    """Make a value of a row in the order of SELECT. Raises StorageError if the row does not have its digest."""
    if digest_of(row[: len(COLUMNS)]) != row[len(COLUMNS)]:
        raise StorageError(f"row {row[0]} of the ledger is damaged; run `hashshield originals repair`")
    values = dict(zip(COLUMNS, row, strict=False))
    values["path"] = Path(os.fsdecode(values["path"]))
    values["details"] = json.loads(values["details"])
    return Record(**values, pruned=bool(row[-1]))
