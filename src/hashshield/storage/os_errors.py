"""Operating-system errors put into words: what failed, where, and what to do about it."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from hashshield.errors import StorageError

__all__ = ["explain", "storage_errors"]

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
