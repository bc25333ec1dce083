"""Look after the vault: list, prune, export and forget originals. Values out, nothing printed."""

from __future__ import annotations

import os
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Literal

from hashshield.errors import HashshieldError, StorageError
from hashshield.pipeline.interrupts import defer_interrupts
from hashshield.storage import Record, Store, read_snapshot
from hashshield.storage.copies import write_new
from hashshield.storage.ledger import LEDGER_NAME, Ledger
from hashshield.storage.repair import rebuild, salvage
from hashshield.storage.store import erase
from hashshield.storage.vault import Vault

__all__ = [
    "Exported",
    "Forgotten",
    "Original",
    "Pruned",
    "Repaired",
    "export",
    "forget",
    "forget_all",
    "list_originals",
    "prune",
    "repair",
]


@dataclass(frozen=True, slots=True)
class Original:
    """One file in the vault, or one that was there."""

    id: str
    """SHA-256 of its content."""
    size: int
    """In bytes."""
    state: Literal["kept", "pruned", "missing", "unrecorded"]
    """There; deleted at the user's wish; gone for no recorded reason; there, but no row refers to it."""
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


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What was deleted for good about a path, or would be."""

    path: str
    rows: int
    """Records of changes, and of attempts that fell short."""
    originals: tuple[str, ...]
    shared: tuple[str, ...]
    """Vault ids that stay because other files need them."""
    kept_for: tuple[str, ...]
    """Files of the same content that are still there: they keep their records and originals."""
    dry_run: bool


@dataclass(frozen=True, slots=True)
class Repaired:
    """What `repair` found and did about the ledger."""

    path: str
    """The ledger."""
    status: Literal["repaired", "sound", "planned"]
    rows: int
    """Records in it now."""
    recovered: int
    """Those of them that the ledger itself had lost."""
    damaged: tuple[str, ...]
    """Rows and record files that were found damaged."""
    missing: tuple[str, ...]
    """Photos whose original is gone from the vault, or damaged: restoring them will fail."""
    unrecorded: tuple[str, ...]
    """Originals in the vault that no record refers to; they are kept."""
    reason: str | None = None


def list_originals(vault: Path | None = None) -> list[Original]:
    """Return every original, oldest first, those without a row last; raises StorageError."""
    with Store.open(vault, reading=True) as store:
        return _originals_of(store.ledger.every(), store.vault, store.ledger.pruned())


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
    it. Raises StorageError.
    """
    with Store.open(vault, reading=dry_run) as store, store.lock:
        limit = None if older_than_days is None else datetime.now(timezone.utc) - timedelta(days=older_than_days)
        wanted = "unrecorded" if unrecorded else "kept"
        chosen = tuple(
            original
            for original in _originals_of(store.ledger.every(), store.vault, store.ledger.pruned())
            if original.state == wanted
            and not (restored_only and original.in_use)
            and (limit is None or original.created is None or datetime.fromisoformat(original.created) < limit)
        )
        if not dry_run and chosen:
            _delete(store, [original.id for original in chosen])
        return Pruned(chosen, dry_run)


def export(
    folder: Path, *, vault: Path | None = None, dry_run: bool = False, allow_root: bool = False
) -> list[Exported]:
    """Write all originals into `folder` under their names, equal names numbered, with their mode and time.

    Nothing that exists is overwritten; a file that holds the original already counts as exported. One row each,
    failures included; raises StorageError when the vault cannot be opened.
    """
    with _readable(vault, allow_root=allow_root) as (records, pruned, store_vault, write):
        rows = []
        taken: set[str] = set()
        for original in _originals_of(records, store_vault, pruned):
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
            try:
                mode, mtime_ns = _attributes(records, original.id)
                write(target, store_vault.get(original.id), mode, mtime_ns)
            except HashshieldError as error:
                rows.append(Exported(original.id, str(target), "failed", reason=str(error)))
            else:
                rows.append(Exported(original.id, str(target), "exported"))
        return rows


def forget(path: Path, *, vault: Path | None = None, dry_run: bool = False) -> Forgotten:
    """Delete for good what is kept and recorded about a path, and about the content there now.

    The photo itself is not touched and can no longer be restored; a later `protect` takes it for a new photo. A file of
    the same content elsewhere keeps its records and its original. May be interrupted: the next command that opens the
    vault finishes it. Raises StorageError.
    """
    with Store.open(vault, reading=dry_run) as store, store.lock:
        sha256 = read_snapshot(path, follow=True).sha256 if path.is_file() else None
        real = Path(os.path.realpath(path))
        touching = store.ledger.touching(real, sha256)
        others = [row for row in touching if row.path != real and _is_still_there(row)]
        rows = [row for row in touching if row not in others]
        contents = {c for row in rows for c in (row.sha256_before, row.sha256_after)} | ({sha256} if sha256 else set())
        attempts = store.ledger.attempts.touching(real, set() if others else contents)
        kept_for = tuple(dict.fromkeys(str(row.path) for row in others))
        if not rows and not attempts:
            told = f"; what is recorded belongs to {', '.join(kept_for)}" if kept_for else ""
            raise StorageError(f"{path}: nothing is recorded about this path or its content{told}")
        numbers = {row.id for row in rows}
        mine = _needed(rows)
        needed = _needed(row for row in store.ledger.every() if row.id not in numbers)
        gone = tuple(sorted(mine - needed))
        if not dry_run:
            _erase(store, sorted(numbers), attempts, gone)
        return Forgotten(str(path), len(rows) + len(attempts), gone, tuple(sorted(mine & needed)), kept_for, dry_run)


def forget_all(*, vault: Path | None = None, dry_run: bool = False) -> Forgotten:
    """Delete for good every original and every record; only the vault's key stays. Raises StorageError."""
    with Store.open(vault) as store, store.lock:
        numbers = sorted(store.ledger.states())
        attempts = store.ledger.attempts.every()
        originals = tuple(name for name, _ in store.vault.sizes())
        if not dry_run:
            _erase(store, numbers, attempts, originals)
        return Forgotten(str(store.root), len(numbers) + len(attempts), originals, (), (), dry_run)


def repair(*, vault: Path | None = None, dry_run: bool = False) -> Repaired:
    """Rebuild a lost or damaged ledger from the record files, its backup and what it still holds.

    Originals are read back and their digests compared. Raises StorageError for a ledger of a newer version.
    """
    root, lock = Store.locked(vault)
    with closing(lock), lock:
        store_vault = Vault(root)
        found = salvage(root)
        sound = not found.damaged and _is_sound(root)
        records = found.records()
        missing = tuple(dict.fromkeys(_missing(records, store_vault)))
        needed = _needed(records)
        unrecorded = tuple(name for name, _ in store_vault.sizes() if name not in needed)
        if not sound and not dry_run:
            with defer_interrupts():
                rebuild(root, found, store_vault)
    status: Literal["repaired", "sound", "planned"] = "sound" if sound else "planned" if dry_run else "repaired"
    recovered = len(records) - found.from_ledger
    return Repaired(
        str(root / LEDGER_NAME), status, len(records), max(recovered, 0), found.damaged, missing, unrecorded
    )


def _is_sound(root: Path) -> bool:
    """Tell whether the ledger can be opened, is whole, and lacks no row."""
    if not (root / LEDGER_NAME).is_file():
        return False
    try:
        ledger = Ledger(root, wal=False)
    except StorageError:
        return False
    try:
        is_new = ledger.version_found == 0
        return not is_new and not ledger.faults() and not ledger.lost_rows()
    except StorageError:
        return False
    finally:
        ledger.close()


def _missing(records: Iterable[Record], vault: Vault) -> Iterator[str]:
    """Yield the path of each record whose original cannot be read back."""
    read: dict[str, bool] = {}
    for record in records:
        if record.original is None or record.pruned:
            continue
        if record.original not in read:
            try:
                vault.get(record.original)
                read[record.original] = True
            except StorageError:
                read[record.original] = False
        if not read[record.original]:
            yield str(record.path)


def _is_still_there(row: Record) -> bool:
    """Tell whether the file a row is about still holds its original or its result; one that cannot be read may."""
    try:
        return read_snapshot(row.path, follow=False).sha256 in (row.sha256_before, row.sha256_after)
    except HashshieldError:
        return os.path.lexists(row.path)


def _erase(store: Store, numbers: Sequence[int], attempts: Sequence[int], originals: Sequence[str]) -> None:
    with defer_interrupts():
        store.ledger.plan_erasure(numbers, attempts, originals)
        erase(store.ledger, store.vault)
        store.ledger.back_up()


_AT_ONCE = 16
"""Originals that are marked as pruned before they are deleted: as many may be left if that is cut short."""


def _delete(store: Store, names: Sequence[str]) -> None:
    for first in range(0, len(names), _AT_ONCE):
        with defer_interrupts():
            some = names[first : first + _AT_ONCE]
            store.ledger.mark_pruned(some, datetime.now(timezone.utc).isoformat(timespec="seconds"))
            for name in some:
                store.vault.remove(name)


def _needed(rows: Iterable[Record]) -> set[str]:
    return {name for row in rows for name in (row.original, row.kept) if name is not None}


Write = Callable[[Path, bytes, int, int | None], None]
"""Path, content, mode and modification time of a file to export."""


@contextmanager
def _readable(vault: Path | None, *, allow_root: bool) -> Iterator[tuple[list[Record], set[str], Vault, Write]]:
    """Yield rows, pruned ids, vault and a writer; of a ledger that is lost or damaged, what can be salvaged."""
    store = _sound_store(vault)
    if store is not None:
        with store:
            yield (
                store.ledger.every(),
                store.ledger.pruned(),
                store.vault,
                lambda path, data, mode, mtime_ns: store.export(
                    path, data, mode=mode, mtime_ns=mtime_ns, allow_root=allow_root
                ),
            )
        return
    root, lock = Store.locked(vault)
    with closing(lock), lock:
        found = salvage(root)
        yield (
            found.records(),
            set(found.pruned),
            Vault(root),
            lambda path, data, mode, mtime_ns: write_new(path, data, mode=mode, mtime_ns=mtime_ns),
        )


def _sound_store(vault: Path | None) -> Store | None:
    """Open the vault; None if its ledger is lost or damaged. Raises StorageError if it cannot be read at all."""
    try:
        store = Store.open(vault, reading=True)
    except StorageError:
        return None
    try:
        store.require_sound()
    except StorageError:
        store.close()
        return None
    return store


def _originals_of(records: Iterable[Record], vault: Vault, pruned: Container[str]) -> list[Original]:
    stored = dict(vault.sizes())
    users: dict[str, list[Record]] = {}
    for row in records:
        for name in {row.original, row.kept} - {None}:
            users.setdefault(str(name), []).append(row)
    found = []
    for name, rows in users.items():
        newest_first = rows[::-1]
        found.append(
            Original(
                id=name,
                size=stored.get(name, rows[-1].size),
                state="kept" if name in stored and name not in pruned else "pruned" if name in pruned else "missing",
                paths=tuple(dict.fromkeys(str(row.path) for row in newest_first)),
                created=rows[-1].created,
                in_use=any(row.state != "restored" and row.original == name for row in rows)
                or any(row.kept == name for row in rows),
            )
        )
    found += [
        Original(id=name, size=size, state="unrecorded", paths=(), created=vault.written(name), in_use=False)
        for name, size in stored.items()
        if name not in users
    ]
    return found


def _attributes(records: Iterable[Record], name: str) -> tuple[int, int | None]:
    """Return mode and modification time of the newest file an original was kept for; private if that is unknown."""
    rows = [row for row in records if name in (row.original, row.kept)]
    return (rows[-1].mode, rows[-1].mtime_ns) if rows else (0o600, None)


def _free_name(name: str, taken: set[str]) -> str:
    """Return `name`, or `name` with the first free number; equal but for case counts as equal."""
    stem, suffix = Path(name).stem, Path(name).suffix
    candidate, number = name, 2
    while candidate.casefold() in taken:
        candidate, number = f"{stem}-{number}{suffix}", number + 1
    taken.add(candidate.casefold())
    return candidate
