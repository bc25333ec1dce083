"""The one door to vault, ledger and key."""

from __future__ import annotations

import os
import threading
import uuid
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import Any

from hashshield.errors import StorageError
from hashshield.storage import recover, restoring, secret, vault_folder
from hashshield.storage.attributes import Attributes
from hashshield.storage.error_log import LOG_NAME, ErrorLog
from hashshield.storage.folder import Folder
from hashshield.storage.ledger import BACKUP_NAME, REPAIR_HINT, Ledger
from hashshield.storage.lock import Lock
from hashshield.storage.os_errors import storage_errors
from hashshield.storage.records import NewRecord, Record
from hashshield.storage.repair import DAMAGED_NAME
from hashshield.storage.snapshot import Snapshot, read_snapshot
from hashshield.storage.target import Permissions
from hashshield.storage.vault import Vault
from hashshield.storage.volumes import is_local, volume_notices
from hashshield.storage.writer import Writer
from hashshield.types import Restoration

__all__ = ["Store", "erase", "finish_deletions"]


class Store:
    """One vault folder: where originals are kept, what was done is recorded, and every photo is written from.

    One process may use it from several threads; several processes may use one folder.
    """

    def __init__(self, root: Path, notices: list[str], lock: Lock, vault: Vault, ledger: Ledger) -> None:
        self.root = root
        """The vault folder, absolute, without symbolic links."""
        self.notices = notices
        """What the user should know: about the volume, and about runs that were cut short."""
        self.run = uuid.uuid4().hex
        """This process run, as rows name it."""
        self.vault = vault
        self.ledger = ledger
        self.lock = lock
        self._writer = Writer(root, vault, ledger, run=self.run, tool=_version())
        self._key: bytes | None = None
        self._error_log = ErrorLog(root).attach()
        self._key_guard = threading.Lock()

    @classmethod
    def open(cls, root: Path | None = None) -> Store:
        """Open or create the vault folder and settle what earlier runs left open.

        None: $HASHSHIELD_VAULT, else the user's data folder. Raises StorageError.
        """
        real, notices = vault_folder.prepare(vault_folder.default_root() if root is None else root)
        notices += volume_notices(real)
        with storage_errors(f"opening the vault folder {real}"):
            lock = Lock(real / "lock")
        ledger = None
        try:
            with lock:
                _clean(real)
                vault = Vault(real)
                vault.clean()
                ledger = Ledger(real, wal=is_local(real))
                _refuse_lost(ledger, vault)
                ledger.record_files.clean()
                finish_deletions(ledger, vault)
                notices += recover.recover(ledger)
                ledger.sync_record_files()
                return cls(real, notices, lock, vault, ledger)
        except BaseException:
            if ledger is not None:
                ledger.close()
            lock.close()
            raise

    @classmethod
    def locked(cls, root: Path | None = None) -> tuple[Path, Lock]:
        """Return the vault folder's real path and its lock, without opening the ledger. Raises StorageError."""
        real, _ = vault_folder.prepare(vault_folder.default_root() if root is None else root)
        with storage_errors(f"opening the vault folder {real}"):
            return real, Lock(real / "lock")

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the ledger and let go of the folder; may be called twice."""
        self._error_log.close()
        self.ledger.close()
        self.lock.close()

    def key(self) -> bytes:
        """Return this installation's 32 secret bytes, made at the first call; raises StorageError."""
        with self._key_guard:
            if self._key is None:
                with self.lock, storage_errors(f"opening {self.root}"), Folder.open(self.root) as folder:
                    self._key = secret.load_key(folder)
            return self._key

    def known(self, sha256: str, pixel_digest: str | None = None) -> Record | None:
        """Return the row whose result is this content, or failing that, these pixels; None if none is.

        An intent of a run that was cut short is committed: the content proves that it was carried out.
        """
        record = self.ledger.result(sha256, pixel_digest)
        if record is not None and record.state == "intent":
            with self.lock:
                self.ledger.commit(record.id)
            return self.ledger.find(record.id)
        return record

    def require_sound(self) -> None:
        """Check the whole ledger before anything is changed by what it says. Raises StorageError naming the repair."""
        faults = self.ledger.faults()
        if faults:
            more = f" and {len(faults) - 1} more" if len(faults) > 1 else ""
            raise StorageError(f"{self.ledger.path}: the ledger is damaged ({faults[0]}{more}); {REPAIR_HINT}")

    def record_for_original(self, sha256: str) -> Record | None:
        """Newest row whose original is this content."""
        return self.ledger.by_original(sha256)

    def remember_short(self, path: Path, sha256: str, settings: str, details: Mapping[str, Any]) -> None:
        """Note that a search on this content, under settings of this digest, fell short. Raises StorageError."""
        with self.lock:
            self.ledger.attempts.add(sha256, settings, path, details)

    def original(self, record: Record) -> bytes:
        """Return the original a row goes back to, its digest checked; raises StorageError if it is gone."""
        if record.kind == "copy":
            raise StorageError(f"{record.path}: is a protected copy made by --output; its original was never changed")
        if record.original is None:
            raise StorageError(f"{record.path}: was protected with --no-backup: no original was kept")
        if record.pruned:
            raise StorageError(f"{record.path}: its original was pruned from the vault at your wish")
        return self.vault.get(record.original)

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
        """Put `data` in the place of the file that was read: vault, intent, second look, replacement, commit.

        Raises ChangedError or StorageError; the file is then as it was, unless the message says it was written.
        """
        with self.lock:
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
    ) -> Record:
        """Write a protected copy of the photo `like` elsewhere and record it; its folder is made if need be.

        Raises StorageError, also for an existing file with other content unless `overwrite`.
        """
        with self.lock:
            return self._writer.copy(
                path, data, like, record or NewRecord(), keep_mtime=keep_mtime, overwrite=overwrite
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
        pixel_digest: restoring.PixelDigest | None = None,
    ) -> Restoration:
        """Put the original back in the place of a protected file, or of one that was deleted.

        The file is known by its content wherever it is now; `pixel_digest` lets it be known after its metadata was
        edited. A photo edited since is refused without `force`, which keeps the edit in the vault. `follow` is for a
        path the user named, `within` for one met in a folder, as in `read_snapshot`. A refusal is a row; raises
        PhotoError, ChangedError, StorageError.
        """
        with self.lock:
            source = None
            if os.path.lexists(path):
                source = read_snapshot(path, follow=follow, within=within)
                finding = restoring.find(self.ledger, source, named=follow, force=force, pixel_digest=pixel_digest)
            else:
                finding = restoring.find_missing(self.ledger, path)
            record = finding.record
            if record is None:
                return Restoration(str(path), "failed" if finding.failed else "skipped", reason=finding.reason)
            data = self.original(record)
            if dry_run:
                return Restoration(str(path), "planned", sha256=record.sha256_before)
            if source is None:
                self._writer.bring_back(record, data)
            else:
                allowed = Permissions(break_links=break_links, allow_root=allow_root)
                self._writer.restore(source, record, data, allowed=allowed)
            return Restoration(str(path), "restored", sha256=record.sha256_before)

    def export(self, path: Path, data: bytes, *, mode: int, mtime_ns: int | None) -> None:
        """Write a new file that no row is about; one that holds `data` already is left. Raises StorageError."""
        with self.lock:
            self._writer.export(path, data, Attributes(mode=mode, mtime_ns=mtime_ns))


def _refuse_lost(ledger: Ledger, vault: Vault) -> None:
    """Raise StorageError if the ledger is new, or lacks rows, and the vault is not: it was lost or emptied."""
    is_new = ledger.version_found == 0
    lost = ledger.lost_rows()
    if not lost and not (is_new and next(vault.sizes(), None) is not None):
        return
    path = ledger.path
    if is_new:
        # What was just made must not be taken for a ledger by the next run.
        ledger.discard()
        raise StorageError(f"{path}: the ledger is missing or empty, and the vault holds originals; {REPAIR_HINT}")
    raise StorageError(f"{path}: the ledger lacks {len(lost)} of its rows; {REPAIR_HINT}")


def finish_deletions(ledger: Ledger, vault: Vault) -> None:
    """Finish what an interrupted prune or forget has announced. Raises StorageError."""
    for name in ledger.pruned():
        vault.remove(name)
    numbers, originals = ledger.erasing()
    if numbers or originals:
        erase(ledger, vault)


def erase(ledger: Ledger, vault: Vault) -> None:
    """Carry out a planned erasure: files first, so that the plan lasts as long as anything is left to delete.

    No backup, log or damaged ledger keeps what is deleted. Raises StorageError.
    """
    numbers, originals = ledger.erasing()
    for name in originals:
        vault.remove(name)
    ledger.record_files.remove(numbers)
    ledger.erase()
    root = ledger.path.parent
    with storage_errors(f"deleting logs and backups in {root}"), Folder.open(root) as folder:
        for name in (BACKUP_NAME, DAMAGED_NAME, LOG_NAME, f"{LOG_NAME}.1"):
            folder.remove(name)
        folder.sync()
    ledger.erasure_done()


def _clean(root: Path) -> None:
    """Remove what a run that died while making the key has left."""
    with storage_errors(f"cleaning {root}"), Folder.open(root) as folder:
        for name in folder.temporaries():
            folder.remove(name)


def _version() -> str:
    try:
        return metadata.version("hashshield")
    except metadata.PackageNotFoundError:
        # Run from a source tree that was never installed.
        return "unknown"
