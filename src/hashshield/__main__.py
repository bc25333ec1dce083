"""Entry point of `hashshield` and `python -m hashshield`."""

from __future__ import annotations

import errno
import io
import os
import sys

from hashshield.import_path import leave_current_folder_out

__all__ = ["main"]


_OUTPUT = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EPIPE, errno.EBADF)


def main() -> None:
    """Run the command line and exit with its code; 130 when interrupted before a command has begun."""
    leave_current_folder_out()
    _open_streams()
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show a character gets an escape in its place; a report never ends in a UnicodeError.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")

    try:
        _run()
    except OSError as error:
        # Of files and folders errors are expected and named: one without a name is of the output.
        if error.filename is not None or _flushed(error):
            raise
        sys.exit(1)
    except SystemExit as end:
        if _flushed():
            raise
        sys.exit(end.code or 1)


def _run() -> None:
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


def _open_streams() -> None:
    """Put something in the place of standard streams that are closed, lest a file opened later takes their number.

    Reading gives nothing; writing raises OSError, and what goes to standard error is lost.
    """
    if sys.stdin is None:
        sys.stdin = open(os.open(os.devnull, os.O_RDONLY), encoding="utf-8")  # noqa: SIM115 -- for good
    if sys.stdout is None:
        # Opened for reading only, so that a write says that there is no such output.
        sys.stdout = open(os.open(os.devnull, os.O_RDONLY), "w", encoding="utf-8")  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115


def _flushed(met: OSError | None = None) -> bool:
    """Whether standard output takes what is left for it; if not, that is said, and the rest given up.

    `met` is what ended a write that may have been to standard output.
    """
    error = met if met is not None and met.errno in _OUTPUT else None
    try:
        sys.stdout.flush()
    except OSError as flushing:
        error = flushing
    if error is None:
        return True

    from hashshield.cli.terminal import output_errors, say
    from hashshield.errors import StorageError

    try:
        with output_errors(sys.stdout):
            raise error
    except StorageError as reason:
        say(f"hashshield: {reason}")
    except BrokenPipeError:
        pass
    return False


if __name__ == "__main__":
    main()
