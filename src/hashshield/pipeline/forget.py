"""Forget photos: delete for good what the vault keeps and records of them. Values out, nothing printed."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from hashshield.errors import StorageError
from hashshield.pipeline.interrupts import defer_interrupts
from hashshield.storage import Record, Store, may_be_unplugged, needed, read_snapshot

__all__ = ["Forgotten", "forget", "forget_all"]


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What was deleted for good about a path, or would be."""

    path: str
    rows: int
    """Records of changes, and of attempts that fell short."""
    originals: tuple[str, ...]
    shared: tuple[str, ...]
    """Vault ids that stay because other files need them."""
    dry_run: bool
    kept_for: tuple[str, ...] = ()
    """Other files of the same content, still there or on a volume that is not; what is recorded of them stays."""


def forget(path: Path, *, vault: Path | None = None, dry_run: bool = False) -> Forgotten:
    """Delete for good what is kept and recorded about a path, and about the content there now.

    The photo itself is not touched and can no longer be restored; a later `protect` takes it for a new photo. What is
    recorded of the same content under other paths goes too, except where a file is still there, or its volume is not:
    such a twin keeps its rows and its original, and is named. It can be interrupted anywhere; the next command finishes
    it. Raises StorageError, LedgerError.
    """
    with Store.open(vault, reading=dry_run) as store, store.lock:
        sha256 = read_snapshot(path, follow=True).sha256 if path.is_file() else None
        real = Path(os.path.realpath(path))
        rows, twins, contents = _about(store, real, sha256)
        attempts = store.ledger.attempts.touching(real, contents)
        nothing = not rows and not attempts
        # Before anything is deleted; it finishes what an earlier call began and did not end.
        store.require_sound()
        named = tuple(sorted({str(row.path) for row in twins.values()}))
        if nothing:
            elsewhere = f"; its content is recorded for {', '.join(named)}" if named else ""
            raise StorageError(f"{path}: nothing is recorded about this path or its content{elsewhere}")
        mine = needed(rows.values())
        others_need = needed(row for row in store.ledger.every() if row.id not in rows)
        if not dry_run:
            with defer_interrupts():
                store.ledger.deletions.mark(sorted(rows), attempts)
                store.finish()
        return Forgotten(
            str(path),
            len(rows) + len(attempts),
            tuple(sorted(mine - others_need)),
            tuple(sorted(mine & others_need)),
            dry_run,
            named,
        )


def forget_all(*, vault: Path | None = None, dry_run: bool = False) -> Forgotten:
    """Delete for good everything the vault keeps and records, all originals included; the key alone stays.

    It can be interrupted anywhere; the next command finishes it. Raises StorageError, LedgerError.
    """
    with Store.open(vault, reading=dry_run) as store, store.lock:
        store.require_sound()
        rows = len(store.ledger.every()) + store.ledger.attempts.count()
        originals = tuple(name for name, _ in store.vault.sizes())
        if not dry_run:
            with defer_interrupts():
                store.ledger.deletions.mark((), everything=True)
                store.finish()
        return Forgotten(str(store.root), rows, originals, (), dry_run)


def _about(store: Store, path: Path, sha256: str | None) -> tuple[dict[int, Record], dict[int, Record], set[str]]:
    """Return the rows about a path or its content, those about other files with that content, and the digests met."""
    rows = {row.id: row for row in store.ledger.of_path(path)}
    twins: dict[int, Record] = {}
    contents: set[str] = set()
    left = {content for row in rows.values() for content in _contents(row)} | ({sha256} if sha256 else set())
    while left:
        content = left.pop()
        contents.add(content)
        for row in store.ledger.of_content(content):
            if row.id in rows or row.id in twins:
                continue
            if os.path.lexists(row.path) or may_be_unplugged(row.path):
                twins[row.id] = row
            else:
                rows[row.id] = row
                left |= _contents(row) - contents
    return rows, twins, contents


def _contents(row: Record) -> set[str]:
    """Return the digests a row names."""
    named = (row.sha256_before, row.sha256_replaced, row.sha256_after, row.original, row.kept)
    return {content for content in named if content is not None}
