"""Ask what is at a path, without an exception if that cannot be found out.

pathlib's `exists`, `is_file` and `is_dir` raise OSError until Python 3.14, for a name that is too long or a folder that
may not be entered. The functions here follow links, like pathlib's.
"""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["exists", "is_file", "is_folder", "trouble"]


def exists(path: Path) -> bool:
    """Return whether something is at the path; False if that cannot be found out."""
    return os.path.exists(path)  # noqa: PTH110


def is_file(path: Path) -> bool:
    """Return whether a regular file is at the path; False if that cannot be found out."""
    return os.path.isfile(path)  # noqa: PTH113


def is_folder(path: Path) -> bool:
    """Return whether a folder is at the path; False if that cannot be found out."""
    return os.path.isdir(path)  # noqa: PTH112


def trouble(path: Path) -> OSError | None:
    """Return the error that keeps a path from being looked at; None if there is none, or nothing is at the path."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        return error
    return None
