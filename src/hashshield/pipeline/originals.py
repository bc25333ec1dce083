"""Originals in the vault: list, prune, export, repair, or delete them for good."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Literal

from hashshield.boundary import defer_interrupts
from hashshield.errors import HashshieldError, LedgerError, StorageError
from hashshield.paths import is_file
from hashshield.storage import Record, Store, may_be_unplugged, needed, read_snapshot, repair, rescued

__all__ = [
    "Exported",
    "Forgotten",
    "Original",
    "Pruned",
    "export",
    "forget",
    "forget_all",
    "forget_each",
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
"""(is in the vault, is marked as pruned) -> state."""
_AT_A_TIME = 32
"""Originals marked and deleted at once; an interruption waits for the batch to finish."""


@dataclass(frozen=True, slots=True)
class Original:
    """One original that is or was in the vault."""

    id: str
    """SHA-256 of its content."""
    size: int
    """In bytes."""
    state: Literal["kept", "marked", "pruned", "missing", "unrecorded"]
    """kept: in the vault. marked: to be deleted, still there. pruned: deleted. missing: gone for no recorded reason.
    unrecorded: in the vault, but no ledger row refers to it."""
    paths: tuple[str, ...]
    """Every file it was kept for, newest first."""
    created: str | None
    """Time it was last kept, ISO 8601 UTC; if unrecorded, the time its file was written."""
    in_use: bool
    """Whether a file may still be protected and need this original to be restored."""


@dataclass(frozen=True, slots=True)
class Pruned:
    """The originals that were deleted, or would be."""

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
    """Return every original, oldest first, those without a ledger row last. Raises StorageError."""
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
    confirmed: Collection[Original] | None = None,
) -> Pruned:
    """Delete originals and mark their rows as not restorable; with `dry_run`, the default, only return them.

    `older_than_days` and `restored_only` (all files that needed it are restored) narrow the choice. `unrecorded`
    selects originals without a ledger row instead. With `confirmed`, originals that are not in it, or that changed
    since, for example because a file needs them again, are left out. Ledger rows and attempts that fell short stay;
    `forget` deletes them. After an interruption the originals not yet reached are kept. Raises StorageError,
    LedgerError.
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
            and (confirmed is None or original in confirmed)
        )
        if not dry_run:
            for start in range(0, len(chosen), _AT_A_TIME):
                with defer_interrupts():
                    _delete(store, [original.id for original in chosen[start : start + _AT_A_TIME]])
        return Pruned(chosen, dry_run)


def export(
    folder: Path, *, vault: Path | None = None, dry_run: bool = False, allow_root: bool = False
) -> list[Exported]:
    """Write all originals into `folder` under their names, with mode and time; return one row each.

    Equal names are numbered. Existing files are not overwritten; one that holds the original already counts as
    exported. Originals that an interrupted `prune` left are included, and failures have rows. If the ledger is lost or
    damaged, names come from the record files. Raises StorageError if the vault cannot be opened.
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
                # Private if its mode is unknown.
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
    """Mark originals as pruned, then delete them; after an interruption the next opening of the vault finishes it."""
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
    """Return `name`, or `name` with the first free number; case is ignored. The result is added to `taken`."""
    stem, suffix = Path(name).stem, Path(name).suffix
    candidate, number = name, 2
    while candidate.casefold() in taken:
        candidate, number = f"{stem}-{number}{suffix}", number + 1
    taken.add(candidate.casefold())
    return candidate


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What was deleted for good about a path, or would be; or why nothing was."""

    path: str
    status: Literal["forgotten", "planned", "failed"]
    rows: int
    """Number of ledger rows and remembered attempts."""
    originals: tuple[str, ...]
    """Ids of originals that were deleted."""
    shared: tuple[str, ...]
    """Ids of originals that stay because other files need them."""
    dry_run: bool
    kept_for: tuple[str, ...] = ()
    """Other files with the same content that exist, or whose volume is unplugged; their rows stay."""
    reason: str | None = None
    """Why it failed."""


def forget(path: Path, *, vault: Path | None = None, dry_run: bool = False) -> Forgotten:
    """Delete for good the ledger rows and originals of a path, and of the content that is there now.

    The photo itself is not touched; it can no longer be restored, and a later `protect` treats it as new. Rows of the
    same content under other paths are deleted too, unless such a file exists or its volume is unplugged: then its rows
    and original stay, and it is listed in `kept_for`. After an interruption the next command finishes the deletion.
    Raises PhotoError, StorageError, LedgerError.
    """
    with Store.open(vault, reading=dry_run) as store:
        return _forget(store, path, dry_run=dry_run)


def forget_each(paths: Sequence[Path], *, vault: Path | None = None, dry_run: bool = False) -> Iterator[Forgotten]:
    """Forget one path after the other; yield a row for each, `failed` where `forget` would raise.

    Raises StorageError if the vault cannot be opened, and LedgerError.
    """
    with Store.open(vault, reading=dry_run) as store:
        for path in paths:
            try:
                row = _forget(store, path, dry_run=dry_run)
            except LedgerError:
                raise
            except HashshieldError as error:
                row = Forgotten(str(path), "failed", 0, (), (), dry_run, reason=str(error))
            yield row


def _forget(store: Store, path: Path, *, dry_run: bool) -> Forgotten:
    with store.lock:
        sha256 = read_snapshot(path, follow=True).sha256 if is_file(path) else None
        real = Path(os.path.realpath(path))
        rows, twins, contents = _about(store, real, sha256)
        attempts = store.ledger.attempts.touching(real, contents)
        nothing = not rows and not attempts
        # Before anything is deleted; this also finishes an earlier, interrupted deletion.
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
            "planned" if dry_run else "forgotten",
            len(rows) + len(attempts),
            tuple(sorted(mine - others_need)),
            tuple(sorted(mine & others_need)),
            dry_run,
            named,
        )


def forget_all(*, vault: Path | None = None, dry_run: bool = False, confirmed: Forgotten | None = None) -> Forgotten:
    """Delete for good all originals and ledger rows of the vault; only the key stays.

    `confirmed` is what an earlier dry run returned. After an interruption the next command finishes the deletion.
    Raises LedgerError, and StorageError also if the vault holds more or other originals or rows than confirmed.
    """
    with Store.open(vault, reading=dry_run) as store, store.lock:
        store.require_sound()
        rows = len(store.ledger.every()) + store.ledger.attempts.count()
        originals = tuple(name for name, _ in store.vault.sizes())
        if confirmed is not None and (confirmed.rows, set(confirmed.originals)) != (rows, set(originals)):
            raise StorageError(f"{store.root}: changed since the question; nothing was deleted, so run again")
        if not dry_run:
            with defer_interrupts():
                store.ledger.deletions.mark((), everything=True)
                store.finish()
        return Forgotten(str(store.root), "planned" if dry_run else "forgotten", rows, originals, (), dry_run)


def _about(store: Store, path: Path, sha256: str | None) -> tuple[dict[int, Record], dict[int, Record], set[str]]:
    """Return the rows about a path or its content, the rows of other files with that content, and all digests."""
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
    """Return all digests in a row."""
    named = (row.sha256_before, row.sha256_replaced, row.sha256_after, row.original, row.kept)
    return {content for content in named if content is not None}
