"""One sink for all commands: a table on a terminal, lines off it, or one JSON document; and the exit code.

Data goes to standard output, everything else to standard error.
"""

from __future__ import annotations

import logging
import math
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import PurePath
from types import TracebackType
from typing import Any, ClassVar, NamedTuple, TextIO

import typer

from hashshield.boundary import LogFormatter, logger
from hashshield.cli.text import clean, literal
from hashshield.errors import HashshieldError

__all__ = [
    "INTERRUPTED",
    "SCHEMA_VERSION",
    "Column",
    "Layout",
    "Sink",
    "combine",
    "count",
    "exit_code",
    "keyed",
    "plain",
    "reasons",
    "say",
]

SCHEMA_VERSION = 1
INTERRUPTED = 130
_PRECEDENCE = (INTERRUPTED, 4, 2, 1, 3, 0)
_CODES = {
    **dict.fromkeys(("failed", "damaged", "missing", "unrecoverable"), 1),
    **dict.fromkeys(("short", "partial", "not_protected", "unknown"), 3),
}


def _no_style(row: Any) -> str:
    return ""


class Column(NamedTuple):
    """One column of a report; `cell` turns a row into text, empty when there is nothing to say."""

    header: str
    cell: Callable[[Any], str]
    right: bool = False
    style: Callable[[Any], str] = _no_style
    """rich's style of a cell, as a function of the row."""
    drawn: bool = False
    """Part of a chart: for terminals only, because it tells programs nothing new."""


def _all(rows: Sequence[Any]) -> Sequence[Any]:
    return rows


def _no_lines(rows: Sequence[Any]) -> list[str]:
    return []


def _no_details(row: Any) -> list[str]:
    return []


def _no_numbers(rows: Sequence[Any]) -> dict[str, Any]:
    return {}


class Layout(NamedTuple):
    """How the rows of one command are shown to people, and summed up for programs."""

    columns: tuple[Column, ...]
    spread: Callable[[Sequence[Any]], Sequence[Any]] = _all
    """The lines to show of the rows, where they are not the rows themselves."""
    shown: Callable[[Sequence[Any]], Sequence[Any]] = _all
    """The rows worth a line of a table on a terminal."""
    closing: Callable[[Sequence[Any]], list[str]] = _no_lines
    """Sentences after the table, on standard error."""
    details: Callable[[Any], list[str]] = _no_details
    """What --verbose adds about a row, on standard error."""
    numbers: Callable[[Sequence[Any]], dict[str, Any]] = _no_numbers
    """What the JSON summary holds besides count and seconds."""
    resume: str = "nothing was left half done; run the same command again"
    """What to do after an interruption."""


def keyed(*keys: str) -> Layout:
    """The layout of rows that are mappings: one column per key, in this order."""

    def column(key: str) -> Column:
        return Column(key, lambda row: _shown(row.get(key)))

    return Layout(columns=tuple(column(key) for key in keys))


def properties() -> Layout:
    """The layout of mappings with many keys: one line per key."""

    def pairs(rows: Sequence[Any]) -> Sequence[Any]:
        return [{"key": key, "value": value} for row in rows for key, value in row.items()]

    return Layout(columns=keyed("key", "value").columns, spread=pairs)


def _shown(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4f}"
    if isinstance(value, dict):
        return ", ".join(f"{key}: {_shown(item)}" for key, item in value.items())
    return ", ".join(map(_shown, value)) if isinstance(value, (list, tuple)) else str(value)


def combine(codes: Iterable[int]) -> int:
    """The exit code that speaks for several: 130, then 4, 2, 1, 3, 0."""
    return min(codes, key=_PRECEDENCE.index, default=0)


def exit_code(statuses: Iterable[str]) -> int:
    """The exit code of a command whose rows ended with these statuses."""
    return combine(_CODES.get(status, 0) for status in statuses)


def plain(value: Any) -> Any:
    """A value as JSON can hold it: dataclasses become objects; infinite and NaN become null."""
    from dataclasses import fields, is_dataclass

    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return str(value) if isinstance(value, PurePath) else value


class Sink:
    """Collects the rows of one command and reports them once, however the command ends.

    A context manager: an expected failure becomes one line on standard error and its exit code, an interruption
    130 with a line how to go on; both still report the rows that were finished. A bug stays a traceback.
    """

    begun: ClassVar[bool] = False
    """Whether a report of the command that runs is on its way, or done."""

    def __init__(
        self,
        command: str,
        layout: Layout,
        *,
        as_json: bool = False,
        quiet: bool = False,
        verbose: bool = False,
        data: TextIO | None = None,
    ) -> None:
        self.command, self.layout, self.as_json = command, layout, as_json
        self.quiet, self.verbose = quiet, verbose and not quiet
        self.rows: list[Any] = []
        self._data = sys.stdout if data is None else data
        self._started = time.monotonic()
        self._tracebacks: logging.Handler | None = None
        """Where --verbose shows the tracebacks of internal errors."""

    def __enter__(self) -> Sink:
        Sink.begun = True
        if self.verbose:
            self._tracebacks = logging.StreamHandler(sys.stderr)
            self._tracebacks.setFormatter(LogFormatter(names=True))
            logger.addHandler(self._tracebacks)
            logger.setLevel(logging.DEBUG)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if self._tracebacks is not None:
            logger.removeHandler(self._tracebacks)
            logger.setLevel(logging.NOTSET)
        if error is None:
            raise typer.Exit(self._report())
        if isinstance(error, (HashshieldError, KeyboardInterrupt)):
            raise typer.Exit(self._report(error)) from None

    def add(self, row: object) -> None:
        """Take one finished row, so that it is reported even when the rest is not."""
        self.rows.append(row)

    def finish(self, rows: Iterable[object]) -> None:
        """Set the final rows, in place of those added on the way."""
        self.rows = list(rows)

    def note(self, text: str) -> None:
        """Tell the user something on standard error, unless quiet."""
        if not self.quiet:
            say(text)

    def _report(self, error: HashshieldError | KeyboardInterrupt | None = None) -> int:
        codes = [exit_code(getattr(row, "status", "") for row in self.rows)]
        if isinstance(error, HashshieldError):
            codes.append(error.exit_code)
        elif error is not None:
            codes.append(INTERRUPTED)
        code = combine(codes)
        if self.as_json:
            import json

            self._write(json.dumps(self._document(code, error), indent=2))
        else:
            self._show(error)
        if isinstance(error, HashshieldError):
            say(f"hashshield {self.command}: {error}")
        elif error is not None:
            say(f"Interrupted after {count(len(self.rows), 'result')}: {self.layout.resume}.")
        return code

    def _document(self, code: int, error: HashshieldError | KeyboardInterrupt | None) -> dict[str, Any]:
        summary = {"count": len(self.rows), **self.layout.numbers(self.rows)}
        summary["seconds"] = round(time.monotonic() - self._started, 3)
        document: dict[str, Any] = {
            "version": SCHEMA_VERSION,
            "command": self.command,
            "results": [plain(row) for row in self.rows],
            "summary": {key: plain(value) for key, value in summary.items()},
        }
        if error is not None:
            name = "Interrupted" if isinstance(error, KeyboardInterrupt) else type(error).__name__
            document["error"] = {"type": name, "message": str(error) or self.layout.resume, "exit_code": code}
        return document

    def _show(self, error: HashshieldError | KeyboardInterrupt | None) -> None:
        if not self.quiet:
            if self._data.isatty():
                self._table()
            else:
                columns = [column for column in self.layout.columns if not column.drawn]
                for row in self.layout.spread(self.rows):
                    self._write("\t".join(clean(column.cell(row)) for column in columns))
        if self.verbose:
            for row in self.rows:
                for line in self.layout.details(row):
                    say(line)
        for line in reasons(self.rows, only_bad=self.quiet):
            say(line)
        if not self.quiet and (self.rows or error is None):
            for line in self.layout.closing(self.rows):
                say(line)

    def _table(self) -> None:
        from rich.console import Console
        from rich.table import Table

        rows = self.layout.spread(self.rows)
        shown = rows if self.verbose else self.layout.shown(rows)
        columns = [column for column in self.layout.columns if any(column.cell(row) for row in shown)]
        if not columns:
            return
        table = Table(box=None, pad_edge=False)
        for column in columns:
            table.add_column(column.header, justify="right" if column.right else "left", overflow="fold")
        for row in shown:
            table.add_row(*(literal(column.cell(row), column.style(row)) for column in columns))
        Console(file=self._data).print(table)
        if len(shown) < len(rows):
            say(f"... and {len(rows) - len(shown)} more; --verbose lists all.")

    def _write(self, text: str) -> None:
        self._data.write(f"{text}\n")
        self._data.flush()


def reasons(rows: Iterable[Any], *, only_bad: bool = False) -> list[str]:
    """Why rows are as they are: one line for each failed one, one for all others that share a status and a reason.

    With `only_bad` the table is not shown, so each bad row is named.
    """
    lines: list[str] = []
    shared: dict[str, list[str]] = {}
    for row in rows:
        reason = getattr(row, "reason", None)
        name = str(getattr(row, "path", None) or getattr(row, "protected", ""))
        if not reason:
            continue
        if row.status == "failed" or (only_bad and exit_code([row.status])):
            # An error's own message often begins with the file it is about.
            lines.append(f"{row.status}: {reason}" if reason.startswith(name) else f"{row.status}: {name}: {reason}")
        elif not only_bad:
            shared.setdefault(f"{row.status}: {reason.removeprefix(f'{name}: ')}", []).append(name)
    for text, names in shared.items():
        lines.append(f"{text} ({names[0]}{f' and {len(names) - 1} more' if len(names) > 1 else ''})")
    return lines


def say(text: str) -> None:
    """One harmless line on standard error, broken between words on a terminal that is narrower."""
    line = clean(text)
    if sys.stderr.isatty():
        from shutil import get_terminal_size
        from textwrap import fill

        line = fill(line, get_terminal_size().columns, break_long_words=False, break_on_hyphens=False)
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def count(number: int, noun: str) -> str:
    """`1 photo`, `2 photos`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
