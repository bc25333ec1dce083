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
    """Run the command line and exit with its code; 130 if interrupted before a command has begun."""
    leave_current_folder_out()
    _open_streams()
    for stream in (sys.stdout, sys.stderr):
        # Characters that the terminal cannot show become escapes, so that a report never ends in a UnicodeError.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")

    try:
        _run()
    except OSError as error:
        # An OSError about a file or folder names it; one without a name comes from standard output.
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

        # Typer would expand patterns on Windows even in the names of existing files; `cli.options.expanded` does not.
        app(prog_name="hashshield", windows_expand_args=False)
    except KeyboardInterrupt:
        from hashshield.cli.command_line import document_of_nothing, pipes_photo

        words = sys.argv[1:]
        document = document_of_nothing(words)
        if document is not None:
            (sys.stderr if pipes_photo(words) else sys.stdout).write(f"{document}\n")
        sys.stderr.write("Interrupted before anything was done.\n")
        sys.exit(130)


def _open_streams() -> None:
    """Replace closed standard streams, so that a file opened later does not get their descriptor.

    Reading standard input then returns nothing, writing to standard output raises OSError, and standard error is
    discarded.
    """
    if sys.stdin is None:
        sys.stdin = open(os.open(os.devnull, os.O_RDONLY), encoding="utf-8")  # noqa: SIM115 -- for good
    if sys.stdout is None:
        # Opened read-only, so that writing fails.
        sys.stdout = open(os.open(os.devnull, os.O_RDONLY), "w", encoding="utf-8")  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115


def _flushed(met: OSError | None = None) -> bool:
    """Flush standard output and return True; if that fails, report why on standard error and return False.

    `met` is an error that may come from an earlier write to standard output.
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
