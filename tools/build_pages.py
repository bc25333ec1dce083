"""Generate the pages of the application: `python -m tools.build_pages man/ completions/ docs/`, or `make pages`.

These are the man pages, the completion scripts, and the page `cli.md` of the documentation.
"""

from __future__ import annotations

import sys
from pathlib import Path

from hashshield.cli.app import app
from tools.cli_page import cli_page
from tools.completions import scripts
from tools.describe import describe
from tools.man import pages

__all__ = ["main"]


def main(arguments: list[str]) -> None:
    """Write man pages, completion scripts and `cli.md` into these folders; remove man pages of removed commands.

    The third folder may be left out.
    """
    man, completions, *docs = (Path(argument) for argument in arguments)
    root = describe(app, "hashshield")
    written = [
        (man, pages(root)),
        (completions, scripts(root)),
        *((folder, {"cli.md": cli_page(root)}) for folder in docs),
    ]
    for folder, files in written:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (folder / name).write_text(text, encoding="utf-8", newline="\n")
    for stale in {path.name for path in man.glob("hashshield*.1")} - set(pages(root)):
        (man / stale).unlink()


if __name__ == "__main__":
    main(sys.argv[1:])
