"""`watch` goes on whatever becomes of a photo, its folder or the disk."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from hashshield.pipeline.watch import watch
from hashshield.storage import Store, calls
from hashshield.types import Outcome, Request
from tiny_net import encoded, picture

pytest.importorskip("watchfiles", reason="the extra watch is not installed")

Make = Callable[..., Request]


class Watcher:
    """A progress that answers: `on` holds what to do at a row or notice, by a word of it."""

    def __init__(self) -> None:
        self.now, self.pace, self.looks = 0.0, 0.1, 0
        self.rows: list[tuple[str, str]] = []
        self.notices: list[str] = []
        self.on: dict[str, Callable[[], None]] = {}

    def clock(self) -> float:
        """Seconds that pass by looking, so that nothing waits in a test."""
        self.looks += 1
        assert self.looks < 200, f"nothing came of it: {self.rows}, {self.notices}"
        self.now += self.pace
        return self.now

    def start(self, total: int) -> None: ...

    def photo(self, path: str) -> None: ...

    def done(self, outcome: object) -> None:
        assert isinstance(outcome, Outcome)
        status = "written" if outcome.status in ("protected", "partial") else outcome.status
        self.rows.append((Path(outcome.path).name, status))
        self._answer(f"{Path(outcome.path).name} {status}")

    def notice(self, text: str) -> None:
        self.notices.append(text)
        self._answer(text)

    def _answer(self, said: str) -> None:
        for word, answer in self.on.items():
            if word in said:
                answer()


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    from hashshield.pipeline import watch as module

    monkeypatch.setattr(module, "_TICK_MILLISECONDS", 100)
    monkeypatch.setattr(module, "_STEP_MILLISECONDS", 50)


@pytest.fixture
def watcher() -> Watcher:
    return Watcher()


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "photos"
    place.mkdir()
    (place / "a.png").write_bytes(encoded(picture(40, 40)))
    yield place
    calls.observe(None)


def stop() -> None:
    raise KeyboardInterrupt


def run(folder: Path, request: Request, watcher: Watcher) -> None:
    with pytest.raises(KeyboardInterrupt):
        watch(folder, request, progress=watcher, settle=0.3, clock=watcher.clock)


def test_a_folder_that_is_moved_away_is_waited_for(folder: Path, request_for: Make, watcher: Watcher) -> None:
    away = folder.with_name("away")

    def leave() -> None:
        folder.rename(away)

    def come_back() -> None:
        (away / "b.png").write_bytes(encoded(picture(40, 40, seed=1)))
        away.rename(folder)

    def renew() -> None:
        # Not the same folder any more, though the path is.
        folder.rename(away)
        folder.mkdir()
        (folder / "c.png").write_bytes(encoded(picture(40, 40, seed=2)))

    watcher.on = {"a.png written": leave, "is gone; waiting": come_back, "b.png written": renew, "c.png written": stop}
    run(folder, request_for(steps=4, accept_best=True, tau=2 / 255), watcher)
    assert watcher.rows == [("a.png", "written"), ("b.png", "written"), ("c.png", "written")]


def test_a_photo_that_vanishes_under_the_work_ends_nothing(folder: Path, request_for: Make, watcher: Watcher) -> None:
    below = folder / "below"
    below.mkdir()
    (below / "gone.png").write_bytes(encoded(picture(40, 40, seed=1)))
    observed: list[str] = []

    def vanish(name: str, arguments: tuple[object, ...]) -> None:
        if name == "ledger.intend" and not observed:
            observed.append(name)
            shutil.rmtree(below)
            (folder / "late.png").write_bytes(encoded(picture(40, 40, seed=2)))

    calls.observe(vanish)
    watcher.on = {"late.png written": stop}
    run(folder, request_for(steps=4, accept_best=True, tau=2 / 255), watcher)
    assert set(watcher.rows) == {("a.png", "written"), ("gone.png", "failed"), ("late.png", "written")}


def test_a_full_disk_is_waited_for(folder: Path, request_for: Make, watcher: Watcher) -> None:
    before = (folder / "a.png").read_bytes()

    def full(name: str, arguments: tuple[object, ...]) -> None:
        if name == "write":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def free() -> None:
        assert (folder / "a.png").read_bytes() == before
        calls.observe(None)

    request = request_for(steps=4, accept_best=True, tau=2 / 255)
    with Store.open(request.vault) as store:
        store.key()
    calls.observe(full)
    watcher.on = {"a.png failed": free, "a.png written": stop}
    watcher.pace = 20
    run(folder, request, watcher)
    assert watcher.rows == [("a.png", "failed"), ("a.png", "written")]


class Usage(NamedTuple):
    total: int
    used: int
    free: int


def test_too_little_space_for_the_run_is_waited_for(
    folder: Path, request_for: Make, watcher: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = [1000]
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(0, 0, free[0]))
    watcher.on = {"a.png failed": lambda: free.append(free.pop() + 10**12), "a.png written": stop}
    watcher.pace = 20
    run(folder, request_for(steps=4, accept_best=True, tau=2 / 255), watcher)
    assert watcher.rows == [("a.png", "failed"), ("a.png", "written")]


def test_a_photo_that_stays_broken_is_told_once(folder: Path, request_for: Make, watcher: Watcher) -> None:
    (folder / "cut.png").write_bytes((folder / "a.png").read_bytes()[:200])
    watcher.pace = 20

    def late() -> None:
        # Two tries later.
        watcher.now += 400
        (folder / "late.png").write_bytes(encoded(picture(40, 40, seed=3)))

    watcher.on = {"cut.png failed": late, "late.png written": stop}
    run(folder, request_for(steps=4, accept_best=True, tau=2 / 255), watcher)
    assert sorted(watcher.rows) == [("a.png", "written"), ("cut.png", "failed"), ("late.png", "written")]


def test_a_read_only_photo_is_refused_without_a_search_and_taken_when_it_is_writable(
    folder: Path, request_for: Make, watcher: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "a.png").chmod(0o444)
    searched: list[str] = []
    watcher.photo = searched.append  # type: ignore[method-assign]

    def allow() -> None:
        assert searched == []
        (folder / "a.png").chmod(0o644)

    watcher.on = {"a.png failed": allow, "a.png written": stop}
    watcher.pace = 20
    run(folder, request_for(steps=4, accept_best=True, tau=2 / 255), watcher)
    assert watcher.rows == [("a.png", "failed"), ("a.png", "written")]
