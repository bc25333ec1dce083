"""Write man pages and completion scripts: `python -m tools.build_pages man/ completions/`, or `make pages`."""

from __future__ import annotations

import sys
from pathlib import Path

from hashshield.cli.app import app
from tools.completions import scripts
from tools.describe import describe
from tools.man import pages

__all__ = ["main"]


def main(arguments: list[str]) -> None:
    """Write pages into the first folder and scripts into the second; remove pages of commands that no longer exist."""
    man, completions = (Path(argument) for argument in arguments)
    root = describe(app, "hashshield")
    for folder, files in ((man, pages(root)), (completions, scripts(root))):
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (folder / name).write_text(text, encoding="utf-8", newline="\n")
    for stale in {path.name for path in man.glob("hashshield*.1")} - set(pages(root)):
        (man / stale).unlink()


if __name__ == "__main__":
    main(sys.argv[1:])
