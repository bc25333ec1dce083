from __future__ import annotations

import hashlib
import io
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from hashshield.errors import ChangedError, NotAPhotoError, PhotoError
from hashshield.storage import read_snapshot, read_stream, snapshot


def test_reads_bytes_digest_and_identity(photos: Path) -> None:
    photo = photos / "a.jpg"
    photo.write_bytes(b"pixels")
    photo.chmod(0o640)
    taken = read_snapshot(photo, follow=False, within=photos)
    status = photo.stat()
    assert taken.data == b"pixels"
    assert taken.sha256 == hashlib.sha256(b"pixels").hexdigest()
    assert (taken.dev, taken.inode, taken.size) == (status.st_dev, status.st_ino, 6)
    assert (taken.mtime_ns, taken.ctime_ns, taken.mode) == (status.st_mtime_ns, status.st_ctime_ns, 0o640)
    assert taken.folder_inode == photos.stat().st_ino
    assert taken.path == Path(os.path.realpath(photo))


def test_a_link_is_refused_unless_named(photos: Path, tmp_path: Path) -> None:
    target = tmp_path / "elsewhere.jpg"
    target.write_bytes(b"x")
    link = photos / "link.jpg"
    link.symlink_to(target)
    with pytest.raises(PhotoError, match="symbolic link"):
        read_snapshot(link, follow=False, within=photos)
    assert read_snapshot(link, follow=True).path == Path(os.path.realpath(target))


def test_a_linked_folder_below_the_named_one_is_refused(photos: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "a.jpg").write_bytes(b"x")
    (photos / "sub").symlink_to(outside)
    with pytest.raises(PhotoError, match="link"):
        read_snapshot(photos / "sub" / "a.jpg", follow=False, within=photos)


def test_a_link_above_the_named_folder_is_the_users_business(photos: Path, tmp_path: Path) -> None:
    (photos / "a.jpg").write_bytes(b"x")
    alias = tmp_path / "alias"
    alias.symlink_to(photos)
    taken = read_snapshot(alias / "a.jpg", follow=False, within=alias)
    assert taken.path == Path(os.path.realpath(photos / "a.jpg"))


@pytest.mark.parametrize("kind", ["folder", "pipe", "socket", "device", "missing", "dangling"])
@pytest.mark.parametrize("follow", [False, True])
def test_what_is_no_regular_file_is_refused_at_once(kind: str, follow: bool, photos: Path) -> None:
    path = photos / "x"
    holder = None
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        holder = socket.socket(socket.AF_UNIX)
        here = Path.cwd()
        os.chdir(photos)
        try:
            holder.bind("x")
        finally:
            os.chdir(here)
    elif kind == "device":
        path = Path("/dev/null")
    elif kind == "dangling":
        path.symlink_to(photos / "nowhere")
    with pytest.raises(PhotoError, match=r"cannot be read|name a regular file"):
        read_snapshot(path, follow=follow)
    if holder is not None:
        holder.close()


def test_a_path_that_leaves_the_named_folder_is_refused(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"x")
    with pytest.raises(PhotoError, match="cannot be read"):
        read_snapshot(photos / ".." / "a.jpg", follow=False, within=photos)
    with pytest.raises(PhotoError, match="cannot be read"):
        read_snapshot(tmp_path / "a.jpg", follow=False, within=photos)


def test_too_large_a_file_is_not_read(photos: Path) -> None:
    photo = photos / "a.jpg"
    photo.write_bytes(b"12345")
    assert read_snapshot(photo, follow=False, limit_bytes=5).size == 5
    with pytest.raises(PhotoError, match="more than the 4"):
        read_snapshot(photo, follow=False, limit_bytes=4)


def test_a_file_that_changes_while_read_is_reported(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photo = photos / "a.jpg"
    photo.write_bytes(b"12345")
    read = snapshot.read_file

    def read_and_grow(descriptor: int, limit_bytes: int) -> bytes:
        data = read(descriptor, limit_bytes)
        with photo.open("ab") as file:
            file.write(b"6")
        return data

    monkeypatch.setattr(snapshot, "read_file", read_and_grow)
    with pytest.raises(ChangedError, match="while it was being read"):
        read_snapshot(photo, follow=False)


class Endless(io.RawIOBase):
    """Bytes of one kind for ever, counted."""

    given = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self.given += len(buffer)
        return len(buffer)


def test_a_stream_is_read_to_its_end() -> None:
    data = bytes(range(256)) * 2
    assert read_stream(io.BytesIO(data), name="-", accept=lambda head: head == data[:64], limit_bytes=512) == data
    with pytest.raises(PhotoError, match="-: is longer than the 511 bytes a photo may have"):
        read_stream(io.BytesIO(data), name="-", accept=lambda head: True, limit_bytes=511)


def test_an_endless_stream_is_not_read_for_ever() -> None:
    endless = Endless()
    stream = io.BufferedReader(endless)
    with pytest.raises(NotAPhotoError, match="-: not an image"):
        read_stream(stream, name="-", accept=lambda head: False)
    assert endless.given <= io.DEFAULT_BUFFER_SIZE
    with pytest.raises(PhotoError, match="longer than the 100000 bytes"):
        read_stream(stream, name="-", accept=lambda head: True, limit_bytes=100_000)
    with pytest.raises(NotAPhotoError, match="-: the file is empty"):
        read_stream(io.BytesIO(), name="-", accept=lambda head: False)


def test_a_stream_that_cannot_be_read_says_why(photos: Path) -> None:
    with (photos / "a.jpg").open("wb+") as stream:
        os.close(stream.fileno())
        with pytest.raises(PhotoError, match="-: cannot be read: "):
            read_stream(stream, name="-", accept=lambda head: True)
        os.open(os.devnull, os.O_RDONLY)  # the lowest free number, which `stream` closes
