"""Recovery: settle the open intents of an interrupted run at the next start, and find the originals of files."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hashshield.errors import ChangedError, PhotoError, StorageError
from hashshield.paths import exists
from hashshield.storage.calls import explain
from hashshield.storage.folder import Folder, is_temporary
from hashshield.storage.ledger import Ledger
from hashshield.storage.schema import Record
from hashshield.storage.snapshot import Snapshot, read_snapshot
from hashshield.storage.vault import Vault

__all__ = [
    "COPY",
    "PixelDigest",
    "RestoreMatch",
    "find_original",
    "find_original_of_missing",
    "recorded_at",
    "recover",
    "settle",
]

COPY = "is a protected copy made by --output; its original was never changed"
"""Why a protected copy has nothing to restore."""

_UNREADABLE = "unreadable"
PixelDigest = Callable[[bytes, Path], str | None]
"""Returns the digest of the pixels of an encoded photo, or None if it cannot be decoded; the path is for messages."""


def recover(ledger: Ledger) -> list[str]:
    """Settle every open intent and remove stale temporary files; return messages for the user.

    The caller holds the lock. Raises StorageError if the ledger cannot be written.
    """
    notices = []
    for record in ledger.open_intents():
        left = settle(ledger, record)
        if left is not None:
            notices.append(left)
    gone = [path for path in ledger.temporaries() if _remove(path, notices)]
    if gone:
        ledger.forget_temporaries(gone)
    return notices


def settle(ledger: Ledger, record: Record) -> str | None:
    """Commit or drop one open intent according to its file's content; return a message if neither is possible.

    A file with the result means that the intent was carried out. A file with its earlier content, or a copy that does
    not exist, means that it was not.
    """
    now = _content(record.path)
    if now == record.sha256_after:
        ledger.commit(record.id)
        return None
    if now == record.sha256_replaced or (now is None and record.kind == "copy"):
        ledger.drop(record.id)
        return None
    found = {None: "is not there any more", _UNREADABLE: "cannot be read"}.get(
        now, "holds neither its old nor its new content"
    )
    note = "its original is in the vault" if record.original is not None else "no original was kept of it"
    return (
        f"{record.path}: a run was cut short here on {record.created} and the file {found}; it is left as it is, {note}"
    )


def _content(path: Path) -> str | None:
    """Return the file's SHA-256, `_UNREADABLE`, or None if there is no such file."""
    try:
        with Folder.open(path.parent) as folder:
            if not stat.S_ISREG(folder.stat(path.name).st_mode):
                return _UNREADABLE
        return read_snapshot(path, follow=False).sha256
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, PhotoError, ChangedError):
        return _UNREADABLE


def _remove(path: Path, notices: list[str]) -> bool:
    """Remove one stale temporary file; return whether its record can be deleted."""
    if not is_temporary(path.name):
        raise StorageError(f"{path}: the ledger calls this a temporary file and it is none; the ledger is damaged")
    try:
        with Folder.open(path.parent) as folder:
            folder.remove(path.name)
            folder.sync()
    except (FileNotFoundError, NotADirectoryError):
        # Its volume may be unplugged. The name is unique, so the record can stay.
        return exists(path.parent)
    except OSError as error:
        notices.append(f"{path}: a temporary file of an earlier run could not be removed: {explain(error)}")
        return False
    return True


@dataclass(frozen=True, slots=True)
class RestoreMatch:
    """A row whose original can be put back, or the reason why there is none."""

    record: Record | None
    reason: str | None = None
    failed: bool = False
    """True if the reason is a failure, False if there is nothing to do."""


def find_original(
    ledger: Ledger, vault: Vault, source: Snapshot, *, named: bool, force: bool, pixel_digest: PixelDigest | None
) -> RestoreMatch:
    """Find the row of a file by its content, then by its pixels, and with `force` by its path.

    An unknown file is a failure only if the user `named` it; folders may hold any number of unknown files.
    """
    record = ledger.result(source.sha256, path=source.path)
    if record is None and ledger.by_original(source.sha256) is not None:
        return RestoreMatch(None, "is the original already")
    if record is None and pixel_digest is not None and ledger.holds_pixels():
        record = ledger.result(source.sha256, pixel_digest(source.data, source.path), path=source.path)
    if record is not None:
        # A copy has no original of its own, but may have replaced another file.
        behind = ledger.replaced(source.path) if record.kind == "copy" else None
        return _restorable(behind or record, vault, source.path)
    record = ledger.by_path(source.path) or ledger.replaced(source.path)
    if record is None:
        reason = "is not known to this vault: neither protected by it nor an original of it"
        return RestoreMatch(None, reason, failed=named)
    if not force:
        return RestoreMatch(
            None,
            f"was edited after it was protected on {record.created}; --force keeps the edit in the vault and restores",
            failed=True,
        )
    return _restorable(record, vault, source.path)


def recorded_at(ledger: Ledger, path: Path) -> Record | None:
    """Return the row about this path, whatever the file's content, or None."""
    real_path = Path(os.path.realpath(path.parent)) / path.name
    return ledger.by_path(real_path) or ledger.replaced(real_path)


def find_original_of_missing(ledger: Ledger, vault: Vault, path: Path) -> RestoreMatch:
    """Find the row of a deleted file by its path."""
    record = recorded_at(ledger, path)
    if record is None:
        return RestoreMatch(None, "no such file, and nothing is recorded under this path", failed=True)
    return _restorable(record, vault, record.path)


def _restorable(record: Record, vault: Vault, path: Path) -> RestoreMatch:
    if record.kind == "copy" and record.kept is not None and record.path == path:
        return RestoreMatch(record)
    if record.kind == "copy":
        return RestoreMatch(None, COPY)
    if record.original is None:
        return RestoreMatch(None, "was protected with --no-backup: no original was kept", failed=True)
    # An original that is marked but still exists was left by an interrupted prune, and can be used.
    if record.pruned and not vault.holds(record.original):
        return RestoreMatch(None, "its original was pruned from the vault at your wish", failed=True)
    return RestoreMatch(record)
