"""Batches that fit a device, and bytes in flight that are bounded, where nothing waits for ever."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from hashshield.attacks.batching import AdaptiveBatcher, ByteSemaphore, cpu_workers, fitting, on_processor, step_bytes
from hashshield.models.load import open_models


class Device:
    """A device that holds so many items at once, and says so as CUDA does."""

    def __init__(self, holds: int) -> None:
        self.holds = holds
        self.sizes: list[int] = []

    def __call__(self, items: Sequence[int]) -> list[int]:
        self.sizes.append(len(items))
        if len(items) > self.holds:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return [item * 10 for item in items]


@pytest.mark.parametrize("holds", [1, 2, 3, 5, 8])
def test_the_batch_halves_until_it_fits_and_stays_halved(holds: int) -> None:
    device, room = Device(holds), AdaptiveBatcher(8)
    assert room.map(range(8), device) == [item * 10 for item in range(8)]
    assert room.size <= holds
    first = len(device.sizes)
    assert room.map(range(8), device) == [item * 10 for item in range(8)]
    assert max(device.sizes[first:]) <= holds, "what did not fit is not tried again"


def test_a_single_item_that_does_not_fit_is_told() -> None:
    with pytest.raises(torch.OutOfMemoryError):
        AdaptiveBatcher(4).map(range(4), Device(0))


@pytest.mark.parametrize("items", [1, 2, 5, 8])
def test_lanes_keep_the_order_and_split_by_number_alone(items: int) -> None:
    device = Device(100)
    with cpu_workers(2) as pool:
        room = AdaptiveBatcher(8, 2, pool)
        assert room.map(range(items), device) == [item * 10 for item in range(items)]
    pieces = {1: [1], 2: [1, 1], 5: [2, 1, 1, 1], 8: [2, 2, 2, 2]}
    assert sorted(device.sizes) == sorted(pieces[items])


def test_one_lane_needs_no_threads() -> None:
    with cpu_workers(1) as pool:
        assert pool is None


def test_a_lane_computes_with_one_thread() -> None:
    with cpu_workers(2) as pool:
        assert pool is not None
        assert pool.submit(torch.get_num_threads).result() == 1


@pytest.mark.parametrize(
    ("free", "each", "photos"),
    [(0, 50_000_000, 1), (10**9, 50_000_000, 7), (16 * 10**9, 50_000_000, 64), (10**9, 10**9, 1)],
)
def test_a_batch_is_fitted_to_the_memory(free: int, each: int, photos: int) -> None:
    assert fitting(free, each) == photos


@pytest.mark.parametrize(("cores", "photos"), [(1, 2), (2, 2), (8, 8), (200, 64)])
def test_a_processor_takes_a_photo_a_core(cores: int, photos: int) -> None:
    assert on_processor(cores) == photos


def test_what_a_step_keeps_is_counted() -> None:
    """A convolution keeps its input, a ReLU its output; weights are there anyway, and a view is no second copy."""
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3, padding=1), torch.nn.ReLU(), torch.nn.Flatten())
    network.requires_grad_(False)
    network[0].weight.requires_grad_()
    cpu = torch.device("cpu")
    assert step_bytes(network, 10, cpu) == 4 * (3 + 4) * 10 * 10
    assert step_bytes(network, 20, cpu) == 4 * step_bytes(network, 10, cpu)


def test_the_embedded_network_keeps_some_tens_of_megabytes() -> None:
    (opened,) = open_models(["lite0-caltech101:48"])
    assert 20e6 < step_bytes(opened.model, opened.card.input.crop, torch.device("cpu")) < 80e6


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
