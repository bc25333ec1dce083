"""Copies of the ledger, made by SQLite itself at the end of each run that changed it; the newest two are kept."""

from __future__ import annotations

import os
from pathlib import Path

from hashshield.storage import calls
from hashshield.storage.folder import Folder
from hashshield.storage.ledger import Ledger
from hashshield.storage.ledger_file import BACKUPS
from hashshield.storage.os_errors import storage_errors
from hashshield.storage.temporaries import temporary_name

__all__ = ["is_current", "make", "remove"]


def make(root: Path, ledger: Ledger) -> None:
    """Copy the ledger, mode 0600, and put the copy in the place of the newest, which becomes the older one.

    Only to be called under the lock. Raises StorageError.
    """
    newest, older = BACKUPS
    temporary = temporary_name()
    with storage_errors(f"backing up the ledger {ledger.path}"), Folder.open(root) as folder:
        calls.step("ledger.backup", ledger.path)
        try:
            # Made here and not by SQLite, which would use the umask.
            os.close(folder.create(temporary))
            ledger.backup(root / temporary)
            descriptor = folder.reopen(temporary)
            try:
                calls.sync(descriptor)
            finally:
                os.close(descriptor)
            if newest in folder.names():
                folder.rename(newest, older)
            folder.rename(temporary, newest)
        except BaseException:
            folder.remove(temporary)
            raise
        folder.sync()
    calls.step("ledger.backup.done", ledger.path)


def is_current(root: Path, ledger: Ledger) -> bool:
    """Whether the newest copy holds what the ledger does; without a copy, whether it holds nothing yet."""
    newest = root / BACKUPS[0]
    return ledger.same_rows(newest) if newest.exists() else not ledger.every()


def remove(folder: Folder) -> None:
    """Remove all copies; raises OSError."""
    for name in BACKUPS:
        folder.remove(name)
