"""Which original belongs to a file, and whether it may be put back."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hashshield.storage.ledger import Ledger
from hashshield.storage.records import Record
from hashshield.storage.snapshot import Snapshot
from hashshield.storage.vault import Vault

__all__ = ["PixelDigest", "RestoreMatch", "find", "find_missing", "recorded"]

PixelDigest = Callable[[bytes, Path], str | None]
"""Digest of the decoded pixels of some bytes, or None if they are no photo; the path is for messages."""


@dataclass(frozen=True, slots=True)
class RestoreMatch:
    """A row whose original can be put back, or the reason why there is none."""

    record: Record | None
    reason: str | None = None
    failed: bool = False
    """Whether the reason is a refusal, and not that there is nothing to do."""


def find(
    ledger: Ledger, vault: Vault, source: Snapshot, *, named: bool, force: bool, pixel_digest: PixelDigest | None
) -> RestoreMatch:
    """Find the row of a file by its content, then by its pixels, and with `force` by its path.

    An unknown file is a failure only when it was `named`; in a folder there may be any number of them.
    """
    record = ledger.result(source.sha256, path=source.path)
    if record is None and ledger.by_original(source.sha256) is not None:
        return RestoreMatch(None, "is the original already")
    if record is None and pixel_digest is not None and ledger.holds_pixels():
        record = ledger.result(source.sha256, pixel_digest(source.data, source.path), path=source.path)
    if record is not None:
        # A copy has no original of its own, but may have taken the place of another file.
        behind = ledger.replaced(source.path) if record.kind == "copy" else None
        return _restorable(behind or record, vault, source.path)
    record = ledger.by_path(source.path) or ledger.replaced(source.path)
    if record is None:
        reason = "is not known to this vault: neither protected by it nor an original of it"
        return RestoreMatch(None, reason, failed=named)
    if not force:
        return RestoreMatch(
            None,
            f"was edited after it was protected on {record.created}; --force keeps the edit in the vault and restores",
            failed=True,
        )
    return _restorable(record, vault, source.path)


def recorded(ledger: Ledger, path: Path) -> Record | None:
    """Return the row about this path, whatever the file holds now."""
    real_path = Path(os.path.realpath(path.parent)) / path.name
    return ledger.by_path(real_path) or ledger.replaced(real_path)


def find_missing(ledger: Ledger, vault: Vault, path: Path) -> RestoreMatch:
    """Find the row of a file that was deleted."""
    record = recorded(ledger, path)
    if record is None:
        return RestoreMatch(None, "no such file, and nothing is recorded under this path", failed=True)
    return _restorable(record, vault, record.path)


def _restorable(record: Record, vault: Vault, path: Path) -> RestoreMatch:
    if record.kind == "copy" and record.kept is not None and record.path == path:
        return RestoreMatch(record)
    if record.kind == "copy":
        return RestoreMatch(None, "is a protected copy made by --output; its original was never changed")
    if record.original is None:
        return RestoreMatch(None, "was protected with --no-backup: no original was kept", failed=True)
    # Marked and still here: a prune was cut short, and what it left can be used.
    if record.pruned and not vault.holds(record.original):
        return RestoreMatch(None, "its original was pruned from the vault at your wish", failed=True)
    return RestoreMatch(record)
