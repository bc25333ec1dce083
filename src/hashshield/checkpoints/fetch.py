"""Bring a checkpoint into the cache: the catalogue's size and digest are the only truth, wherever it comes from."""

from __future__ import annotations

import os
import shutil
import time
from typing import Protocol

from hashshield.checkpoints.cache import CatalogEntry, digest_of, folder, held, remote
from hashshield.checkpoints.transfer import (
    Pace,
    RetryPolicy,
    SlowSource,
    SourceInterruptedError,
    SourceRejectedError,
    opened,
    where,
)
from hashshield.config import resolve
from hashshield.errors import DownloadError, UsageError
from hashshield.storage import Volume, calls
from hashshield.storage.folder import Folder

__all__ = ["FetchProgress", "RetryPolicy", "fetch", "sources"]

_CHUNK_BYTES = 1 << 16
"""Small enough for a bar that moves on a slow line."""


class FetchProgress(Protocol):
    """What hears of a download."""

    def start(self, name: str, total: int) -> None:
        """`total` bytes of the checkpoint `name` are to come."""

    def at(self, done: int) -> None:
        """So many bytes are here, those of an earlier try included; fewer than before when it starts again."""

    def notice(self, text: str) -> None:
        """Something the user should know."""


def sources(entry: CatalogEntry) -> tuple[str, ...]:
    """Where the file is asked for, in order: the mirror of the settings alone, or the catalogue's addresses.

    Raises UsageError for a mirror that is neither, DownloadError when only the network is left and it is not allowed.
    """
    settings = resolve()
    mirror = settings["mirror"].value
    if mirror and "://" in mirror and not remote(mirror):
        raise UsageError(
            f"{settings['mirror'].where}: a mirror is an http or https address without a user's name, or a folder, "
            f"found {mirror!r}"
        )
    asked = (mirror,) if mirror else entry.mirrors
    if settings["offline"].value:
        asked = tuple(source for source in asked if not remote(source))
        if not asked:
            offline = settings["offline"].where
            raise DownloadError(f"{entry.name}: {offline} says to stay offline.", f"Unset {offline}, or {_MIRROR_HINT}")
    return asked


def fetch(entry: CatalogEntry, *, progress: FetchProgress, retry_policy: RetryPolicy | None = None) -> bool:
    """Put the checkpoint's file into the cache; False when it was there already, with the right digest.

    While another process downloads the same file, this one waits and then finds it there. What a cut or killed
    download left is gone on with. Under its own name there is never anything but the whole, checked file.
    Raises DownloadError when no source gives the pinned bytes, CheckpointError for a cache that cannot be written,
    UsageError.
    """
    target = folder() / entry.file
    with held(target) as there:
        if target.is_file() and target.stat().st_size == entry.size and digest_of(target) == entry.sha256:
            return False
        download = _Download(entry, there, progress, retry_policy or RetryPolicy())
        download.require_space()
        reasons = []
        for source in sources(entry):
            reason = download.ask(source)
            if reason is None:
                there.rename(download.part, entry.file)
                there.sync()
                return True
            reasons.append(f"{where(source, entry)}: {reason}")
    raise DownloadError(
        f"{entry.name}: no source gave the pinned {entry.size} bytes: {'; '.join(reasons) or 'none is known'}.",
        f"Try `hashshield models download` later, or {_MIRROR_HINT}",
    )


_MIRROR_HINT = "set HASHSHIELD_MIRROR to a mirror's address or to the folder checkpoints/ of a clone of the repository"


class _Download:
    """One file on its way; the caller holds the lock."""

    def __init__(self, entry: CatalogEntry, there: Folder, progress: FetchProgress, retry_policy: RetryPolicy) -> None:
        self.entry, self.there, self.progress, self.retry_policy = entry, there, progress, retry_policy
        # With the digest in its name, what is left of one release is never taken for a part of the next.
        self.part = f".{entry.file}.{entry.sha256[:12]}.part"
        for name in there.names():
            if name.startswith(f".{entry.file}.") and name.endswith(".part") and name != self.part:
                there.remove(name)

    def require_space(self) -> None:
        """Raise DownloadError when the disk has no room for the rest, with a reserve."""
        volume = Volume(self.there.path, self.entry.size - self._have(), shutil.disk_usage(self.there.path).free)
        if not volume.enough:
            raise DownloadError(
                f"{self.there.path}: {self.entry.name} needs {volume.needed / 1e6:,.1f} MB and a reserve, and "
                f"{volume.free / 1e6:,.1f} MB are free; free some space, or name another folder with HASHSHIELD_CACHE"
            )

    def ask(self, source: str) -> str | None:
        """Receive the file from one source; why it was not to be had there, or None when it is here and right."""
        reason, wait = "", self.retry_policy.first_wait_seconds
        pace = Pace(self.retry_policy, size=self.entry.size)
        self.progress.start(self.entry.name, self.entry.size)
        for attempt in range(self.retry_policy.tries):
            if attempt:
                self.progress.notice(f"{where(source, self.entry)}: {reason}; asking again in {wait:g} s")
                time.sleep(wait)
                wait *= 2
            try:
                pace.request()
                resumed = self._receive(source, pace)
            except (SlowSource, SourceRejectedError) as answer:
                return str(answer)
            except SourceInterruptedError as answer:
                reason = str(answer)
                if answer.from_start:
                    self.there.remove(self.part)
                continue
            except OSError:
                # The disk, not the source: leaving the part would leave the disk full.
                self.there.remove(self.part)
                raise
            found = digest_of(self.there.path / self.part)
            if found == self.entry.sha256:
                return None
            self.there.remove(self.part)
            reason = f"SHA-256 is {found} where the catalogue says {self.entry.sha256}: another file, or a damaged one"
            if not resumed:
                return reason
        return f"{reason} ({self.retry_policy.tries} tries)"

    def _have(self) -> int:
        try:
            return self.there.stat(self.part).st_size
        except FileNotFoundError:
            return 0

    def _receive(self, source: str, pace: Pace) -> bool:
        """Write what is missing of the file; whether some of it was here before.

        Raises SlowSource, UselessSource, InterruptedSource; what came before that stays.
        """
        size, have = self.entry.size, self._have()
        if have > size:
            self.there.remove(self.part)
            have = 0
        if have == size:
            return True
        timeout = self.retry_policy.timeout_seconds
        with opened(source, self.entry, offset=have, timeout_seconds=timeout, pace=pace) as (start, read):
            descriptor = self.there.reopen(self.part)
            try:
                calls.truncate(descriptor, start)
                done = start
                self.progress.at(done)
                while done < size:
                    data = read(min(_CHUNK_BYTES, size - done))
                    if not data:
                        raise SourceInterruptedError(f"the connection ended after {done} of {size} bytes")
                    calls.write(descriptor, data)
                    done += len(data)
                    self.progress.at(done)
                calls.sync(descriptor)
            finally:
                os.close(descriptor)
        return start > 0
