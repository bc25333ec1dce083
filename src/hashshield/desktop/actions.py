"""The actions of file managers' menu entries on the selected photos and folders, and notifications about them."""

from __future__ import annotations

import html
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from hashshield.errors import UsageError
from hashshield.paths import is_folder
from hashshield.text import clean
from hashshield.types import Outcome, Restoration

__all__ = [
    "ACTIONS",
    "COPIES",
    "carry_out",
    "notification",
    "notify",
]


_LONGEST = 400
_APPLE = ("on run argv", 'display notification (item 1 of argv) with title "HashShield"', "end run")


def notify(text: str) -> None:
    """Show a text as a desktop notification or, on Windows, a message box; do nothing if neither is available."""
    if sys.platform == "win32":
        import ctypes

        ctypes.windll.user32.MessageBoxW(None, _short(text), "HashShield", 0x40)
        return
    command = notification(text)
    if command is not None:
        subprocess.run(command, check=False, stdin=subprocess.DEVNULL)


def notification(text: str) -> list[str] | None:
    """Return a command that shows a text, none of which is taken for code or markup; None if there is none."""
    if found := shutil.which("notify-send"):
        # The body may hold markup (Desktop Notifications Specification, 3).
        return [found, "--app-name=HashShield", "--", "HashShield", html.escape(_short(text), quote=False)]
    if found := shutil.which("osascript"):
        script = [word for line in _APPLE for word in ("-e", line)]
        return [found, *script, "--", _short(text)]
    return None


def _short(text: str) -> str:
    shown = clean(text)
    return shown if len(shown) <= _LONGEST else f"{shown[:_LONGEST]}..."


COPIES = "protected"
"""Name of the folder for copies, beside the photos."""


class MenuAction(NamedTuple):
    """One menu entry."""

    title: str
    """The text in the menu."""
    run: Callable[[Sequence[Path]], str]
    """Carries out the action, and returns a sentence or two on the result."""


def carry_out(name: str, paths: Sequence[Path]) -> str:
    """Carry out the action of this name, and return a message for the user.

    Raises UsageError for an unknown name, and the errors of `api.protect_files` and `api.restore`.
    """
    if name not in ACTIONS:
        raise UsageError(f"there is no action {name!r}; choose one of {', '.join(ACTIONS)}")
    # A file manager may pass paths relative to the folder of the photos.
    return ACTIONS[name].run([Path(os.path.abspath(path)) for path in paths])  # noqa: PTH100 - links stay links


def _copies(paths: Sequence[Path]) -> str:
    """Protect copies into a folder `protected` beside the selected photos; those of a folder into a subfolder."""
    from hashshield import api

    together: dict[Path, list[Path]] = {}
    for path in paths:
        folder = path.parent / COPIES / path.name if is_folder(path) else path.parent / COPIES
        together.setdefault(folder, []).append(path)
    rows = [row for folder, found in together.items() for row in api.protect_files(*found, output=folder)]
    folders = sorted({str(Path(row.output).parent) for row in rows if row.output and row.status == "protected"})
    where = f" The copies are in {folders[0]}{' and other folders' if len(folders) > 1 else ''}." if folders else ""
    return _protected(rows) + where


def _in_place(paths: Sequence[Path]) -> str:
    from hashshield import api

    return f"{_protected(api.protect_files(*paths, in_place=True))} hashshield restore brings the originals back."


def _restore(paths: Sequence[Path]) -> str:
    from hashshield import api

    return _counted(api.restore(*paths), {"restored": "{} restored", "failed": "{} could not be restored"})


def _protected(rows: Sequence[Outcome]) -> str:
    words = {
        "protected": "{} protected",
        "partial": "{} partly protected",
        "already": "{} protected earlier",
        "short": "{} not protected: the search fell short",
        "failed": "{} failed",
    }
    return _counted(rows, words)


def _counted(rows: Sequence[Outcome | Restoration], words: Mapping[str, str]) -> str:
    """Return the number of rows per status, and the reason of the first failure."""
    counts = Counter[str](row.status for row in rows)
    said = ", ".join(text.format(counts[status]) for status, text in words.items() if counts[status])
    wrong = next((row.reason for row in rows if row.status in ("failed", "short") and row.reason), None)
    return f"{said or 'Nothing to do'}." + (f" {wrong}." if wrong else "")


ACTIONS: Mapping[str, MenuAction] = {
    "copies": MenuAction("Protect copies", _copies),
    "in-place": MenuAction("Protect in place", _in_place),
    "restore": MenuAction("Restore originals", _restore),
}
