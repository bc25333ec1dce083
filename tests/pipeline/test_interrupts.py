"""Ctrl-C while a photo is written: the file is completed and reported, then the run ends."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from hashshield.boundary import defer_interrupts, finishing_first, terminable
from hashshield.pipeline.protect import protect
from hashshield.pipeline.restore import restore
from hashshield.storage import Store, calls
from hashshield.types import NullProgress, Request
from tiny_net import encoded, picture


@pytest.fixture(autouse=True)
def usual() -> Iterator[None]:
    """Every test leaves the process's own handler in place, whatever ran it set before."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    signal.signal(signal.SIGINT, before)


def test_an_interruption_waits_for_the_end_of_the_block() -> None:
    steps = []

    def work() -> None:
        with defer_interrupts():
            signal.raise_signal(signal.SIGINT)
            steps.append("written")
        steps.append("gone on")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert steps == ["written"]


def test_a_second_one_does_not_wait() -> None:
    steps = []

    def work() -> None:
        with defer_interrupts():
            signal.raise_signal(signal.SIGINT)
            steps.append("once")
            signal.raise_signal(signal.SIGINT)
            steps.append("twice")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert steps == ["once"]


def test_a_block_without_one_and_a_block_that_fails_change_nothing() -> None:
    with defer_interrupts():
        pass
    with pytest.raises(ZeroDivisionError), defer_interrupts():
        raise ZeroDivisionError


def test_who_ignores_interruptions_goes_on_ignoring_them() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with defer_interrupts():
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    signal.signal(signal.SIGINT, signal.default_int_handler)


def test_other_threads_are_left_alone() -> None:
    seen = []

    def work() -> None:
        with defer_interrupts():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.default_int_handler]


@pytest.fixture
def interrupted_at() -> Iterator[Callable[[str], None]]:
    """Send the signal when storage takes this step for the first time."""

    def at(step: str) -> None:
        def observer(name: str, arguments: tuple[object, ...]) -> None:
            if name == step:
                calls.observe(None)
                signal.raise_signal(signal.SIGINT)

        calls.observe(observer)

    yield at
    calls.observe(None)


@pytest.mark.parametrize("step", ["ledger.intend", "rename", "ledger.commit"])
def test_the_photo_that_is_being_written_is_completed_and_reported(
    step: str,
    tmp_path: Path,
    request_for: Callable[..., Request],
    told: Any,
    interrupted_at: Callable[[str], None],
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for seed in range(3):
        (photos / f"{seed}.png").write_bytes(encoded(picture(48, 48, seed=seed)))
    before = {path.name: path.read_bytes() for path in photos.iterdir()}
    request = request_for(accept_best=True, steps=4, batch_size=1)
    interrupted_at(step)
    with pytest.raises(KeyboardInterrupt):
        protect([photos], request, progress=told)
    (row,) = told.rows
    assert row.status in ("protected", "partial")
    changed = [name for name, data in before.items() if (photos / name).read_bytes() != data]
    assert changed == [Path(row.path).name]
    with Store.open(request.vault) as store:
        assert store.notices == [], "nothing was left to settle"
    rows = protect([photos], request, progress=told)
    assert sorted(row.status == "already" for row in rows) == [False, False, True]

    told.rows.clear()
    interrupted_at(step)
    with pytest.raises(KeyboardInterrupt):
        restore([photos], vault=request.vault, progress=told)
    assert [row.status for row in told.rows] == ["restored"]
    assert told.total == 3
    restore([photos], vault=request.vault)
    assert {path.name: path.read_bytes() for path in photos.iterdir()} == before


def test_the_first_is_a_wish_and_the_second_an_order() -> None:
    told, steps = [], []

    def work() -> None:
        with finishing_first(told.append) as stopping:
            steps.append(stopping())
            signal.raise_signal(signal.SIGINT)
            steps.append(stopping())
            signal.raise_signal(signal.SIGINT)
            steps.append(None)

    with pytest.raises(KeyboardInterrupt):
        work()
    assert steps == [False, True]
    assert told == ["Finishing the photos in work, starting no others; Ctrl-C again stops at once."]


def test_a_handler_of_somebody_else_is_left_alone() -> None:
    came = []
    signal.signal(signal.SIGINT, lambda number, frame: came.append(number))
    with finishing_first(pytest.fail) as stopping:
        signal.raise_signal(signal.SIGINT)
        assert not stopping()
    assert came == [signal.SIGINT]
    signal.signal(signal.SIGINT, signal.default_int_handler)


class Interrupting:
    """A progress that sends the signal each time that a photo has taken one of these numbers of steps."""

    def __init__(self, photo: str, *steps: int) -> None:
        self.photo_name, self.steps = photo, steps
        self.taken: dict[str, int] = {}
        self.rows: list[Any] = []
        self.notices: list[str] = []

    def start(self, total: int) -> None: ...

    def photo(self, path: str) -> None: ...

    def expect(self, steps: float, beside: Mapping[str, float]) -> None:
        assert steps == pytest.approx(18)
        assert [Path(path).name for path in beside] == [f"{number}.png" for number in range(6)]
        assert min(beside.values()) > 0

    def stepped(self, path: str) -> None:
        name = Path(path).name
        self.taken[name] = self.taken.get(name, 0) + 1
        if name == self.photo_name and self.taken[name] in self.steps:
            os.kill(os.getpid(), signal.SIGINT)

    def done(self, outcome: object) -> None:
        self.rows.append(outcome)

    def notice(self, text: str) -> None:
        self.notices.append(text)


@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_finishes_the_photos_in_work_and_a_second_one_does_not(
    times: int, tmp_path: Path, request_for: Callable[..., Request]
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for seed in range(6):
        (photos / f"{seed}.png").write_bytes(encoded(picture(48, 48, seed=seed)))
    before = {path.name: path.read_bytes() for path in photos.iterdir()}
    request = request_for(accept_best=True, steps=12, batch_size=2, method="noise")
    told = Interrupting("2.png", *(3, 7)[:times])
    with pytest.raises(KeyboardInterrupt):
        protect([photos], request, progress=told, finish_first=True)
    changed = {name for name, data in before.items() if (photos / name).read_bytes() != data}
    assert changed == {Path(row.path).name for row in told.rows}
    assert [text[:9] for text in told.notices if "new vault" not in text] == ["Finishing"]
    if times == 1:
        # Two were in the search, and those before them on their way to the disk.
        assert changed == {"0.png", "1.png", "2.png", "3.png"}
    else:
        assert changed <= {"0.png", "1.png"}
    with Store.open(request.vault) as store:
        assert store.notices == [], "nothing was left to settle"
    again = protect([photos], request, progress=NullProgress(), finish_first=True)
    assert sum(row.status == "already" for row in again) == len(changed)
    assert len(again) == 6


@pytest.mark.parametrize("before", [signal.default_int_handler, signal.SIG_IGN])
def test_a_service_that_is_told_to_end_finishes_its_write(before: Any) -> None:
    steps = []

    def serve() -> None:
        with terminable():
            with defer_interrupts():
                signal.raise_signal(signal.SIGTERM)
                steps.append("written")
            steps.append("gone on")

    handlers = signal.signal(signal.SIGINT, before), signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        serve()
    assert steps == ["written"]
    assert (signal.signal(signal.SIGINT, handlers[0]), signal.getsignal(signal.SIGTERM)) == (before, handlers[1])
