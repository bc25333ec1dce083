"""The installation's secret: 32 random bytes that are made once and never leave the vault folder."""

from __future__ import annotations

import os
import secrets

from hashshield.errors import StorageError
from hashshield.storage import atomic
from hashshield.storage.folder import Folder
from hashshield.storage.os_errors import storage_errors
from hashshield.storage.snapshot import read_file
from hashshield.storage.temporaries import temporary_name

__all__ = ["KEY_BYTES", "KEY_NAME", "load_key"]

KEY_BYTES = 32
KEY_NAME = "key"


def load_key(folder: Folder) -> bytes:
    """Return the key kept in the vault folder, made at the first call; the caller holds the lock.

    Raises StorageError if it is there and damaged: a new one would give photos other codes than the ledger says.
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
