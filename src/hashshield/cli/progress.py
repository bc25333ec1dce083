"""Progress bars on standard error: photos done, the current one, rate and time left. Without a terminal, no bar."""

from __future__ import annotations

import os
import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING

from hashshield.cli.output import Report
from hashshield.text import clean

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import ProgressColumn, TaskID

    from hashshield.training.trainer import Epoch

__all__ = ["DownloadProgress", "EpochProgress", "PhotoProgress", "live_terminal"]


def live_terminal() -> bool:
    """Return True if standard error can show something that moves."""
    # FORCE_COLOR makes rich call a pipe a terminal; nobody wants a bar in a log file.
    return sys.stderr.isatty() and os.environ.get("TERM", "") not in ("dumb", "unknown")


class _Live:
    """A bar that exists on a terminal only; `what` is the text after the time left."""

    def __init__(self, *, quiet: bool) -> None:
        self._shown = live_terminal() and not quiet
        self._bar: Bar | None = None
        self._task: TaskID | None = None
        self._began = 0.0

    def _begin(self, total: int) -> None:
        if not self._shown or self._bar is not None:
            return
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
        from rich.table import Column

        what = Column(ratio=1, no_wrap=True, overflow="ellipsis")
        self._bar = Progress(
            BarColumn(bar_width=20),
            self._counter(),
            TextColumn("{task.fields[rate]}", markup=False),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[what]}", markup=False, table_column=what),
            console=Console(file=sys.stderr),
            redirect_stdout=False,
            transient=True,
            expand=True,
        )
        self._task = self._bar.add_task("", total=total, rate="", what="")
        self._began = time.monotonic()
        self._bar.start()

    def _counter(self) -> ProgressColumn:
        from rich.progress import MofNCompleteColumn

        return MofNCompleteColumn()

    def _update(self, *, what: str | None = None, done: int | None = None, unit: str = "") -> None:
        if self._bar is None or self._task is None:
            return
        if what is not None:
            self._bar.update(self._task, what=clean(what))
        if done is not None:
            rate = done / max(time.monotonic() - self._began, 1e-3)
            text = f"{rate:.1f} {unit}/s" if rate >= 1 else f"{1 / rate:.1f} s/{unit}" if rate else ""
            self._bar.update(self._task, completed=done, rate=text)

    def _tell(self, report: Report, text: str) -> None:
        if self._bar is not None:
            self._bar.console.print(clean(text), markup=False, highlight=False, emoji=False)
        else:
            report.note(text)

    def _end(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = self._task = None


class PhotoProgress(_Live):
    """The pipeline's `Progress`; adds every finished row to the report, so that an interruption still reports it."""

    def __init__(self, report: Report, *, unit: str = "photo") -> None:
        super().__init__(quiet=report.quiet)
        self._report, self._told, self._done, self._unit = report, set[str](), 0, unit
        self._total = 0

    def __enter__(self) -> PhotoProgress:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._end()

    def start(self, total: int) -> None:
        """Announce that `total` photos will be worked on; called again, that many more."""
        self._total += total
        self._begin(total)
        # Loading the networks takes seconds in which no photo has begun.
        self._update(what="getting ready")
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, total=self._total)

    def photo(self, path: str) -> None:
        """Name the photo that is being worked on."""
        self._update(what=path)

    def done(self, outcome: object) -> None:
        """Count one finished photo and add its row; None for work that has no row of its own."""
        if outcome is not None:
            self._report.add(outcome)
        self._done += 1
        self._update(done=self._done, unit=self._unit)

    def notice(self, text: str) -> None:
        """Print a line on standard error, but the same text only once."""
        if text in self._told:
            return
        self._told.add(text)
        self._tell(self._report, text)


class DownloadProgress(_Live):
    """The `FetchProgress` of downloads: bytes present, rate and time left, one file after the other."""

    def __init__(self, report: Report) -> None:
        super().__init__(quiet=report.quiet)
        self._report = report
        self._first: int | None = None

    def __enter__(self) -> DownloadProgress:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._end()

    def _counter(self) -> ProgressColumn:
        from rich.progress import DownloadColumn

        return DownloadColumn()

    def start(self, name: str, total: int) -> None:
        """Announce a file of `total` bytes."""
        self._end()
        self._begin(total)
        self._first = None
        self._update(what=name)

    def at(self, done: int) -> None:
        """Report how many bytes are here; those present at the first call do not count towards the rate."""
        if self._first is None or done < self._first:
            self._first = done
        if self._bar is not None and self._task is not None:
            rate = (done - self._first) / max(time.monotonic() - self._began, 1e-3)
            self._bar.update(self._task, completed=done, rate=f"{rate / 1e6:.1f} MB/s")

    def notice(self, text: str) -> None:
        """Print a line on standard error."""
        self._tell(self._report, text)


class EpochProgress(_Live):
    """The trainer's `Reporter`: epochs done, loss and MAP of the last, rate and time left."""

    def __init__(self, report: Report) -> None:
        super().__init__(quiet=report.quiet)
        self._report = report

    def __enter__(self) -> EpochProgress:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._end()

    def note(self, text: str) -> None:
        """Print a line on standard error."""
        self._tell(self._report, text)

    def epoch(self, epoch: Epoch) -> None:
        """Show one finished epoch."""
        self._begin(epoch.epochs)
        quality = "" if epoch.map is None else f"  MAP {epoch.map:.4f}"
        self._update(what=f"loss {epoch.loss:.4f}{quality}", done=epoch.epoch, unit="epoch")
