"""Where vault, ledger and key live, and who may look inside."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import platformdirs

from hashshield.errors import StorageError
from hashshield.storage.folder import Folder
from hashshield.storage.os_errors import storage_errors

__all__ = ["VAULT_VARIABLE", "default_root", "open_read_only", "prepare"]

VAULT_VARIABLE = "HASHSHIELD_VAULT"
_OURS = frozenset({"lock", "ledger.sqlite", "originals", "key"})


def default_root() -> Path:
    """Return $HASHSHIELD_VAULT if set, else the user's data folder."""
    named = os.environ.get(VAULT_VARIABLE)
    if named:
        return Path(named).expanduser()
    return Path(platformdirs.user_data_path("hashshield", appauthor=False))


def prepare(root: Path) -> tuple[Path, list[str]]:
    """Create the folder, mode 0700, or make sure an existing one is a private vault of this user.

    Returns its real path and what the user should know. Raises StorageError.
    """
    with storage_errors(f"opening the vault folder {root}"), Folder.made(root.absolute(), mode=0o700) as folder:
        return folder.path, _make_private(folder)


def open_read_only(root: Path) -> tuple[Path, list[str]]:
    """Make sure that a folder which cannot be written is a vault of this user or of root, who may write anywhere.

    Returns its real path and what the user should know. Raises StorageError.
    """
    with storage_errors(f"opening the vault folder {root}"), Folder.open(root.absolute()) as folder:
        _require_vault(folder)
        if hasattr(os, "geteuid"):
            _require_owner(folder, {os.geteuid(), 0})
        return folder.path, [f"{folder.path}: the vault cannot be written, so it is only read"]


def _require_vault(folder: Folder) -> None:
    names = set(folder.names())
    if names and not names & _OURS:
        raise StorageError(
            f"{folder.path}: is not empty and no HashShield vault; name a new or empty folder with --vault"
        )


def _require_owner(folder: Folder, allowed: set[int]) -> None:
    owner = folder.status().st_uid
    if owner not in allowed:
        raise StorageError(
            f"{folder.path}: belongs to user {owner}, not to the one running this ({os.geteuid()}); "
            "run as that user, or name another folder with --vault"
        )


def _make_private(folder: Folder) -> list[str]:
    _require_vault(folder)
    if not hasattr(os, "geteuid"):
        return []
    _require_owner(folder, {os.geteuid()})
    if not _others_may(folder):
        return []
    try:
        folder.change_mode(0o700)
    except OSError as error:
        # FAT refuses a mode that it cannot keep.
        if error.errno not in (errno.EPERM, errno.ENOTSUP):
            raise
    # Looked at again: NTFS, exFAT and network drives take a mode without a word and keep none.
    if _others_may(folder):
        mode = stat.S_IMODE(folder.status().st_mode)
        return [
            f"{folder.path}: other users can look into the vault folder (mode {mode:04o}), originals and key included, "
            "and its file system keeps no modes; choose a folder on another with --vault, or mount this one for "
            "yourself only (options uid and umask=077)"
        ]
    return [f"{folder.path}: other users could look into the vault folder; its mode is 0700 now"]


def _others_may(folder: Folder) -> bool:
    return bool(stat.S_IMODE(folder.status().st_mode) & 0o077)
