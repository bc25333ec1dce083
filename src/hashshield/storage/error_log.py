"""The log of internal errors: a private file beside the ledger, small, and without file names unless asked for."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from hashshield.boundary import LogFormatter, logger

__all__ = ["LOG_NAME", "ErrorLog"]

LOG_NAME = "errors.log"
_LARGEST_BYTES = 256 * 1024
"""Size from which on the log is put aside as `errors.log.1`, in the place of the one before."""


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
