"""`originals repair`: rebuild the ledger from its readable rows, the record files, its backups and the vault.

Readable rows are gathered first, without changing anything: SQLite reads copies, because opening a file may already
write to it. The new ledger is filled under another name and renamed once it is complete; only then is the damaged one
put aside and the new one put in its place. After an interruption the next call continues: a complete new ledger is put
in place if there is none in use, and otherwise the repair starts again from the same sources, which all still exist.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hashshield.errors import LedgerError, StorageError
from hashshield.paths import exists
from hashshield.storage import calls, ledger_file, upkeep
from hashshield.storage.atomic import Lock
from hashshield.storage.calls import storage_errors
from hashshield.storage.folder import Folder, is_temporary
from hashshield.storage.ledger import Ledger
from hashshield.storage.ledger_file import Marked
from hashshield.storage.record_files import RecordFile, RecordFiles
from hashshield.storage.schema import COLUMNS, Record, record_of, seal, text_of
from hashshield.storage.store import Store
from hashshield.storage.upkeep import needed
from hashshield.storage.vault import Vault, default_root, prepare_folder
from hashshield.types import Repaired

__all__ = [
    "Salvaged",
    "gather",
    "repair",
    "rescued",
]


_SUFFIXES = ("", "-wal")


@dataclass
class Salvaged:
    """The intact rows that were found, and which rows and files are damaged."""

    sound: bool = False
    """Whether the ledger in use is sound; then all rows come from it."""
    records: dict[int, Record] = field(default_factory=dict)
    sources: dict[int, str] = field(default_factory=dict)
    """The source of each of `records`: "ledger", "record" or "backup"."""
    originals: dict[str, tuple[int, str | None]] = field(default_factory=dict)
    """Size and time of pruning, or None, by vault id."""
    attempts: dict[int, tuple[int, str, str, bytes, str]] = field(default_factory=dict)
    temporaries: set[Path] = field(default_factory=set)
    marked: dict[Marked, set[int]] = field(default_factory=dict)
    damaged_rows: set[int] = field(default_factory=set)
    """Numbers of rows whose seal does not match."""
    damaged_files: list[RecordFile] = field(default_factory=list)
    said: str = ""
    """What is wrong with the ledger in use."""

    @property
    def lost(self) -> set[int]:
        """Numbers of rows without an intact copy."""
        return (self.damaged_rows | {file.number for file in self.damaged_files}) - set(self.records)


def gather(root: Path, files: RecordFiles) -> Salvaged:
    """Read the ledger, and if it is damaged, also the one that an earlier repair put aside, record files and backups.

    A row is taken from the first source that has it. Raises StorageError, also for a ledger from a newer version.
    """
    found = Salvaged()
    with _copied(root, ledger_file.NAME) as copy:
        if copy is not None:
            found.said = _faults(copy, files)
            found.sound = not found.said
            _read(copy, found, "ledger")
        else:
            found.said = "it is gone or empty"
    if not found.sound:
        with _copied(root, ledger_file.ASIDE) as copy:
            _read(copy, found, "ledger")
    for file in files.all():
        record = files.read(file)
        if record is None:
            found.damaged_files.append(file)
        elif not found.sound:
            _take(found, record, "record")
    if not found.sound:
        for name in ledger_file.BACKUPS:
            with _copied(root, name) as copy:
                _read(copy, found, "backup")
    return found


@contextmanager
def _copied(root: Path, name: str) -> Iterator[Path | None]:
    """Yield a copy of a ledger and its write-ahead log, with a repaired header; None if there is no ledger."""
    with storage_errors(f"reading {root / name}"), Folder.open(root) as folder:
        for part in ledger_file.with_journals(ledger_file.SALVAGE):
            folder.remove(part)
        if ledger_file.is_empty(root / name):
            yield None
            return
        try:
            for suffix in _SUFFIXES:
                if suffix and ledger_file.is_empty(root / (name + suffix)):
                    continue
                data = (root / (name + suffix)).read_bytes()
                if not suffix and not _begins_well(root / name):
                    data = ledger_file.mended_header(data, wal=not ledger_file.is_empty(root / (name + "-wal")))
                descriptor = folder.create(ledger_file.SALVAGE + suffix)
                try:
                    calls.write(descriptor, data)
                finally:
                    os.close(descriptor)
            yield root / ledger_file.SALVAGE
        finally:
            for part in ledger_file.with_journals(ledger_file.SALVAGE):
                folder.remove(part)


def _begins_well(path: Path) -> bool:
    try:
        ledger_file.check_header(path)
    except LedgerError:
        return False
    return True


def _faults(copy: Path, files: RecordFiles) -> str:
    """Return the faults of a copy of the ledger in use; "" if it is sound. Raises StorageError for a newer version."""
    root = copy.parent
    try:
        ledger_file.check_header(root / ledger_file.NAME)
        used = next(Vault(root).sizes(), None) is not None
        ledger = Ledger(root, wal=False, used=used, name=copy.name)
    except StorageError as error:
        text = str(error).replace(str(copy), str(root / ledger_file.NAME))
        if not isinstance(error, LedgerError):
            raise StorageError(text) from error
        return text
    try:
        return "; ".join(upkeep.integrity_errors(ledger, files)[:3])
    finally:
        ledger.close()


def _read(copy: Path | None, found: Salvaged, source: str) -> None:
    """Add every intact row of a copy that is not known yet."""
    if copy is None:
        return
    db = sqlite3.connect(copy, isolation_level=None)
    try:
        db.text_factory = text_of
        # By the format and not by the columns, whose names may be damaged too.
        sealed = ledger_file.sealed(db)
        for name, size, pruned, own in _table(db, "originals", "id, size, pruned", sealed=sealed):
            if own is None or own == seal(name, size, pruned):
                found.originals.setdefault(name, (size, pruned))
        for *columns, own in _table(db, "records", COLUMNS, sealed=sealed):
            record = _record(columns) if own is None or own == seal(*columns) else None
            if record is not None:
                _take(found, record, source)
            elif isinstance(columns[0], int):
                found.damaged_rows.add(columns[0])
        for number, *columns, _ in _table(db, "attempts", "id, sha256, settings, path, details", sealed=False):
            if [type(value) for value in columns] == [str, str, bytes, str]:
                found.attempts.setdefault(number, (number, *columns))
        for path, _ in _table(db, "temporaries", "path", sealed=False):
            if isinstance(path, bytes) and is_temporary(Path(os.fsdecode(path)).name):
                found.temporaries.add(Path(os.fsdecode(path)))
        for kind, number, own in _table(db, "deletions", "kind, id", sealed=True):
            if own == seal(kind, number) and source == "ledger":
                found.marked.setdefault(kind, set()).add(number)
    except ledger_file.ERRORS:
        # This copy is unreadable; the other sources remain.
        return
    finally:
        db.close()


def _take(found: Salvaged, record: Record, source: str) -> None:
    if record.id not in found.records:
        found.records[record.id] = record
        found.sources[record.id] = source


def _record(columns: list[Any]) -> Record | None:
    try:
        return record_of(columns, pruned=False)
    except (ValueError, TypeError):
        return None


def _table(db: sqlite3.Connection, table: str, columns: str, *, sealed: bool) -> Iterator[tuple[Any, ...]]:
    """Yield each row once, with its seal or None; if reading from the start fails, read from the end too."""
    yielded: set[tuple[Any, ...]] = set()
    for order in ("", " DESC"):
        text = f"SELECT {columns}, {'seal' if sealed else 'NULL'} FROM {table} NOT INDEXED ORDER BY rowid{order}"
        try:
            for row in db.execute(text):
                if row not in yielded:
                    yielded.add(row)
                    yield row
        except ledger_file.ERRORS:
            continue
        return


_SOURCES = {"record": "from the record beside its original", "backup": "from a backup of the ledger"}


def repair(root: Path | None = None, *, dry_run: bool = False) -> list[Repaired]:
    """Rebuild a lost or damaged ledger and read every original back; return a row per record and unrecorded original.

    The damaged ledger is kept under another name until the new one is in place, and for good if rows of it are lost.
    May be interrupted anywhere and called again. Raises StorageError, also for a ledger from a newer version, which is
    left untouched.
    """
    named = default_root() if root is None else root
    if not exists(named):
        raise StorageError(f"{named}: no vault is there; name the one to repair with --vault")
    real, _ = prepare_folder(root)
    with storage_errors(f"opening the vault folder {real}"):
        lock = Lock(real / "lock")
    try:
        with lock:
            files, vault = RecordFiles(real), Vault(real)
            if not dry_run:
                _put_in_place(real, again=True)
            found = gather(real, files)
            sizes = dict(vault.sizes())
            damaged = _read_back(vault, sizes)
            _recall_pruned(found, sizes)
            if not dry_run:
                if not found.sound:
                    _rebuild(real, found)
                    _put_in_place(real, again=False)
                for file in found.damaged_files:
                    if file.number in found.records:
                        files.remove((file,))
                    else:
                        files.set_aside(file)
    finally:
        lock.close()
    if not dry_run:
        _settle(real, found)
    return _report(found, sizes, damaged)


def _settle(root: Path, found: Salvaged) -> None:
    """Open the new ledger as every command does, which settles intents and writes missing record files."""
    with Store.open(root) as store, store.lock:
        store.require_sound()
        store.ledger.changed = True
        if not found.lost:
            with storage_errors(f"removing the damaged ledger from {root}"), Folder.open(root) as folder:
                for name in ledger_file.with_journals(ledger_file.ASIDE):
                    folder.remove(name)


def _read_back(vault: Vault, names: Iterable[str]) -> dict[str, str]:
    """Read originals; return the error messages of the damaged ones, by vault id."""
    damaged = {}
    for name in names:
        try:
            vault.get(name)
        except StorageError as error:
            damaged[name] = str(error)
    return damaged


def _recall_pruned(found: Salvaged, sizes: Mapping[str, int]) -> None:
    """Add missing rows of originals; one that exists in the vault is never marked as pruned."""
    for record in found.records.values():
        for name in sorted(needed([record])):
            size, pruned = found.originals.get(name, (record.size if name == record.original else 0, None))
            found.originals[name] = (sizes[name], None) if name in sizes else (size, pruned)


def _rebuild(root: Path, found: Salvaged) -> None:
    """Fill a new ledger, and rename it once it is complete and flushed."""
    calls.step("repair.rebuild", root)
    with storage_errors(f"rebuilding the ledger in {root}"), Folder.open(root) as folder:
        _filled(root, found).close()
        descriptor = folder.reopen(ledger_file.PARTIAL)
        try:
            calls.sync(descriptor)
        finally:
            os.close(descriptor)
        folder.rename(ledger_file.PARTIAL, ledger_file.REBUILT)
        folder.sync()


def _filled(root: Path, found: Salvaged) -> Ledger:
    """Return a new ledger with the rows found; it replaces one left incomplete."""
    with Folder.open(root) as folder:
        for name in ledger_file.with_journals(ledger_file.PARTIAL):
            folder.remove(name)
    ledger = Ledger(root, wal=False, name=ledger_file.PARTIAL)
    try:
        wanted = needed(found.records.values())
        ledger.fill(
            [found.records[number] for number in sorted(found.records)],
            {name: known for name, known in found.originals.items() if name in wanted},
            [found.attempts[number] for number in sorted(found.attempts)],
            sorted(found.temporaries),
        )
        if any(found.marked.values()):
            ledger.deletions.mark(
                found.marked.get("record", ()),
                found.marked.get("attempt", ()),
                everything=bool(found.marked.get("everything")),
            )
    except BaseException:
        ledger.close()
        raise
    return ledger


def _put_in_place(root: Path, *, again: bool) -> None:
    """Put the damaged ledger aside and a complete new one in its place.

    `again` finishes an earlier call. If there is a ledger in use, rows may have been added to it since, and the
    complete new one is deleted; without a ledger in use, no other command can have run.
    """
    with storage_errors(f"putting the rebuilt ledger in place in {root}"), Folder.open(root) as folder:
        names = set(folder.names())
        if ledger_file.REBUILT not in names:
            return
        if again and ledger_file.NAME in names:
            folder.remove(ledger_file.REBUILT)
            return
        used = ledger_file.with_journals(ledger_file.NAME)
        aside = ledger_file.with_journals(ledger_file.ASIDE)
        fresh = ledger_file.NAME in names
        # First the ledger, then its journals, all before the new one is in place: SQLite would apply them to it.
        for name, new in zip(used, aside, strict=True):
            if name in names:
                folder.rename(name, new)
            elif fresh and new in names:
                # The journal of a ledger that an earlier repair put aside; its readable rows are in the new one.
                folder.remove(new)
        folder.sync()
        folder.rename(ledger_file.REBUILT, ledger_file.NAME)
        folder.sync()


@contextmanager
def rescued(root: Path | None = None) -> Iterator[Store]:
    """Yield a Store to read a vault without its ledger, with the rows a repair would find. Raises StorageError."""
    real, _ = prepare_folder(root)
    with storage_errors(f"opening the vault folder {real}"):
        lock = Lock(real / "lock")
    try:
        with lock:
            files, vault = RecordFiles(real), Vault(real)
            found = gather(real, files)
            _recall_pruned(found, dict(vault.sizes()))
            ledger = _filled(real, found)
            try:
                yield Store(real, [], lock, vault, ledger, files)
            finally:
                ledger.close()
                with storage_errors(f"cleaning {real}"), Folder.open(real) as folder:
                    for name in ledger_file.with_journals(ledger_file.PARTIAL):
                        folder.remove(name)
    finally:
        lock.close()


def _report(found: Salvaged, sizes: Mapping[str, int], damaged: Mapping[str, str]) -> list[Repaired]:
    rows = []
    reported = set()
    for number, record in sorted(found.records.items()):
        source, name = found.sources[number], record.original
        row = Repaired(str(record.path), "kept" if source == "ledger" else "recovered", name, _SOURCES.get(source))
        if name is not None:
            reported.add(name)
            if name in damaged:
                row = replace(row, status="damaged", reason=damaged[name])
            elif name not in sizes and found.originals[name][1] is None:
                unknown = "" if source == "ledger" else ": pruned or lost, which records do not tell"
                row = replace(row, status="missing", reason=f"its original is not in the vault{unknown}")
        rows.append(row)
    gone = "no undamaged copy of it is left in ledger, records or backups"
    rows += [Repaired(f"row {number}", "unrecoverable", None, gone) for number in sorted(found.lost)]
    stray = "no record tells which photo it belongs to; originals export writes it out"
    wanted = needed(found.records.values())
    for name in sizes:
        if name in damaged and name not in reported:
            rows.append(Repaired(name, "damaged", name, damaged[name]))
        elif name not in wanted:
            rows.append(Repaired(name, "unrecorded", name, stray))
    return rows
