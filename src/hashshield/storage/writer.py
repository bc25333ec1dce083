"""Replacing and writing photos: vault the original, record an intent, check the file again, replace it, commit."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any

from hashshield.errors import ChangedError, StorageError
from hashshield.paths import is_folder
from hashshield.storage import atomic, snapshot
from hashshield.storage.calls import explain, storage_errors
from hashshield.storage.folder import Attributes, Folder, temporary_name
from hashshield.storage.ledger import Ledger
from hashshield.storage.recover import settle
from hashshield.storage.schema import NewRecord, PendingRecord, Record, RecordKind
from hashshield.storage.snapshot import Permissions, Snapshot, Target, digest, opened_target, snapshot_of
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
        """Replace the file of `source` with `data`. Raises ChangedError, StorageError."""
        if new.again is None and self._ledger.result(source.sha256) is not None:
            # The file was read after another process replaced it and before it committed.
            raise ChangedError(f"{source.path}: was protected by another process meanwhile; it was left as it is")
        with opened_target(source, allowed, root=self._root) as target:
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
        self,
        path: Path,
        data: bytes,
        like: Snapshot,
        new: NewRecord,
        *,
        keep_mtime: bool,
        overwrite: bool,
        allowed: Permissions,
    ) -> Record:
        """Write a protected copy of `like` to `path`. Raises StorageError.

        With `overwrite` an existing file is replaced. It goes to the vault first, unless it is a recorded copy, which
        can be made again.
        """
        attributes = Attributes(mode=like.mode, mtime_ns=like.mtime_ns if keep_mtime else None)
        entry = self._entry("copy", path, like, data, new)
        return self._new_file(path, data, entry, attributes, like=like, overwrite=overwrite, allowed=allowed)

    def restore(self, source: Snapshot, record: Record, data: bytes, *, allowed: Permissions) -> None:
        """Replace the file of `source` with its original; content not in the ledger goes to the vault first.

        With a read-only ledger the file is replaced too, unless its content would have to be kept.
        """
        with opened_target(source, allowed, root=self._root) as target:
            originals: dict[str, int] = {}
            entry = replace(
                self._entry("restore", source.path, source, data, NewRecord()),
                kept=self._keep_edit(source, originals),
                # If a moved copy of the file is restored, the recorded file itself stays protected.
                undoes=record.id if source.path == record.path or not record.path.exists() else None,
            )
            attributes = replace(target.attributes, mode=record.mode, mtime_ns=record.mtime_ns)
            if self._ledger.read_only:
                name, temporary = target.name, temporary_name()
                atomic.put(target.folder, name, data, temporary=temporary, attributes=attributes, check=target.check)
            else:
                self._replace(target, data, entry, originals, attributes)

    def bring_back(self, record: Record, data: bytes, *, allowed: Permissions) -> None:
        """Write an original back to the path that it was deleted from. Raises StorageError."""
        entry = replace(
            self._stamped("restore", record.path, data),
            sha256_before=record.sha256_after,
            mode=record.mode,
            mtime_ns=record.mtime_ns,
            size=record.size,
            undoes=record.id,
        )
        attributes = Attributes(mode=record.mode, mtime_ns=record.mtime_ns)
        if self._ledger.read_only:
            self._place(record.path, data, attributes, allowed=allowed, mode=0o777)
            return
        self._new_file(record.path, data, entry, attributes, overwrite=False, allowed=allowed)

    def export(self, path: Path, data: bytes, attributes: Attributes, *, allowed: Permissions) -> None:
        """Write a file without recording it; one that already holds `data` is kept.

        Folders are created for their owner only, because the files come from the vault.
        """
        self._place(path, data, attributes, allowed=allowed, mode=0o700)

    # -- private ------------------------------------------------------------------------------------------------

    def _place(self, path: Path, data: bytes, attributes: Attributes, *, allowed: Permissions, mode: int) -> None:
        """Write a new file without a row, in a folder that is created with `mode` if necessary."""
        snapshot.require_outside(Path(os.path.realpath(path)), self._root)
        with storage_errors(f"writing {path}"), _made(path.parent, allowed, mode=mode) as folder:
            if _holds(folder, path, data):
                return
            temporary = temporary_name()
            temporary_path = folder.path / temporary
            if not self._ledger.read_only:
                self._ledger.announce(temporary_path)
            atomic.put(folder, path.name, data, temporary=temporary, attributes=attributes, overwrite=False)
            if not self._ledger.read_only:
                self._ledger.forget_temporaries([temporary_path])

    def _replace(
        self, target: Target, data: bytes, entry: PendingRecord, originals: Mapping[str, int], attributes: Attributes
    ) -> Record:
        return self._carry_out(
            target.folder, target.name, data, entry, originals, attributes, check=target.check, overwrite=True
        )

    def _new_file(
        self,
        path: Path,
        data: bytes,
        entry: PendingRecord,
        attributes: Attributes,
        *,
        overwrite: bool,
        allowed: Permissions,
        like: Snapshot | None = None,
    ) -> Record:
        snapshot.require_outside(Path(os.path.realpath(path)), self._root)
        with storage_errors(f"writing {path}"), _made(path.parent, allowed) as folder:
            if not overwrite:
                _holds(folder, path, data)
            there = _there(folder, path.name)
            originals: dict[str, int] = {}
            entry = replace(
                entry, path=folder.path / path.name, sha256_replaced=None if there is None else there.sha256
            )
            if there is not None:
                if like is not None and (there.dev, there.inode) == (like.dev, like.inode):
                    raise StorageError(
                        f"{path}: is the photo that was to be copied, and a copy never takes its place; "
                        "name another folder with --output"
                    )
                if there.sha256 != entry.sha256_after:
                    entry = self._keeping(there, entry, originals)
            return self._carry_out(
                folder,
                path.name,
                data,
                entry,
                originals,
                attributes,
                check=None if there is None else partial(_check_same, folder, there),
                overwrite=there is not None,
            )

    def _keeping(self, there: Snapshot, entry: PendingRecord, originals: dict[str, int]) -> PendingRecord:
        """Vault the file that a copy is about to replace, and record its mode, time and size."""
        known = self._ledger.result(there.sha256, path=entry.path)
        if known is not None and known.kind == "copy":
            return entry
        kept_id = self._keep(there.data, originals)
        return replace(entry, kept=kept_id, mode=there.mode, mtime_ns=there.mtime_ns, size=there.size)

    def _carry_out(
        self,
        folder: Folder,
        name: str,
        data: bytes,
        entry: PendingRecord,
        originals: Mapping[str, int],
        attributes: Attributes,
        *,
        check: Callable[[], None] | None,
        overwrite: bool,
    ) -> Record:
        """Record an intent, replace the file and commit; after a failure, settle the intent by the file's content."""
        temporary = temporary_name()
        temporary_path = folder.path / temporary
        number = self._ledger.intend(entry, originals=originals, temporary=temporary_path)
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
            self._ledger.commit(number, (temporary_path,))
        except StorageError as error:
            raise StorageError(
                f"{entry.path}: was written, but the ledger could not say so, which the next run will; "
                f"{_whereabouts(entry)}. {error}"
            ) from error
        return self._ledger.record(number)

    def _settled(self, number: int) -> bool:
        """Settle an intent after a failure; return whether the file holds the result."""
        try:
            intent = self._ledger.record(number)
            settle(self._ledger, intent)
            now = self._ledger.find(number)
            return now is not None and now.state == "done"
        except StorageError:
            # The next start settles it; the caller reports the failure that led here.
            return False

    def _keep(self, data: bytes, originals: dict[str, int]) -> str:
        name = self._vault.put(data)
        originals[name] = len(data)
        return name

    def _keep_edit(self, source: Snapshot, originals: dict[str, int]) -> str | None:
        """Vault the content about to be replaced, unless it is a recorded result, whose original is kept anyway."""
        if self._ledger.result(source.sha256) is not None:
            return None
        return self._keep(source.data, originals)

    def _entry(self, kind: RecordKind, path: Path, source: Snapshot, data: bytes, new: NewRecord) -> PendingRecord:
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

    def _stamped(self, kind: RecordKind, path: Path, data: bytes) -> PendingRecord:
        return PendingRecord(
            kind=kind,
            path=path,
            sha256_after=digest(data),
            created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            tool=self._tool,
            run=self._run,
        )


def _inherited(record: Record) -> dict[str, Any]:
    """Return the fields that a later row about the same original takes over."""
    return {
        "sha256_before": record.sha256_before,
        "original": record.original,
        "mode": record.mode,
        "mtime_ns": record.mtime_ns,
        "size": record.size,
    }


def _made(path: Path, allowed: Permissions, *, mode: int = 0o777) -> Folder:
    """Open a folder, created if necessary; refuse root in folders where others could exchange files."""
    if not allowed.allow_root:
        there = next(place for place in (path, *path.absolute().parents) if is_folder(place))
        with Folder.open(there) as folder:
            snapshot.require_ours(folder)
    return Folder.made(path, mode=mode)


def _holds(folder: Folder, path: Path, data: bytes) -> bool:
    """Return whether the file exists and holds `data`. Raises StorageError if it holds something else.

    A file of another size is not read, because it may be very large.
    """
    try:
        status = folder.stat(path.name)
    except FileNotFoundError:
        return False
    if stat.S_ISREG(status.st_mode) and status.st_size == len(data) and snapshot_of(folder, path.name).data == data:
        return True
    raise StorageError(f"{path}: exists already and holds something else; name another place or remove it first")


def _there(folder: Folder, name: str) -> Snapshot | None:
    try:
        return snapshot_of(folder, name)
    except FileNotFoundError:
        return None


def _check_same(folder: Folder, there: Snapshot) -> None:
    """Raise ChangedError unless the name still refers to the file that was read and vaulted."""
    now = folder.stat(there.path.name)
    if (now.st_dev, now.st_ino, now.st_size, now.st_mtime_ns) != (there.dev, there.inode, there.size, there.mtime_ns):
        raise ChangedError(f"{there.path}: changed while it was being replaced; it was left as it is, run again")


def _whereabouts(entry: PendingRecord) -> str:
    return "its original is in the vault" if entry.original is not None else "no original was kept"
