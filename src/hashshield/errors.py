"""The exceptions of the package, in one tree; each class has the exit code that the command ends with.

HashshieldError
├── UsageError          2  an option, argument or setting that is not valid
│   ├── UnknownNameError   a model, class, method or recipe that does not exist
│   └── GoalError          a goal that cannot be pursued (a target that is not a photo, an empty set)
├── PhotoError          1  a file that cannot be read or written as a photo
│   ├── NotAPhotoError     its first bytes are not those of a known image format
│   ├── UnsupportedError   an image of a kind that is not supported
│   ├── BrokenPhotoError   truncated, corrupt or implausible data
│   └── EncodingError      what was written is not the picture that was meant: a bug of ours
├── StorageError        1  vault, ledger or file system cannot do what safety requires
│   ├── ChangedError       the file changed between reading and writing
│   └── LedgerError        the ledger is lost or damaged; `originals repair` rebuilds it
├── FleetError          1  Ray is missing, cannot be reached, or failed
├── InternalError       1  a bug of this program, met while it worked on one photo
└── CheckpointError     4  a checkpoint that is missing, broken or does not match its digest
    └── DownloadError      no source delivered the file with the pinned digest

A message says what is wrong, where, what was found, and what to do.
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
    """A model, class, method or recipe that does not exist; the message proposes the closest known name."""


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
    """What was written is not the picture that was meant: a bug of ours, found before any file was touched."""


class StorageError(HashshieldError):
    """The vault, the ledger or the file system cannot do what safety requires."""


class ChangedError(StorageError):
    """The file changed between reading and writing; it was left as it is."""


class LedgerError(StorageError):
    """The ledger is lost or damaged; `originals repair` rebuilds it."""


class InternalError(HashshieldError):
    """A bug of this program, met while it worked on one photo; see `hashshield.boundary`."""


class FleetError(HashshieldError):
    """Ray is missing, cannot be reached, or failed."""


class CheckpointError(HashshieldError):
    """A checkpoint that is missing, broken or does not match its digest."""

    exit_code = 4


class DownloadError(CheckpointError):
    """No source delivered the file with the pinned digest.

    `advice` is advice that is the same for every file, and therefore said once for several; `str` has both.
    """

    def __init__(self, what: str, advice: str = "") -> None:
        super().__init__(" ".join(filter(None, (what, advice))))
        self.what, self.advice = what, advice
