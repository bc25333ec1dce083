"""Files this program makes beside photos, for reading: private, and never in the place of another."""

from __future__ import annotations

import os
from pathlib import Path

from hashshield.errors import UsageError
from hashshield.storage.atomic import put
from hashshield.storage.faults import storage_errors
from hashshield.storage.folder import Folder
from hashshield.storage.temporaries import temporary_name

__all__ = ["check_new", "put_new"]


def check_new(path: Path) -> None:
    """Refuse a place where `put_new` would not write, before any work is done for it. Raises UsageError."""
    if not path.parent.is_dir():
        raise UsageError(f"{path}: its folder does not exist; make it or name another")
    if os.path.lexists(path):
        raise UsageError(f"{path}: exists already and is left as it is; name another file")


def put_new(path: Path, data: bytes) -> None:
    """Write a file of mode 0600 where none is. Raises StorageError, also when one was made meanwhile."""
    with storage_errors(f"writing {path}"), Folder.open(path.parent) as folder:
        put(folder, path.name, data, temporary=temporary_name(), overwrite=False)
