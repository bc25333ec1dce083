"""What is refused before anything is touched, and why."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from hashshield.errors import StorageError
from hashshield.storage.folder import Folder

__all__ = ["require_ours", "require_outside", "require_replaceable"]

_WRITE_BITS = stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def require_replaceable(
    folder: Folder, name: str, status: os.stat_result, *, break_links: bool, allow_root: bool
) -> None:
    """Refuse read-only files and folders, hard links, root's work in folders of others; raises StorageError."""
    path = folder.path / name
    if status.st_nlink > 1 and not break_links:
        raise StorageError(
            f"{path}: has {status.st_nlink} names (hard links), and replacing one would part it from the others; "
            "give --break-links to do so, or copy the photo first"
        )
    if not status.st_mode & _WRITE_BITS:
        raise StorageError(f"{path}: is read-only, which is respected; make it writable to have it changed")
    if not folder.may_write(name):
        raise StorageError(f"{path}: may not be written by this user; run as its owner")
    if not folder.may_add():
        raise StorageError(
            f"{path}: this user may make no files in its folder, so it cannot be replaced; "
            "make the folder writable, or write a copy with --output"
        )
    if not allow_root:
        require_ours(folder)


def require_ours(folder: Folder) -> None:
    """Refuse to work as root in a folder where another user can swap files; raises StorageError."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return
    status = folder.status()
    # The sticky bit of /tmp keeps others from renaming our files, not from making links that wait for us.
    if status.st_uid != 0 or status.st_mode & _OTHERS_WRITE:
        raise StorageError(
            f"{folder.path}: other users can write to this folder, and root should not work there; "
            "run as the photos' owner, or give --allow-root"
        )


def require_outside(path: Path, root: Path) -> None:
    """Refuse to change what belongs to the vault itself; raises StorageError."""
    if path.is_relative_to(root):
        raise StorageError(f"{path}: belongs to the vault {root}, whose files are never changed")
