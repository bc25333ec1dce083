from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from hashshield.attacks import loop
from hashshield.pipeline.execute import make_context
from hashshield.pipeline.work import Source, work
from hashshield.storage import digest
from hashshield.types import Request
from tiny_net import encoded, picture


class SmallGpu:
    """Stands for the search on a device whose memory does not hold one photo, until the work moves to the CPU."""

    def __init__(self, real: Any) -> None:
        self.real, self.refused = real, 0

    def __call__(self, photos: Any, networks: Any, method: Any, budget: Any) -> Any:
        if not self.refused:
            self.refused += 1
            next(iter(photos))
            raise torch.OutOfMemoryError("CUDA out of memory")
        return self.real(photos, networks, method, budget)


def test_a_device_without_room_for_one_photo_gives_way_to_the_cpu(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hashshield.pipeline import work as module

    told: list[str] = []
    tools = make_context(
        Request(models=(f"{tiny}:16",), preset="invisible", steps=20, seed=1, device="cpu", witness="none"),
        b"key",
        told.append,
    )
    gpu = SmallGpu(loop.search)
    monkeypatch.setattr(module, "search", gpu)
    # A device without storage stands in for the GPU: the flow takes its device from the networks, which stay here.
    flow_init, flow_aim = module._Protector.__init__, module._Protector._objective

    def on_gpu(self: Any, *arguments: Any) -> None:
        flow_init(self, *arguments)
        self.device = torch.device("meta")

    def aim_here(self: Any, task: Any) -> None:
        claimed, self.device = self.device, torch.device("cpu")
        flow_aim(self, task)
        self.device = claimed

    monkeypatch.setattr(module._Protector, "__init__", on_gpu)
    monkeypatch.setattr(module._Protector, "_aim", aim_here)
    data = [encoded(picture(seed=seed)) for seed in range(3)]
    results = list(work([Source(str(i), d, digest(d)) for i, d in enumerate(data)], tools))
    assert gpu.refused == 1
    assert sorted(result.source.name for result in results) == ["0", "1", "2"], "nothing is lost, nothing twice"
    assert all(result.receipt is not None for result in results)
    assert len(told) == 1
    assert "CPU" in told[0]


def test_a_cpu_without_memory_says_so(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hashshield.pipeline import work as module

    def full(*_arguments: Any) -> Any:
        raise torch.OutOfMemoryError("no memory")
        yield

    tools = make_context(
        Request(models=(f"{tiny}:16",), preset="invisible", steps=5, seed=1, device="cpu", witness="none"), b"key"
    )
    monkeypatch.setattr(module, "search", full)
    data = encoded(picture())
    with pytest.raises(MemoryError, match="not even one photo"):
        list(work([Source("a", data, digest(data))], tools))
