"""What a crash leaves behind, settled at the next start by looking at the files."""

from __future__ import annotations

import stat
from pathlib import Path

from hashshield.errors import ChangedError, PhotoError, StorageError
from hashshield.storage.folder import Folder
from hashshield.storage.ledger import Ledger
from hashshield.storage.os_errors import explain
from hashshield.storage.records import Record
from hashshield.storage.snapshot import read_snapshot
from hashshield.storage.temporaries import is_temporary

__all__ = ["recover", "settle"]

_UNREADABLE = "unreadable"


def recover(ledger: Ledger) -> list[str]:
    """Settle every open intent and remove stale temporaries; returns what the user should know.

    Only to be called while no other process writes. Raises StorageError if the ledger cannot be written.
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
    """Commit or drop one open intent by what its file holds now; returns a sentence if it is neither.

    Holds the result: it was carried out. Holds what it held before (or still does not exist): it was not.
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
    """Return the file's digest; None if there is no such file."""
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
    """Remove one stale temporary; returns whether it need not be remembered any longer."""
    if not is_temporary(path.name):
        raise StorageError(f"{path}: the ledger calls this a temporary file and it is none; the ledger is damaged")
    try:
        with Folder.open(path.parent) as folder:
            folder.remove(path.name)
            folder.sync()
    except (FileNotFoundError, NotADirectoryError):
        # Its volume may be unplugged; the name is unique, so remembering it costs nothing.
        return path.parent.exists()
    except OSError as error:
        notices.append(f"{path}: a temporary file of an earlier run could not be removed: {explain(error)}")
        return False
    return True
