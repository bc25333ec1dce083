"""Find the files below a folder, in a fixed order and without following links; detect files that have fully arrived.

Folders and files of other programs (trash, old versions, thumbnails, photo libraries) are skipped unless named.
"""

from __future__ import annotations

import errno
import math
import os
import stat
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path, PurePath, PureWindowsPath
from typing import NamedTuple

from hashshield.storage.folder import Folder, is_temporary

__all__ = ["FOREIGN", "Arrivals", "FileFingerprint", "FileKey", "excluded", "file_key", "is_foreign", "named", "walk"]

FOREIGN = "belongs to another program (trash, old versions, thumbnails or a photo library); name it to have it changed"
"""Why a folder or file of another program is skipped."""

_NAMES = frozenset(
    {
        # Old versions and markers of synchronising programs, snapshots of file systems.
        ".stversions",
        ".stfolder",
        ".sync",
        ".dropbox.cache",
        ".snapshot",
        ".snapshots",
        "#snapshot",
        "@recently-snapshot",
        # Thumbnails of network drives, desktops and albums.
        "@eadir",
        "@__thumb",
        ".@__thumb",
        ".thumbnails",
        ".sh_thumbnails",
        ".thumbs",
        ".thumb",
        ".picasaoriginals",
        "ipod photo cache",
        # Trash.
        ".trash",
        ".trashes",
        "$recycle.bin",
        "recycler",
        "#recycle",
        "@recycle",
        ".recycle",
        ".dtrash",
        ".local/share/trash",
        # Histories of version control.
        ".git",
        ".hg",
        ".svn",
        ".bzr",
    }
)
_BEGINNINGS = (".trash-", ".trashed-", ".pending-")
"""Trash of another user or volume (freedesktop.org), and Android's deleted or incomplete files."""
_ENDINGS = (
    # Apple Photos, iPhoto, Aperture and Photo Booth; Lightroom's previews and data; Capture One.
    ".photoslibrary",
    ".photolibrary",
    ".migratedphotolibrary",
    ".aplibrary",
    ".photoboothlibrary",
    ".lrdata",
    ".lrcat-data",
    ".lrlibrary",
    ".cocatalog",
    ".cosessiondb",
)
_MOUNT_POINT = 0xA0000003
"""IO_REPARSE_TAG_MOUNT_POINT of winnt.h."""
_FIRST_PAUSE_SECONDS = 60.0
_LONGEST_PAUSE_SECONDS = 3600.0


def is_foreign(path: PurePath) -> bool:
    """Return whether a folder or file belongs to another program, by its name, ignoring case."""
    name = path.name.casefold()
    if name in _NAMES or name.startswith(_BEGINNINGS) or name.endswith(_ENDINGS):
        return True
    return "/".join(path.parts[-3:]).casefold() in _NAMES


def walk(
    folder: Path,
    *,
    skip: Path | None = None,
    failed: Callable[[Path, OSError], None] | None = None,
    foreign: Callable[[Path], bool] = lambda path: False,
) -> Iterator[Path]:
    """Yield the regular files below `folder`, sorted, without links and this package's temporary files.

    `skip` is the real path of a folder to leave out, such as a vault among the photos. A folder that cannot be listed,
    for example because its path is too long for the system, is passed to `failed`, and the walk goes on; without
    `failed`, OSError is raised. Files and folders of other programs (`is_foreign`) are passed to `foreign`, and
    included only if it returns True.
    """
    real = Path(os.path.realpath(folder))
    if skip is not None and real.is_relative_to(skip):
        return
    # A stack, because folders may be nested deeper than Python's calls; what is on it is listed, and holds no folder
    # open.
    pending = _listing(folder, failed)
    while pending:
        entry = pending.pop()
        path = Path(entry.path)
        try:
            is_link, is_folder = entry.is_symlink(), entry.is_dir(follow_symlinks=False)
            is_file = entry.is_file(follow_symlinks=False)
        except OSError as error:
            # On file systems whose listings do not say what an entry is.
            _report(path, error, failed)
            continue
        if is_foreign(path) and not is_link and not foreign(path):
            continue
        if is_folder:
            if not _is_junction(entry) and (skip is None or real / path.relative_to(folder) != skip):
                pending += _listing(path, failed)
        elif is_file and not is_temporary(entry.name):
            yield path


def _listing(folder: Path, failed: Callable[[Path, OSError], None] | None) -> list[os.DirEntry[str]]:
    """Return the entries of a folder, the first last; none if it cannot be listed, which `failed` is told."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name, reverse=True)
    except OSError as error:
        _report(folder, error, failed)
        return []


def _report(path: Path, error: OSError, failed: Callable[[Path, OSError], None] | None) -> None:
    """Pass an error to `failed`; raise it if there is no `failed`."""
    if failed is None:
        raise error
    failed(path, error)


def named(
    paths: Iterable[Path],
    *,
    skip: Path | None = None,
    exclude: Sequence[str] = (),
    failed: Callable[[Path, OSError], None],
    foreign: Callable[[Path], bool] = lambda path: False,
) -> Iterator[tuple[Path, Path | None]]:
    """Yield (file, folder) for the files below each folder in `paths`, and (path, None) for every other path.

    Files that match a pattern of `exclude` are left out, even named ones. `skip`, `failed` and `foreign` are as in
    `walk`.
    """
    for path in paths:
        if os.path.isdir(path):  # noqa: PTH112 - Path.is_dir raises where a folder above may not be entered
            for file in walk(path, skip=skip, failed=failed, foreign=foreign):
                if not excluded(file.relative_to(path), exclude):
                    yield file, path
        elif not excluded(Path(path.name), exclude):
            yield path, None


def excluded(relative: PurePath, patterns: Sequence[str]) -> bool:
    """Return whether a shell pattern matches the file or a folder above it, relative to the folder that was named.

    A pattern without a slash is compared with each name in the path, one with a slash with the path itself. `*` matches
    slashes too, and case matters. On Windows, patterns may contain slashes or backslashes.
    """
    places = [relative, *relative.parents][:-1]
    for pattern in patterns:
        wanted = (pattern.replace("\\", "/") if isinstance(relative, PureWindowsPath) else pattern).rstrip("/")
        if any(fnmatchcase(place.as_posix() if "/" in wanted else place.name, wanted) for place in places):
            return True
    return False


def _is_junction(entry: os.DirEntry[str]) -> bool:
    """Return whether a folder is a Windows junction, which like a link is not followed."""
    try:
        status = entry.stat(follow_symlinks=False)
    except OSError:
        return False
    return getattr(status, "st_reparse_tag", 0) == _MOUNT_POINT


FileKey = tuple[int, int, str | None]
"""Device, inode, and the name of a file that has several; see `file_key`."""


def file_key(dev: int, inode: int, links: int, name: str) -> FileKey:
    """Return what identifies a photo of a run: device and inode, and its resolved name if it has several hard links.

    Each name of such a file is a photo of its own: replacing or copying one leaves the others as they are.
    """
    return dev, inode, name if links > 1 else None


class FileFingerprint(NamedTuple):
    """Identifies a file and its content; a change of permissions does not change it."""

    dev: int
    inode: int
    size: int
    mtime_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> FileFingerprint:
        """Return the fingerprint of a stat result."""
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


class _Again(NamedTuple):
    """When a failed file is returned again, in seconds of the clock."""

    at: float
    pause: float
    reason: str


class Arrivals:
    """Collects files below `folder` until nothing has written to them for `settle` seconds.

    Links are not followed; `skip` (the vault's real path), excluded names and this package's temporary files are left
    out. A file that `complete` returned is returned again only if its content or identity changed, or if it `failed`,
    each time after a longer pause.
    """

    def __init__(
        self, folder: Path, *, skip: Path, exclude: Sequence[str], settle: float, clock: Callable[[], float]
    ) -> None:
        self._folder, self._skip, self._exclude = folder, skip, exclude
        self._settle, self._clock = settle, clock
        self._waiting: dict[Path, tuple[FileFingerprint | None, float]] = {}
        self._seen: dict[Path, FileFingerprint] = {}
        self._failed: dict[Path, _Again] = {}

    def sweep(self) -> None:
        """Check the whole folder, for files of which no event was received."""
        self.notice([self._folder])

    def notice(self, paths: Iterable[Path]) -> None:
        """Check files or folders after an event about them."""
        for path in paths:
            if os.path.isdir(path) and not os.path.islink(path):  # noqa: PTH112, PTH114 - these raise for no path
                # Files may have arrived in a new folder before it was watched.
                for file in walk(path, skip=self._skip, failed=lambda folder, error: None):
                    self._note(file)
            else:
                self._note(path)

    def complete(self) -> list[Path]:
        """Return the files that are now complete, or due after a failure, sorted; each is returned once."""
        ready = self._due()
        for path, (before, since) in list(self._waiting.items()):
            now = self._fingerprint(path)
            if now is None or now == self._seen.get(path):
                del self._waiting[path]
            elif now != before:
                self._waiting[path] = (now, self._clock())
            elif self._clock() - since >= self._settle and not _open_for_writing(path):
                del self._waiting[path]
                self._seen[path] = now
                self._failed.pop(path, None)
                ready.append(path)
        return sorted(ready)

    def wrote(self, path: Path, fingerprint: FileFingerprint) -> None:
        """Note that this program wrote the file, which has this fingerprint and is not an arrival."""
        self._seen[path] = fingerprint

    def failed(self, path: Path, reason: str) -> bool:
        """Note that a file returned by `complete` failed; return whether `reason` is new.

        It is returned again after a minute, then after twice as long each time, up to an hour.
        """
        before = self._failed.get(path)
        pause = _FIRST_PAUSE_SECONDS if before is None else min(2 * before.pause, _LONGEST_PAUSE_SECONDS)
        self._failed[path] = _Again(self._clock() + pause, pause, reason)
        return before is None or before.reason != reason

    def succeeded(self, path: Path) -> None:
        """Forget the failures of a file that was processed."""
        self._failed.pop(path, None)

    def _due(self) -> list[Path]:
        """Return the failed files whose pause is over, and forget those that are gone."""
        due = []
        for path, again in list(self._failed.items()):
            if self._clock() < again.at or path in self._waiting:
                continue
            if self._fingerprint(path) is None:
                del self._failed[path]
            else:
                # Not again before `failed` or `succeeded` is called.
                self._failed[path] = again._replace(at=math.inf)
                due.append(path)
        return due

    def _note(self, path: Path) -> None:
        # Events about the folder itself, when it is moved or deleted, are left out too.
        if path in self._waiting or is_temporary(path.name) or self._folder not in path.parents:
            return
        relative = path.relative_to(self._folder)
        if any(is_foreign(place) for place in (relative, *relative.parents[:-1])):
            return
        if not path.is_relative_to(self._skip) and not excluded(relative, self._exclude):
            self._waiting[path] = (None, self._clock())

    def _fingerprint(self, path: Path) -> FileFingerprint | None:
        """Return the fingerprint; None if the path is not a regular file, is gone, or leads through a link."""
        try:
            with Folder.open(path.parent, within=self._folder) as folder:
                status = folder.stat(path.name)
        except OSError:
            self._seen.pop(path, None)
            return None
        return FileFingerprint.of(status) if stat.S_ISREG(status.st_mode) else None


if sys.platform == "linux":
    import fcntl
    import signal

    def _open_for_writing(path: Path) -> bool:
        """Return whether a process has the file open for writing; False if the system cannot tell.

        A lease for reading is refused while there is a writer (fcntl(2), "Leases"). If a writer comes while the lease
        is held, the kernel sends a signal: by default SIGIO, which would end the process; SIGURG is ignored.
        """
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
            fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
            fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
        except OSError as error:
            return error.errno == errno.EAGAIN
        finally:
            os.close(descriptor)
        return False
else:

    def _open_for_writing(path: Path) -> bool:
        return False
