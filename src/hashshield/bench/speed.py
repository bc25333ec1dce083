"""`bench speed`: what the search costs over the bare gradient step, and where the time of a whole run goes.

The bare step is one forward pass of the same network on the same batch of ready inputs and the gradient back to them,
shared over the cores as the search shares it: no method can do with less. Both are measured in turn, in one run,
because machines are noisy.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from hashshield import imaging
from hashshield.attacks.batching import AdaptiveBatcher, cpu_workers
from hashshield.attacks.grid import apply_perturbation, make_grid
from hashshield.attacks.methods import METHODS
from hashshield.attacks.objectives import Objective
from hashshield.attacks.search import Execution, search
from hashshield.attacks.state import SearchTask
from hashshield.bench.config import TAU, SpeedConfig
from hashshield.bench.protecting import SECRET, photos_below
from hashshield.bench.results import Stopwatch, environment, peak_mib
from hashshield.models.device import choose_device, keep_freed_memory
from hashshield.models.hashing import displayed_rgb
from hashshield.models.load import NetworkView, OpenModel, open_models
from hashshield.pipeline.execute import make_context
from hashshield.pipeline.protect import protect
from hashshield.pipeline.receipt import measure_written
from hashshield.storage import NewRecord, Store, read_snapshot
from hashshield.transforms import pillow_view
from hashshield.types import Outcome, Progress, Request

__all__ = ["COLUMNS", "run_speed"]

COLUMNS: dict[str, tuple[str, ...]] = {
    "speed": (
        "model",
        "loop_over_floor",
        "photos",
        "photos_per_second",
        "whole_over_floor_decode_encode",
        "median_evaluations",
    ),
}

_STEPS = 5


def run_speed(config: SpeedConfig, progress: Progress) -> list[dict[str, Any]]:
    """Return one row: the bare step, the search, and a whole run over copies of the photos. Raise UsageError."""
    keep_freed_memory()
    files = photos_below(config.photos, " to time")
    (opened,) = open_models([config.model], device=choose_device(config.device))
    progress.start(config.rounds + len(files))
    batch = [files[i % len(files)] for i in range(config.batch_size)]
    step = _step_times(opened, batch, config.rounds, progress)
    whole = _whole_run(config, files, progress)
    stages = _stage_times(config, files)
    # A search hashes once more than it has steps, because it judges the change at the last step too.
    attack = (whole["steps"] + whole["photos"]) * step["loop_seconds_per_photo"]
    needed = whole["steps"] * step["floor_seconds_per_photo"] + stages["decode"] + stages["encode"]
    return [
        {
            "model": opened.name,
            "batch_size": config.batch_size,
            **step,
            **whole,
            "attack_seconds": round(attack, 6),
            **{f"{name}_seconds": round(seconds, 6) for name, seconds in stages.items()},
            "whole_over_floor_decode_encode": round(whole["seconds"] / needed, 3),
            "peak_memory_mib": round(peak_mib(), 1),
            "environment": environment(searches=["invisible"], batch_size=config.batch_size),
        }
    ]


def _step_times(opened: OpenModel, batch: Sequence[Path], rounds: int, progress: Progress) -> dict[str, float]:
    """Return the median seconds that a photo takes per bare step and per step of the search."""
    photos = [displayed_rgb(imaging.read(path.read_bytes(), name=str(path))) for path in batch]
    inputs = torch.stack([pillow_view(pixels, opened.card.input) for pixels in photos]).to(opened.device)
    objectives = [Objective(-torch.sign(code)) for code in opened.model(inputs).code]
    tasks = [
        SearchTask(make_grid(pixels).to(inputs.device), [objective])
        for pixels, objective in zip(photos, objectives, strict=True)
    ]
    network = NetworkView(opened)
    count = torch.get_num_threads() if inputs.device.type == "cpu" else 1

    def gradients(rows: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        ready = torch.stack(list(rows)).requires_grad_()
        return list(torch.autograd.grad(opened.model(ready).code.sum(), ready)[0])

    def bare_steps() -> None:
        with cpu_workers(count) as pool:
            batcher = AdaptiveBatcher(len(batch), count, pool)
            for _ in range(_STEPS + 1):
                batcher.map(list(inputs), gradients)

    def whole_search() -> None:
        method = replace(METHODS["rnm"], steps=_STEPS)
        for _ in search(iter(tasks), [network], method, TAU, Execution(len(batch), count)):
            pass

    ratios, floors, loops = [], [], []
    bare_steps()
    whole_search()
    for _ in range(rounds):
        floors.append(_timed(bare_steps) / ((_STEPS + 1) * len(batch)))
        loops.append(_timed(whole_search) / ((_STEPS + 1) * len(batch)))
        ratios.append(loops[-1] / floors[-1])
        progress.done(None)
    return {
        "floor_seconds_per_photo": round(statistics.median(floors), 5),
        "loop_seconds_per_photo": round(statistics.median(loops), 5),
        "loop_over_floor": round(statistics.median(ratios), 3),
    }


def _whole_run(config: SpeedConfig, files: Sequence[Path], progress: Progress) -> dict[str, Any]:
    """Protect copies of the photos in place, as a user would, and return counts and seconds."""
    with tempfile.TemporaryDirectory() as folder:
        copies = Path(folder) / "photos"
        copies.mkdir(mode=0o700)
        for index, path in enumerate(files):
            (copies / f"{index:05d}{path.suffix}").write_bytes(path.read_bytes())
        request = Request(
            models=(config.model,),
            preset="invisible",
            vault=Path(folder) / "vault",
            batch_size=config.batch_size,
            device=config.device,
            seed=0,
            witness="none",
        )
        began = time.monotonic()
        rows: list[Outcome] = protect([copies], request, progress=progress)
        seconds = time.monotonic() - began
    return {
        "photos": len(rows),
        "protected": sum(row.status == "protected" for row in rows),
        "steps": sum(row.steps or 0 for row in rows),
        "evaluations": sum(row.evaluations or 0 for row in rows),
        "median_evaluations": statistics.median([row.evaluations or 0 for row in rows]),
        "seconds": round(seconds, 3),
        "photos_per_second": round(len(rows) / seconds, 3),
    }


def _stage_times(config: SpeedConfig, files: Sequence[Path]) -> dict[str, float]:
    """Return the seconds in one thread that all photos take on each stage around the search."""
    request = Request(models=(config.model,), preset="invisible", seed=0, device=config.device, witness="none")
    context = make_context(request, SECRET)
    (opened,) = context.models
    watch = Stopwatch()
    with tempfile.TemporaryDirectory() as folder, Store.open(Path(folder) / "vault") as store:
        photos = Path(folder) / "photos"
        photos.mkdir(mode=0o700)
        for index, path in enumerate(files):
            data, copy = path.read_bytes(), photos / f"{index:05d}{path.suffix}"
            copy.write_bytes(data)
            with watch.timing("decode"):
                photo = imaging.read(data, name=path.name)
            with watch.timing("grid"):
                grid = make_grid(displayed_rgb(photo), channels=imaging.colour_channels(photo))
            generator = torch.Generator().manual_seed(index)
            delta = torch.randn(grid.start().shape, generator=generator) / 255
            with watch.timing("finish"):
                pixels = apply_perturbation(
                    photo.pixels,
                    delta,
                    tau=TAU,
                    orientation=photo.orientation,
                    generator=generator,
                    alpha=photo.alpha,
                )
            with watch.timing("encode"):
                written = imaging.write(photo, pixels)
            with watch.timing("receipt"), torch.inference_mode():
                again = measure_written(written, photo, context.promised_views, name=path.name)
                for views in (again.views, *(transformed.views for transformed in again.transformed)):
                    opened.model(views[0][None].to(opened.device))
            with watch.timing("ledger"):
                store.replace(read_snapshot(copy, follow=False, within=photos), written, NewRecord(), allow_root=True)
    return {name: sum(seconds) for name, seconds in watch.seconds.items()}


def _timed(work: Callable[[], None]) -> float:
    began = time.monotonic()
    work()
    return time.monotonic() - began
