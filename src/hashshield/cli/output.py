"""The report that ends every command, and its exit code. Start with `Report`, which a command enters around its work.

Rows go to standard output: as a table on a terminal, as tab-separated lines elsewhere, or as one JSON document.
Everything else goes to standard error. `cli.terminal.Layout` defines how the rows of a command are shown.
"""

from __future__ import annotations

import logging
import math
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path, PurePath
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, TextIO

import typer

from hashshield.boundary import LogFormatter, boundary, logger
from hashshield.cli.terminal import (
    Column,
    Layout,
    count,
    keyed,
    legend,
    output_errors,
    print_table,
    properties,
    say,
    shown_columns,
    shown_warnings,
)
from hashshield.errors import HashshieldError, StorageError, UsageError
from hashshield.text import clean

if TYPE_CHECKING:
    from hashshield.types import Progress

__all__ = [
    "INTERRUPTED",
    "SCHEMA_VERSION",
    "Column",
    "Layout",
    "Report",
    "check_page",
    "combine",
    "exit_code",
    "keyed",
    "plain",
    "properties",
    "reasons",
    "with_page",
    "write_page",
]

SCHEMA_VERSION = 1
INTERRUPTED = 130
_PRECEDENCE = (INTERRUPTED, 4, 2, 1, 3, 0)
_CODES = {
    **dict.fromkeys(("failed", "damaged", "missing", "unrecoverable"), 1),
    **dict.fromkeys(("short", "partial", "not_protected", "original", "unknown"), 3),
}


def combine(codes: Iterable[int]) -> int:
    """Return the most important of several exit codes, in the order 130, 4, 2, 1, 3, 0; 0 if there are none."""
    return min(codes, key=_PRECEDENCE.index, default=0)


def exit_code(statuses: Iterable[str]) -> int:
    """Return the exit code of a command whose rows have these statuses."""
    return combine(_CODES.get(status, 0) for status in statuses)


def plain(value: Any) -> Any:
    """Convert a value for JSON: dataclasses become objects, paths strings, infinity and NaN null."""
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


class Report:
    """Collects the rows of one command and prints them once, however the command ends.

    Enter it around the work. Leaving it prints the report and, unless the exit code is 0, raises `typer.Exit` with that
    code. A HashshieldError is printed as one line on standard error and sets its exit code; an interruption prints how
    to continue and sets 130. Both still report the rows finished before. Any other exception passes: that of a question
    answered with no, or a bug with its traceback. Only JSON reports it, because programs read that.
    """

    begun: ClassVar[bool] = False
    """True once the running command has entered its report."""

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
        self._warnings = ExitStack()
        self._tracebacks: logging.Handler | None = None
        """Shows the tracebacks of internal errors with --verbose."""

    def __enter__(self) -> Report:
        Report.begun = True
        self._warnings.enter_context(shown_warnings())
        if self.verbose:
            self._tracebacks = logging.StreamHandler(sys.stderr)
            self._tracebacks.addFilter(lambda record: record.exc_info is not None)
            self._tracebacks.setFormatter(LogFormatter(names=True))
            logger.addHandler(self._tracebacks)
            logger.setLevel(logging.DEBUG)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._warnings.close()
        if self._tracebacks is not None:
            logger.removeHandler(self._tracebacks)
            logger.setLevel(logging.NOTSET)
        if error is not None and not isinstance(error, (HashshieldError, KeyboardInterrupt)):
            if self.as_json and isinstance(error, Exception) and not isinstance(error, typer.Exit):
                # A failure to print must not hide the error.
                with suppress(OSError, StorageError), output_errors(self._data):
                    self._print_data(1, error)
            return
        code = self._print(error)
        if code:
            raise typer.Exit(code) from None

    def add(self, row: object) -> None:
        """Add one finished row, which is reported even if the command later fails or is interrupted."""
        self.rows.append(row)

    def finish(self, rows: Iterable[object]) -> None:
        """Replace the rows added so far with the final ones."""
        self.rows = list(rows)

    def note(self, text: str) -> None:
        """Print a line on standard error, unless quiet."""
        if not self.quiet:
            say(text)

    def _print(self, error: HashshieldError | KeyboardInterrupt | None) -> int:
        """Print the rows and the error; return the exit code of the command."""
        codes = [exit_code(getattr(row, "status", "") for row in self.rows)]
        if isinstance(error, HashshieldError):
            codes.append(error.exit_code)
        elif error is not None:
            codes.append(INTERRUPTED)
        code = combine(codes)
        unprinted = None
        try:
            with output_errors(self._data):
                self._print_data(code, error)
        except StorageError as trouble:
            unprinted = trouble
            code = combine([code, trouble.exit_code])
        if not self.as_json:
            self._tell(error)
        if unprinted is not None:
            say(f"hashshield {self.command}: {unprinted}")
        if isinstance(error, HashshieldError):
            say(f"hashshield {self.command}: {error}")
        elif error is not None:
            say(f"Interrupted after {count(len(self.rows), 'result')}: {self.layout.resume}.")
        return code

    def _document(self, code: int, error: Exception | KeyboardInterrupt | None) -> dict[str, Any]:
        summary = {"count": len(self.rows), **self.layout.summary(self.rows)}
        summary["seconds"] = round(time.monotonic() - self._started, 3)
        document: dict[str, Any] = {
            "version": SCHEMA_VERSION,
            "command": self.command,
            "results": [plain(row) for row in self.rows],
            "summary": {key: plain(value) for key, value in summary.items()},
        }
        if error is not None:
            name, message = self._named(error)
            document["error"] = {"type": name, "message": message, "exit_code": code}
        return document

    def _named(self, error: Exception | KeyboardInterrupt) -> tuple[str, str]:
        """Return type and message of what ended the command."""
        if isinstance(error, KeyboardInterrupt):
            return "Interrupted", self.layout.resume
        name = type(error).__name__
        if isinstance(error, typer.Abort):
            return "Aborted", "a question was answered with no, and nothing was done after it"
        if isinstance(error, HashshieldError):
            return name, str(error)
        return name, f"internal error: {clean(str(error)) or name}; please report it"

    def _print_data(self, code: int, error: Exception | KeyboardInterrupt | None) -> None:
        """Print the rows to standard output; unless quiet, or always as JSON."""
        if self.as_json:
            import json

            self._write(json.dumps(self._document(code, error), indent=2))
        elif not self.quiet:
            if self._data.isatty():
                self._table()
            else:
                columns = [column for column in self.layout.columns if not column.is_chart]
                for row in self.layout.expand(self.rows):
                    self._write("\t".join(clean(column.cell(row)) for column in columns))

    def _tell(self, error: HashshieldError | KeyboardInterrupt | None) -> None:
        """Print details, reasons and the footer on standard error."""
        if self.verbose:
            for row in self.rows:
                for line in self.layout.details(row):
                    say(line)
        for line in reasons(self.rows, only_bad=self.quiet):
            say(line)
        if not self.quiet and (self.rows or error is None):
            for line in self._closing():
                say(line)

    def _closing(self) -> list[str]:
        """Return the lines below the table; the first ends with the time that the command took."""
        lines = self.layout.footer(self.rows)
        took = self.layout.took(self.rows, time.monotonic() - self._started)
        return [" ".join(filter(None, (lines[0], took))), *lines[1:]] if lines else lines

    def _table(self) -> None:
        rows = self.layout.expand(self.rows)
        visible = rows if self.verbose else self.layout.visible(rows)
        columns = shown_columns(self.layout.columns, visible, verbose=self.verbose)
        print_table(columns, visible, self._data)
        if len(visible) < len(rows):
            say(f"... and {len(rows) - len(visible)} more; --verbose lists all.")
        explained = legend(columns)
        if explained:
            say(explained)

    def _write(self, text: str) -> None:
        self._data.write(f"{text}\n")
        self._data.flush()


def reasons(rows: Iterable[Any], *, only_bad: bool = False) -> list[str]:
    """Return why rows have their status: a line for each failed row, and one for all other rows that share a reason.

    With `only_bad`, for a report without a table, return a line for each row with an exit code other than 0.
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


def check_page(path: Path | None, *, redact: bool) -> None:
    """Check before the work that the page of --report can be written. Raises UsageError, StorageError."""
    if path is None:
        if redact:
            raise UsageError("--redact says what --report leaves out; give --report FILE.html too")
        return
    from hashshield.report.html import check_place

    check_place(path)


def write_page(
    path: Path | None, rows: Sequence[Any], report: Report, progress: Progress, *, redact: bool, **rest: Any
) -> None:
    """Write the page of --report, if any; `rest` goes to `report.html.write`. Raises UsageError, StorageError."""
    if path is None:
        return
    from hashshield.report.html import write

    with boundary("row", str(path)):
        write(path, rows, command=report.command, redact=redact, tell=progress.photo, **rest)
    private = "" if redact else "; it holds originals, so keep it to yourself"
    progress.notice(f"Report: {path}{private}.")


@contextmanager
def with_page(path: Path | None, report: Report, progress: Progress, *, redact: bool, **rest: Any) -> Iterator[None]:
    """Write the page of --report after the block, with the rows so far if the block failed or was interrupted.

    `rest` and errors are those of `write_page`.
    """

    def write() -> None:
        rows = report.rows
        write_page(path, rows, report, progress, redact=redact, said=report.layout.footer(rows), **rest)

    try:
        yield
    except (HashshieldError, KeyboardInterrupt):
        if report.rows:
            try:
                write()
            except HashshieldError as error:
                # Only printed: the error that ended the command decides its exit code.
                say(f"hashshield {report.command}: {error}")
        raise
    write()
