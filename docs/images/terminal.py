"""Record the README's terminal with the tool itself: `python docs/images/terminal.py`, with hashshield installed.

Runs the commands on copies of fixtures, with a vault that is thrown away, each in a pseudo-terminal of 90 columns, and
writes what they printed as `terminal.svg`.
"""

from __future__ import annotations

import os
import pty
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import CONSOLE_SVG_FORMAT, Console
from rich.text import Text

HERE = Path(__file__).parent
PHOTOS = HERE.parents[1] / "tests" / "data"
WIDTH = 90
COMMANDS = (
    "protect photos/ --seed 0",
    "verify photos/",
    "restore photos/",
    "verify photos/kangaroo.jpg",
)
MOVES = re.compile(r"\x1b\[(?:\?\d+[hl]|\d*[A-HJKf])")
"""Escapes that move the cursor or clear; what stays on the screen has none."""
TIME = re.compile(r"(\.jpg\.)\s[\d\shmins.,]+a\sphoto\.")
"""How long it took, which is left out: it says something of the machine only."""
FONTS = re.compile(r"@font-face \{\{.*?\}\}\s*", re.DOTALL)
"""In rich's template: fonts that a browser would ask another host for."""


def printed(words: list[str], folder: Path) -> str:
    """Return what a command leaves on a terminal of `WIDTH` columns. Raises OSError where there are no terminals."""
    ours, theirs = pty.openpty()
    environment = {
        **os.environ,
        "COLUMNS": str(WIDTH),
        "TERM": "xterm-256color",
        "HASHSHIELD_VAULT": str(folder / "vault"),
    }
    command = [sys.executable, "-m", "hashshield", *words]
    with subprocess.Popen(command, cwd=folder, env=environment, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        said = b""
        while True:
            try:
                data = os.read(ours, 65536)
            except OSError:  # Linux says so when the other end is closed
                break
            if not data:
                break
            said += data
    os.close(ours)
    assert process.returncode in (0, 3), said
    return left_on_screen(said.decode())


def left_on_screen(text: str) -> str:
    """Return the lines that stay: those of the bar begin with it, and it clears itself in the end."""
    lines = [MOVES.sub("", line.split("\r")[-1]) for line in text.replace("\r\n", "\n").split("\n")]
    kept = [line for line in lines if not re.match(r"(?:\x1b\[[\d;]*m)*[━╸╺]", line)]
    return TIME.sub(r"\1", "\n".join(kept).strip("\n"))


def main() -> None:
    """Write the picture."""
    console = Console(record=True, width=WIDTH, file=open(os.devnull, "w"), force_terminal=True)  # noqa: SIM115
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "photos").mkdir()
        for photo in sorted(PHOTOS.glob("*.jpg")):
            shutil.copyfile(photo, folder / "photos" / photo.name)
        for command in COMMANDS:
            console.print(Text.assemble(("$ ", "green"), (f"hashshield {command}", "bold")))
            console.print(Text.from_ansi(printed(command.split(), folder)))
    console.save_svg(str(HERE / "terminal.svg"), title="HashShield", code_format=FONTS.sub("", CONSOLE_SVG_FORMAT))


if __name__ == "__main__":
    main()
