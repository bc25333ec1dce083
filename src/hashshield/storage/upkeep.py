"""Maintenance of the whole ledger: checking it, backing it up, and deleting for good.

The ledger is sound if SQLite finds no fault in the file, every seal matches, and it has a row for each record file.
With a ledger that lost a row, `protect` would change a protected photo again and keep the changed one as its original.

Deletions are first marked in the ledger, in one transaction. The rest may be interrupted anywhere and is finished by
the next command: files first, because the rows are needed to find them; then the rows; then their traces in SQLite's
file, the backups and the log.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from hashshield.errors import LedgerError
from hashshield.paths import exists
from hashshield.storage import calls, ledger_file
from hashshield.storage.calls import LOG_NAME, storage_errors
from hashshield.storage.folder import Folder, temporary_name
from hashshield.storage.ledger import Ledger
from hashshield.storage.ledger_file import BACKUPS
from hashshield.storage.record_files import RecordFile, RecordFiles
from hashshield.storage.schema import REPAIR, Record
from hashshield.storage.vault import Vault

__all__ = [
    "finish",
    "integrity_errors",
    "is_current",
    "left_to_prune",
    "make_backup",
    "needed",
    "reconcile",
    "remove_backups",
    "require_ledger",
]


def require_ledger(root: Path, vault: Vault, files: RecordFiles) -> None:
    """Raise LedgerError if a vault that was in use has no ledger, or an empty one."""
    path = root / ledger_file.NAME
    if not ledger_file.is_empty(path):
        return
    used = next(vault.sizes(), None) is not None or next(files.all(), None) is not None
    made = (*ledger_file.BACKUPS, ledger_file.REBUILT, ledger_file.ASIDE)
    if used or any(not ledger_file.is_empty(root / name) for name in made):
        what = "empty" if exists(path) else "gone"
        raise LedgerError(
            f"{path}: the ledger is {what}, but originals are in the vault; without it protected photos would be taken "
            f"for new ones: {REPAIR}"
        )


def integrity_errors(ledger: Ledger, files: RecordFiles) -> list[str]:
    """Return the faults of the ledger, a sentence each; empty if it is sound. Reads all of it."""
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
    """Write missing record files of a sound ledger, and rename those in another state. Raises StorageError."""
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
    """Copy the ledger, mode 0600, to the newest backup; the previous one becomes the older backup.

    The caller holds the lock. Raises StorageError.
    """
    newest, older = BACKUPS
    temporary = temporary_name()
    with storage_errors(f"backing up the ledger {ledger.path}"), Folder.open(root) as folder:
        calls.step("ledger.backup", ledger.path)
        try:
            # Created here, because SQLite would use the umask.
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
    """Return whether the newest backup has the same rows as the ledger; without one, whether the ledger is empty."""
    newest = root / BACKUPS[0]
    return ledger_file.read_rows(newest) == ledger.rows() if exists(newest) else not ledger.every()


def remove_backups(folder: Folder) -> None:
    """Remove all backups. Raises OSError."""
    for name in BACKUPS:
        folder.remove(name)


def needed(rows: Iterable[Record]) -> set[str]:
    """Return the vault ids that rows refer to."""
    return {name for row in rows for name in (row.original, row.kept) if name is not None}


def left_to_prune(vault: Vault, ledger: Ledger) -> list[str]:
    """Return the vault ids of originals that are marked as pruned but still exist. Raises StorageError."""
    pruned = ledger.pruned()
    return sorted(pruned.intersection(name for name, _ in vault.sizes())) if pruned else []


def finish(root: Path, vault: Vault, ledger: Ledger, files: RecordFiles) -> None:
    """Delete what is marked; the caller holds the lock. Raises StorageError, after which it can be called again."""
    marked = ledger.deletions.marked()
    if not any(marked.values()):
        return
    if marked["record"] or marked["attempt"] or marked["everything"]:
        rows = ledger.every()
        doomed = [row for row in rows if marked["everything"] or row.id in marked["record"]]
        still_needed = needed(row for row in rows if not marked["everything"] and row.id not in marked["record"])
        gone = needed(doomed) - still_needed
        record_files = [file for row in doomed for file in files.of(row)]
        if marked["everything"]:
            gone |= {name for name, _ in vault.sizes()}
            record_files = list(files.all())
        for name in sorted(gone):
            vault.remove(name)
        files.remove(record_files)
        ledger.deletions.erase(marked)
    files.remove_damaged()
    with storage_errors(f"deleting traces in {root}"), Folder.open(root) as folder:
        remove_backups(folder)
        for name in (ledger_file.ASIDE, ledger_file.SALVAGE, ledger_file.PARTIAL, ledger_file.REBUILT):
            for part in ledger_file.with_journals(name):
                folder.remove(part)
        for name in (LOG_NAME, f"{LOG_NAME}.1"):
            folder.remove(name)
        folder.sync()
    calls.step("forgetting.scrub", root)
    ledger.deletions.scrub()
    ledger.deletions.scrubbed()
    make_backup(root, ledger)
    ledger.changed = False
