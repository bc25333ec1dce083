"""A ledger as the first version wrote it."""

from __future__ import annotations

FIRST_FORMAT = (
    "DROP TABLE attempts",
    "DROP TABLE deletions",
    "ALTER TABLE records DROP COLUMN seal",
    "ALTER TABLE originals DROP COLUMN seal",
    "PRAGMA application_id = 0",
    "PRAGMA user_version = 1",
)
"""SQL that takes a ledger of today back to the first format."""
