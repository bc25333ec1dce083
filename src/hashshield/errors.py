"""One exception tree; each class carries the exit code its failure ends with.

HashshieldError
├── UsageError          2  an option or argument that cannot be meant as it stands
│   ├── UnknownNameError   a model, class, method or recipe that does not exist
│   └── GoalError          a goal that cannot be aimed at (a target that is no photo, an empty set)
├── PhotoError          1  a file that cannot be read or written as a photo
│   ├── NotAPhotoError     its first bytes are no image format known here
│   ├── UnsupportedError   a real image of a kind that is not protected, with the reason
│   ├── BrokenPhotoError   truncated, corrupt or implausible
│   └── EncodingError      what was written is not the picture that was meant: a bug of ours
├── StorageError        1  vault, ledger or file system would not do what safety needs
│   └── ChangedError       the file changed between reading and writing
├── FleetError          1  Ray is missing, cannot be reached, or would not do its part
└── CheckpointError     4  a checkpoint that is missing, broken or not what its digest says
    └── DownloadError      no source gave the pinned bytes

A message says what, where, what was found and what to do.
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
    "NotAPhotoError",
    "PhotoError",
    "StorageError",
    "UnknownNameError",
    "UnsupportedError",
    "UsageError",
]


class HashshieldError(Exception):
    """An expected failure; anything else that is raised is a bug."""

    exit_code: ClassVar[int] = 1


class UsageError(HashshieldError):
    """An option or argument that cannot be meant as it stands."""

    exit_code = 2


class UnknownNameError(UsageError):
    """A model, class, method or recipe that does not exist; the message names the nearest."""


class GoalError(UsageError):
    """A goal that cannot be aimed at."""


class PhotoError(HashshieldError):
    """A file that cannot be read or written as a photo."""


class NotAPhotoError(PhotoError):
    """The first bytes are no image format known here."""


class UnsupportedError(PhotoError):
    """A real image of a kind that is not protected; the message says why."""


class BrokenPhotoError(PhotoError):
    """Truncated, corrupt or implausible image data."""


class EncodingError(PhotoError):
    """What was written is not the picture that was meant: a bug of ours, found before any file was touched."""


class StorageError(HashshieldError):
    """Vault, ledger or file system would not do what safety needs."""


class ChangedError(StorageError):
    """The file changed between reading and writing; it was left as it is."""


class FleetError(HashshieldError):
    """Ray is missing, cannot be reached, or would not do its part."""


class CheckpointError(HashshieldError):
    """A checkpoint that is missing, broken or not what its digest says."""

    exit_code = 4


class DownloadError(CheckpointError):
    """No source gave the pinned bytes."""
