from __future__ import annotations

import errno
import os
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hashshield.errors import ChangedError, StorageError
from hashshield.storage import atomic, calls
from hashshield.storage.atomic import Lock
from hashshield.storage.folder import Attributes, Folder, temporary_name


def test_it_may_be_entered_again_by_its_holder(tmp_path: Path) -> None:
    lock = Lock(tmp_path / "lock")
    with lock, lock:
        pass
    other = Lock(tmp_path / "lock", wait_seconds=0)
    with other:
        pass
    lock.close()
    other.close()
    other.close()


def test_another_holder_waits_then_says_so(tmp_path: Path) -> None:
    lock, other = Lock(tmp_path / "lock"), Lock(tmp_path / "lock", wait_seconds=0.05)
    with lock:
        with pytest.raises(StorageError, match="another HashShield process"), other:
            pass
        # A failed attempt must leave nothing held.
        with pytest.raises(StorageError), other:
            pass
    with other:
        pass
    lock.close()
    other.close()


def test_threads_of_one_process_take_turns(tmp_path: Path) -> None:
    lock = Lock(tmp_path / "lock")
    inside = most = 0

    def work() -> None:
        nonlocal inside, most
        for _ in range(20):
            with lock:
                inside += 1
                most = max(most, inside)
                time.sleep(0.0005)
                inside -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
    lock.close()


def test_it_dies_with_its_holder(tmp_path: Path) -> None:
    script = (
        "import fcntl, os, sys\n"
        "fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)\n"
        "fcntl.flock(fd, fcntl.LOCK_EX)\n"
        "print('held', flush=True)\n"
        "sys.stdin.read()\n"
    )
    path = tmp_path / "lock"
    lock = Lock(path, wait_seconds=10)
    with subprocess.Popen(
        [sys.executable, "-c", script, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        threading.Timer(0.1, holder.kill).start()
        with lock:
            assert holder.wait(5) != 0
    lock.close()


ACL = "system.posix_acl_access"


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=3000), st.sampled_from([0o600, 0o644, 0o664, 0o755, 0o400]), st.integers(0, 2**61))
def test_bytes_mode_and_time_arrive(photos: Path, data: bytes, mode: int, mtime_ns: int) -> None:
    with Folder.open(photos) as folder:
        atomic.put(
            folder,
            "a",
            data,
            temporary=temporary_name(),
            attributes=Attributes(mode=mode, mtime_ns=mtime_ns),
        )
        status = folder.stat("a")
    assert (photos / "a").read_bytes() == data
    assert status.st_mode & 0o7777 == mode
    assert status.st_mtime_ns == mtime_ns
    assert [path.name for path in photos.iterdir()] == ["a"]


def test_short_writes_are_completed(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, bytes(data)[:7]))
    with Folder.open(photos) as folder:
        atomic.put(folder, "a", b"0123456789" * 10, temporary=temporary_name())
    assert (photos / "a").read_bytes() == b"0123456789" * 10


def test_what_the_check_raises_stops_it(photos: Path) -> None:
    (photos / "a").write_bytes(b"old")

    def refuse() -> None:
        raise ChangedError("no")

    with Folder.open(photos) as folder, pytest.raises(ChangedError):
        atomic.put(folder, "a", b"new", temporary=temporary_name(), check=refuse)
    assert {path.name: path.read_bytes() for path in photos.iterdir()} == {"a": b"old"}


@pytest.mark.parametrize("links", [True, False])
def test_nothing_is_overwritten_unasked(links: bool, photos: Path) -> None:
    def no_links(name: str, arguments: tuple[object, ...]) -> None:
        if name == "link" and not links:
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    calls.observe(no_links)
    with Folder.open(photos) as folder:
        atomic.put(folder, "a", b"first", temporary=temporary_name(), overwrite=False)
        with pytest.raises(FileExistsError):
            atomic.put(folder, "a", b"second", temporary=temporary_name(), overwrite=False)
    assert {path.name: path.read_bytes() for path in photos.iterdir()} == {"a": b"first"}


def acl_with_user(uid: int) -> bytes:
    """An access list: owner rw, user `uid` r, group r, mask r, others nothing."""
    anyone = 0xFFFFFFFF
    entries = [(0x01, 6, anyone), (0x02, 4, uid), (0x04, 4, anyone), (0x10, 4, anyone), (0x20, 0, anyone)]
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


@pytest.fixture
def with_acl(photos: Path) -> Path:
    """A file with an access list, in a folder with no default one; skipped where the disk has none."""
    path = photos / "a"
    path.write_bytes(b"old")
    path.chmod(0o640)
    try:
        os.setxattr(path, ACL, acl_with_user(12345))
    except OSError as error:
        pytest.skip(f"no access lists here: {error.strerror}")
    return path


def put_with_attributes_of(path: Path) -> None:
    with Folder.open(path.parent) as folder:
        descriptor = folder.open_file(path.name)
        try:
            attributes = Attributes.of(descriptor)
        finally:
            os.close(descriptor)
        atomic.put(folder, path.name, b"new", temporary=temporary_name(), attributes=attributes)


def test_an_access_list_is_kept(with_acl: Path) -> None:
    before = (os.getxattr(with_acl, ACL), with_acl.stat().st_mode)
    put_with_attributes_of(with_acl)
    assert with_acl.read_bytes() == b"new"
    assert (os.getxattr(with_acl, ACL), with_acl.stat().st_mode) == before


def test_an_access_list_is_not_inherited_from_the_folder(with_acl: Path) -> None:
    os.removexattr(with_acl, ACL)
    with_acl.chmod(0o600)
    os.setxattr(with_acl.parent, "system.posix_acl_default", acl_with_user(12345))
    put_with_attributes_of(with_acl)
    assert ACL not in os.listxattr(with_acl)
    assert with_acl.stat().st_mode & 0o777 == 0o600


def test_labels_of_the_old_bytes_do_not_travel(photos: Path) -> None:
    path = photos / "a"
    path.write_bytes(b"old")
    os.setxattr(path, "user.caption", b"kept")
    try:
        os.setxattr(path, "security.ima", b"a digest of the old bytes")
    except OSError as error:
        pytest.skip(f"no such label may be set here: {error.strerror}")
    put_with_attributes_of(path)
    assert os.listxattr(path) == ["user.caption"]
