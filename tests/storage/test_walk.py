from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PureWindowsPath
from types import SimpleNamespace

import pytest

from hashshield.storage import Arrivals, FileFingerprint, excluded, named, walk
from hashshield.storage.folder import temporary_name


def test_files_come_sorted_and_links_are_left_out(photos: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "x.jpg").touch()
    for name in ("b.jpg", "a/z.jpg", "a/y/x.jpg", "c.jpg", temporary_name()):
        (photos / name).parent.mkdir(parents=True, exist_ok=True)
        (photos / name).touch()
    (photos / "link.jpg").symlink_to(outside / "x.jpg")
    (photos / "folder").symlink_to(outside)
    (photos / "loop").symlink_to(photos)
    os.mkfifo(photos / "pipe")
    found = [str(path.relative_to(photos)) for path in walk(photos)]
    assert found == ["a/y/x.jpg", "a/z.jpg", "b.jpg", "c.jpg"]


def test_the_vault_is_not_entered(photos: Path) -> None:
    (photos / "vault" / "originals").mkdir(parents=True)
    (photos / "vault" / "originals" / "x").touch()
    (photos / "a.jpg").touch()
    assert [path.name for path in walk(photos, skip=Path(os.path.realpath(photos / "vault")))] == ["a.jpg"]
    assert list(walk(photos / "vault", skip=Path(os.path.realpath(photos / "vault")))) == []


def test_a_folder_that_cannot_be_listed_is_told_and_the_rest_goes_on(photos: Path) -> None:
    for name in ("a/1.jpg", "c/3.jpg"):
        (photos / name).parent.mkdir()
        (photos / name).touch()
    told: list[Path] = []
    files = walk(photos, failed=lambda folder, error: told.append(folder))
    assert next(files).name == "1.jpg"
    (photos / "c" / "3.jpg").unlink()
    (photos / "c").rmdir()
    assert list(files) == []
    assert told == [photos / "c"]
    with pytest.raises(FileNotFoundError):
        list(walk(photos / "c"))


@pytest.fixture
def deep(tmp_path: Path) -> Iterator[Path]:
    """A folder nested more deeply than Python calls functions; pytest could not remove it either."""
    folders = [tmp_path / "deep"]
    for _ in range(1100):
        folders.append(folders[-1] / "a")
    for folder in folders:
        folder.mkdir()
    yield folders[-1]
    for folder in reversed(folders):
        for file in folder.glob("*.jpg"):
            file.unlink()
        folder.rmdir()


def test_folders_may_be_nested_deeply(deep: Path, tmp_path: Path) -> None:
    (deep / "x.jpg").touch()
    (tmp_path / "deep" / "b.jpg").touch()
    assert list(walk(tmp_path / "deep")) == [deep / "x.jpg", tmp_path / "deep" / "b.jpg"]
    assert list(walk(tmp_path / "deep", skip=deep)) == [tmp_path / "deep" / "b.jpg"]


def test_a_path_that_is_too_long_is_told_and_the_rest_goes_on(tmp_path: Path) -> None:
    folder, name = os.open(tmp_path, os.O_RDONLY), "a" * 200
    for _ in range(25):
        os.mkdir(name, dir_fd=folder)
        above, folder = folder, os.open(name, os.O_RDONLY, dir_fd=folder)
        os.close(above)
    os.close(folder)
    (tmp_path / "b.jpg").touch()
    told: list[OSError] = []
    assert list(walk(tmp_path, failed=lambda folder, error: told.append(error))) == [tmp_path / "b.jpg"]
    assert [error.errno for error in told] == [errno.ENAMETOOLONG]


def test_without_descriptors_the_folder_is_told(photos: Path) -> None:
    resource = pytest.importorskip("resource", reason="Windows has no such limit")
    (photos / "a").mkdir()
    told: list[Path] = []
    files = walk(photos, failed=lambda folder, error: told.append(folder))
    (photos / "a" / "1.jpg").touch()
    (photos / "0.jpg").touch()
    assert next(files) == photos / "0.jpg"
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        assert list(files) == []
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert told == [photos / "a"]


def test_an_entry_whose_kind_cannot_be_read_is_told(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on file systems whose listings do not say what an entry is."""
    for name in ("a.jpg", "b.jpg"):
        (photos / name).touch()

    class Entry:
        def __init__(self, entry: os.DirEntry[str]) -> None:
            self.entry, self.name, self.path = entry, entry.name, entry.path
            self.is_symlink, self.is_file = entry.is_symlink, entry.is_file

        def is_dir(self, *, follow_symlinks: bool) -> bool:
            if self.name == "a.jpg":
                raise OSError(errno.EIO, os.strerror(errno.EIO), self.path)
            return self.entry.is_dir(follow_symlinks=follow_symlinks)

    scandir = os.scandir

    @contextmanager
    def listing(folder: Path) -> Iterator[list[Entry]]:
        with scandir(folder) as entries:
            yield [Entry(entry) for entry in entries]

    monkeypatch.setattr(os, "scandir", listing)
    told: list[Path] = []
    assert list(walk(photos, failed=lambda path, error: told.append(path))) == [photos / "b.jpg"]
    assert told == [photos / "a.jpg"]


@pytest.mark.parametrize(
    ("pattern", "passed_over"),
    [
        ("*.png", {"c.png"}),
        ("thumbs", {"a/thumbs/x.jpg", "thumbs/y.jpg"}),
        ("thumbs/", {"a/thumbs/x.jpg", "thumbs/y.jpg"}),
        ("a/thumbs", {"a/thumbs/x.jpg"}),
        ("a/*", {"a/thumbs/x.jpg", "a/b.jpg"}),
        ("[bc].*", {"a/b.jpg", "c.png"}),
        ("THUMBS", set()),
        ("photos", set()),
    ],
)
def test_what_is_excluded_is_passed_over(pattern: str, passed_over: set[str], photos: Path) -> None:
    every = {"a/b.jpg", "a/thumbs/x.jpg", "c.png", "thumbs/y.jpg"}
    for name in every:
        (photos / name).parent.mkdir(parents=True, exist_ok=True)
        (photos / name).touch()

    def never(folder: Path, error: OSError) -> None:
        raise AssertionError(folder)

    found = {str(file.relative_to(photos)) for file, _ in named([photos], exclude=[pattern], failed=never)}
    assert found == every - passed_over


def test_a_named_file_can_be_excluded_too(photos: Path) -> None:
    (photos / "a.jpg").touch()
    (photos / "a.png").touch()
    found = named([photos / "a.jpg", photos / "a.png"], exclude=["*.png"], failed=lambda folder, error: None)
    assert [file.name for file, _ in found] == ["a.jpg"]


FOREIGN_PLACES = (
    ".stversions", ".stfolder", "@eaDir", "@EADIR", ".@__thumb", ".thumbnails", ".Trash", ".Trash-1000", ".Trashes",
    "$RECYCLE.BIN", "#recycle", ".dtrash", ".git", "Mine.photoslibrary", "Old.aplibrary", "x.photolibrary",
    "Catalog Previews.lrdata", ".local/share/Trash",
)  # fmt: skip


@pytest.mark.parametrize("place", FOREIGN_PLACES)
def test_what_other_programs_look_after_is_left_alone_unless_named(tmp_path: Path, place: str) -> None:
    inside = tmp_path / place / "files" / "a.jpg"
    inside.parent.mkdir(parents=True)
    for path in (inside, tmp_path / "b.jpg"):
        path.write_bytes(b"x")
    told: list[Path] = []

    def met(paths: list[Path], *, enter: bool = False) -> list[Path]:
        def foreign(path: Path) -> bool:
            told.append(path)
            return enter

        return [path for path, _ in named(paths, failed=lambda folder, error: None, foreign=foreign)]

    assert met([tmp_path]) == [tmp_path / "b.jpg"]
    assert told == [tmp_path / place]
    assert met([tmp_path / place]) == [inside]
    assert met([inside]) == [inside]
    assert set(met([tmp_path], enter=True)) == {inside, tmp_path / "b.jpg"}


def test_names_that_only_look_like_it_are_walked(tmp_path: Path) -> None:
    for name in ("Trash", "share/Trash", "thumbnails", "photoslibrary", "git", "my.trash"):
        (tmp_path / name).mkdir(parents=True, exist_ok=True)
        (tmp_path / name / "a.jpg").write_bytes(b"x")
    assert len(list(walk(tmp_path))) == 6


def test_deleted_and_incomplete_files_of_android_are_left_alone(tmp_path: Path) -> None:
    for name in (".trashed-1700000000-IMG_1.jpg", ".pending-1700000000-IMG_2.jpg", "IMG_3.jpg"):
        (tmp_path / name).write_bytes(b"x")
    assert [path.name for path in walk(tmp_path)] == ["IMG_3.jpg"]


@pytest.mark.parametrize("pattern", ["sub/*", "sub\\*", "*.png", "sub", "sub/", "sub\\"])
def test_patterns_hold_for_paths_of_windows(pattern: str) -> None:
    assert excluded(PureWindowsPath("sub\\a.png"), [pattern])
    assert not excluded(PureWindowsPath("other\\a.jpg"), [pattern])


def test_junctions_are_not_entered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Windows shows them: a folder by its kind, with a tag that says it stands for another."""
    (tmp_path / "junction").mkdir()
    (tmp_path / "junction" / "a.jpg").write_bytes(b"x")
    (tmp_path / "b.jpg").write_bytes(b"x")

    class Entry:
        def __init__(self, entry: os.DirEntry[str]) -> None:
            self.entry, self.name, self.path = entry, entry.name, entry.path
            self.is_dir, self.is_file, self.is_symlink = entry.is_dir, entry.is_file, entry.is_symlink

        def stat(self, *, follow_symlinks: bool) -> object:
            return SimpleNamespace(st_reparse_tag=0xA0000003 if self.name == "junction" else 0)

    scandir = os.scandir

    @contextmanager
    def listing(folder: Path) -> Iterator[list[Entry]]:
        with scandir(folder) as entries:
            yield [Entry(entry) for entry in entries]

    monkeypatch.setattr(os, "scandir", listing)
    assert [path.name for path in walk(tmp_path)] == ["b.jpg"]


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


_WRITER_AFTER_LEASE = """
import fcntl, os, sys
from pathlib import Path

from hashshield.storage import Arrivals

now = [0.0]
photo = Path(sys.argv[1])
came = []

def open_to_write(event, arguments):
    if event == "fcntl.fcntl" and arguments[1:] == (fcntl.F_SETLEASE, fcntl.F_UNLCK):
        try:
            os.open(photo, os.O_WRONLY | os.O_NONBLOCK)
        except BlockingIOError:
            came.append(photo)

sys.addaudithook(open_to_write)
arrivals = Arrivals(photo.parent, skip=photo.parent / "vault", exclude=[], settle=2.0, clock=lambda: now[0])
arrivals.notice([photo])
arrivals.complete()
now[0] = 2.0
assert arrivals.complete() == came == [photo], came
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells of other writers")
def test_a_writer_that_comes_while_the_file_is_checked_does_not_end_the_process(folder: Path) -> None:
    (folder / "a.jpg").write_bytes(b"1")
    done = subprocess.run(
        [sys.executable, "-c", _WRITER_AFTER_LEASE, str(folder / "a.jpg")], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


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
