"""Where modules are imported from: never from the current folder, which may be a folder of somebody's photos.

`python -m hashshield` puts the current folder first, and so does an empty entry in PYTHONPATH. Only modules that every
interpreter has loaded already are imported here.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["leave_current_folder_out", "trusted"]


def leave_current_folder_out() -> None:
    """Import nothing from the current folder from now on, in this process and in those it starts.

    For programs that are HashShield; a library must leave its user's path alone.
    """
    sys.path[:] = trusted(sys.path)
    # Python 3.11 and newer: what is started with -c or -m does not add the current folder.
    os.environ["PYTHONSAFEPATH"] = "1"
    if "PYTHONPATH" in os.environ:
        os.environ["PYTHONPATH"] = os.pathsep.join(trusted(os.environ["PYTHONPATH"].split(os.pathsep)))
        if not os.environ["PYTHONPATH"]:
            del os.environ["PYTHONPATH"]


def trusted(entries: Iterable[str]) -> list[str]:
    """Return the absolute entries of an import path that are not the current folder.

    The folder that holds this package stays, wherever one stands.
    """
    resolved = os.path.realpath
    package_home = os.path.dirname(os.path.dirname(resolved(__file__)))  # noqa: PTH120 - pathlib is not loaded yet
    try:
        working_folder = resolved(os.getcwd())  # noqa: PTH109
    except OSError:
        working_folder = ""  # a folder that was removed holds no modules
    absolute = [entry for entry in entries if os.path.isabs(entry)]  # noqa: PTH117
    return [entry for entry in absolute if working_folder == package_home or resolved(entry) != working_folder]
