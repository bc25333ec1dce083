"""The vault, the ledger and the only code that writes to photos: under any fault nothing is lost or half-written.

Start with `store`, which ties the others together. Photos: `walk`, `snapshot`, `folder`, `atomic`, `writer`, `volumes`.
Originals: `vault`. Records: `ledger` and `ledger_file`, with `schema`; `upkeep`, which checks, copies and prunes the
ledger; `record_files`, from which it can be rebuilt. After a fault: `recover`, `repair`. `calls` wraps the system calls
and explains their errors.
"""

from __future__ import annotations

from hashshield.storage.atomic import check_page, put_page
from hashshield.storage.folder import is_temporary
from hashshield.storage.ledger_file import cannot_be_written
from hashshield.storage.repair import repair, rescued
from hashshield.storage.schema import NewRecord, Record
from hashshield.storage.snapshot import Snapshot, digest, read_snapshot, read_stream
from hashshield.storage.store import Store
from hashshield.storage.upkeep import needed
from hashshield.storage.vault import default_root
from hashshield.storage.volumes import SpaceReport, Volume, ignores_case, may_be_unplugged, preflight, volume_encryption
from hashshield.storage.walk import FOREIGN, Arrivals, FileFingerprint, FileKey, excluded, file_key, named, walk

__all__ = [
    "FOREIGN",
    "Arrivals",
    "FileFingerprint",
    "FileKey",
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
    "file_key",
    "ignores_case",
    "is_temporary",
    "may_be_unplugged",
    "named",
    "needed",
    "preflight",
    "put_page",
    "read_snapshot",
    "read_stream",
    "repair",
    "rescued",
    "volume_encryption",
    "walk",
]
