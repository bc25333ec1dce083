"""The vault: a private folder with the originals and the key. Originals are deleted only at the user's request.

Originals are files named by their SHA-256 and written once. The key is 32 random bytes that never leave the folder.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import stat
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

import platformdirs

from hashshield.errors import StorageError
from hashshield.paths import exists, is_folder, trouble
from hashshield.storage import atomic
from hashshield.storage.calls import storage_errors
from hashshield.storage.folder import Folder, temporary_name
from hashshield.storage.snapshot import LIMIT_BYTES, digest, read_file

__all__ = [
    "KEY_BYTES",
    "KEY_NAME",
    "VAULT_VARIABLE",
    "Vault",
    "absent_folder",
    "default_root",
    "load_key",
    "open_folder_read_only",
    "prepare_folder",
]

VAULT_VARIABLE = "HASHSHIELD_VAULT"
_OURS = frozenset({"lock", "ledger.sqlite", "originals", "key"})
KEY_BYTES = 32
KEY_NAME = "key"
_ID = re.compile(r"[0-9a-f]{64}")
_MOUNT = "if yours should be there, mount its disk"


def default_root() -> Path:
    """Return $HASHSHIELD_VAULT if set, else the user's data folder."""
    named = os.environ.get(VAULT_VARIABLE)
    if named:
        return Path(named).expanduser()
    return Path(platformdirs.user_data_path("hashshield", appauthor=False))


def prepare_folder(root: Path | None) -> tuple[Path, list[str]]:
    """Create the folder, mode 0700, or make sure that an existing one is a private vault of this user.

    None is the default. Only the user's data folder is created with the folders above it: if another one is missing,
    it may be on a disk that is not mounted, and photos would be protected as if they were new. Return the folder's
    real path and messages for the user. Raises StorageError.
    """
    root, named = _place(root)
    new = named and not os.path.lexists(root)
    with storage_errors(f"opening the vault folder {root}"), Folder.made(root.absolute(), mode=0o700) as folder:
        notices = _make_private(folder)
        if new:
            notices.append(f"made a new vault in the place you named; {_MOUNT}")
        return folder.path, notices


def absent_folder(root: Path | None) -> tuple[Path, list[str]] | None:
    """Return the path of a vault that is not there yet, and messages for the user; None if something is at the path.

    Raises StorageError if `prepare_folder` would not create it.
    """
    root, named = _place(root)
    if os.path.lexists(root) or trouble(root) is not None:
        return None
    notices = [f"there is no vault yet in the place you named; {_MOUNT}"] if named else []
    return Path(os.path.realpath(root)), notices


def _place(root: Path | None) -> tuple[Path, bool]:
    """Return the path of the vault and whether the user named it. Raises StorageError if it may not be created."""
    named = root is not None or bool(os.environ.get(VAULT_VARIABLE))
    root = default_root() if root is None else root
    above = root.absolute().parent
    if named and not is_folder(above):
        raise StorageError(
            f"{root}: there is no folder {above} for the vault; mount its disk, make the folder, or name another "
            "with --vault"
        )
    return root, named


def open_folder_read_only(root: Path) -> tuple[Path, list[str]]:
    """Make sure that a folder that cannot be written is a vault of this user or of root.

    Return its real path and messages for the user. Raises StorageError.
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
        # FAT refuses modes that it cannot store.
        if error.errno not in (errno.EPERM, errno.ENOTSUP):
            raise
    # Checked again: NTFS, exFAT and network drives accept a mode silently and do not store it.
    if _others_may(folder):
        mode = stat.S_IMODE(folder.status().st_mode)
        return [
            f"{folder.path}: other users can read the vault folder (mode {mode:04o}), originals and key included, "
            "and its file system stores no permissions; choose a folder on another one with --vault, or mount this one "
            "for yourself only (options uid and umask=077)"
        ]
    return [f"{folder.path}: other users could look into the vault folder; its mode is 0700 now"]


def _others_may(folder: Folder) -> bool:
    return bool(stat.S_IMODE(folder.status().st_mode) & 0o077)


def load_key(folder: Folder) -> bytes:
    """Return the key in the vault folder, created at the first call; the caller holds the lock.

    Raises StorageError if the key is damaged; a new one would give photos other codes than the ledger records.
    """
    path = folder.path / KEY_NAME
    with storage_errors(f"reading the key {path}"):
        try:
            descriptor = folder.open_file(KEY_NAME)
        except FileNotFoundError:
            key = secrets.token_bytes(KEY_BYTES)
            atomic.put(folder, KEY_NAME, key, temporary=temporary_name(), overwrite=False)
            return key
        try:
            key = read_file(descriptor, KEY_BYTES)
        finally:
            os.close(descriptor)
    if len(key) != KEY_BYTES:
        raise StorageError(
            f"{path}: has {len(key)} bytes where {KEY_BYTES} are expected; bring it back from a backup, or remove it "
            "to have a new key made (earlier photos stay restorable)"
        )
    return key


class Vault:
    """The originals: files named by the SHA-256 of their content, in `originals/ab/`; folders 0700, files 0600."""

    def __init__(self, root: Path, *, read_only: bool = False) -> None:
        self.path = root / "originals"
        if read_only:
            return
        with storage_errors(f"opening the vault {self.path}"), Folder.open(root) as folder:
            folder.make(self.path.name)

    def put(self, data: bytes) -> str:
        """Store `data` durably and return its id; an existing intact file is reused.

        Raises StorageError.
        """
        name = digest(data)
        with storage_errors(f"keeping the original in the vault {self.path}"):
            with Folder.open(self.path) as folder:
                folder.make(name[:2])
            with Folder.open(self.path / name[:2], within=self.path) as folder:
                if self._read(folder, name) != data:
                    atomic.put(folder, name, data, temporary=temporary_name())
                else:
                    # The file may come from a run that was killed before it made the name durable.
                    folder.sync()
        return name

    def get(self, name: str) -> bytes:
        """Return the original with this id, its digest checked. Raises StorageError if it is gone or damaged."""
        self._require_id(name)
        with storage_errors(f"reading original {name} from the vault {self.path}"):
            try:
                with Folder.open(self.path / name[:2], within=self.path) as folder:
                    data = self._read(folder, name)
            except FileNotFoundError:
                data = None
        if data is None:
            raise StorageError(f"{self.path}: original {name} is not in the vault; look for a backup of this folder")
        if digest(data) != name:
            raise StorageError(
                f"{self.path / name[:2] / name}: damaged: its content no longer has the digest in its name; "
                "bring this one file back from a backup of the vault"
            )
        return data

    def holds(self, name: str) -> bool:
        """Return whether there is a file with this id; its content is not checked."""
        self._require_id(name)
        return (self.path / name[:2] / name).is_file()

    def remove(self, name: str) -> None:
        """Delete one original for good; do nothing if it does not exist. Raises StorageError."""
        self._require_id(name)
        with storage_errors(f"deleting original {name} from the vault {self.path}"):
            try:
                folder = Folder.open(self.path / name[:2], within=self.path)
            except FileNotFoundError:
                return
            with folder:
                folder.remove(name)
                folder.sync()

    def sizes(self) -> Iterator[tuple[str, int]]:
        """Yield (id, size in bytes) of every original, sorted by id; none if there is no vault. Raises StorageError."""
        if not exists(self.path.parent):
            return
        with storage_errors(f"listing the vault {self.path}"):
            for shelf in sorted(self.path.iterdir()):
                for entry in sorted(shelf.iterdir()):
                    if _ID.fullmatch(entry.name):
                        yield entry.name, entry.lstat().st_size

    def written(self, name: str) -> str | None:
        """Return a file's modification time, ISO 8601 in UTC, or None if it is gone. Raises StorageError."""
        self._require_id(name)
        with storage_errors(f"looking at original {name} in the vault {self.path}"):
            try:
                seconds = (self.path / name[:2] / name).lstat().st_mtime
            except FileNotFoundError:
                return None
        return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="seconds")

    def clean(self) -> None:
        """Remove the temporary files of killed runs; the caller holds the lock. Raises StorageError."""
        with storage_errors(f"cleaning the vault {self.path}"):
            for shelf in sorted(self.path.iterdir()):
                with Folder.open(shelf, within=self.path) as folder:
                    for name in folder.temporaries():
                        folder.remove(name)

    def _read(self, folder: Folder, name: str) -> bytes | None:
        try:
            descriptor = folder.open_file(name)
        except FileNotFoundError:
            return None
        try:
            return read_file(descriptor, LIMIT_BYTES)
        finally:
            os.close(descriptor)

    @staticmethod
    def _require_id(name: str) -> None:
        if not _ID.fullmatch(name):
            raise StorageError(f"{name!r} is no vault id: 64 hexadecimal digits are expected")
