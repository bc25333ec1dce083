"""The exceptions of the package, each with the exit code of a command that it ends.

HashshieldError
├── UsageError          2  an option, argument or setting that is not valid
│   ├── UnknownNameError   a model, class, method or recipe that does not exist
│   └── GoalError          a goal that cannot be pursued (a target that is not a photo, an empty set)
├── PhotoError          1  a file that cannot be read or written as a photo
│   ├── NotAPhotoError     its first bytes are not those of a known image format
│   ├── UnsupportedError   an image of a kind that is not supported
│   ├── BrokenPhotoError   truncated, corrupt or implausible data
│   └── EncodingError      the encoded file does not decode to the intended picture: a bug
├── StorageError        1  vault, ledger or file system cannot do what safety requires
│   ├── ChangedError       the file changed between reading and writing
│   └── LedgerError        the ledger is lost or damaged; `originals repair` rebuilds it
├── FleetError          1  Ray is missing, cannot be reached, or failed
├── InternalError       1  a bug in this program that showed while it processed one photo
└── CheckpointError     4  a checkpoint that is missing, broken or does not match its digest
    └── DownloadError      no source delivered the file with the pinned digest

Each message says where the problem is, what was found, and what to do.
"""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "BrokenPhotoError",
    "ChangedError",
    "CheckpointError",
    "DownloadError",
    "EncodingError",
    "FleetError",
    "GoalError",
    "HashshieldError",
    "InternalError",
    "LedgerError",
    "NotAPhotoError",
    "PhotoError",
    "StorageError",
    "UnknownNameError",
    "UnsupportedError",
    "UsageError",
]


class HashshieldError(Exception):
    """An expected failure; any other exception is a bug."""

    exit_code: ClassVar[int] = 1


class UsageError(HashshieldError):
    """An option, argument or setting that is not valid."""

    exit_code = 2


class UnknownNameError(UsageError):
    """A model, class, method or recipe that does not exist; the message suggests the closest known name."""


class GoalError(UsageError):
    """A goal that cannot be pursued."""


class PhotoError(HashshieldError):
    """A file that cannot be read or written as a photo."""


class NotAPhotoError(PhotoError):
    """A file whose first bytes are not those of a known image format."""


class UnsupportedError(PhotoError):
    """An image of a kind that is not supported; the message says why."""


class BrokenPhotoError(PhotoError):
    """Truncated, corrupt or implausible image data."""


class EncodingError(PhotoError):
    """The encoded file does not decode to the intended picture: a bug, found before any file was replaced."""


class StorageError(HashshieldError):
    """The vault, the ledger or the file system cannot do what safety requires."""


class ChangedError(StorageError):
    """The file changed between reading and writing; it was left as it is."""


class LedgerError(StorageError):
    """The ledger is lost or damaged; `originals repair` rebuilds it."""


class InternalError(HashshieldError):
    """A bug in this program that showed while it processed one photo; see `hashshield.boundary`."""


class FleetError(HashshieldError):
    """Ray is missing, cannot be reached, or failed."""


class CheckpointError(HashshieldError):
    """A checkpoint that is missing, broken or does not match its digest."""

    exit_code = 4


class DownloadError(CheckpointError):
    """No source delivered the file with the pinned digest.

    `advice` is the same for every file, so that a report on several files can give it once; `str()` includes it.
    """

    def __init__(self, what: str, advice: str = "") -> None:
        super().__init__(" ".join(filter(None, (what, advice))))
        self.what, self.advice = what, advice
