"""Output to the terminal: lines and warnings on standard error, tables, and errors of standard output.

A `Layout` defines how the rows of a command are shown; `print_table` fits them to 60 to 200 columns. If there is too
little room, headings break between words and names are shortened in the middle; numbers are never cut.
"""

from __future__ import annotations

import errno
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO

from hashshield.boundary import logger
from hashshield.errors import StorageError
from hashshield.text import clean

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

__all__ = [
    "Column",
    "Layout",
    "count",
    "duration",
    "keyed",
    "legend",
    "literal",
    "output_errors",
    "print_table",
    "properties",
    "roughly",
    "say",
    "shortened",
    "shown_columns",
    "shown_warnings",
]


def say(text: str) -> None:
    """Print one line on standard error, escaped, and on a terminal wrapped between words to its width."""
    line = clean(text)
    if sys.stderr.isatty():
        from shutil import get_terminal_size
        from textwrap import fill

        line = fill(line, get_terminal_size().columns, break_long_words=False, break_on_hyphens=False)
    # If standard error is closed or full, there is nowhere left to report it.
    with suppress(OSError):
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()


def count(number: int, noun: str) -> str:
    """Return the number with its noun: `1 photo`, `2 photos`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def duration(seconds: float) -> str:
    """Return a length of time in words: `0.8 s`, `97 s`, `3 min 38 s`, `2 h 5 min`."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if seconds < 119.5:
        return f"{seconds:.0f} s"
    if seconds < 3570:
        return f"{int(seconds + 0.5) // 60} min {int(seconds + 0.5) % 60} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min"


def roughly(seconds: float) -> str:
    """Return an estimated length of time in round words: `about 40 s`, `about 3 min`, `about 2 h 10 min`."""
    if seconds < 57.5:
        return f"about {max(round(seconds / 5) * 5, 5)} s"
    minutes = max(round(seconds / 60), 1)
    if minutes < 60:
        return f"about {minutes} min"
    tens = round(minutes / 10) * 10
    return f"about {tens // 60} h {tens % 60} min" if tens % 60 else f"about {tens // 60} h"


def literal(text: str, style: str = "") -> Text:
    """Return escaped text for rich, which does not interpret it as markup, link or emoji code."""
    from rich.text import Text

    return Text(clean(text), style=style)


class _Warnings(logging.Handler):
    """Shows the warnings of this package's logger on standard error, each text once; leaves out tracebacks."""

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
    """Show the warnings of this package's logger during the block; a nested block does not show them twice."""
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
    """Raise StorageError if writing to standard output fails in the block, because it is full or closed.

    Its remaining buffer is discarded, so that it does not fail again when the program ends. A BrokenPipeError passes
    unchanged: a reader that closed the pipe is not a failure.
    """
    try:
        yield
    except OSError as error:
        from hashshield.storage.calls import explain

        with suppress(OSError, ValueError):
            if stream in (sys.stdout, getattr(sys.stdout, "buffer", None)):
                nothing = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nothing, stream.fileno())
                os.close(nothing)
        if isinstance(error, BrokenPipeError):
            raise
        what = "it is closed" if error.errno == errno.EBADF else explain(error)
        raise StorageError(f"standard output cannot be written: {what}; what was done stays done") from error


_GAP = 2
"""Cells between two columns."""
_LEAST_NAME = 12
"""Cells that a name keeps on the narrowest terminal."""


def _no_style(row: Any) -> str:
    return ""


class Column(NamedTuple):
    """One column of a report."""

    header: str
    cell: Callable[[Any], str]
    """Returns the text of a row's cell, empty if there is nothing to show."""
    right: bool = False
    """True for numbers, which are aligned to the right."""
    style: Callable[[Any], str] = _no_style
    """Returns the rich style of a row's cell."""
    is_chart: bool = False
    """True for a bar drawn with characters, which is shown on terminals only."""
    is_name: bool = False
    """True for paths, which are shortened in the middle if the terminal is too narrow."""
    is_detail: bool = False
    """True for a column that a terminal shows with --verbose only; other outputs always have it."""
    legend: str = ""
    """What the column means, for the line below the table; empty if the heading is enough."""


def _all(rows: Sequence[Any]) -> Sequence[Any]:
    return rows


def _no_lines(rows: Sequence[Any]) -> list[str]:
    return []


def _no_details(row: Any) -> list[str]:
    return []


def _no_summary(rows: Sequence[Any]) -> dict[str, Any]:
    return {}


def _no_time(rows: Sequence[Any], seconds: float) -> str:
    return ""


class Layout(NamedTuple):
    """The presentation of one command's rows: a table for people, a summary for programs."""

    columns: tuple[Column, ...]
    expand: Callable[[Sequence[Any]], Sequence[Any]] = _all
    """Returns the lines to show for the rows, if they are not the rows themselves."""
    visible: Callable[[Sequence[Any]], Sequence[Any]] = _all
    """Returns the lines of the table that a terminal shows without --verbose."""
    footer: Callable[[Sequence[Any]], list[str]] = _no_lines
    """Returns the sentences below the table, for standard error."""
    took: Callable[[Sequence[Any], float], str] = _no_time
    """Returns the sentence on the time that the command took, appended to the first line of the footer."""
    details: Callable[[Any], list[str]] = _no_details
    """Returns the lines that --verbose adds for a row, for standard error."""
    summary: Callable[[Sequence[Any]], dict[str, Any]] = _no_summary
    """Returns the entries of the JSON summary besides count and seconds."""
    resume: str = "nothing was left half done; run the same command again"
    """Advice after an interruption, as the end of a sentence."""


def keyed(*keys: str) -> Layout:
    """Return the layout of rows that are mappings: one column per key, in this order."""

    def column(key: str) -> Column:
        return Column(key, lambda row: _cell(row.get(key)))

    return Layout(columns=tuple(column(key) for key in keys))


def properties() -> Layout:
    """Return the layout of mappings with many keys: one line per key."""

    def pairs(rows: Sequence[Any]) -> Sequence[Any]:
        return [{"key": key, "value": value} for row in rows for key, value in row.items()]

    return Layout(columns=keyed("key", "value").columns, expand=pairs)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4f}"
    if isinstance(value, dict):
        return ", ".join(f"{key}: {_cell(item)}" for key, item in value.items())
    return ", ".join(map(_cell, value)) if isinstance(value, (list, tuple)) else str(value)


def shown_columns(columns: Sequence[Column], rows: Sequence[Any], *, verbose: bool) -> list[Column]:
    """Return the columns that a terminal shows: those with a non-empty cell, and details only if `verbose`."""
    return [column for column in columns if (verbose or not column.is_detail) and any(column.cell(row) for row in rows)]


def legend(columns: Sequence[Column]) -> str:
    """Return one line that explains the columns, or "" if they need none."""
    return " ".join(f"{column.header}: {column.legend}." for column in columns if column.legend)


def shortened(text: str, width: int, *, mark: str = "\u2026") -> str:
    """Return text in at most `width` terminal cells: `mark` replaces its middle, and more of its end is kept."""
    from rich.cells import cell_len

    if cell_len(text) <= width:
        return text
    room = max(width - cell_len(mark), 0)
    head = _fitting(text, room // 3)
    tail = _fitting(text[::-1], room - cell_len(head))[::-1]
    return f"{head}{mark}{tail}" if width >= cell_len(mark) else _fitting(text, width)


def _fitting(text: str, width: int) -> str:
    """Return the longest beginning of a text that takes at most `width` cells."""
    from rich.cells import cell_len

    taken = ""
    for character in text:
        if cell_len(taken + character) > width:
            break
        taken += character
    return taken


def print_table(columns: Sequence[Column], rows: Sequence[Any], stream: TextIO) -> None:
    """Print rows as a table that fits the terminal, with names shortened if necessary."""
    from rich.console import Console
    from rich.table import Table

    if not columns:
        return
    console = Console(file=stream)
    headers, cells = _fitted(columns, rows, console)
    table = Table(box=None, pad_edge=False, show_header=any(headers))
    for column, header in zip(columns, headers, strict=True):
        table.add_column(header, justify="right" if column.right else "left", overflow="fold")
    for row, texts in zip(rows, cells, strict=True):
        table.add_row(*(literal(text, column.style(row)) for column, text in zip(columns, texts, strict=True)))
    console.print(table)


def _fitted(columns: Sequence[Column], rows: Sequence[Any], console: Console) -> tuple[list[str], list[list[str]]]:
    """Return headings and cells, unchanged if they fit, else with line breaks in headings and shortened names."""
    from rich.cells import cell_len

    headers = [column.header for column in columns]
    cells = [[clean(column.cell(row)) for column in columns] for row in rows]
    widest = [max((cell_len(row[i]) for row in cells), default=0) for i in range(len(columns))]
    names = [i for i, column in enumerate(columns) if column.is_name]
    gaps = _GAP * (len(columns) - 1)
    if not names or sum(max(w, cell_len(h)) for w, h in zip(widest, headers, strict=True)) + gaps <= console.width:
        return headers, cells
    headers = [header.replace(" ", "\n") for header in headers]
    broken = [max(map(cell_len, header.split("\n"))) for header in headers]
    others = sum(max(w, b) for i, (w, b) in enumerate(zip(widest, broken, strict=True)) if i not in names)
    room = max(console.width - gaps - others, _LEAST_NAME * len(names))
    mark = "\u2026" if console.encoding.lower().startswith("utf") else "..."
    widths = _shared(room, [max(widest[i], broken[i]) for i in names])
    for row in cells:
        for i, width in zip(names, widths, strict=True):
            row[i] = shortened(row[i], width, mark=mark)
    return headers, cells


def _shared(room: int, wanted: Sequence[int]) -> list[int]:
    """Divide `room` cells among columns: none gets more than it wants, and the rest is shared equally."""
    widths = [0] * len(wanted)
    left = room
    for place, i in enumerate(sorted(range(len(wanted)), key=lambda i: wanted[i])):
        widths[i] = min(wanted[i], left // (len(wanted) - place))
        left -= widths[i]
    return widths
