"""Look after the vault: list, prune, export and forget originals. Values out, nothing printed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Literal

from hashshield.errors import HashshieldError, LedgerError
from hashshield.pipeline.forget import Forgotten, forget, forget_all
from hashshield.pipeline.interrupts import defer_interrupts
from hashshield.storage import Record, Store, repair, rescued

__all__ = [
    "Exported",
    "Forgotten",
    "Original",
    "Pruned",
    "export",
    "forget",
    "forget_all",
    "list_originals",
    "prune",
    "repair",
]

_STATES: Mapping[tuple[bool, bool], Literal["kept", "marked", "pruned", "missing"]] = {
    (True, False): "kept",
    (True, True): "marked",
    (False, True): "pruned",
    (False, False): "missing",
}
"""By whether it is there, and whether it is marked as deleted."""
_AT_A_TIME = 32
"""Originals that are marked as pruned before they are deleted; an interruption waits for so many."""


@dataclass(frozen=True, slots=True)
class Original:
    """One file in the vault, or one that was there."""

    id: str
    """SHA-256 of its content."""
    size: int
    """In bytes."""
    state: Literal["kept", "marked", "pruned", "missing", "unrecorded"]
    """There; marked as deleted at the user's wish, and still there; so deleted; gone for no recorded reason; there, but
    no row refers to it."""
    paths: tuple[str, ...]
    """Every file it was kept for, newest first."""
    created: str | None
    """When it was last kept, ISO 8601 UTC; of an unrecorded one when its file was written."""
    in_use: bool
    """Whether some file may still be protected and have only this to go back to."""


@dataclass(frozen=True, slots=True)
class Pruned:
    """What was deleted, or would be."""

    originals: tuple[Original, ...]
    dry_run: bool

    @property
    def size(self) -> int:
        """Bytes freed."""
        return sum(original.size for original in self.originals)


@dataclass(frozen=True, slots=True)
class Exported:
    """One original written out."""

    id: str
    path: str
    status: Literal["exported", "planned", "failed"]
    reason: str | None = None


def list_originals(vault: Path | None = None) -> list[Original]:
    """Return every original, oldest first, those without a row last; raises StorageError."""
    with Store.open(vault, reading=True) as store:
        if not store.ledger.read_only:
            store.finish()
        return _originals(store)


def prune(
    *,
    vault: Path | None = None,
    older_than_days: float | None = None,
    restored_only: bool = False,
    unrecorded: bool = False,
    dry_run: bool = True,
) -> Pruned:
    """Delete originals and mark their rows as not restorable; by default only say which.

    `older_than_days` and `restored_only` (every file that needed it was restored) narrow the choice; `unrecorded`
    takes files that no row refers to instead. What is recorded stays, attempts that fell short too; `forget` deletes
    it. It can be interrupted anywhere: what was not reached is kept. Raises StorageError, LedgerError.
    """
    with Store.open(vault, reading=dry_run) as store, store.lock:
        store.require_sound()
        limit = None if older_than_days is None else datetime.now(timezone.utc) - timedelta(days=older_than_days)
        wanted = "unrecorded" if unrecorded else "kept"
        chosen = tuple(
            original
            for original in _originals(store)
            if original.state == wanted
            and not (restored_only and original.in_use)
            and (limit is None or original.created is None or datetime.fromisoformat(original.created) < limit)
        )
        if not dry_run:
            for start in range(0, len(chosen), _AT_A_TIME):
                with defer_interrupts():
                    _delete(store, [original.id for original in chosen[start : start + _AT_A_TIME]])
        return Pruned(chosen, dry_run)


def export(
    folder: Path, *, vault: Path | None = None, dry_run: bool = False, allow_root: bool = False
) -> list[Exported]:
    """Write all originals into `folder` under their names, equal names numbered, with their mode and time.

    Nothing that exists is overwritten; a file that holds the original already counts as exported. What an interrupted
    prune has left is among them. One row each, failures included. Where the ledger is lost or damaged, names come from
    the records beside originals. Raises StorageError when the vault cannot be opened.
    """
    try:
        with Store.open(vault, reading=True) as store:
            return _export(store, folder, dry_run=dry_run, allow_root=allow_root)
    except LedgerError:
        with rescued(vault) as store:
            if not dry_run:
                store.clean(folder)
            return _export(store, folder, dry_run=dry_run, allow_root=allow_root)


def _export(store: Store, folder: Path, *, dry_run: bool, allow_root: bool) -> list[Exported]:
    rows = []
    taken: set[str] = set()
    newest = {name: row for row in store.ledger.every() for name in (row.original, row.kept) if name is not None}
    for original in _originals(store):
        if original.state == "pruned":
            continue
        if original.state == "missing":
            whose = original.paths[0] if original.paths else original.id
            reason = f"{whose}: its original {original.id} is not in the vault; look for a backup of this folder"
            rows.append(Exported(original.id, whose, "failed", reason=reason))
            continue
        name = _free_name(Path(original.paths[0]).name if original.paths else original.id, taken)
        target = folder / name
        if dry_run:
            rows.append(Exported(original.id, str(target), "planned"))
            continue
        with defer_interrupts():
            try:
                row = newest.get(original.id)
                # Private where nothing is known of it.
                mode, mtime_ns = (0o600, None) if row is None else (row.mode, row.mtime_ns)
                store.export(target, store.vault.get(original.id), mode=mode, mtime_ns=mtime_ns, allow_root=allow_root)
            except LedgerError:
                raise
            except HashshieldError as error:
                rows.append(Exported(original.id, str(target), "failed", reason=str(error)))
            else:
                rows.append(Exported(original.id, str(target), "exported"))
    return rows


def _delete(store: Store, names: Sequence[str]) -> None:
    """Mark originals, then delete them; whoever opens the vault next deletes what is marked and still there."""
    store.ledger.mark_pruned(names, datetime.now(timezone.utc).isoformat(timespec="seconds"))
    for name in names:
        store.vault.remove(name)


def _originals(store: Store) -> list[Original]:
    sizes = dict(store.vault.sizes())
    pruned = store.ledger.pruned()
    users: dict[str, list[Record]] = {}
    for row in store.ledger.every():
        for name in {row.original, row.kept} - {None}:
            users.setdefault(str(name), []).append(row)
    found = []
    for name, rows in users.items():
        newest_first = rows[::-1]
        found.append(
            Original(
                id=name,
                size=sizes.get(name, rows[-1].size),
                state=_STATES[name in sizes, name in pruned],
                paths=tuple(dict.fromkeys(str(row.path) for row in newest_first)),
                created=rows[-1].created,
                in_use=any(row.state != "restored" and row.original == name for row in rows)
                or any(row.kept == name for row in rows),
            )
        )
    found += [
        Original(id=name, size=size, state="unrecorded", paths=(), created=store.vault.written(name), in_use=False)
        for name, size in sizes.items()
        if name not in users
    ]
    return found


def _free_name(name: str, taken: set[str]) -> str:
    """Return `name`, or `name` with the first free number; equal but for case counts as equal."""
    stem, suffix = Path(name).stem, Path(name).suffix
    candidate, number = name, 2
    while candidate.casefold() in taken:
        candidate, number = f"{stem}-{number}{suffix}", number + 1
    taken.add(candidate.casefold())
    return candidate
