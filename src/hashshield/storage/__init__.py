"""Vault, ledger and the only way bytes reach a photo: nothing lost, nothing half-written, under any fault."""

from __future__ import annotations

from hashshield.storage.arrivals import Arrivals, FileFingerprint
from hashshield.storage.pages import check_page, put_page
from hashshield.storage.records import NewRecord, Record
from hashshield.storage.snapshot import Snapshot, digest, read_snapshot
from hashshield.storage.space import SpaceReport, Volume, preflight
from hashshield.storage.store import Store
from hashshield.storage.temporaries import is_temporary
from hashshield.storage.vault_folder import default_root
from hashshield.storage.walk import excluded, named, walk

__all__ = [
    "Arrivals",
    "FileFingerprint",
    "NewRecord",
    "Record",
    "Snapshot",
    "SpaceReport",
    "Store",
    "Volume",
    "check_page",
    "default_root",
    "digest",
    "excluded",
    "is_temporary",
    "named",
    "preflight",
    "put_page",
    "read_snapshot",
    "walk",
]
