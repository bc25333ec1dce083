"""Files this program makes for reading, beside photos but none of them: private, and never in the place of another."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from hashshield.errors import UsageError
from hashshield.storage.atomic import put
from hashshield.storage.folder import Folder
from hashshield.storage.os_errors import storage_errors
from hashshield.storage.temporaries import temporary_name

__all__ = ["check_page", "put_page"]


def check_page(path: Path, *, mark: bytes | None = None) -> None:
    """Refuse a place where `put_page` would not write; raises UsageError, StorageError."""
    if not path.parent.is_dir():
        raise UsageError(f"{path}: its folder {path.parent} does not exist; make it or name another")
    with storage_errors(f"looking at {path}"), Folder.open(path.parent) as folder:
        _check(folder, path, mark)


def put_page(path: Path, data: bytes, *, mark: bytes | None = None) -> None:
    """Write a file of mode 0600; one that is there is replaced only if it begins with `mark`, without a mark never.

    The folder must exist; a link is not followed. Raises UsageError, StorageError.
    """
    with storage_errors(f"writing {path}"), Folder.open(path.parent) as folder:
        there = _check(folder, path, mark)
        put(folder, path.name, data, temporary=temporary_name(), overwrite=there)


def _check(folder: Folder, path: Path, mark: bytes | None) -> bool:
    """Whether a file of ours is there."""
    try:
        regular = stat.S_ISREG(folder.stat(path.name).st_mode)
    except FileNotFoundError:
        return False
    found = b""
    if regular and mark is not None:
        descriptor = folder.open_file(path.name)
        try:
            found = os.read(descriptor, len(mark))
        finally:
            os.close(descriptor)
    if found != mark:
        what = "exists" if mark is None else "exists and is none of these pages"
        raise UsageError(f"{path}: {what}, so it is left as it is; name another file")
    return True
