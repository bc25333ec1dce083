from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from hashshield.pipeline.interruption import writes_finish
from hashshield.storage.atomic import put
from hashshield.storage.folder import Folder

pytestmark = pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="the system has no timers")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_outside_of_a_write_a_signal_interrupts_at_once(number: signal.Signals) -> None:
    def wait() -> None:
        with writes_finish():
            os.kill(os.getpid(), number)
            time.sleep(5)

    with pytest.raises(KeyboardInterrupt):
        wait()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_write_that_has_begun_is_finished_first(number: signal.Signals, tmp_path: Path) -> None:
    def in_the_middle() -> None:
        os.kill(os.getpid(), number)
        time.sleep(0.2)

    def write() -> None:
        with writes_finish(), Folder.open(tmp_path) as folder:
            put(folder, "a.jpg", b"whole", temporary="t", check=in_the_middle)
            time.sleep(5)

    with pytest.raises(KeyboardInterrupt):
        write()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a.jpg": b"whole"}


def test_afterwards_signals_mean_what_they_meant() -> None:
    names = (signal.SIGTERM, signal.SIGINT, signal.SIGALRM)
    before = [signal.getsignal(name) for name in names]
    with writes_finish():
        assert [signal.getsignal(name) for name in names] != before
    assert [signal.getsignal(name) for name in names] == before
