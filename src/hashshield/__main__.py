"""Entry point of `hashshield` and `python -m hashshield`."""

from __future__ import annotations

import io
import sys

from hashshield.import_path import leave_current_folder_out

__all__ = ["main"]


def main() -> None:
    """Run the command line and exit with its code; 130 when interrupted before a command has begun."""
    leave_current_folder_out()
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show a character gets an escape in its place; a report never ends in a UnicodeError.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")

    try:
        from hashshield.cli.app import app

        app(prog_name="hashshield")
    except KeyboardInterrupt:
        from hashshield.cli.command_line import document_of_nothing

        document = document_of_nothing(sys.argv[1:])
        if document is not None:
            sys.stdout.write(f"{document}\n")
        sys.stderr.write("Interrupted before anything was done.\n")
        sys.exit(130)


if __name__ == "__main__":
    main()
