"""The page of --report: looked at before the work, written after it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hashshield.cli.output import Sink
from hashshield.cli.progress import PhotoProgress
from hashshield.errors import HashshieldError, UsageError

__all__ = ["check_report", "reported", "write_report"]


def check_report(path: Path | None, *, redact: bool) -> None:
    """Refuse what cannot be written or meant. Raises UsageError, StorageError."""
    if path is None:
        if redact:
            raise UsageError("--redact says what --report leaves out; give --report FILE.html too")
        return
    from hashshield.report.html import check_place

    check_place(path)


def write_report(
    path: Path | None, rows: Sequence[Any], sink: Sink, progress: PhotoProgress, *, redact: bool, **rest: Any
) -> None:
    """Write the page where one was asked for; `rest` as in `report.html.write`. Raises UsageError, StorageError."""
    if path is None:
        return
    from hashshield.report.html import write

    write(path, rows, command=sink.command, redact=redact, tell=progress.photo, **rest)
    private = "" if redact else "; it holds originals, so keep it to yourself"
    progress.notice(f"Report: {path}{private}.")


@contextmanager
def reported(path: Path | None, sink: Sink, progress: PhotoProgress, *, redact: bool, **rest: Any) -> Iterator[None]:
    """Write the page of the sink's rows after the work, also when that was interrupted or failed on its way.

    `rest` as in `write_report`, which raises the same.
    """

    def write() -> None:
        write_report(path, sink.rows, sink, progress, redact=redact, said=sink.layout.closing(sink.rows), **rest)

    try:
        yield
    except (HashshieldError, KeyboardInterrupt):
        if sink.rows:
            write()
        raise
    write()
