"""The ledger's format: its rows as values, its tables, and the seals, digests that show whether a row is unchanged."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from hashshield.errors import LedgerError

__all__ = [
    "APPLICATION",
    "COLUMNS",
    "MIGRATIONS",
    "REPAIR",
    "SEALED_SINCE",
    "SELECT",
    "NewRecord",
    "PendingRecord",
    "Record",
    "RecordKind",
    "RecordState",
    "check_seals",
    "insert",
    "migrate",
    "record_of",
    "seal",
    "seal_originals",
    "seal_records",
    "text_of",
    "to_record",
    "values_of",
]

RecordKind = Literal["protect", "copy", "restore"]
"""What was done: a photo replaced in place, a protected copy written elsewhere, an original restored."""

RecordState = Literal["intent", "done", "restored"]
"""Announced; carried out; carried out and later undone."""
REPAIR = "run hashshield originals repair"
"""What to do about a ledger that is lost or damaged."""

APPLICATION = 0x48530000
"""Base of SQLite's application id, to which the format is added, so that a changed byte in the format is noticed."""

SEALED_SINCE = 3
"""The first format whose rows are sealed."""

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
        "ALTER TABLE records ADD COLUMN seal TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE originals ADD COLUMN seal TEXT NOT NULL DEFAULT ''",
        f"""CREATE TABLE deletions (
            kind TEXT NOT NULL,
            id INTEGER NOT NULL,
            seal TEXT NOT NULL,
            PRIMARY KEY (kind, id)
        ) {_STRICT}""",
    ),
)

COLUMNS = (
    "id, kind, state, path, sha256_before, sha256_replaced, sha256_after, pixels_after, original, kept, created, tool,"
    " run, mode, mtime_ns, size, undoes, details"
)
"""The columns of `records` that its seal covers, in order."""

SELECT = (
    f"SELECT {', '.join('records.' + column.strip() for column in COLUMNS.split(','))}, records.seal,"
    " originals.id, originals.size, originals.pruned, originals.seal"
    " FROM records LEFT JOIN originals ON originals.id = records.original "
)
_WIDTH = COLUMNS.count(",") + 1


@dataclass(frozen=True, slots=True)
class Record:
    """A row of the ledger: one action on one file."""

    id: int
    kind: RecordKind
    state: RecordState
    path: Path
    """Absolute, at the time of the action."""
    sha256_before: str
    """Digest of the original, which `restore` writes. For a restore, the digest of the file that it replaced."""
    sha256_replaced: str | None
    """Digest of the file just before; differs from `sha256_before` if a protected file was protected again.
    None: there was no file."""
    sha256_after: str
    pixels_after: str | None
    """Digest of the written pixels, to recognise the file after its metadata was edited."""
    original: str | None
    """Vault id of the original; None if it was not kept."""
    kept: str | None
    """Vault id of the replaced file if it was neither the original nor a recorded result, such as an edit."""
    pruned: bool
    """True if the original was kept and later deleted at the user's request."""
    created: str
    """ISO 8601, UTC."""
    tool: str
    """Version of HashShield."""
    run: str
    """One id per process run."""
    mode: int
    """The original's permission bits."""
    mtime_ns: int
    """The original's modification time."""
    size: int
    """The original's size in bytes."""
    undoes: int | None
    """For a restore: the number of the row that it undoes."""
    details: Mapping[str, Any] = field(hash=False)
    """Data of the pipeline, which the ledger does not interpret."""

    @property
    def restorable(self) -> bool:
        """Whether the original was kept and not pruned."""
        return self.original is not None and not self.pruned


@dataclass(frozen=True, slots=True)
class NewRecord:
    """The part of a row that the pipeline provides; the store adds the rest."""

    pixels_after: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """JSON-serialisable."""
    again: Record | None = None
    """The earlier row of a photo that is protected again; `restore` still writes that row's original."""


@dataclass(frozen=True, slots=True)
class PendingRecord:
    """A row about to be written; fields as in Record."""

    kind: RecordKind
    path: Path
    sha256_after: str
    created: str
    tool: str
    run: str
    sha256_before: str = ""
    sha256_replaced: str | None = None
    pixels_after: str | None = None
    original: str | None = None
    kept: str | None = None
    mode: int = 0o600
    mtime_ns: int = 0
    size: int = 0
    undoes: int | None = None
    details: Mapping[str, Any] = field(default_factory=dict)


def seal(*values: object) -> str:
    """Return the SHA-256, in hex, of column values (None, int, float, str or bytes), with their types and lengths."""
    total = hashlib.sha256()
    for value in values:
        raw = value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogateescape")
        total.update(f"{type(value).__name__} {len(raw)} ".encode() + raw)
    return total.hexdigest()


def text_of(raw: bytes) -> str:
    """Decode a text column; a damaged one does not fail here, but at the check of its seal."""
    return raw.decode("utf-8", "surrogateescape")


def to_record(row: tuple[Any, ...]) -> Record:
    """Convert a row in the order of SELECT to a Record. Raises LedgerError if a seal does not match."""
    check_seals(row)
    return record_of(row[:_WIDTH], pruned=row[_WIDTH + 3] is not None)


def check_seals(row: tuple[Any, ...]) -> None:
    """Raise LedgerError if the seal of a row in the order of SELECT, or that of its original, does not match."""
    columns, own, original = row[:_WIDTH], row[_WIDTH], row[_WIDTH + 1 :]
    if own != seal(*columns):
        raise LedgerError(f"the ledger is damaged: row {columns[0]} is not as it was written; {REPAIR}")
    if columns[8] is not None and original[3] != seal(*original[:3]):
        raise LedgerError(
            f"the ledger is damaged: its entry of original {columns[8]} is not as it was written; {REPAIR}"
        )


def record_of(columns: Sequence[Any], *, pruned: bool) -> Record:
    """Convert columns in the order of COLUMNS to a Record. Raises ValueError or TypeError if they are not a row."""
    return Record(
        id=columns[0],
        kind=columns[1],
        state=columns[2],
        path=Path(os.fsdecode(columns[3])),
        sha256_before=columns[4],
        sha256_replaced=columns[5],
        sha256_after=columns[6],
        pixels_after=columns[7],
        original=columns[8],
        kept=columns[9],
        pruned=pruned,
        created=columns[10],
        tool=columns[11],
        run=columns[12],
        mode=columns[13],
        mtime_ns=columns[14],
        size=columns[15],
        undoes=columns[16],
        details=json.loads(columns[17]),
    )


def values_of(entry: PendingRecord | Record, number: int | None, state: RecordState) -> tuple[Any, ...]:
    """Return the columns of a row in the order of COLUMNS."""
    return (
        number,
        entry.kind,
        state,
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


def insert(db: sqlite3.Connection, entry: PendingRecord | Record, number: int | None, state: RecordState) -> int | None:
    """Insert and seal a row and return its number; with `number` None, SQLite chooses it."""
    values = values_of(entry, number, state)
    added = db.execute(f"INSERT INTO records ({COLUMNS}) VALUES ({', '.join('?' * _WIDTH)})", values).lastrowid
    if added is not None:
        seal_records(db, (added,))
    return added


def seal_records(db: sqlite3.Connection, record_ids: Iterable[int]) -> None:
    """Set the seals of rows to match their current columns."""
    for number in record_ids:
        row = db.execute(f"SELECT {COLUMNS} FROM records WHERE id = ?", (number,)).fetchone()
        if row is not None:
            db.execute("UPDATE records SET seal = ? WHERE id = ?", (seal(*row), number))


def seal_originals(db: sqlite3.Connection, names: Iterable[str]) -> None:
    """Set the seals of originals to match their current columns."""
    for name in names:
        row = db.execute("SELECT id, size, pruned FROM originals WHERE id = ?", (name,)).fetchone()
        if row is not None:
            db.execute("UPDATE originals SET seal = ? WHERE id = ?", (seal(*row), name))


def migrate(db: sqlite3.Connection, path: Path, *, used: bool) -> None:
    """Convert a ledger to the newest format, within the caller's transaction; `path` is for messages.

    `used` says that the vault holds originals. Raises LedgerError if a ledger of an earlier format lost their rows.
    """
    version = int(db.execute("PRAGMA user_version").fetchone()[0])
    if version == len(MIGRATIONS):
        return
    if used and (version == 0 or db.execute("SELECT 1 FROM records LIMIT 1").fetchone() is None):
        # Later formats need no such rule, because they have record files. There, an original without a record comes
        # from a first run that was killed before it recorded an intent.
        raise LedgerError(f"{path}: the ledger has no records, but originals are in the vault; {REPAIR}")
    for statements in MIGRATIONS[version:]:
        for statement in statements:
            db.execute(statement)
    if version < SEALED_SINCE:
        seal_originals(db, [row[0] for row in db.execute("SELECT id FROM originals").fetchall()])
        seal_records(db, [row[0] for row in db.execute("SELECT id FROM records").fetchall()])
    db.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
    db.execute(f"PRAGMA application_id = {APPLICATION | len(MIGRATIONS)}")
