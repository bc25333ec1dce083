"""Vault, ledger and the only way bytes reach a photo: nothing lost, nothing half-written, under any fault."""

from __future__ import annotations

from hashshield.storage.arrivals import Arrivals, FileFingerprint
from hashshield.storage.encryption import volume_encryption
from hashshield.storage.foreign import FOREIGN
from hashshield.storage.forgetting import needed
from hashshield.storage.pages import check_page, put_page
from hashshield.storage.reading import cannot_be_written
from hashshield.storage.records import NewRecord, Record
from hashshield.storage.repair import repair, rescued
from hashshield.storage.snapshot import Snapshot, digest, read_snapshot
from hashshield.storage.space import SpaceReport, Volume, preflight
from hashshield.storage.store import Store
from hashshield.storage.temporaries import is_temporary
from hashshield.storage.vault_folder import default_root
from hashshield.storage.volumes import ignores_case, may_be_unplugged
from hashshield.storage.walk import excluded, named, walk

__all__ = [
    "FOREIGN",
    "Arrivals",
    "FileFingerprint",
    "NewRecord",
    "Record",
    "Snapshot",
    "SpaceReport",
    "Store",
    "Volume",
    "cannot_be_written",
    "check_page",
    "default_root",
    "digest",
    "excluded",
    "ignores_case",
    "is_temporary",
    "may_be_unplugged",
    "named",
    "needed",
    "preflight",
    "put_page",
    "read_snapshot",
    "repair",
    "rescued",
    "volume_encryption",
    "walk",
]
