"""Download a checkpoint into the cache from any source; only the catalogue's size and digest decide if it is right."""

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
from hashshield.paths import is_file
from hashshield.storage import Volume, calls
from hashshield.storage.folder import Folder

__all__ = ["FetchProgress", "RetryPolicy", "fetch", "sources"]

_CHUNK_BYTES = 1 << 16
"""Small enough for a progress bar that moves on a slow line."""


class FetchProgress(Protocol):
    """Receiver of a download's progress."""

    def start(self, name: str, total: int) -> None:
        """Start the download of checkpoint `name`, of `total` bytes."""

    def at(self, done: int) -> None:
        """Report the bytes received, earlier tries included; they can drop if the download starts again."""

    def notice(self, text: str) -> None:
        """Report a message for the user."""


def sources(entry: CatalogEntry) -> tuple[str, ...]:
    """Return the sources to try, in order: only the mirror of the settings, or else the catalogue's addresses.

    Raises UsageError for a mirror that is neither an address nor a folder, DownloadError if HashShield is set to stay
    offline and every source is on the network.
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
    """Download the checkpoint's file into the cache; return False if it was there already, with the right digest.

    If another process downloads the same file, wait for it. An interrupted download is resumed. Only a complete file
    with the right digest gets the final name. Raises DownloadError if no source has that file, CheckpointError if the
    cache cannot be written, UsageError.
    """
    target = folder() / entry.file
    with held(target) as there:
        if is_file(target) and target.stat().st_size == entry.size and digest_of(target) == entry.sha256:
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
    """The download of one file; the caller holds the lock."""

    def __init__(self, entry: CatalogEntry, there: Folder, progress: FetchProgress, retry_policy: RetryPolicy) -> None:
        self.entry, self.there, self.progress, self.retry_policy = entry, there, progress, retry_policy
        # With the digest in its name, a partial file of one release is never continued with the next.
        self.part = f".{entry.file}.{entry.sha256[:12]}.part"
        for name in there.names():
            if name.startswith(f".{entry.file}.") and name.endswith(".part") and name != self.part:
                there.remove(name)

    def require_space(self) -> None:
        """Raise DownloadError if the disk lacks space for the rest of the file and a reserve."""
        volume = Volume(self.there.path, self.entry.size - self._have(), shutil.disk_usage(self.there.path).free)
        if not volume.enough:
            raise DownloadError(
                f"{self.there.path}: {self.entry.name} needs {volume.needed / 1e6:,.1f} MB and a reserve, and "
                f"{volume.free / 1e6:,.1f} MB are free; free some space, or name another folder with HASHSHIELD_CACHE"
            )

    def ask(self, source: str) -> str | None:
        """Receive the file from one source; return why that failed, or None if the file is complete and right."""
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
                # An error of the disk, perhaps full: remove the partial file to free space.
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
        """Append the missing bytes to the partial file; return whether it had some before.

        Raises SlowSource, SourceRejectedError, SourceInterruptedError; bytes received before that are kept.
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
