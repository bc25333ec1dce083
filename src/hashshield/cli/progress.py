"""Progress and time left on standard error: a bar on a terminal, lines with `--progress plain`, otherwise nothing.

Photos finish in bursts, and a search that misses its goal takes several times the usual number of steps. The time left
is therefore estimated in gradient steps, and from the rate of the whole run rather than of the last seconds.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any

from hashshield.cli.output import Report
from hashshield.cli.summaries import after_jpeg
from hashshield.cli.terminal import count, roughly, say
from hashshield.errors import UsageError
from hashshield.text import clean

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import ProgressColumn, TaskID

    from hashshield.training.trainer import Epoch

__all__ = [
    "DownloadProgress",
    "EpochProgress",
    "PhotoProgress",
    "RunPace",
    "checked_kind",
    "live_terminal",
]


_PRIOR_PHOTOS = 8.0
"""Weight of the expected steps per photo in the average with the measured ones, as a number of finished photos."""
_LEAST_SHARE = 0.04
"""Share of the work that must be done before the time left is shown."""
_LEAST_SECONDS = 2.0


class RunPace:
    """The progress of one run, counted in gradient steps; times are seconds on one clock.

    Until `expect` is called, photos are counted instead of steps.
    """

    def __init__(self) -> None:
        self.total = self.done_photos = 0
        self._usual: float | None = None
        self._beside: Mapping[str, float] = {}
        self._began: float | None = None
        self._running: dict[str, int] = {}
        """Steps taken so far for each unfinished photo, by path."""
        self._steps_done = 0.0
        """Steps taken for finished photos."""
        self._searched = 0
        self._beside_done = 0.0

    def start(self, photos: int, now: float) -> None:
        """Announce a number of photos; further calls add to it."""
        self.total += photos
        if self._began is None:
            self._began = now

    def expect(self, steps: float, beside: Mapping[str, float], now: float) -> None:
        """Set a search's usual steps and, by path, a photo's cost beside its search, in steps; restart the clock."""
        self._usual, self._beside, self._began = max(steps, 1.0), beside, now

    def stepped(self, path: str) -> None:
        """Count one step of a photo."""
        self._running[path] = self._running.get(path, 0) + 1

    def done(self, path: str) -> None:
        """Count a finished photo, with its steps and its cost beside the search."""
        self.done_photos += 1
        steps = self._running.pop(path, 0)
        if steps:
            self._searched += 1
            self._steps_done += steps
        self._beside_done += self._beside.get(path, 0.0)

    @property
    def finishing(self) -> str | None:
        """The unfinished photo with the most steps, or None."""
        return max(self._running, key=lambda path: self._running[path], default=None)

    def work(self) -> tuple[float, float]:
        """Return the work done and the expected total, in steps, or in photos before `expect`."""
        if self._usual is None:
            return float(self.done_photos), float(max(self.total, self.done_photos))
        running = sum(self._running.values())
        each = self._steps_each()
        # A search past its usual steps is likely to go on: count at least half of a photo's steps as still to come.
        left = sum(max(each - steps, each / 2) for steps in self._running.values())
        waiting = max(self.total - self.done_photos - len(self._running), 0)
        beside = sum(self._beside.values()) or 0.0
        done = self._steps_done + running + self._beside_done
        return done, done + left + waiting * each + max(beside - self._beside_done, 0.0)

    def _steps_each(self) -> float:
        """Return the estimated steps per photo, from the expected number and the finished photos."""
        assert self._usual is not None
        return (self._usual * _PRIOR_PHOTOS + self._steps_done) / (_PRIOR_PHOTOS + self._searched)

    def share(self) -> float:
        """Return the share of the work that is done, 0 to 1."""
        done, total = self.work()
        return min(done / total, 1.0) if total else 0.0

    def seconds_left(self, now: float) -> float | None:
        """Return the estimated seconds left, or None if too little is done for an estimate."""
        share = self.share()
        if self._began is None or share < _LEAST_SHARE or now - self._began < _LEAST_SECONDS:
            return None
        return (now - self._began) * (1 - share) / share


_LINE_SECONDS = 10.0
"""Least time between two lines of `--progress plain`."""
_BAR_SECONDS = 0.2
"""Least time between two updates of the bar while photos take steps."""


def checked_kind(kind: str) -> str:
    """Return the value of --progress. Raises UsageError unless it is `auto` or `plain`."""
    if kind not in ("auto", "plain"):
        raise UsageError(f"--progress is {kind!r}, which is unknown; choose one of auto, plain")
    return kind


def live_terminal() -> bool:
    """Return True if standard error is a terminal that can show a bar."""
    # Not rich's own check: FORCE_COLOR makes rich treat a pipe or log file as a terminal.
    return sys.stderr.isatty() and os.environ.get("TERM", "") not in ("dumb", "unknown")


class _Live:
    """A bar, shown on terminals only; the field `what` is the text after the time left."""

    def __init__(self, *, quiet: bool) -> None:
        self._shown = live_terminal() and not quiet
        self._bar: Bar | None = None
        self._task: TaskID | None = None
        self._began = 0.0

    def _begin(self, total: int) -> None:
        if not self._shown or self._bar is not None:
            return
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn
        from rich.table import Column

        what = Column(ratio=1, no_wrap=True, overflow="ellipsis")
        self._bar = Progress(
            BarColumn(bar_width=12),
            *self._columns(),
            TextColumn("{task.fields[what]}", markup=False, table_column=what),
            console=Console(file=sys.stderr),
            redirect_stdout=False,
            transient=True,
            expand=True,
        )
        self._task = self._bar.add_task("", total=total, counted="", rate="", left="", what="")
        self._began = time.monotonic()
        self._bar.start()

    def _columns(self) -> list[ProgressColumn | str]:
        """Return the columns between the bar and the text."""
        from rich.progress import TextColumn, TimeRemainingColumn

        return [self._counter(), TextColumn("{task.fields[rate]}", markup=False), TimeRemainingColumn(compact=True)]

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
    """The `StepProgress` of the command line. It adds each finished row to the report, which keeps it if interrupted.

    On a terminal a bar shows the photos done, how many are kept after JPEG, the time left, and the unfinished photo
    with the most steps. With `plain` a line shows the same at most every ten seconds, on any output. Enter it around
    the work.
    """

    def __init__(
        self,
        report: Report,
        *,
        kind: str = "auto",
        unit: str = "photo",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(quiet=report.quiet)
        self._report, self._told, self._unit, self._clock = report, set[str](), unit, clock
        self._pace, self._lock = RunPace(), threading.Lock()
        self._kept: int | None = None
        """Number of photos kept after JPEG; None before one was measured."""
        self._named = ""
        self._plain = kind == "plain" and not report.quiet
        self._shown = self._shown and not self._plain
        self._said = clock()
        """Time of the last line or update of the bar."""

    def __enter__(self) -> PhotoProgress:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._end()

    def start(self, total: int) -> None:
        """Announce `total` photos; further calls add to it."""
        with self._lock:
            self._pace.start(total, self._clock())
        self._begin(1)
        # Loading the networks takes seconds, before any photo has begun.
        self._named = "getting ready"
        self._show(at_once=True)

    def expect(self, steps: float, beside: Mapping[str, float]) -> None:
        """Set the expected cost of each photo, in steps."""
        with self._lock:
            self._pace.expect(steps, beside, self._clock())

    def stepped(self, path: str) -> None:
        """Count one step of a photo, from any thread."""
        with self._lock:
            self._pace.stepped(path)
        self._show()

    def photo(self, path: str) -> None:
        """Set the photo to show until the first one takes a step."""
        self._named = path
        self._show()

    def done(self, outcome: object) -> None:
        """Count one finished photo and add its row to the report; None counts work without a row."""
        if outcome is not None:
            self._report.add(outcome)
        row: Any = outcome
        after = after_jpeg(row) if hasattr(row, "survival") else ""
        if after:
            self._kept = (self._kept or 0) + (after == "kept")
        with self._lock:
            self._pace.done(str(getattr(outcome, "path", "")))
        self._show(at_once=True)

    def notice(self, text: str) -> None:
        """Print a line on standard error, but the same text only once."""
        if text in self._told:
            return
        self._told.add(text)
        self._tell(self._report, text)

    def _show(self, *, at_once: bool = False) -> None:
        now = self._clock()
        if self._plain:
            # The first line appears after ten seconds; shorter runs print none.
            if now - self._said >= _LINE_SECONDS and self._pace.done_photos < self._pace.total:
                self._said = now
                say("; ".join(filter(None, self._state(now))))
        elif self._bar is not None and self._task is not None and (at_once or now - self._said >= _BAR_SECONDS):
            self._said = now
            counted, kept, left, name = self._state(now)
            with self._lock:
                share = self._pace.share()
            self._bar.update(self._task, completed=share, counted=counted, rate=kept, left=left, what=clean(name))

    def _state(self, now: float) -> tuple[str, str, str, str]:
        """Return texts for the photos done, those kept after JPEG, the time left, and the photo to show."""
        with self._lock:
            pace, finishing = self._pace, self._pace.finishing
            counted = f"{pace.done_photos} of {count(pace.total, self._unit)}"
            left = pace.seconds_left(now) if pace.done_photos < pace.total else None
        kept = "" if self._kept is None else f"{self._kept} kept after JPEG"
        return counted, kept, "" if left is None else f"{roughly(left)} left", finishing or self._named

    def _columns(self) -> list[ProgressColumn | str]:
        from rich.progress import TextColumn

        return [TextColumn(f"{{task.fields[{name}]}}", markup=False) for name in ("counted", "rate", "left")]


class DownloadProgress(_Live):
    """The `FetchProgress` of downloads: shows bytes, rate and time left, file by file."""

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
        """Report the bytes downloaded; those present at the first call do not count towards the rate."""
        if self._first is None or done < self._first:
            self._first = done
        if self._bar is not None and self._task is not None:
            rate = (done - self._first) / max(time.monotonic() - self._began, 1e-3)
            self._bar.update(self._task, completed=done, rate=f"{rate / 1e6:.1f} MB/s")

    def notice(self, text: str) -> None:
        """Print a line on standard error."""
        self._tell(self._report, text)


class EpochProgress(_Live):
    """The trainer's `Reporter`: shows epochs done, loss and MAP of the last one, rate and time left."""

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
