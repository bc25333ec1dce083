from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from hashshield.storage import Arrivals, FileFingerprint


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


@pytest.fixture
def arrivals(folder: Path, clock: Clock) -> Arrivals:
    return Arrivals(folder, skip=folder / "vault", exclude=["*.tmp", "thumbs"], settle=2.0, clock=clock)


def later(arrivals: Arrivals, clock: Clock, seconds: float = 2.0) -> list[str]:
    """Names handed out after one look and another that much later."""
    first = arrivals.complete()
    clock.now += seconds
    return [path.name for path in first + arrivals.complete()]


def test_a_file_is_handed_out_once_when_it_has_settled(arrivals: Arrivals, folder: Path, clock: Clock) -> None:
    (folder / "a.jpg").write_bytes(b"1")
    arrivals.notice([folder / "a.jpg"])
    assert later(arrivals, clock, 1.9) == []
    assert later(arrivals, clock, 0.1) == ["a.jpg"]
    arrivals.notice([folder / "a.jpg"])
    assert later(arrivals, clock) == []


def test_every_write_starts_the_wait_again(arrivals: Arrivals, folder: Path, clock: Clock) -> None:
    photo = folder / "a.jpg"
    for size in range(1, 6):
        photo.write_bytes(bytes(size))
        arrivals.notice([photo])
        assert later(arrivals, clock, 1.5) == []
    assert later(arrivals, clock) == ["a.jpg"]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells of other writers")
def test_a_file_that_is_open_for_writing_waits(arrivals: Arrivals, folder: Path, clock: Clock) -> None:
    with (folder / "a.jpg").open("wb") as handle:
        handle.write(b"half")
        handle.flush()
        arrivals.sweep()
        assert later(arrivals, clock, 60) == []
    assert later(arrivals, clock, 0) == ["a.jpg"]


def test_a_changed_file_and_another_in_its_place_come_again(arrivals: Arrivals, folder: Path, clock: Clock) -> None:
    photo = folder / "a.jpg"
    photo.write_bytes(b"1")
    arrivals.sweep()
    assert later(arrivals, clock) == ["a.jpg"]
    photo.chmod(0o600)
    arrivals.sweep()
    assert later(arrivals, clock) == []
    (folder / "new").write_bytes(b"1")
    (folder / "new").replace(photo)
    arrivals.sweep()
    assert later(arrivals, clock) == ["a.jpg"]


def test_what_we_wrote_is_no_arrival(arrivals: Arrivals, folder: Path, clock: Clock) -> None:
    photo = folder / "a.jpg"
    photo.write_bytes(b"protected")
    arrivals.wrote(photo, FileFingerprint.of(photo.stat()))
    arrivals.notice([photo])
    assert later(arrivals, clock) == []


def test_what_is_left_out(arrivals: Arrivals, folder: Path, clock: Clock, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "o.jpg").write_bytes(b"1")
    (folder / "link.jpg").symlink_to(outside / "o.jpg")
    (folder / "way").symlink_to(outside)
    os.mkfifo(folder / "pipe.jpg")
    for name in ("vault/v.jpg", "thumbs/t.jpg", "x.tmp", ".hashshield-0123456789abcdef.tmp", "sub/deep/b.jpg"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"1")
    arrivals.sweep()
    # A watcher that follows links tells of files below them too.
    arrivals.notice([folder / "way" / "o.jpg", folder / "link.jpg", outside / "o.jpg", folder / "gone.jpg"])
    assert later(arrivals, clock) == ["b.jpg"]


def test_files_that_came_before_their_folder_was_watched_are_found(
    arrivals: Arrivals, folder: Path, clock: Clock
) -> None:
    (folder / "new").mkdir()
    (folder / "new" / "a.jpg").write_bytes(b"1")
    arrivals.notice([folder / "new"])
    assert later(arrivals, clock) == ["a.jpg"]


def test_what_failed_comes_again_after_longer_and_longer_pauses(arrivals: Arrivals, folder: Path, clock: Clock) -> None:
    photo = folder / "a.jpg"
    photo.write_bytes(b"1")
    arrivals.notice([photo])
    assert later(arrivals, clock) == ["a.jpg"]
    assert arrivals.failed(photo, "the disk is full")
    pauses = []
    for _ in range(8):
        began = clock.now
        while not arrivals.complete():
            clock.now += 1
        pauses.append(clock.now - began)
        assert not arrivals.complete(), "handed out once, until somebody says what became of it"
        assert not arrivals.failed(photo, "the disk is full"), "the same reason is nothing new"
    assert pauses == [60, 120, 240, 480, 960, 1920, 3600, 3600]
    clock.now += 3600
    assert arrivals.complete() == [photo]
    arrivals.succeeded(photo)
    clock.now += 10_000
    assert arrivals.complete() == []
    assert arrivals.failed(photo, "the disk is full"), "after a success it is news again"


def test_what_failed_and_is_gone_is_an_arrival_when_it_is_back(arrivals: Arrivals, folder: Path, clock: Clock) -> None:
    photo = folder / "a.jpg"
    photo.write_bytes(b"1")
    arrivals.notice([photo])
    assert later(arrivals, clock) == ["a.jpg"]
    arrivals.failed(photo, "it is not there")
    photo.rename(folder / "b.tmp")
    clock.now += 100
    assert arrivals.complete() == []
    (folder / "b.tmp").rename(photo)
    arrivals.notice([photo])
    assert later(arrivals, clock) == ["a.jpg"]


def test_a_new_content_does_not_wait_for_the_failed_one(arrivals: Arrivals, folder: Path, clock: Clock) -> None:
    photo = folder / "a.jpg"
    photo.write_bytes(b"1")
    arrivals.notice([photo])
    later(arrivals, clock)
    arrivals.failed(photo, "broken")
    photo.write_bytes(b"22")
    arrivals.notice([photo])
    assert later(arrivals, clock) == ["a.jpg"]
    clock.now += 100
    assert arrivals.complete() == []


@pytest.mark.parametrize("instead", [None, b"a file of that name"])
def test_the_folder_itself_is_no_arrival(folder: Path, arrivals: Arrivals, clock: Clock, instead: bytes | None) -> None:
    """The system tells of it when it is moved away: `watch` ended there."""
    folder.rename(folder.with_name("away"))
    if instead is not None:
        folder.write_bytes(instead)
    arrivals.notice([folder])
    arrivals.sweep()
    assert later(arrivals, clock) == []
