"""Steps four to eight of the in-place protocol: vault, intent, second look, replacement, commit."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from hashshield.errors import StorageError
from hashshield.storage import atomic, policy
from hashshield.storage.attributes import Attributes
from hashshield.storage.folder import Folder
from hashshield.storage.ledger import Ledger
from hashshield.storage.os_errors import explain, storage_errors
from hashshield.storage.records import Entry, Kind, NewRecord, Record
from hashshield.storage.recover import settle
from hashshield.storage.snapshot import Snapshot, digest, snapshot_of
from hashshield.storage.target import Permissions, Target, opened
from hashshield.storage.temporaries import temporary_name
from hashshield.storage.vault import Vault

__all__ = ["Writer"]


class Writer:
    """Carries out replacements; the caller holds the lock."""

    def __init__(self, root: Path, vault: Vault, ledger: Ledger, *, run: str, tool: str) -> None:
        self._root = root
        self._vault = vault
        self._ledger = ledger
        self._run = run
        self._tool = tool

    def protect(
        self, source: Snapshot, data: bytes, new: NewRecord, *, backup: bool, keep_mtime: bool, allowed: Permissions
    ) -> Record:
        """Replace the file `source` was read from by `data`; raises ChangedError, StorageError."""
        with opened(source, allowed, root=self._root) as target:
            originals: dict[str, int] = {}
            status = target.status
            entry = replace(
                self._entry("protect", source.path, source, data, new),
                mode=stat.S_IMODE(status.st_mode),
                mtime_ns=status.st_mtime_ns,
            )
            if new.again is not None:
                entry = replace(entry, **_inherited(new.again))
            if backup and source.sha256 == entry.sha256_before:
                entry = replace(entry, original=self._keep(source.data, originals))
            elif backup:
                entry = replace(entry, kept=self._keep_edit(source, originals))
            attributes = target.attributes if keep_mtime else replace(target.attributes, mtime_ns=None)
            return self._replace(target, data, entry, originals, attributes)

    def copy(
        self, path: Path, data: bytes, like: Snapshot, new: NewRecord, *, keep_mtime: bool, overwrite: bool
    ) -> Record:
        """Write a protected copy of `like` to another place; raises StorageError."""
        attributes = Attributes(mode=like.mode, mtime_ns=like.mtime_ns if keep_mtime else None)
        entry = self._entry("copy", path, like, data, new)
        return self._new_file(path, data, entry, attributes, overwrite=overwrite)

    def restore(self, source: Snapshot, record: Record, data: bytes, *, allowed: Permissions) -> Record:
        """Replace the file `source` was read from by its original; an unrecorded content goes to the vault first."""
        with opened(source, allowed, root=self._root) as target:
            originals: dict[str, int] = {}
            entry = replace(
                self._entry("restore", source.path, source, data, NewRecord()),
                kept=self._keep_edit(source, originals),
                # Where a copy is restored, the recorded file still is what the record says.
                undoes=record.id if source.path == record.path or not record.path.exists() else None,
            )
            attributes = replace(target.attributes, mode=record.mode, mtime_ns=record.mtime_ns)
            return self._replace(target, data, entry, originals, attributes)

    def bring_back(self, record: Record, data: bytes) -> Record:
        """Write an original to the place it was deleted from; raises StorageError."""
        entry = replace(
            self._stamped("restore", record.path, data),
            sha256_before=record.sha256_after,
            mode=record.mode,
            mtime_ns=record.mtime_ns,
            size=record.size,
            undoes=record.id,
        )
        attributes = Attributes(mode=record.mode, mtime_ns=record.mtime_ns)
        return self._new_file(record.path, data, entry, attributes, overwrite=False)

    def export(self, path: Path, data: bytes, attributes: Attributes) -> None:
        """Write a file that is none of the user's photos; one that holds `data` already is left."""
        policy.require_outside(Path(os.path.realpath(path)), self._root)
        with storage_errors(f"writing {path}"), Folder.made(path.parent) as folder:
            there = _digest_of(folder, path.name)
            if there == digest(data):
                return
            _require_absent(path, there)
            temporary = temporary_name()
            place = folder.path / temporary
            self._ledger.announce(place)
            atomic.put(folder, path.name, data, temporary=temporary, attributes=attributes, overwrite=False)
            self._ledger.forget_temporaries([place])

    # -- inside -------------------------------------------------------------------------------------------------

    def _replace(
        self, target: Target, data: bytes, entry: Entry, originals: Mapping[str, int], attributes: Attributes
    ) -> Record:
        return self._carry_out(
            target.folder, target.name, data, entry, originals, attributes, check=target.check, overwrite=True
        )

    def _new_file(self, path: Path, data: bytes, entry: Entry, attributes: Attributes, *, overwrite: bool) -> Record:
        policy.require_outside(Path(os.path.realpath(path)), self._root)
        with storage_errors(f"writing {path}"), Folder.made(path.parent) as folder:
            there = _digest_of(folder, path.name)
            if there != entry.sha256_after and not overwrite:
                _require_absent(path, there)
            return self._carry_out(
                folder,
                path.name,
                data,
                replace(entry, path=folder.path / path.name, sha256_replaced=there),
                {},
                attributes,
                check=None,
                overwrite=there is not None,
            )

    def _carry_out(
        self,
        folder: Folder,
        name: str,
        data: bytes,
        entry: Entry,
        originals: Mapping[str, int],
        attributes: Attributes,
        *,
        check: Callable[[], None] | None,
        overwrite: bool,
    ) -> Record:
        """Intent, replacement, commit; whatever interrupts it, the intent is settled by looking at the file."""
        temporary = temporary_name()
        place = folder.path / temporary
        number = self._ledger.intend(entry, originals=originals, temporary=place)
        try:
            atomic.put(
                folder,
                name,
                data,
                temporary=temporary,
                attributes=attributes,
                check=check,
                overwrite=overwrite,
            )
        except BaseException as error:
            if self._settled(number) and isinstance(error, OSError):
                raise StorageError(
                    f"{entry.path}: was written, but the disk did not confirm it: {explain(error)}; "
                    f"{_whereabouts(entry)}"
                ) from error
            raise
        try:
            self._ledger.commit(number, (place,))
        except StorageError as error:
            raise StorageError(
                f"{entry.path}: was written, but the ledger could not say so, which the next run will; "
                f"{_whereabouts(entry)}. {error}"
            ) from error
        return self._ledger.record(number)

    def _settled(self, number: int) -> bool:
        """Settle an intent after a failure; returns whether the file holds the result."""
        try:
            intent = self._ledger.record(number)
            settle(self._ledger, intent)
            now = self._ledger.find(number)
            return now is not None and now.state == "done"
        except StorageError:
            # The next start settles what cannot be settled now; the failure that led here matters more.
            return False

    def _keep(self, data: bytes, originals: dict[str, int]) -> str:
        name = self._vault.put(data)
        originals[name] = len(data)
        return name

    def _keep_edit(self, source: Snapshot, originals: dict[str, int]) -> str | None:
        """Vault what is about to be replaced unless it is a recorded result, which the original stands for."""
        if self._ledger.result(source.sha256) is not None:
            return None
        return self._keep(source.data, originals)

    def _entry(self, kind: Kind, path: Path, source: Snapshot, data: bytes, new: NewRecord) -> Entry:
        return replace(
            self._stamped(kind, path, data),
            sha256_before=source.sha256,
            sha256_replaced=source.sha256,
            pixels_after=new.pixels_after,
            mode=source.mode,
            mtime_ns=source.mtime_ns,
            size=source.size,
            details=new.details,
        )

    def _stamped(self, kind: Kind, path: Path, data: bytes) -> Entry:
        return Entry(
            kind=kind,
            path=path,
            sha256_after=digest(data),
            created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            tool=self._tool,
            run=self._run,
        )


def _inherited(record: Record) -> dict[str, Any]:
    """What a later row about the same original takes over."""
    return {
        "sha256_before": record.sha256_before,
        "original": record.original,
        "mode": record.mode,
        "mtime_ns": record.mtime_ns,
        "size": record.size,
    }


def _require_absent(path: Path, there: str | None) -> None:
    if there is not None:
        raise StorageError(f"{path}: exists already and holds something else; name another place or remove it first")


def _digest_of(folder: Folder, name: str) -> str | None:
    try:
        return snapshot_of(folder, name).sha256
    except FileNotFoundError:
        return None


def _whereabouts(entry: Entry) -> str:
    return "its original is in the vault" if entry.original is not None else "no original was kept"
