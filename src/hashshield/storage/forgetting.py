"""Deleting for good: photos' rows, originals and records, and every trace of them under the vault folder.

What is to go is marked in the ledger first, in one transaction. All that follows can be cut short anywhere and is
finished by the next command: files first, so that the rows still lead to what is left; then the rows; then what SQLite,
backups and the log remember of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from hashshield.storage import calls, ledger_file, soundness
from hashshield.storage.folder import Folder
from hashshield.storage.ledger import Ledger
from hashshield.storage.os_errors import LOG_NAME, storage_errors
from hashshield.storage.record_files import RecordFiles
from hashshield.storage.schema import Record
from hashshield.storage.vault import Vault

__all__ = ["finish", "left_to_prune", "needed"]

"""The log beside the ledger, which names photos when it was asked to."""


def needed(rows: Iterable[Record]) -> set[str]:
    """Return the vault ids that rows refer to."""
    return {name for row in rows for name in (row.original, row.kept) if name is not None}


def left_to_prune(vault: Vault, ledger: Ledger) -> list[str]:
    """Return the vault ids of originals that are marked as pruned and still here. Raises StorageError."""
    pruned = ledger.pruned()
    return sorted(pruned.intersection(name for name, _ in vault.sizes())) if pruned else []


def finish(root: Path, vault: Vault, ledger: Ledger, files: RecordFiles) -> None:
    """Delete what is marked, if anything is; only under the lock. Raises StorageError, and can then be called again."""
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
        soundness.remove_backups(folder)
        for name in (ledger_file.ASIDE, ledger_file.SALVAGE, ledger_file.PARTIAL, ledger_file.REBUILT):
            for part in ledger_file.with_journals(name):
                folder.remove(part)
        for name in (LOG_NAME, f"{LOG_NAME}.1"):
            folder.remove(name)
        folder.sync()
    calls.step("forgetting.scrub", root)
    ledger.deletions.scrub()
    ledger.deletions.scrubbed()
    soundness.make_backup(root, ledger)
    ledger.changed = False
