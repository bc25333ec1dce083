"""How workers share a machine's cores and GPUs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from hashshield.attacks.batching import fitting
from hashshield.fleet.run import _share
from hashshield.pipeline.execute import make_context
from hashshield.types import Request
from imitated_gpu import ImitatedGpu


@pytest.mark.parametrize(
    ("gpus", "workers", "count", "each"),
    [
        (1, None, 1, 1.0),
        (4, None, 4, 1.0),
        (4, 2, 2, 1.0),
        (1, 2, 2, 0.5),
        (1, 3, 3, 0.3333),
        (2, 3, 3, 0.5),
        (4, 10, 10, 0.3333),
        (0, 2, 2, None),
    ],
)
def test_workers_share_whole_gpus(gpus: int, workers: int | None, count: int, each: float | None) -> None:
    share = _share({"CPU": 16.0, "GPU": float(gpus)}, Request(device="auto"), workers)
    assert (share["workers"], share["gpus"]) == (count, each)
    if each is not None:
        assert gpus * int(1 / each) >= count, "each fits one GPU whole, or Ray would wait for ever"
        assert int(1 / each) * each <= 1


def test_a_worker_sizes_its_batch_for_its_share(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    request = Request(models=(f"{tiny}:16",), preset="balanced", device="cuda", witness="none", steps=1)
    held: list[float] = []
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", lambda share, device: held.append(share))
    sizes = {}
    with ImitatedGpu() as gpu:
        for share in (1.0, 0.5, 0.25):
            gpu.memory = 32_000_000, 32_000_000
            sizes[share] = make_context(request, b"key", memory_share=share).execution.batch_size
        gpu.memory = 4_000_000, 32_000_000
        assert make_context(request, b"key", memory_share=0.5).execution.batch_size < sizes[0.25]
    assert held == [0.5, 0.25, 0.5]
    assert sizes[1.0] > sizes[0.5] > sizes[0.25] > 1
    assert abs(sizes[0.5] - sizes[1.0] / 2) <= 1


def test_a_batch_is_sized_for_all_views(tiny: Path) -> None:
    """A step keeps what the network sees in every view until its gradient is there."""
    sizes = {}
    with ImitatedGpu() as gpu:
        gpu.memory = 20_000_000, 20_000_000
        for preset in ("invisible", "balanced"):
            request = Request(models=(f"{tiny}:16",), preset=preset, device="cuda", witness="none", steps=1)
            sizes[preset] = make_context(request, b"key").execution.batch_size
    assert abs(sizes["balanced"] - sizes["invisible"] / 2) <= 1
    assert fitting(10**12, 1) > sizes["invisible"], "not held by the cap"
