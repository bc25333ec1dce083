"""`bench speed`: what the loop costs over the bare gradient step, and where the time of a whole run goes.

The bare step is one forward pass of the same network on the same batch of ready inputs and the gradient back to them,
shared out over the cores as the loop does it: no method can do with less. Both are measured in turn, in one run,
because machines are noisy.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from hashshield import imaging
from hashshield.attacks.batching import AdaptiveBatcher, cpu_workers
from hashshield.attacks.grid import make_grid
from hashshield.attacks.methods import METHODS
from hashshield.attacks.objectives import Objective
from hashshield.attacks.perturbation import apply_perturbation
from hashshield.attacks.search import Execution, SearchConfig, SearchTask, search
from hashshield.bench.environment import environment, peak_mib
from hashshield.bench.photos import files_below
from hashshield.bench.stopwatch import Stopwatch
from hashshield.errors import UsageError
from hashshield.models.device import choose_device, keep_freed_memory
from hashshield.models.hash_files import displayed_rgb
from hashshield.models.load import OpenModel, open_models
from hashshield.models.network_views import NetworkView
from hashshield.pipeline.execute import make_context
from hashshield.pipeline.protect import protect
from hashshield.pipeline.receipt import measure_written
from hashshield.storage import NewRecord, Store, read_snapshot
from hashshield.transforms import pillow_view
from hashshield.types import Outcome, Progress, Request

__all__ = ["run"]

_STEPS = 5
_TAU = 0.032


def run(
    *,
    model: str,
    photos: Path,
    batch_size: int = 8,
    rounds: int = 5,
    device: str = "auto",
    progress: Progress,
) -> list[dict[str, Any]]:
    """Floor, loop and whole run over the photos of a folder, which is copied first. Raises UsageError."""
    keep_freed_memory()
    files = files_below(photos)
    if not files:
        raise UsageError(f"{photos}: holds no photos to time; name a folder with some")
    (opened,) = open_models([model], device=choose_device(device))
    progress.start(rounds + len(files))
    batch = [files[i % len(files)] for i in range(batch_size)]
    step = _steps(opened, batch, rounds, progress)
    whole = _whole(model, files, batch_size, device, progress)
    stages = _stages(model, files, device)
    # One pass more than there are steps: the last change is looked at too.
    attack = (whole["steps"] + whole["photos"]) * step["loop_seconds_per_photo"]
    needed = whole["steps"] * step["floor_seconds_per_photo"] + stages["decode"] + stages["encode"]
    return [
        {
            "model": opened.name,
            "batch_size": batch_size,
            **step,
            **whole,
            "attack_seconds": round(attack, 6),
            **{f"{name}_seconds": round(seconds, 6) for name, seconds in stages.items()},
            "whole_over_floor_decode_encode": round(whole["seconds"] / needed, 3),
            "peak_memory_mib": round(peak_mib(), 1),
            "environment": environment(batch_size=batch_size),
        }
    ]


def _steps(opened: OpenModel, batch: Sequence[Path], rounds: int, progress: Progress) -> dict[str, float]:
    displayed = [displayed_rgb(imaging.read(path.read_bytes(), name=str(path))) for path in batch]
    inputs = torch.stack([pillow_view(pixels, opened.card.input) for pixels in displayed]).to(opened.model.mean.device)
    objectives = [Objective(-torch.sign(code)) for code in opened.model(inputs).code]
    searches = [
        SearchTask(make_grid(p).to(inputs.device), [objective])
        for p, objective in zip(displayed, objectives, strict=True)
    ]
    network = NetworkView(opened)

    count = torch.get_num_threads() if inputs.device.type == "cpu" else 1

    def bare(rows: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        ready = torch.stack(list(rows)).requires_grad_()
        return list(torch.autograd.grad(opened.model(ready).code.sum(), ready)[0])

    def floor() -> None:
        with cpu_workers(count) as pool:
            room = AdaptiveBatcher(len(batch), count, pool)
            for _ in range(_STEPS + 1):
                room.map(list(inputs), bare)

    def loop() -> None:
        for _ in search(
            iter(searches), [network], METHODS["rnm"], SearchConfig(_TAU, _STEPS), Execution(len(batch), count)
        ):
            pass

    ratios, floors, loops = [], [], []
    floor()
    loop()
    for _ in range(rounds):
        floors.append(_timed(floor) / ((_STEPS + 1) * len(batch)))
        loops.append(_timed(loop) / ((_STEPS + 1) * len(batch)))
        ratios.append(loops[-1] / floors[-1])
        progress.done(None)
    return {
        "floor_seconds_per_photo": round(statistics.median(floors), 5),
        "loop_seconds_per_photo": round(statistics.median(loops), 5),
        "loop_over_floor": round(statistics.median(ratios), 3),
    }


def _whole(model: str, files: Sequence[Path], batch_size: int, device: str, progress: Progress) -> dict[str, Any]:
    """Protect copies of the photos in place, as a user would."""
    with tempfile.TemporaryDirectory() as folder:
        copies = Path(folder) / "photos"
        copies.mkdir(mode=0o700)
        for index, path in enumerate(files):
            (copies / f"{index:05d}{path.suffix}").write_bytes(path.read_bytes())
        request = Request(
            models=(model,),
            preset="invisible",
            vault=Path(folder) / "vault",
            batch_size=batch_size,
            device=device,
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
        "seconds": round(seconds, 3),
        "photos_per_second": round(len(rows) / seconds, 3),
    }


def _stages(model: str, files: Sequence[Path], device: str) -> dict[str, float]:
    """Seconds in one thread that all photos take on each stage around the search."""
    context = make_context(Request(models=(model,), preset="invisible", seed=0, device=device, witness="none"), b"")
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
                    tau=0.032,
                    orientation=photo.orientation,
                    generator=generator,
                    alpha=photo.alpha,
                )
            with watch.timing("encode"):
                written = imaging.write(photo, pixels)
            with watch.timing("receipt"), torch.inference_mode():
                again = measure_written(written, photo, context.promised_views, name=path.name)
                for views in (again.views, *(transformed.views for transformed in again.transformed)):
                    context.models[0].model(views[0][None].to(context.models[0].model.mean.device))
            with watch.timing("ledger"):
                store.replace(read_snapshot(copy, follow=False, within=photos), written, NewRecord(), allow_root=True)
    return {name: sum(seconds) for name, seconds in watch.seconds.items()}


def _timed(work: Callable[[], None]) -> float:
    began = time.monotonic()
    work()
    return time.monotonic() - began
