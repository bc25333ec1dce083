"""Errors of the operating system put into words, and the private log of internal errors beside the ledger."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hashshield.boundary import LogFormatter, logger
from hashshield.errors import StorageError

__all__ = ["LOG_NAME", "ErrorLog", "explain", "storage_errors"]

_ADVICE = {
    errno.ENOSPC: "the disk is full; free some space and run again",
    errno.EDQUOT: "the disk quota is used up; free some space and run again",
    errno.EFBIG: "the file is larger than the file system or this process may write; raise the limit",
    errno.EIO: "the disk reported an error; check the disk before anything else",
    errno.EROFS: "the file system is mounted read-only; mount it for writing or copy the photos elsewhere",
    errno.EACCES: "permission denied; check who owns it and whether this user may read and write there",
    errno.EPERM: "not permitted; check who owns the file and whether it is marked immutable",
    errno.ENOENT: "it is not there",
    errno.ELOOP: "it is a symbolic link, and links are followed only when named as arguments",
    errno.ENOTDIR: "it is not a folder (or a symbolic link to one, which is not followed)",
    errno.ENAMETOOLONG: "the name is too long for this file system",
    errno.EEXIST: "it exists already",
}
LOG_NAME = "errors.log"
_LARGEST_BYTES = 256 * 1024
"""Size from which on the log is put aside as `errors.log.1`, in the place of the one before."""


def explain(error: OSError) -> str:
    """Return one clause that says what went wrong and what to do."""
    advice = _ADVICE.get(error.errno or 0)
    system = error.strerror or type(error).__name__
    return f"{advice} ({system})" if advice else system


@contextmanager
def storage_errors(doing: str) -> Iterator[None]:
    """Turn OSError into StorageError with `doing` ("writing /photos/a.jpg") in front."""
    try:
        yield
    except OSError as error:
        raise StorageError(f"{doing}: {explain(error)}") from error


class ErrorLog(logging.Handler):
    """Append each internal error to the vault folder's log.

    What cannot be logged is let go: a full disk or a read-only vault must not end the run. With the logger at DEBUG
    (--verbose) entries hold messages and photos' names too.
    """

    def __init__(self, root: Path) -> None:
        super().__init__(logging.ERROR)
        self._path = root / LOG_NAME

    def attach(self) -> ErrorLog:
        """Begin to listen."""
        logger.addHandler(self)
        return self

    def close(self) -> None:
        """Stop listening; may be called twice."""
        logger.removeHandler(self)
        super().close()

    def emit(self, record: logging.LogRecord) -> None:
        """Append one entry, mode 0600, never through a link."""
        text = LogFormatter(names=logger.isEnabledFor(logging.DEBUG)).format(record)
        try:
            self._rotate()
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
            descriptor = os.open(self._path, flags, 0o600)
            try:
                os.write(descriptor, f"{text}\n".encode())
            finally:
                os.close(descriptor)
        except OSError:
            return

    def _rotate(self) -> None:
        try:
            if self._path.lstat().st_size < _LARGEST_BYTES:
                return
        except FileNotFoundError:
            return
        os.replace(self._path, self._path.with_name(f"{LOG_NAME}.1"))  # noqa: PTH105 -- beside os.open
