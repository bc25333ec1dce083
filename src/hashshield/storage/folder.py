"""Folders held open by descriptor, so that changes to a path cannot redirect a read or a write.

Also names of temporary files, and the attributes of files: mode, owner, times, extended attributes, access lists.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from hashshield.errors import StorageError
from hashshield.paths import exists, is_folder
from hashshield.storage import calls

__all__ = ["Attributes", "Folder", "is_temporary", "temporary_name"]

_PREFIX = ".hashshield-"
_SUFFIX = ".tmp"
_FOLDER = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_CLOEXEC", 0)
_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)
# O_NONBLOCK: a FIFO or device that replaces a photo between check and open must not hang the program.
_READ = os.O_RDONLY | _NO_FOLLOW | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0)
_ACL = "system.posix_acl_access"
_XATTRS = hasattr(os, "listxattr")
_UNSUPPORTED = {errno.ENOTSUP, errno.ENOSYS}
_REFUSED = {errno.EPERM, errno.EACCES, errno.ENOTSUP}


def temporary_name() -> str:
    """Return a new random name for a temporary file."""
    return f"{_PREFIX}{secrets.token_hex(8)}{_SUFFIX}"


def is_temporary(name: str) -> bool:
    """Return whether a file name is one that `temporary_name` makes."""
    return name.startswith(_PREFIX) and name.endswith(_SUFFIX)


_READ |= getattr(os, "O_NOCTTY", 0) | getattr(os, "O_BINARY", 0)


class Folder:
    """An open folder. Names passed to its methods are single components, and links are never followed."""

    def __init__(self, path: Path, descriptor: int | None) -> None:
        self.path = path
        """Absolute, with symbolic links resolved when it was opened."""
        self.descriptor = descriptor
        """None if the platform cannot name files relative to a folder; `path` is used instead."""

    @classmethod
    def open(cls, path: Path, *, within: Path | None = None) -> Folder:
        """Open `path`; below `within`, the folder that the user named, no component may be a link.

        Without `within` the whole `path` counts as named by the user, and links in it are followed. Raises OSError
        (ELOOP or ENOTDIR for a link that is not followed), ValueError if `path` is not below `within`.
        """
        start = path if within is None else within
        parts = () if within is None else path.relative_to(within).parts
        if ".." in parts:
            raise ValueError(f"{path} leaves {within}")
        if not calls.DIR_FD:
            return cls._by_path(start, parts)
        descriptor = os.open(start, _FOLDER)
        try:
            real = Path(os.path.realpath(start))
            if not os.path.samestat(os.fstat(descriptor), real.stat()):
                raise OSError(errno.ENOENT, os.strerror(errno.ENOENT), str(start))
            for part in parts:
                # In this order, so that Ctrl-C after `os.close` does not close the same descriptor twice.
                above, descriptor = descriptor, os.open(part, _FOLDER | _NO_FOLLOW, dir_fd=descriptor)
                os.close(above)
        except BaseException:
            os.close(descriptor)
            raise
        return cls(real.joinpath(*parts), descriptor)

    @classmethod
    def _by_path(cls, start: Path, parts: tuple[str, ...]) -> Folder:
        real = Path(os.path.realpath(start))
        for part in parts:
            real = real / part
            if real.is_symlink():
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(real))
        if not is_folder(real):
            raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(real))
        return cls(real, None)

    @classmethod
    def made(cls, path: Path, *, mode: int = 0o777) -> Folder:
        """Open `path`, after durably creating it and the missing folders above it. Raises OSError."""
        missing = []
        there = path
        while not exists(there) and there != there.parent:
            missing.append(there.name)
            there = there.parent
        folder = cls.open(there)
        for name in reversed(missing):
            with folder:
                folder.make(name, mode=mode)
                folder = cls.open(folder.path / name)
        return folder

    def __enter__(self) -> Folder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the folder; may be called twice."""
        descriptor, self.descriptor = self.descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def _name(self, name: str) -> str:
        return name if calls.DIR_FD else str(self.path / name)

    def status(self) -> os.stat_result:
        """Stat the open folder itself, even if it was moved."""
        return self.path.stat() if self.descriptor is None else os.fstat(self.descriptor)

    def stat(self, name: str) -> os.stat_result:
        """Stat a name in this folder without following it."""
        return os.stat(self._name(name), dir_fd=self.descriptor, follow_symlinks=False)

    def may_write(self, name: str) -> bool:
        """Return whether this process, with its effective user, may write the file of that name."""
        effective = os.access in os.supports_effective_ids
        return os.access(self._name(name), os.W_OK, dir_fd=self.descriptor, effective_ids=effective)

    def may_add(self) -> bool:
        """Return whether this process, with its effective user, may create and rename files in this folder."""
        effective = os.access in os.supports_effective_ids
        return os.access(self._name("."), os.W_OK | os.X_OK, dir_fd=self.descriptor, effective_ids=effective)

    def open_file(self, name: str) -> int:
        """Open a file for reading, without following a link or blocking; return its descriptor."""
        return os.open(self._name(name), _READ, dir_fd=self.descriptor)

    def create(self, name: str) -> int:
        """Create a file, mode 0600, and return its descriptor. Raises FileExistsError."""
        return calls.create(self._name(name), self.descriptor)

    def reopen(self, name: str) -> int:
        """Open a file for writing, created if missing, without following a link; return its descriptor."""
        return calls.reopen(self._name(name), self.descriptor)

    def rename(self, source: str, target: str) -> None:
        """Rename `source` to `target`, replacing it; both are in this folder."""
        calls.rename(self._name(source), self._name(target), self.descriptor)

    def link(self, source: str, target: str) -> None:
        """Give `source` the second name `target`. Raises FileExistsError."""
        calls.link(self._name(source), self._name(target), self.descriptor)

    def remove(self, name: str) -> None:
        """Remove a name; do nothing if it does not exist."""
        try:
            calls.remove(self._name(name), self.descriptor)
        except FileNotFoundError:
            return

    def make(self, name: str, *, mode: int = 0o700) -> None:
        """Create a folder below this one, durably; an existing one is kept. `mode` is subject to the umask."""
        try:
            calls.make_folder(self._name(name), mode, self.descriptor)
        except FileExistsError:
            return
        self.sync()

    def change_mode(self, mode: int) -> None:
        """Set the permission bits of the folder itself."""
        if self.descriptor is not None:
            calls.change_mode(self.descriptor, mode)

    def names(self) -> list[str]:
        """Return every name in this folder, sorted."""
        with os.scandir(self.path if self.descriptor is None else self.descriptor) as entries:
            return sorted(entry.name for entry in entries)

    def temporaries(self) -> list[str]:
        """Return the names of this package's temporary files in this folder."""
        return [name for name in self.names() if is_temporary(name)]

    def sync(self) -> None:
        """Make the names in this folder durable."""
        calls.sync_folder(self.descriptor)


@dataclass(frozen=True, slots=True)
class Attributes:
    """The attributes that a replaced file passes on to its replacement."""

    mode: int
    """Permission bits."""
    uid: int | None = None
    gid: int | None = None
    extended: tuple[tuple[str, bytes], ...] = ()
    mtime_ns: int | None = None
    """None keeps the time of writing."""

    @classmethod
    def of(cls, descriptor: int) -> Attributes:
        """Read the attributes of an open file, its modification time included."""
        status = os.fstat(descriptor)
        return cls(
            mode=stat.S_IMODE(status.st_mode),
            uid=status.st_uid,
            gid=status.st_gid,
            extended=tuple((name, os.getxattr(descriptor, name)) for name in _names(descriptor) if _kept(name)),
            mtime_ns=status.st_mtime_ns,
        )

    def give_to(self, descriptor: int, *, what: str) -> None:
        """Set these attributes on an open, complete file. Raises OSError, or StorageError if they cannot be kept.

        On platforms that cannot set them on open files (Windows), this does nothing; call `apply_by_name` afterwards.
        """
        if not _open_files_take_them():
            return
        self._apply_owner(descriptor, what)
        if _XATTRS:
            self._apply_extended(descriptor, what)
        # After the access list, whose mask is stored in the mode's group bits.
        calls.change_mode(descriptor, self.mode)
        if self.mtime_ns is not None:
            calls.set_times(descriptor, os.fstat(descriptor).st_atime_ns, self.mtime_ns)

    def apply_by_name(self, path: Path) -> None:
        """Set mode and time on a closed file, on platforms where `give_to` does nothing. Raises OSError.

        On Windows the mode only says whether the file is read-only. The time is set last, because a change of mode may
        change it.
        """
        if _open_files_take_them():
            return
        calls.change_mode_of(path, self.mode)
        if self.mtime_ns is not None:
            calls.set_times_of(path, path.stat().st_atime_ns, self.mtime_ns)

    def _apply_owner(self, descriptor: int, what: str) -> None:
        status = os.fstat(descriptor)
        try:
            if self.gid is not None and status.st_gid != self.gid:
                calls.change_group(descriptor, self.gid)
            if self.uid is not None and status.st_uid != self.uid:
                calls.change_owner(descriptor, self.uid)
        except PermissionError as error:
            raise StorageError(
                f"{what}: belongs to user {self.uid} and group {self.gid}, which this process may not give to the new "
                "file; run as that user"
            ) from error

    def _apply_extended(self, descriptor: int, what: str) -> None:
        wanted = dict(self.extended)
        # The new file may have inherited an access list from its folder that the old file did not have.
        if _ACL in _names(descriptor) and _ACL not in wanted:
            calls.remove_attribute(descriptor, _ACL)
        for name, value in wanted.items():
            try:
                calls.set_attribute(descriptor, name, value)
            except OSError as error:
                if error.errno not in _REFUSED:
                    raise
                if name.startswith("user.") or name == _ACL:
                    raise StorageError(
                        f"{what}: its extended attribute {name} could not be kept ({error.strerror}); "
                        "remove the attribute or run as the file's owner"
                    ) from error


def _open_files_take_them() -> bool:
    # fchmod alone is not enough: Windows has it since Python 3.13 with another meaning, and utime for paths only.
    return hasattr(os, "fchmod") and os.utime in os.supports_fd


def _names(descriptor: int) -> list[str]:
    if not _XATTRS:
        return []
    try:
        return os.listxattr(descriptor)
    except OSError as error:
        if error.errno in _UNSUPPORTED:
            return []
        raise


def _kept(name: str) -> bool:
    # Integrity labels (security.ima, security.evm) describe the old bytes and must not be copied.
    return name.startswith(("user.", "trusted.")) or name in {_ACL, "security.selinux"}
