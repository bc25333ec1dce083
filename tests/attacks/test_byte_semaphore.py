"""Bytes in flight are bounded, and nothing waits for ever."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from hashshield.attacks.batching import ByteSemaphore


@pytest.mark.parametrize("sizes", [[30] * 12, [100] * 4, [1000, 10, 1000, 90, 20], [0, 0]])
def test_never_more_than_the_size_is_inside(sizes: list[int]) -> None:
    gate, guard = ByteSemaphore(100), threading.Lock()
    inside, most = [0], [0]

    def work(size: int) -> None:
        with gate.held(size):
            with guard:
                inside[0] += min(size, 100)
                most[0] = max(most[0], inside[0])
            threading.Event().wait(0.002)
            with guard:
                inside[0] -= min(size, 100)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, sizes))
    assert inside == [0]
    assert most[0] <= 100


def test_what_fails_gives_its_room_back() -> None:
    gate = ByteSemaphore(10)
    for _ in range(3):
        with pytest.raises(KeyError), gate.held(10):
            raise KeyError
    with gate.held(10):
        pass


def test_work_that_fits_goes_on_beside_other_work() -> None:
    gate, entered = ByteSemaphore(10), threading.Event()

    def beside() -> None:
        with gate.held(4):
            entered.set()

    with gate.held(6), ThreadPoolExecutor(1) as pool:
        pool.submit(beside)
        assert entered.wait(10)
