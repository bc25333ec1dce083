from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from hashshield.attacks import search as searching
from hashshield.pipeline.execute import make_context
from hashshield.pipeline.work import Result, Source, work
from hashshield.storage import digest
from hashshield.types import Request
from tiny_net import encoded, picture


class SmallGpu:
    """Stands for the search on a device whose memory does not hold one photo, until the work moves to the CPU."""

    def __init__(self, real: Callable[..., Any], told: list[str]) -> None:
        self.real, self.told, self.refused = real, told, 0

    def __call__(self, tasks: Any, *arguments: Any) -> Any:
        if not self.told:
            self.refused += 1
            next(iter(tasks))
            raise torch.OutOfMemoryError("CUDA out of memory")
        return self.real(tasks, *arguments)


def results(tiny: Path, told: list[str]) -> list[Result]:
    request = Request(
        models=(f"{tiny}:16",), preset="invisible", steps=20, batch_size=8, seed=1, device="cpu", witness="none"
    )
    context = make_context(request, b"key", told.append)
    data = [encoded(picture(seed=seed)) for seed in range(3)]
    return list(work([Source(str(i), d, digest(d)) for i, d in enumerate(data)], context))


def test_a_device_without_room_for_one_photo_gives_way_to_the_cpu(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hashshield.pipeline import work as module

    told: list[str] = []
    gpu = SmallGpu(searching.search, told)
    monkeypatch.setattr(module, "search", gpu)
    # A device without storage stands in for the GPU; the networks stay here.
    begin = module._Protector.__init__

    def on_gpu(self: Any, *arguments: Any) -> None:
        begin(self, *arguments)
        self.device = torch.device("meta")

    monkeypatch.setattr(module._Protector, "__init__", on_gpu)
    found = results(tiny, told)
    assert gpu.refused == 4, "with eight photos at once, with four, two and one"
    assert sorted(result.source.name for result in found) == ["0", "1", "2"], "nothing is lost, nothing twice"
    assert all(result.receipt is not None for result in found)
    assert len(told) == 1
    assert "CPU" in told[0]


def test_a_cpu_without_memory_says_so_of_each_photo(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hashshield.pipeline import work as module

    def full(tasks: Any, *_arguments: Any) -> Any:
        next(iter(tasks))
        raise torch.OutOfMemoryError("no memory")
        yield

    monkeypatch.setattr(module, "search", full)
    found = results(tiny, [])
    assert sorted(result.source.name for result in found) == ["0", "1", "2"]
    assert all("fits into memory; close other programs" in str(result.reason) for result in found)
