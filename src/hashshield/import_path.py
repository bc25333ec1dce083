"""Keep the current folder, which may be a folder of somebody's photos, out of the import path.

`python -m hashshield` puts the current folder first, and so does an empty entry in PYTHONPATH. This module imports only
modules that every interpreter has already loaded.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["leave_current_folder_out", "trusted"]


def leave_current_folder_out() -> None:
    """Remove the current folder from the import path of this process and of those it starts.

    Call it only in HashShield's own programs; a library must not change its user's import path.
    """
    sys.path[:] = trusted(sys.path)
    # From Python 3.11 on, this keeps -c and -m from adding the current folder.
    os.environ["PYTHONSAFEPATH"] = "1"
    if "PYTHONPATH" in os.environ:
        os.environ["PYTHONPATH"] = os.pathsep.join(trusted(os.environ["PYTHONPATH"].split(os.pathsep)))
        if not os.environ["PYTHONPATH"]:
            del os.environ["PYTHONPATH"]


def trusted(entries: Iterable[str]) -> list[str]:
    """Return the absolute entries of an import path that are not the current folder.

    The folder that contains this package is kept even if it is the current folder.
    """
    resolved = os.path.realpath
    package_home = os.path.dirname(os.path.dirname(resolved(__file__)))  # noqa: PTH120 - pathlib is not loaded yet
    try:
        working_folder = resolved(os.getcwd())  # noqa: PTH109
    except OSError:
        working_folder = ""  # a folder that was removed holds no modules
    absolute = [entry for entry in entries if os.path.isabs(entry)]  # noqa: PTH117
    return [entry for entry in absolute if working_folder == package_home or resolved(entry) != working_folder]
