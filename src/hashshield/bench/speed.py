"""Time and memory: of a run, by photo size, and by number of workers.

`bench speed` measures the overhead of the search over the bare gradient step, and how the time of a whole run is spent.
The bare step is one forward and backward pass of the same network on the same batch of prepared inputs, shared over the
cores as in the search: the minimum for any method. Both are measured alternately in one run, because machines are
noisy.

`bench size` measures what a photo's size costs besides the search, which runs on a small grid whatever the size. One
photo is scaled to several sizes. Each is measured in its own process, because peak memory is known only per process.
The parts are timed as the pipeline runs them, SSIM separately; then the photo is protected as a user would.

`bench scale` measures the benefit of further workers of a fleet. Each number of workers protects the same photos in its
own cluster on this machine, with the same number of cores per worker. The clock starts when each worker has finished a
batch, so that starting Ray and opening networks, which hardly matter for many photos, do not count.
"""

from __future__ import annotations

import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from hashshield import imaging
from hashshield.attacks.batching import AdaptiveBatcher, cpu_workers
from hashshield.attacks.grid import apply_perturbation, make_grid
from hashshield.attacks.methods import METHODS
from hashshield.attacks.objectives import Objective
from hashshield.attacks.search import Execution, search
from hashshield.attacks.state import SearchTask
from hashshield.bench.config import TAU, ScaleConfig, SizeConfig, SpeedConfig
from hashshield.bench.protecting import SECRET, photos_below
from hashshield.bench.results import Stopwatch, environment, peak_mib
from hashshield.errors import PhotoError, UsageError
from hashshield.metrics.image import linf_levels, ssim
from hashshield.models.device import choose_device, keep_freed_memory
from hashshield.models.hashing import displayed_rgb
from hashshield.models.load import NetworkView, OpenModel, open_models
from hashshield.pipeline.execute import make_context
from hashshield.pipeline.protect import protect
from hashshield.pipeline.receipt import measure_written
from hashshield.pipeline.task import prepare
from hashshield.pipeline.work import Source
from hashshield.storage import NewRecord, Store, digest, read_snapshot
from hashshield.transforms import pillow_view
from hashshield.types import NullProgress, Outcome, Progress, Request

__all__ = ["COLUMNS", "run_scale", "run_size", "run_speed"]

COLUMNS: dict[str, tuple[str, ...]] = {
    "speed": (
        "model",
        "loop_over_floor",
        "photos",
        "photos_per_second",
        "whole_over_floor_decode_encode",
        "median_evaluations",
    ),
    "size": ("model", "megapixels", "without_ssim_seconds", "ssim_seconds", "whole_seconds", "peak_memory_mib"),
    "scale": ("model", "workers", "cores_each", "photos", "photos_per_second", "efficiency"),
}

_STEPS = 5
_QUALITY = 92
"""JPEG quality of the scaled copies."""
_ROUNDS = 3


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
    # A search hashes once more than it has steps, because it evaluates the last change too.
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
    """Return the median seconds per photo of a bare step and of a step of the search."""
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
        method = replace(METHODS["rnm"], steps=_STEPS, further=None)
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
            vault=_vault(folder),
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


def _vault(folder: str) -> Path:
    """Make a vault's folder below a temporary one, so that no message announces it as new; return it."""
    vault = Path(folder) / "vault"
    vault.mkdir(mode=0o700)
    return vault


def _stage_times(config: SpeedConfig, files: Sequence[Path]) -> dict[str, float]:
    """Return the seconds of all photos, on one thread, in each stage around the search."""
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


def run_size(config: SizeConfig, progress: Progress) -> list[dict[str, Any]]:
    """Return a row per size, with its extra seconds over the first. Raise UsageError for an unusable photo."""
    photo = config.photo
    try:
        original = Image.fromarray(displayed_rgb(imaging.read(photo.read_bytes(), name=str(photo))))
    except OSError as error:
        raise UsageError(f"{photo}: cannot be read ({error.strerror}); name a photo") from error
    except PhotoError as error:
        raise UsageError(str(error)) from error
    progress.start(2 * len(config.megapixels))
    rows: list[dict[str, Any]] = []
    for wanted in config.megapixels:
        scale = (wanted * 1e6 / (original.width * original.height)) ** 0.5
        size = (round(original.width * scale), round(original.height * scale))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "photos" / "photo.jpg"
            path.parent.mkdir(mode=0o700)
            original.resize(size, Image.Resampling.LANCZOS).save(path, quality=_QUALITY)
            megapixels = round(size[0] * size[1] / 1e6, 2)
            row = {"model": config.model, "megapixels": megapixels, "file_bytes": path.stat().st_size}
            for measure in (_part_times, _one_photo):
                row |= _in_new_process(measure, path, config.model, config.device)
                progress.done(None)
        rows.append(row)
    for row in rows:
        more = row["without_ssim_seconds"] - rows[0]["without_ssim_seconds"]
        row["more_than_first_seconds"] = round(more, 3)
        row["environment"] = environment(searches=["invisible"], rounds=_ROUNDS, quality=_QUALITY)
    return rows


def _in_new_process(
    measure: Callable[[Path, str, str], dict[str, Any]], path: Path, model: str, device: str
) -> dict[str, Any]:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(measure, path, model, device).result()


def _part_times(path: Path, model: str, device: str) -> dict[str, Any]:
    """Return the median seconds of each part on one thread; the change is noise on the grid instead of a search."""
    request = Request(models=(model,), preset="invisible", device=device, witness="none")
    context = make_context(request, SECRET)
    torch.set_num_threads(1)
    data = path.read_bytes()
    source = Source(path.name, data, digest(data))
    watch = Stopwatch()
    for _ in range(_ROUNDS):
        with watch.timing("decode"):
            task = prepare(source, context)
            # Large photos are decoded again after the search.
            photo = task.decoded()
        change = torch.randn(task.grid.start().shape, generator=torch.Generator().manual_seed(0)) * 0.003
        with watch.timing("finish"):
            pixels = apply_perturbation(
                photo.pixels,
                change,
                tau=context.tau,
                orientation=photo.orientation,
                generator=torch.Generator().manual_seed(0),
            )
        with watch.timing("encode"):
            written = imaging.write(photo, pixels)
        with watch.timing("receipt"):
            linf_levels(pixels, photo.pixels)
            del pixels
            measure_written(written, photo, context.promised_views, name=path.name)
        again = imaging.read(written, name=path.name).pixels
        with watch.timing("ssim"):
            ssim(again, photo.pixels)
    median = {name: statistics.median(seconds) for name, seconds in watch.seconds.items()}
    median["receipt"] -= median["ssim"]
    total = sum(seconds for name, seconds in median.items() if name != "ssim")
    return {
        **{f"{name}_seconds": round(seconds, 3) for name, seconds in median.items()},
        "without_ssim_seconds": round(total, 3),
    }


def _one_photo(path: Path, model: str, device: str) -> dict[str, Any]:
    """Protect the photo in place; return seconds and peak memory, SSIM and loading the network included."""
    vault = path.parents[1] / "vault"
    request = Request(models=(model,), preset="invisible", device=device, vault=vault, seed=0, witness="none")
    began = time.monotonic()
    (row,) = protect([path], request, progress=NullProgress())
    return {
        "status": row.status,
        "steps": row.steps,
        "whole_seconds": round(time.monotonic() - began, 3),
        "peak_memory_mib": round(peak_mib(), 1),
    }


def run_scale(config: ScaleConfig, progress: Progress) -> list[dict[str, Any]]:
    """Return a row per number of workers. Raise UsageError, FleetError.

    `efficiency` is relative to the first number: 1 means that n times the workers protect n times the photos.
    """
    from hashshield.fleet.run import protect as protect_by_fleet

    cores = (os.cpu_count() or 1) // max(config.workers)
    if cores < 1:
        most = max(config.workers)
        raise UsageError(f"--workers {most}: this machine has {os.cpu_count()} cores, and each needs one")
    rows: list[dict[str, Any]] = []
    for number in config.workers:
        with tempfile.TemporaryDirectory() as folder:
            output = Path(folder) / "out"
            request = Request(
                models=(config.model,),
                steps=config.steps,
                device=config.device,
                vault=_vault(folder),
                output=output,
                sample=config.count,
                seed=0,
                witness="none",
                accept_best=True,
            )
            protect_by_fleet([config.photos], request, workers=number, cores=cores * number, progress=progress)
            row = {"model": config.model, "workers": number, "cores_each": cores, **_pace(output, number)}
            row["core_seconds_per_photo"] = round(cores * number / row["photos_per_second"], 3)
        first = rows[0] if rows else row
        ratio = row["photos_per_second"] / first["photos_per_second"] * first["workers"] / number
        known = environment(searches=["balanced"], steps=config.steps, photos=config.count)
        rows.append({**row, "efficiency": round(ratio, 3), "environment": known})
    return rows


def _pace(output: Path, workers: int) -> dict[str, Any]:
    """Return photos and seconds since every worker had finished a batch, from the times of the manifest's parts."""
    from hashshield.fleet import manifest

    parts = sorted((output / manifest.FOLDER).glob("*.parquet"), key=lambda path: path.stat().st_mtime_ns)
    entries = [manifest.read_part(part) for part in parts]
    if len(parts) < 3 * workers:
        raise UsageError(
            f"--photos {sum(map(len, entries))}: only {len(parts)} batches, too few for {workers} workers; take more"
        )
    began, ended = (parts[index].stat().st_mtime_ns for index in (workers - 1, -1))
    timed = [entry.outcome for part in entries[workers:] for entry in part]
    seconds = (ended - began) / 1e9
    return {
        "photos": len(timed),
        "written": sum(row.sha256_after is not None for row in timed),
        "steps": sum(row.steps or 0 for row in timed),
        "seconds": round(seconds, 3),
        "photos_per_second": round(len(timed) / seconds, 4),
    }
