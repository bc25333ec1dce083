from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from hashshield.errors import StorageError
from hashshield.storage.lock import Lock


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
