"""Where vault, ledger and key live, and who may look inside."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import platformdirs

from hashshield.errors import StorageError
from hashshield.storage.folder import Folder
from hashshield.storage.os_errors import storage_errors

__all__ = ["VAULT_VARIABLE", "default_root", "prepare"]

VAULT_VARIABLE = "HASHSHIELD_VAULT"
_OURS = frozenset({"lock", "ledger.sqlite", "ledger.backup.sqlite", "originals", "records", "key"})


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


def _make_private(folder: Folder) -> list[str]:
    names = set(folder.names())
    if names and not names & _OURS:
        raise StorageError(
            f"{folder.path}: is not empty and no HashShield vault; name a new or empty folder with --vault"
        )
    if not hasattr(os, "geteuid"):
        return []
    status = folder.status()
    if status.st_uid != os.geteuid():
        raise StorageError(
            f"{folder.path}: belongs to user {status.st_uid}, not to the one running this ({os.geteuid()}); "
            "run as that user, or name another folder with --vault"
        )
    if stat.S_IMODE(status.st_mode) & 0o077:
        folder.change_mode(0o700)
        return [f"{folder.path}: other users could look into the vault folder; its mode is 0700 now"]
    return []
