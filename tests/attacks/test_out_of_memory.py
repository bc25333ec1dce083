"""The search on an imitated GPU whose memory ends in the middle of a step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from hashshield.attacks.methods import METHODS
from hashshield.attacks.search import Execution, search
from hashshield.attacks.state import SearchResult
from imitated_gpu import ImitatedGpu
from search_outcomes import TAU, WholePicture, _photo, smooth_network

PHOTOS = 4
STEPS = 6
"""And as many further ones for a method that has them. More would let rounding grow beyond the bound of `same`."""
FORWARD, BACKWARD = "sin", "cos"
"""Operators that the network of these searches calls once a step, with a row for each photo."""


def found(device: str, batch: int, method: str = "rnm-robust") -> tuple[list[SearchResult], dict[int, list[int]]]:
    """The results by photo, and the steps at which each photo was looked at, in order."""
    opened = smooth_network()
    chosen = replace(METHODS[method], steps=STEPS)
    if chosen.further is not None:
        chosen = replace(chosen, further=replace(chosen.further, steps=STEPS))
    tasks = [_photo(opened, key, chosen, None) for key in range(PHOTOS)]
    opened.model.to(device)
    looks: dict[int, list[int]] = {key: [] for key in range(PHOTOS)}

    def watched(key: int) -> Any:
        def watch(step: int, codes: Sequence[Tensor]) -> None:
            looks[key].append(step)

        return watch

    there = [
        replace(
            task,
            grid=task.grid.to(device),
            objectives=[objective.to(device) for objective in task.objectives],
            watch=watched(key),
        )
        for key, task in enumerate(tasks)
    ]
    results = list(search(there, [WholePicture(opened)], chosen, TAU, Execution(batch)))
    return sorted(results, key=lambda result: int(str(result.key))), looks


def same(one: list[SearchResult], other: list[SearchResult]) -> None:
    assert [result.key for result in one] == [result.key for result in other]
    for left, right in zip(one, other, strict=True):
        assert left.error is right.error is None
        assert (left.steps, left.reached, left.first_reached) == (right.steps, right.reached, right.first_reached)
        assert torch.allclose(left.delta.cpu(), right.delta.cpu(), atol=1e-9)
        assert torch.allclose(left.last.cpu(), right.last.cpu(), atol=1e-9)


@pytest.mark.parametrize("holds", [1, 2, 3])
@pytest.mark.parametrize("operator", [FORWARD, BACKWARD])
def test_a_batch_that_does_not_fit_is_halved_and_takes_each_step_once(operator: str, holds: int) -> None:
    expected, plain_looks = found("cpu", PHOTOS)
    with ImitatedGpu(lambda name, times, rows: name == operator and rows > holds) as gpu:
        results, looks = found("cuda", PHOTOS)
        same(results, expected)
    assert gpu.emptied, "what torch kept for the larger batch was given back"
    assert looks == plain_looks == {key: list(range(STEPS + 1)) for key in range(PHOTOS)}


@pytest.mark.parametrize(
    ("method", "calls"),
    [("rnm-masked", (3, 5)), ("rnm", (3, 5)), ("rnm", (3, 2 * STEPS + 3)), ("tanh-adam", (3, 5))],
    ids=["rnm-masked", "rnm", "rnm-further", "tanh-adam"],
)
@pytest.mark.parametrize("operator", [FORWARD, BACKWARD])
def test_memory_that_ends_in_a_later_step_leaves_no_trace(operator: str, method: str, calls: tuple[int, int]) -> None:
    """Neither hits in a row, nor momentum, nor the ball's radius know of the step that was not taken.

    `calls` are those of the operator that fail; after the first, each step makes two. The third case fails in a further
    step.
    """
    expected, plain_looks = found("cpu", PHOTOS, method)
    with ImitatedGpu(lambda name, times, rows: name == operator and times in calls) as gpu:
        results, looks = found("cuda", PHOTOS, method)
        same(results, expected)
    assert gpu.emptied == len(calls)
    assert looks == plain_looks


def test_photos_that_enter_a_halved_batch_wait_for_their_turn() -> None:
    expected, _ = found("cpu", 3)
    with ImitatedGpu(lambda name, times, rows: name == FORWARD and rows > 1):
        results, looks = found("cuda", 3)
        same(results, expected)
    assert looks == {key: list(range(STEPS + 1)) for key in range(PHOTOS)}


def test_a_photo_that_does_not_fit_alone_is_told() -> None:
    with ImitatedGpu(lambda name, times, rows: name == FORWARD), pytest.raises(torch.OutOfMemoryError):
        found("cuda", PHOTOS)


@pytest.mark.parametrize(
    "message",
    [
        "MPS backend out of memory (MPS allocated: 9.05 GB, max allowed: 9.07 GB).",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory",
    ],
)
def test_memory_errors_of_other_words_halve_the_batch_too(message: str) -> None:
    expected, _ = found("cpu", PHOTOS)

    def full(name: str, times: int, rows: int) -> bool:
        if name == FORWARD and rows > 2:
            raise RuntimeError(message)
        return False

    with ImitatedGpu(full) as gpu:
        results, _ = found("cuda", PHOTOS)
        same(results, expected)
    assert gpu.emptied
