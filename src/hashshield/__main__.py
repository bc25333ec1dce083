"""Entry point of `hashshield` and `python -m hashshield`."""

from __future__ import annotations

import io
import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line and exit with its code."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show a character gets an escape in its place; a report never ends in a UnicodeError.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")

    from hashshield.cli.app import app

    app(prog_name="hashshield")


if __name__ == "__main__":
    main()
