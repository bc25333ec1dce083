"""`bench device`: check a GPU's speed, whether its codes agree with the CPU's, and how much a step waits.

Rows of kind `steps` time the search alone, in memory, at each batch size. `counts` counts the operators and waits of a
step besides the network's own passes. `codes` compares codes of photos with those of the CPU. `whole` is a run of
`pipeline.work` from bytes to receipts.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode

from hashshield import imaging
from hashshield.arrays import Pixels
from hashshield.attacks.grid import make_grid
from hashshield.attacks.masking import perceptual_mask
from hashshield.attacks.methods import method
from hashshield.attacks.objectives import Objective
from hashshield.attacks.presets import Preset, preset
from hashshield.attacks.search import Execution, search
from hashshield.attacks.state import SearchTask
from hashshield.bench.config import TAU, DeviceConfig
from hashshield.bench.protecting import SECRET, photos_below
from hashshield.bench.results import environment, peak_mib
from hashshield.models.device import AGREEMENT, choose_device, describe_device, keep_freed_memory, search_dtype
from hashshield.models.hashing import displayed_rgb
from hashshield.models.load import NetworkView, OpenModel, network_views, open_models
from hashshield.pipeline.execute import make_context
from hashshield.pipeline.work import Source, work
from hashshield.storage import digest
from hashshield.types import Codes, Progress, Request

__all__ = [
    "COLUMNS",
    "HostReads",
    "OperatorCount",
    "profiled",
    "run_device",
]

COLUMNS: dict[str, tuple[str, ...]] = {
    "device": (
        "kind",
        "device",
        "dtype",
        "batch_size",
        "steps_per_second",
        "photo_steps_per_second",
        "peak_memory_mib",
        "host_reads_per_step",
        "operators_per_photo_and_step",
        "bits_that_differ",
        "evaluations_per_second",
    ),
}

_STEPS = 4
"""Steps of each timed search; the first search of a batch size is not timed."""
_COUNTED = 8
"""Number of photos in the step whose operators are counted."""
_CUT = 8
"""Pixels by which each photo is smaller than the last, if all are to have different shapes."""


def run_device(config: DeviceConfig, progress: Progress) -> list[dict[str, Any]]:
    """Return the rows that the module's docstring describes. Raise UsageError."""
    keep_freed_memory()
    files = photos_below(config.photos, " to time")[: config.count]
    (opened,) = open_models([config.model], device=choose_device(config.device))
    progress.start(len(config.batch_sizes) + 3)
    common = {
        "device": describe_device(opened.device),
        "dtype": str(search_dtype(opened.device)).removeprefix("torch."),
        "model": opened.name,
        "preset": config.preset,
    }
    photos = [displayed_rgb(imaging.read(path.read_bytes(), name=str(path))) for path in files]
    rows: list[dict[str, Any]] = []
    for batch_size in config.batch_sizes:
        rows.append({"kind": "steps", **common, **_speed(opened, photos, preset(config.preset), batch_size)})
        progress.done(None)
    for found in (
        {"kind": "counts", **_counts(opened, photos, preset(config.preset))},
        {"kind": "codes", **_agreement(config.model, opened, photos)},
        {"kind": "whole", **_whole(config, files)},
    ):
        rows.append({**found, **common})
        progress.done(None)
    rows[-1]["environment"] = environment(searches=[config.preset])
    return rows


class _Watched:
    """A network view that records the batch sizes it was called with."""

    def __init__(self, view: NetworkView) -> None:
        self._view, self.most = view, 0

    @property
    def side(self) -> int:
        """Short side, in pixels, to which the view resizes a photo."""
        return self._view.side

    def __call__(self, images: Sequence[Tensor], /) -> Codes:
        """Hash the images."""
        self.most = len(images)
        return self._view(images)


def _speed(opened: OpenModel, photos: Sequence[Pixels], prepared: Preset, batch_size: int) -> dict[str, Any]:
    """Return the speed and peak memory of the search at one batch size."""
    cuda = opened.device.type == "cuda"
    run = _Search(opened, [photos[i % len(photos)] for i in range(batch_size)], prepared)
    run()
    if cuda:
        torch.cuda.reset_peak_memory_stats(opened.device)
    began = time.monotonic()
    run()
    seconds = (time.monotonic() - began) / (_STEPS + 1)
    peak = torch.cuda.max_memory_allocated(opened.device) / 2**20 if cuda else peak_mib()
    return {
        "batch_size": batch_size,
        "photos_at_once": run.views[0].most,
        "steps_per_second": round(1 / seconds, 3),
        "photo_steps_per_second": round(batch_size / seconds, 2),
        "peak_memory_mib": round(peak, 1),
    }


class _Search:
    """A search of a few steps over photos in memory, to be run several times."""

    def __init__(self, opened: OpenModel, photos: Sequence[Pixels], prepared: Preset) -> None:
        """Set the complement of each photo's code as target, so that the search takes all its steps."""
        self.views = [_Watched(view) for view in network_views([opened], prepared.views)]
        self.method = replace(method(prepared.search), steps=_STEPS)
        self.tasks = [_task(opened, pixels, prepared) for pixels in photos]
        threads = torch.get_num_threads() if opened.device.type == "cpu" else 1
        self.execution = Execution(len(photos), threads)

    def __call__(self) -> None:
        """Run it."""
        for _ in search(iter(self.tasks), self.views, self.method, TAU, self.execution):
            pass


def _task(opened: OpenModel, pixels: Pixels, prepared: Preset) -> SearchTask:
    grid = make_grid(pixels, own_pixels=prepared.own_pixels)
    bits = torch.from_numpy(opened.hash(pixels).bits.astype(np.float32))
    mask = None
    if prepared.spectra is not None:
        height, width = grid.image.shape[1:]
        mask = perceptual_mask(pixels, height, width, prepared.spectra.lossy).to(opened.device)
    return SearchTask(
        grid.to(opened.device), [Objective(-bits).to(opened.device) for _ in prepared.views], masking=mask
    )


def _counts(opened: OpenModel, photos: Sequence[Pixels], prepared: Preset) -> dict[str, Any]:
    """Return the operators, launches and waits of a step of eight photos, and how many are not the network's own.

    The photos have one shape, then eight different ones. Transforms and writing are excluded, as in the timed searches.
    """
    side = min(min(pixels.shape[:2]) for pixels in photos)
    batch = [photos[i % len(photos)] for i in range(_COUNTED)]
    shapes = {
        "one_shape": [pixels[:side, :side] for pixels in batch],
        "eight_shapes": [pixels[: side - i * _CUT, : side - i * _CUT // 2] for i, pixels in enumerate(batch)],
    }
    found: dict[str, Any] = {"batch_size": _COUNTED}
    for name, some in shapes.items():
        run = _Search(opened, [np.ascontiguousarray(pixels) for pixels in some], prepared)
        run.execution = Execution(_COUNTED, cpu_workers=1)
        run()
        with HostReads() as reads:
            run()
        outside = (_operators(run) - _of_network(opened) * len(prepared.views)) / (_STEPS + 1) / _COUNTED
        found |= {f"operators_per_photo_and_step_{name}": round(outside, 2)}
        found |= {f"host_reads_per_step_{name}": round(reads.count / (_STEPS + 1), 2)}
        found |= {
            f"{key}_per_step_{name}": round(number / (_STEPS + 1), 2)
            for key, number in profiled(run, opened.device).items()
        }
    found["operators_per_photo_and_step"] = found["operators_per_photo_and_step_eight_shapes"]
    found["host_reads_per_step"] = found["host_reads_per_step_eight_shapes"]
    return found


def _operators(work: Callable[[], object]) -> int:
    with OperatorCount() as operators:
        work()
    return sum(operators.names.values())


def _of_network(opened: OpenModel) -> int:
    """Return the operators of the network's own passes in a search: one forward pass more than steps, and gradients."""
    side = opened.card.input.crop
    images = torch.zeros(_COUNTED, 3, side, side, device=opened.device, requires_grad=True)

    def forward() -> Tensor:
        code: Tensor = opened.model(images).code
        return code

    both = _operators(
        lambda: torch.autograd.grad(forward(), images, torch.ones(_COUNTED, opened.bits, device=opened.device))
    )
    return _STEPS * both + _operators(forward)


def _agreement(name: str, opened: OpenModel, photos: Sequence[Pixels]) -> dict[str, Any]:
    """Return how far codes are from the CPU's codes of the same photos."""
    (plain,) = open_models([name], device="cpu")
    expected, found = (np.stack([model.hash(pixels).code for pixels in photos]) for model in (plain, opened))
    view = NetworkView(opened)
    coarse = []
    for pixels in photos:
        image = make_grid(pixels).to(opened.device).image[None]
        with torch.inference_mode():
            exact = view([image]).code
            with torch.autocast(opened.device.type, torch.bfloat16):
                coarse.append(float((view([image]).code - exact).abs().max()))
    return {
        "photos": len(photos),
        "largest_difference": float(np.abs(found - expected).max()),
        "allowed_difference": AGREEMENT,
        "bits_that_differ": _differing(expected, found),
        "bits": expected.size,
        "largest_difference_in_bfloat16": round(max(coarse), 4),
    }


def _differing(one: NDArray[np.float32], other: NDArray[np.float32]) -> int:
    return int(np.count_nonzero((one > 0) != (other > 0)))


def _whole(config: DeviceConfig, files: Sequence[Path]) -> dict[str, Any]:
    """Return the rate of a run from bytes to receipts. Here an evaluation is one photo in all views."""
    request = Request(
        models=(config.model,),
        preset=config.preset,
        device=config.device,
        steps=config.steps,
        seed=0,
        witness="none",
    )
    context = make_context(request, SECRET)
    sources = [Source(path.name, data := path.read_bytes(), digest(data)) for path in files]
    began = time.monotonic()
    results = list(work(sources, context))
    seconds = time.monotonic() - began
    # A try has one evaluation more than steps, of its last change. Further tries are not counted.
    evaluations = sum(result.steps + 1 for result in results)
    return {
        "photos": len(results),
        "batch_size": context.execution.batch_size,
        "passed": sum(result.receipt is not None and result.receipt.passed for result in results),
        "evaluations_per_second": round(evaluations / seconds, 2),
        "photos_per_second": round(len(results) / seconds, 3),
    }


_READS = (
    Tensor.tolist,
    Tensor.item,
    Tensor.__bool__,
    Tensor.__float__,
    Tensor.__int__,
    Tensor.__index__,
    Tensor.__array__,
    Tensor.numpy,
    Tensor.cpu,
)
_LAUNCHES = ("cudaLaunchKernel", "cuLaunchKernel")
_SYNCHRONISATIONS = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize", "cudaMemcpy")


class HostReads(TorchFunctionMode):
    """Count, inside the context, how often the program reads a tensor's value; each read waits for a GPU."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Count one call and run it."""
        self.count += func in _READS
        return func(*args, **(kwargs or {}))


class OperatorCount(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Count, inside the context, this thread's ATen operators, backward passes included, without views of a tensor.

    An operator on a list of tensors counts once, as a GPU launches it.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Count one operator and run it."""
        if not func.is_view:
            self.names[func.overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))


def profiled(work: Callable[[], None], device: torch.device) -> dict[str, float]:
    """Return how many kernels `work` launches on a CUDA device and how often it waits for it; {} for other devices."""
    if device.type != "cuda":
        return {}
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as found:
        work()
        torch.cuda.synchronize(device)
    names = Counter(event.name for event in found.events())
    return {
        "launches": sum(count for name, count in names.items() if name.startswith(_LAUNCHES)),
        # Minus this function's own.
        "synchronisations": sum(names[name] for name in _SYNCHRONISATIONS) - 1,
    }
