from __future__ import annotations

import io
import re
import sys
from collections.abc import Callable
from typing import Any

import pytest

from hashshield.checkpoints.fetch import FetchProgress
from hashshield.cli.layouts import PROTECT
from hashshield.cli.output import Report
from hashshield.cli.progress import DownloadProgress, EpochProgress, PhotoProgress, live_terminal
from hashshield.training.trainer import Epoch, Reporter
from hashshield.types import Outcome, Progress, StepProgress


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Standard error as a terminal. No fixture: pytest puts its own capture back between setting up and the test."""
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "100")
    return stream


def work(progress: PhotoProgress, outcome: Callable[..., Outcome], name: str = "photos/b.jpg") -> None:
    reporter: Progress = progress
    reporter.start(3)
    reporter.photo(name)
    reporter.notice("no GPU was found; using the CPU")
    reporter.notice("no GPU was found; using the CPU")
    reporter.done(outcome())
    reporter.done(outcome("b.jpg", "failed", reason="truncated"))


def test_nothing_moves_off_a_terminal(
    capsys: pytest.CaptureFixture[str], outcome: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    report = Report("protect", PROTECT)
    with PhotoProgress(report) as progress:
        work(progress, outcome)
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == "no GPU was found; using the CPU\n"
    assert [row.path for row in report.rows] == ["a.jpg", "b.jpg"]


def test_a_terminal_shows_done_current_rate_and_time_left(monkeypatch: pytest.MonkeyPatch, outcome: Any) -> None:
    stream = terminal(monkeypatch)
    report = Report("protect", PROTECT, data=io.StringIO())
    with PhotoProgress(report) as progress:
        work(progress, outcome, "photos/[red]\x1b[31m.jpg")
        progress._bar.refresh()  # type: ignore[union-attr] # what the timer would do
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", stream.getvalue())
    assert "2 of 3 photos" in text
    assert "1 kept after JPEG" in text
    assert r"photos/[red]\x1b[31m.jpg" in text
    assert text.count("no GPU was found") == 1
    assert len(report.rows) == 2


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_steps_count_and_the_photo_that_has_come_furthest_is_named(
    monkeypatch: pytest.MonkeyPatch, outcome: Any
) -> None:
    stream, clock = terminal(monkeypatch), Clock()
    with PhotoProgress(Report("protect", PROTECT, data=io.StringIO()), clock=clock) as progress:
        reporter: StepProgress = progress
        reporter.start(4)
        reporter.expect(50, {"a.jpg": 10.0, "b.jpg": 10.0, "c.jpg": 10.0, "d.jpg": 10.0})
        for path, steps in (("a.jpg", 50), ("b.jpg", 20), ("c.jpg", 5)):
            reporter.photo(path)
            for _ in range(steps):
                clock.now += 1.0
                reporter.stepped(path)
        reporter.done(outcome("a.jpg"))
        progress._bar.refresh()  # type: ignore[union-attr] # what the timer would do
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", stream.getvalue())
    last = re.split(r"[\r\n]", text.rstrip())[-1]
    assert re.search(r"1 of 4 photos 1 kept after JPEG about [23] min left b\.jpg", last), last


def test_plain_progress_is_a_line_every_ten_seconds_at_most(capsys: pytest.CaptureFixture[str], outcome: Any) -> None:
    clock = Clock()
    with PhotoProgress(Report("protect", PROTECT), kind="plain", clock=clock) as progress:
        progress.start(30)
        progress.expect(10, {})
        for number in range(30):
            for _ in range(10):
                clock.now += 0.11
                progress.stepped(f"{number}.jpg")
            progress.done(outcome(f"{number}.jpg", survives=number != 3))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert lines[1] == "18 of 30 photos; 17 kept after JPEG; about 15 s left; 18.jpg"
    with PhotoProgress(Report("protect", PROTECT, quiet=True), kind="plain", clock=clock) as progress:
        progress.start(3)
        clock.now += 100
        progress.done(outcome())
    assert capsys.readouterr().err == ""


def test_another_kind_of_progress_is_a_usage_error(run: Callable[..., Any]) -> None:
    for words in (["protect", "a.jpg"], ["verify", "a.jpg"], ["evaluate", "a.jpg", "b.jpg"]):
        ended = run(*words, "--progress", "dots")
        assert (ended.code, "choose one of auto, plain" in ended.err) == (2, True)


@pytest.mark.parametrize("term", ["dumb", "unknown"])
def test_a_dumb_terminal_gets_no_bar(monkeypatch: pytest.MonkeyPatch, term: str) -> None:
    terminal(monkeypatch)
    assert live_terminal()
    monkeypatch.setenv("TERM", term)
    assert not live_terminal()


def test_quiet_shows_nothing_on_a_terminal(monkeypatch: pytest.MonkeyPatch, outcome: Any) -> None:
    stream = terminal(monkeypatch)
    with PhotoProgress(Report("protect", PROTECT, quiet=True, data=io.StringIO())) as progress:
        work(progress, outcome)
    assert stream.getvalue() == ""


def test_the_bar_goes_when_work_is_interrupted(monkeypatch: pytest.MonkeyPatch, outcome: Any) -> None:
    stream = terminal(monkeypatch)

    def interrupted() -> None:
        with PhotoProgress(Report("protect", PROTECT, data=io.StringIO())) as progress:
            work(progress, outcome)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    shown = stream.getvalue()
    assert shown.rfind("\x1b[?25h") > shown.rfind("\x1b[?25l") >= 0


def test_training_shows_epochs_and_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = terminal(monkeypatch)
    with EpochProgress(Report("train", PROTECT, data=io.StringIO())) as progress:
        reporter: Reporter = progress
        reporter.note("stage 1 of 1")
        reporter.epoch(Epoch(0, 1, 60, 1.23456, 0.9, 2.0))
        progress._bar.refresh()  # type: ignore[union-attr] # what the timer would do
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", stream.getvalue())
    assert "stage 1 of 1" in text
    assert "1/60" in text
    assert "loss 1.2346  MAP 0.9000" in text


def test_downloads_show_bytes_and_their_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = terminal(monkeypatch)
    with DownloadProgress(Report("models download", PROTECT, data=io.StringIO())) as progress:
        reporter: FetchProgress = progress
        for name in ("first", "second"):
            reporter.start(name, 4_000_000)
            reporter.at(1_000_000)
            reporter.at(3_000_000)
            progress._bar.refresh()  # type: ignore[union-attr] # what the timer would do
        reporter.at(0)
        reporter.notice("https://example.org/[x]: HTTP 500; asking again in 1 s")
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", stream.getvalue())
    assert "3.0/4.0 MB" in text
    assert "MB/s" in text
    assert "first" in text
    assert "second" in text
    assert text.count("[x]: HTTP 500") == 1


def test_downloads_off_a_terminal_say_only_what_went_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    for quiet in (False, True):
        with DownloadProgress(Report("models download", PROTECT, quiet=quiet)) as progress:
            progress.start("net", 10)
            progress.at(10)
            progress.notice("asking again")
    assert capsys.readouterr().err == "asking again\n"
