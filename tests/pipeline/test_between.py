"""Ctrl-C while a photo is written: the file is completed and reported, then the run ends."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hashshield.pipeline.interrupts import defer_interrupts, terminable
from hashshield.pipeline.protect import protect
from hashshield.pipeline.restore import restore
from hashshield.storage import Store, calls
from hashshield.types import Request
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
