"""Whether the ledger can be believed, and the copies of it for when it cannot.

It can where SQLite finds the file whole, each row has its seal, and the records beside originals agree. Protecting
on the word of a ledger that lost a row would change a photo on top of a change, and keep the changed one as its
original.
"""

from __future__ import annotations

import os
from pathlib import Path

from hashshield.errors import LedgerError
from hashshield.storage import calls, ledger_file
from hashshield.storage.folder import Folder, temporary_name
from hashshield.storage.ledger import Ledger
from hashshield.storage.ledger_file import BACKUPS
from hashshield.storage.os_errors import storage_errors
from hashshield.storage.record_files import RecordFile, RecordFiles
from hashshield.storage.schema import REPAIR
from hashshield.storage.vault import Vault

__all__ = ["integrity_errors", "is_current", "make_backup", "reconcile", "remove_backups", "require_ledger"]


def require_ledger(root: Path, vault: Vault, files: RecordFiles) -> None:
    """Raise LedgerError if there is no ledger, or an empty file, where a vault was in use."""
    path = root / ledger_file.NAME
    if not ledger_file.is_empty(path):
        return
    used = next(vault.sizes(), None) is not None or next(files.all(), None) is not None
    made = (*ledger_file.BACKUPS, ledger_file.REBUILT, ledger_file.ASIDE)
    if used or any(not ledger_file.is_empty(root / name) for name in made):
        what = "empty" if path.exists() else "gone"
        raise LedgerError(
            f"{path}: the ledger is {what}, but originals are in the vault; without it protected photos would be taken "
            f"for new ones: {REPAIR}"
        )


def integrity_errors(ledger: Ledger, files: RecordFiles) -> list[str]:
    """Return what is wrong with the ledger, a sentence each; empty when it is sound. Reads all of it."""
    found: list[str] = []
    try:
        found += ledger.integrity_errors()
        ledger.originals()
        ledger.deletions.marked()
        rows = ledger.anchors()
    except LedgerError as error:
        return [*found, str(error)]
    lost = sum(rows.get(file.number) != file.anchor for file in files.all())
    if lost:
        found.append(f"{lost} records beside originals are not in the ledger")
    return found


def reconcile(ledger: Ledger, files: RecordFiles) -> None:
    """Give each row of a sound ledger its record file, in its state. Raises StorageError."""
    there: dict[int, list[RecordFile]] = {}
    for file in files.all():
        there.setdefault(file.number, []).append(file)
    for row in ledger.every():
        found = there.get(row.id, [])
        right = next((file for file in found if file.state == row.state), None)
        if not found:
            files.write(row)
        elif right is None:
            files.follow(row)
        if right is not None and len(found) > 1:
            files.remove(file for file in found if file != right)


def make_backup(root: Path, ledger: Ledger) -> None:
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
    return ledger_file.read_rows(newest) == ledger.rows() if newest.exists() else not ledger.every()


def remove_backups(folder: Folder) -> None:
    """Remove all copies; raises OSError."""
    for name in BACKUPS:
        folder.remove(name)
