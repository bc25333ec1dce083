"""The ledger's tables, how they came to be, and how a row becomes a value."""

from __future__ import annotations

import json
import os
import sqlite3
from pathlib import Path
from typing import Any

from hashshield.storage.records import Record

__all__ = ["MIGRATIONS", "SELECT", "to_record"]

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
)

SELECT = (
    "SELECT records.id, kind, state, path, sha256_before, sha256_replaced, sha256_after, pixels_after, original, kept,"
    " originals.pruned IS NOT NULL, created, tool, run, mode, mtime_ns, records.size, undoes, details"
    " FROM records LEFT JOIN originals ON originals.id = records.original "
)


def to_record(row: tuple[Any, ...]) -> Record:
    """Make a value of a row in the order of SELECT."""
    return Record(
        id=row[0],
        kind=row[1],
        state=row[2],
        path=Path(os.fsdecode(row[3])),
        sha256_before=row[4],
        sha256_replaced=row[5],
        sha256_after=row[6],
        pixels_after=row[7],
        original=row[8],
        kept=row[9],
        pruned=bool(row[10]),
        created=row[11],
        tool=row[12],
        run=row[13],
        mode=row[14],
        mtime_ns=row[15],
        size=row[16],
        undoes=row[17],
        details=json.loads(row[18]),
    )
