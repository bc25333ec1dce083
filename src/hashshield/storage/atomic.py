"""The one function through which bytes reach disk: temporary file, flush, rename, flush."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

from hashshield.errors import ChangedError
from hashshield.storage import calls
from hashshield.storage.attributes import Attributes
from hashshield.storage.folder import Folder

__all__ = ["PRIVATE", "put"]

# What file systems without hard links say (FAT, some network ones).
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EINVAL}

PRIVATE = Attributes(mode=0o600)


def put(
    folder: Folder,
    name: str,
    data: bytes,
    *,
    temporary: str,
    attributes: Attributes = PRIVATE,
    check: Callable[[], None] | None = None,
    overwrite: bool = True,
) -> None:
    """Make `name` hold `data`, or leave everything as it was.

    `check` runs when all is ready and only the rename is left; what it raises stops the replacement.
    Raises OSError (FileExistsError without `overwrite`), StorageError from `attributes`, and whatever `check` raises.
    """
    try:
        made = _fill(folder, temporary, data, attributes, what=str(folder.path / name))
        if check is not None:
            check()
        now = folder.stat(temporary)
        if (now.st_dev, now.st_ino, now.st_size) != (made.st_dev, made.st_ino, len(data)):
            raise ChangedError(f"{folder.path / temporary}: something replaced the temporary file; nothing was changed")
        if overwrite:
            folder.rename(temporary, name)
        else:
            _rename_to_new(folder, temporary, name)
    except BaseException:
        folder.remove(temporary)
        raise
    folder.sync()


def _fill(folder: Folder, temporary: str, data: bytes, attributes: Attributes, *, what: str) -> os.stat_result:
    descriptor = folder.create(temporary)
    try:
        calls.write(descriptor, data)
        attributes.give_to(descriptor, what=what)
        calls.sync(descriptor)
        return os.fstat(descriptor)
    finally:
        os.close(descriptor)


def _rename_to_new(folder: Folder, temporary: str, name: str) -> None:
    try:
        # A rename would silently replace a file made meanwhile; a link fails instead.
        folder.link(temporary, name)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
    else:
        folder.remove(temporary)
        return
    try:
        folder.stat(name)
    except FileNotFoundError:
        folder.rename(temporary, name)
        return
    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(folder.path / name))
