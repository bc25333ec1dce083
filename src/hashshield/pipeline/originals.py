"""Look after the vault: list, prune, export and forget originals. Values out, nothing printed."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Literal

from hashshield.errors import HashshieldError, StorageError
from hashshield.storage import Record, Store, read_snapshot

__all__ = ["Exported", "Forgotten", "Original", "Pruned", "export", "forget", "list_originals", "prune"]


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
    dry_run: bool


def list_originals(vault: Path | None = None) -> list[Original]:
    """Return every original, oldest first, those without a row last; raises StorageError."""
    with Store.open(vault, reading=True) as store:
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
    it. Raises StorageError.
    """
    with Store.open(vault, reading=dry_run) as store, store.lock:
        limit = None if older_than_days is None else datetime.now(timezone.utc) - timedelta(days=older_than_days)
        wanted = "unrecorded" if unrecorded else "kept"
        chosen = tuple(
            original
            for original in _originals(store)
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
    with Store.open(vault, reading=True) as store:
        rows = []
        taken: set[str] = set()
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
            try:
                mode, mtime_ns = _attributes(store, original.id)
                store.export(target, store.vault.get(original.id), mode=mode, mtime_ns=mtime_ns, allow_root=allow_root)
            except HashshieldError as error:
                rows.append(Exported(original.id, str(target), "failed", reason=str(error)))
            else:
                rows.append(Exported(original.id, str(target), "exported"))
        return rows


def forget(path: Path, *, vault: Path | None = None, dry_run: bool = False) -> Forgotten:
    """Delete for good what is kept and recorded about a path, and about the content there now.

    The photo itself is not touched and can no longer be restored; a later `protect` takes it for a new photo.
    Originals that other files need stay. Raises StorageError.
    """
    with Store.open(vault, reading=dry_run) as store, store.lock:
        sha256 = read_snapshot(path, follow=True).sha256 if path.is_file() else None
        real = Path(os.path.realpath(path))
        rows = store.ledger.touching(real, sha256)
        contents = {c for row in rows for c in (row.sha256_before, row.sha256_after)} | ({sha256} if sha256 else set())
        attempts = store.ledger.attempts.touching(real, contents)
        if not rows and not attempts:
            raise StorageError(f"{path}: nothing is recorded about this path or its content")
        numbers = {row.id for row in rows}
        mine = _needed(rows)
        others = _needed(row for row in store.ledger.every() if row.id not in numbers)
        gone = tuple(sorted(mine - others))
        if not dry_run:
            # Files first: should this be cut short, the rows still lead to what is left to delete.
            _delete(store, gone)
            store.ledger.erase(sorted(numbers), attempts)
        return Forgotten(str(path), len(rows) + len(attempts), gone, tuple(sorted(mine & others)), dry_run)


def _delete(store: Store, names: Iterable[str]) -> None:
    names = tuple(names)
    store.ledger.mark_pruned(names, datetime.now(timezone.utc).isoformat(timespec="seconds"))
    for name in names:
        store.vault.remove(name)


def _needed(rows: Iterable[Record]) -> set[str]:
    return {name for row in rows for name in (row.original, row.kept) if name is not None}


def _originals(store: Store) -> list[Original]:
    stored = dict(store.vault.sizes())
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
                size=stored.get(name, rows[-1].size),
                state="kept" if name in stored and name not in pruned else "pruned" if name in pruned else "missing",
                paths=tuple(dict.fromkeys(str(row.path) for row in newest_first)),
                created=rows[-1].created,
                in_use=any(row.state != "restored" and row.original == name for row in rows)
                or any(row.kept == name for row in rows),
            )
        )
    found += [
        Original(id=name, size=size, state="unrecorded", paths=(), created=store.vault.written(name), in_use=False)
        for name, size in stored.items()
        if name not in users
    ]
    return found


def _attributes(store: Store, name: str) -> tuple[int, int | None]:
    """Mode and modification time of the newest file an original was kept for; private where that is unknown."""
    rows = [row for row in store.ledger.every() if name in (row.original, row.kept)]
    return (rows[-1].mode, rows[-1].mtime_ns) if rows else (0o600, None)


def _free_name(name: str, taken: set[str]) -> str:
    """Return `name`, or `name` with the first free number; equal but for case counts as equal."""
    stem, suffix = Path(name).stem, Path(name).suffix
    candidate, number = name, 2
    while candidate.casefold() in taken:
        candidate, number = f"{stem}-{number}{suffix}", number + 1
    taken.add(candidate.casefold())
    return candidate
