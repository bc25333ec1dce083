"""What commands say on the terminal: lines on standard error, text made harmless, warnings, an output that is full."""

from __future__ import annotations

import errno
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from hashshield.boundary import logger
from hashshield.errors import StorageError
from hashshield.text import clean

if TYPE_CHECKING:
    from rich.text import Text

__all__ = ["count", "literal", "output_errors", "say", "shown_warnings"]


def say(text: str) -> None:
    """Print one line on standard error, made harmless, and wrapped between words to the width of a terminal."""
    line = clean(text)
    if sys.stderr.isatty():
        from shutil import get_terminal_size
        from textwrap import fill

        line = fill(line, get_terminal_size().columns, break_long_words=False, break_on_hyphens=False)
    # There is no other place to say that this one is closed or full.
    with suppress(OSError):
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()


def count(number: int, noun: str) -> str:
    """Return the number with its noun: `1 photo`, `2 photos`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def literal(text: str, style: str = "") -> Text:
    """Return text for rich, made harmless and never read as markup, link or emoji code."""
    from rich.text import Text

    return Text(clean(text), style=style)


class _Warnings(logging.Handler):
    """Shows the warnings of this package's logger on standard error, each text once; tracebacks are others' work."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._said: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        """Print one line."""
        text = record.getMessage()
        if record.exc_info is None and text not in self._said:
            self._said.add(text)
            say(f"warning: {text}")


@contextmanager
def shown_warnings() -> Iterator[None]:
    """Show the warnings of this package's logger for as long; what is within another such block shows them once."""
    if any(isinstance(handler, _Warnings) for handler in logger.handlers):
        yield
        return
    handler = _Warnings()
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


@contextmanager
def output_errors(stream: Any) -> Iterator[None]:
    """Raise StorageError for a standard output that takes no more because it is full or closed.

    What is left in its buffer is given up, so that the end of the program does not stumble over it again. A reader that
    went away is no failure to speak of: its BrokenPipeError passes.
    """
    try:
        yield
    except OSError as error:
        from hashshield.storage.os_errors import explain

        with suppress(OSError, ValueError):
            if stream in (sys.stdout, getattr(sys.stdout, "buffer", None)):
                nothing = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nothing, stream.fileno())
                os.close(nothing)
        if isinstance(error, BrokenPipeError):
            raise
        what = "it is closed" if error.errno == errno.EBADF else explain(error)
        raise StorageError(f"standard output cannot be written: {what}; what was done stays done") from error
