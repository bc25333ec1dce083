"""Opening the ledger of a vault that cannot be written: read-only media, backups, folders without permission."""

from __future__ import annotations

import os
import shutil
import sqlite3
from pathlib import Path
from tempfile import TemporaryDirectory

__all__ = ["cannot_be_written", "connect"]

_JOURNALS = ("-wal", "-journal")


def cannot_be_written(root: Path) -> bool:
    """Return whether a vault folder is there and this process, as who it acts, may not write to it or its ledger."""
    effective = os.access in os.supports_effective_ids
    places = [place for place in (root, root / "originals", root / "ledger.sqlite") if place.exists()]
    return not all(os.access(place, os.W_OK, effective_ids=effective) for place in places)


def connect(path: Path, *, version: int) -> tuple[sqlite3.Connection, TemporaryDirectory[str] | None]:
    """Open a ledger file to read it; returns the connection, and the folder to remove after it if there is one.

    SQLite cannot read a file beside which it may make no journal, unless it is told that nobody changes it; that would
    leave out what a journal still holds. So with a journal, or a format older than `version`, a private copy is opened.
    Raises OSError, sqlite3.DatabaseError.
    """
    journals = [file for file in (path.with_name(path.name + end) for end in _JOURNALS) if _size(file) > 0]
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
