"""`Store`: the single interface to the vault, the ledger and the key."""

from __future__ import annotations

import os
import secrets
import threading
import uuid
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import Any

from hashshield.boundary import logger
from hashshield.errors import LedgerError, NotAPhotoError, StorageError
from hashshield.storage import recover, upkeep
from hashshield.storage.atomic import Lock
from hashshield.storage.calls import ErrorLog, storage_errors
from hashshield.storage.folder import Attributes, Folder
from hashshield.storage.ledger import Ledger
from hashshield.storage.ledger_file import cannot_be_written
from hashshield.storage.record_files import RecordFiles
from hashshield.storage.schema import REPAIR, NewRecord, Record
from hashshield.storage.snapshot import Accept, Permissions, Snapshot, check_replaceable, digest, read_snapshot
from hashshield.storage.vault import (
    Vault,
    absent_folder,
    default_root,
    load_key,
    open_folder_read_only,
    prepare_folder,
)
from hashshield.storage.volumes import is_local, volume_notices
from hashshield.storage.writer import Writer
from hashshield.types import Restoration

__all__ = ["Store"]


class Store:
    """One vault folder. It keeps originals, records what was done, and writes every photo.

    It may be shared by threads, and the folder by processes.
    """

    def __init__(
        self, root: Path, notices: list[str], lock: Lock, vault: Vault, ledger: Ledger, files: RecordFiles
    ) -> None:
        self.root = root
        """The vault folder, absolute, without symbolic links."""
        self.notices = notices
        """Messages for the user about the volume and about interrupted runs."""
        self.run = uuid.uuid4().hex
        """The id of this run in the ledger's rows."""
        self.vault = vault
        self.ledger = ledger
        self.files = files
        """The record files beside the originals."""
        self.lock = lock
        self._sound = False
        self._open = True
        self._writer = Writer(root, vault, ledger, run=self.run, tool=_version())
        self._key: bytes | None = None
        self._key_guard = threading.Lock()
        self._error_log = ErrorLog(root).attach()

    @classmethod
    def open(cls, root: Path | None = None, *, reading: bool = False) -> Store:
        """Open or create the vault folder and settle the open intents of earlier runs.

        A `root` of None is $HASHSHIELD_VAULT, else the user's data folder. `reading` is for callers that need not
        write: it allows a folder that cannot be written, and one that does not exist is empty and is not created.
        Raises LedgerError if the ledger is lost or cannot be read, and StorageError.
        """
        if reading:
            there = default_root() if root is None else root
            to_read = open_folder_read_only(there) if cannot_be_written(there) else absent_folder(root)
            if to_read is not None:
                return cls._open_to_read(*to_read)
        real, notices = prepare_folder(root)
        notices += volume_notices(real)
        with storage_errors(f"opening the vault folder {real}"):
            lock = Lock(real / "lock")
        ledger = None
        try:
            with lock:
                vault, files = Vault(real), RecordFiles(real)
                upkeep.require_ledger(real, vault, files)
                used = next(vault.sizes(), None) is not None
                ledger = Ledger(real, wal=is_local(real), files=files, used=used)
                _clean(real)
                vault.clean()
                notices += recover.recover(ledger)
                return cls(real, notices, lock, vault, ledger, files)
        except BaseException:
            if ledger is not None:
                ledger.close()
            lock.close()
            raise

    @classmethod
    def _open_to_read(cls, real: Path, notices: list[str]) -> Store:
        ledger = Ledger(real, wal=False, read_only=True)
        try:
            left = len(ledger.open_intents())
        except BaseException:
            ledger.close()
            raise
        if left:
            notices.append(f"{real}: a run was cut short at {left} of its photos, which can only be settled by writing")
        return cls(real, notices, Lock(None), Vault(real, read_only=True), ledger, RecordFiles(real))

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Finish interrupted deletions, back up the ledger if it changed, and close; may be called twice.

        A failure here undoes nothing that was done and recorded. It becomes a warning of this package's logger, which
        the command line shows.
        """
        failure = None
        try:
            if self._open and not self.ledger.read_only:
                self._open = False
                with self.lock:
                    self._tidy()
        except StorageError as error:
            # The work is done and recorded, the existing backups stay, and the next run tries again.
            failure = error
        finally:
            self._error_log.close()
            self.ledger.close()
            self.lock.close()
        if failure is not None:
            logger.warning(
                "%s; what was done is recorded, and the next run that changes something tries again", failure
            )

    def _tidy(self) -> None:
        left = any(self.ledger.deletions.marked().values()) or upkeep.left_to_prune(self.vault, self.ledger)
        # A damaged ledger must neither cause deletions nor replace a good backup.
        if (left or self.ledger.changed) and (self._sound or not self.integrity_errors()):
            if left:
                self.finish()
            if self.ledger.changed:
                upkeep.make_backup(self.root, self.ledger)

    def integrity_errors(self) -> list[str]:
        """Return the faults of the ledger, a sentence each; empty if it is sound. Reads all of it."""
        with self.lock:
            return upkeep.integrity_errors(self.ledger, self.files)

    def backup_is_current(self) -> bool:
        """Return whether the newest backup holds the same rows as the ledger. Reads all of both."""
        with self.lock:
            return upkeep.is_current(self.root, self.ledger)

    def require_sound(self) -> None:
        """Check once that the ledger is sound, before files are changed; finish interrupted deletions.

        Raises LedgerError if it is damaged.
        """
        with self.lock:
            if self._sound:
                return
            found = self.integrity_errors()
            if found:
                more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
                raise LedgerError(
                    f"{self.ledger.path}: the ledger is damaged, and nothing was changed: {found[0]}{more}; {REPAIR}"
                )
            if not self.ledger.read_only:
                self.finish()
                upkeep.reconcile(self.ledger, self.files)
            self._sound = True

    def finish(self) -> None:
        """Delete what an interrupted prune or forget has marked but not deleted. Raises StorageError."""
        with self.lock:
            for name in upkeep.left_to_prune(self.vault, self.ledger):
                self.vault.remove(name)
            upkeep.finish(self.root, self.vault, self.ledger, self.files)

    def confirm(self, record: Record) -> None:
        """Commit an open intent after a file was found that holds its result. Raises StorageError."""
        if record.state == "intent":
            with self.lock:
                self.ledger.commit(record.id)

    def key(self) -> bytes:
        """Return this installation's key, 32 random bytes created at the first call. Raises StorageError.

        For a read-only vault without a key, return random bytes that are not stored; nothing is protected with them.
        """
        with self._key_guard:
            if self._key is None and self.ledger.read_only and not (self.root / "key").exists():
                self._key = secrets.token_bytes(32)
            if self._key is None:
                with self.lock, storage_errors(f"opening {self.root}"), Folder.open(self.root) as folder:
                    self._key = load_key(folder)
            return self._key

    def known(self, sha256: str, pixel_digest: str | None = None) -> Record | None:
        """Return the row whose result has this content, or else these pixels; None for a photo not protected here."""
        return self.ledger.result(sha256, pixel_digest)

    def record_for_original(self, sha256: str) -> Record | None:
        """Return the newest row whose original has this content, or None."""
        return self.ledger.by_original(sha256)

    def remember_short(self, path: Path, sha256: str, settings: str, details: Mapping[str, Any]) -> None:
        """Record that a search fell short for this content with these settings (a digest). Raises StorageError."""
        with self.lock:
            self.ledger.attempts.add(sha256, settings, path, details)

    def original(self, record: Record) -> bytes:
        """Return the original of a row, with its digest checked. Raises StorageError if it is gone."""
        if record.kind == "copy":
            raise StorageError(f"{record.path}: is a protected copy made by --output; its original was never changed")
        if record.original is None:
            raise StorageError(f"{record.path}: was protected with --no-backup: no original was kept")
        if record.pruned and not self.vault.holds(record.original):
            raise StorageError(f"{record.path}: its original was pruned from the vault at your wish")
        return self.vault.get(record.original)

    def require_replaceable(self, source: Snapshot, *, break_links: bool = False, allow_root: bool = False) -> None:
        """Raise the ChangedError or StorageError with which `replace` would refuse this file, before any search."""
        check_replaceable(source, Permissions(break_links=break_links, allow_root=allow_root), root=self.root)

    def replace(
        self,
        source: Snapshot,
        data: bytes,
        record: NewRecord,
        *,
        backup: bool = True,
        keep_mtime: bool = False,
        break_links: bool = False,
        allow_root: bool = False,
    ) -> Record:
        """Replace the file of `source` with `data`: vault the original, record an intent, check again, rename, commit.

        Raises ChangedError or StorageError; the file is then unchanged, unless the message says that it was written.
        """
        with self.lock:
            self.require_sound()
            return self._writer.protect(
                source,
                data,
                record,
                backup=backup,
                keep_mtime=keep_mtime,
                allowed=Permissions(break_links=break_links, allow_root=allow_root),
            )

    def write_new(
        self,
        path: Path,
        data: bytes,
        *,
        like: Snapshot,
        record: NewRecord | None = None,
        keep_mtime: bool = False,
        overwrite: bool = False,
        allow_root: bool = False,
    ) -> Record:
        """Write a protected copy of the photo `like` to `path`, creating the folder if necessary, and record it.

        Raises StorageError, also if `path` exists with other content. With `overwrite` that file is replaced, and moved
        to the vault first; `like` itself is never replaced.
        """
        with self.lock:
            self.require_sound()
            return self._writer.copy(
                path,
                data,
                like,
                record or NewRecord(),
                keep_mtime=keep_mtime,
                overwrite=overwrite,
                allowed=Permissions(allow_root=allow_root),
            )

    def restore(
        self,
        path: Path,
        *,
        follow: bool = True,
        within: Path | None = None,
        force: bool = False,
        dry_run: bool = False,
        break_links: bool = False,
        allow_root: bool = False,
        pixel_digest: recover.PixelDigest | None = None,
        accept: Accept | None = None,
    ) -> Restoration:
        """Replace a protected file with its original, or write back one that was deleted.

        A file is recognised by its content, wherever it is now, and with `pixel_digest` also after its metadata was
        edited. A photo edited since is refused without `force`, which moves the edit to the vault. `follow` and
        `within` are those of `read_snapshot`. A file whose first bytes `accept` refuses is not read, unless the ledger
        has a row for its path. A refusal is returned as a row. Raises PhotoError, ChangedError, StorageError.
        """
        with self.lock:
            source = None
            if os.path.lexists(path):
                wanted = None if recover.recorded_at(self.ledger, path) else accept
                try:
                    source = read_snapshot(path, follow=follow, within=within, accept=wanted)
                except NotAPhotoError as error:
                    return Restoration(
                        str(path), "failed" if follow else "skipped", reason=str(error) if follow else "not an image"
                    )
                finding = recover.find_original(
                    self.ledger, self.vault, source, named=follow, force=force, pixel_digest=pixel_digest
                )
            else:
                finding = recover.find_original_of_missing(self.ledger, self.vault, path)
            record = finding.record
            if record is None:
                return Restoration(str(path), "failed" if finding.failed else "skipped", reason=finding.reason)
            data = self._way_back(record)
            sha256 = digest(data)
            if dry_run:
                return Restoration(str(path), "planned", sha256=sha256)
            allowed = Permissions(break_links=break_links, allow_root=allow_root)
            reason = None
            if source is not None and self.ledger.result(source.sha256) is None:
                reason = "was edited after it was protected; the edit is kept in the vault"
            self.confirm(record)
            if source is None:
                self._writer.bring_back(record, data, allowed=allowed)
            else:
                self._writer.restore(source, record, data, allowed=allowed)
            if self.ledger.read_only:
                reason = "the vault cannot be written, so this is not recorded in its ledger"
            return Restoration(str(path), "restored", sha256=sha256, reason=reason)

    def _way_back(self, record: Record) -> bytes:
        """Return the bytes that `restore` writes: the original, or the file that a copy has replaced."""
        if record.kind == "copy" and record.kept is not None:
            return self.vault.get(record.kept)
        return self.original(record)

    def export(self, path: Path, data: bytes, *, mode: int, mtime_ns: int | None, allow_root: bool = False) -> None:
        """Write a new file without recording it; one that already holds `data` is kept. Raises StorageError."""
        with self.lock:
            allowed = Permissions(allow_root=allow_root)
            self._writer.export(path, data, Attributes(mode=mode, mtime_ns=mtime_ns), allowed=allowed)

    def clean(self, folder: Path) -> None:
        """Remove the temporary files of killed runs from a folder of exported originals. Raises StorageError."""
        if folder.is_dir():
            with self.lock:
                _clean(folder)


def _clean(root: Path) -> None:
    """Remove the temporary files of killed runs from a folder."""
    with storage_errors(f"cleaning {root}"), Folder.open(root) as folder:
        for name in folder.temporaries():
            folder.remove(name)


@cache
def _version() -> str:
    try:
        return metadata.version("hashshield")
    except metadata.PackageNotFoundError:
        # Run from a source tree that was never installed.
        return "unknown"
