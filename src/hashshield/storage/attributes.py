"""What belongs to a file besides its bytes: mode, owner, times, extended attributes, access lists."""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass

from hashshield.errors import StorageError
from hashshield.storage import calls

__all__ = ["Attributes"]

_ACL = "system.posix_acl_access"
_XATTRS = hasattr(os, "listxattr")
_UNSUPPORTED = {errno.ENOTSUP, errno.ENOSYS}
_REFUSED = {errno.EPERM, errno.EACCES, errno.ENOTSUP}


@dataclass(frozen=True, slots=True)
class Attributes:
    """Taken from the file that is replaced and given to the file that replaces it."""

    mode: int
    """Permission bits."""
    uid: int | None = None
    gid: int | None = None
    extended: tuple[tuple[str, bytes], ...] = ()
    mtime_ns: int | None = None
    """None leaves the time of writing."""

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
        """Give an open, complete file these attributes; raises OSError, or StorageError where they cannot be kept.

        Where an open file cannot be given them (Windows), it keeps those of a new file.
        """
        # Not fchmod alone: Windows has that since Python 3.13, where it means something else, and utime for paths only.
        if not hasattr(os, "fchmod") or os.utime not in os.supports_fd:
            return
        self._apply_owner(descriptor, what)
        if _XATTRS:
            self._apply_extended(descriptor, what)
        # After the access list: its mask and the mode's group bits are the same bits.
        calls.change_mode(descriptor, self.mode)
        if self.mtime_ns is not None:
            calls.set_times(descriptor, os.fstat(descriptor).st_atime_ns, self.mtime_ns)

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
        # A folder's default access list has given the new file one that the old file did not have.
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
    # Labels of integrity measurement (security.ima, security.evm) describe the old bytes and must not travel.
    return name.startswith(("user.", "trusted.")) or name in {_ACL, "security.selinux"}
