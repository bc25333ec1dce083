"""`bench size`: what a photo's size costs beside the search, which runs on a small grid whatever the size.

One photo is scaled to several sizes. Each is measured in a process of its own, because the most memory a process held
is known for its whole life only. The parts are timed as the pipeline runs them, SSIM apart; then the photo is
protected as a user would.
"""

from __future__ import annotations

import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from hashshield import imaging
from hashshield.attacks.perturbation import apply_perturbation
from hashshield.bench.environment import environment, peak_mib
from hashshield.bench.stopwatch import Stopwatch
from hashshield.errors import PhotoError, UsageError
from hashshield.metrics.image import linf_levels, ssim
from hashshield.models.hash_files import displayed_rgb
from hashshield.pipeline.execute import make_context
from hashshield.pipeline.protect import protect
from hashshield.pipeline.receipt import measure_written
from hashshield.pipeline.task import prepare
from hashshield.pipeline.work import Source
from hashshield.storage import digest
from hashshield.types import Progress, Request

__all__ = ["MEGAPIXELS", "run"]

MEGAPIXELS = (0.2, 24.0)
_QUALITY = 92
_ROUNDS = 3


def run(
    *, model: str, photo: Path, megapixels: Sequence[float] = MEGAPIXELS, device: str = "auto", progress: Progress
) -> list[dict[str, Any]]:
    """One row per size, each with what it takes more than the first. Raises UsageError for a photo that is none."""
    try:
        displayed = Image.fromarray(displayed_rgb(imaging.read(photo.read_bytes(), name=str(photo))))
    except OSError as error:
        raise UsageError(f"{photo}: cannot be read ({error.strerror}); name a photo") from error
    except PhotoError as error:
        raise UsageError(str(error)) from error
    progress.start(2 * len(megapixels))
    rows: list[dict[str, Any]] = []
    for wanted in megapixels:
        scale = (wanted * 1e6 / (displayed.width * displayed.height)) ** 0.5
        size = (round(displayed.width * scale), round(displayed.height * scale))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "photos" / "photo.jpg"
            path.parent.mkdir(mode=0o700)
            displayed.resize(size, Image.Resampling.LANCZOS).save(path, quality=_QUALITY)
            row = {"model": model, "megapixels": round(size[0] * size[1] / 1e6, 2), "file_bytes": path.stat().st_size}
            for measure in (_parts, _whole):
                row |= _apart(measure, path, model, device)
                progress.done(None)
        rows.append(row)
    for row in rows:
        more = row["without_ssim_seconds"] - rows[0]["without_ssim_seconds"]
        row["more_than_first_seconds"] = round(more, 3)
        row["environment"] = environment(rounds=_ROUNDS, quality=_QUALITY)
    return rows


def _apart(measure: Any, path: Path, model: str, device: str) -> dict[str, Any]:
    """Run `measure` in a fresh process."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        found: dict[str, Any] = pool.submit(measure, path, model, device).result()
    return found


def _parts(path: Path, model: str, device: str) -> dict[str, Any]:
    """Median seconds of each part on one thread, without a search: the change is noise on the grid."""
    context = make_context(Request(models=(model,), preset="invisible", device=device, witness="none"), b"")
    torch.set_num_threads(1)
    data = path.read_bytes()
    source = Source(path.name, data, digest(data))
    watch = Stopwatch()

    for _ in range(_ROUNDS):
        with watch.timing("decode"):
            task = prepare(source, context)
            # Large photos are not kept decoded while they are searched.
            photo = task.decoded()
        change = torch.randn(task.grid.start().shape, generator=torch.Generator().manual_seed(0)) * 0.003
        with watch.timing("finish"):
            pixels = apply_perturbation(
                photo.pixels,
                change,
                tau=context.search.tau,
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


def _whole(path: Path, model: str, device: str) -> dict[str, Any]:
    """Seconds and peak memory of protecting the photo in place, SSIM and loading the network included."""
    vault = path.parents[1] / "vault"
    request = Request(models=(model,), preset="invisible", device=device, vault=vault, seed=0, witness="none")
    began = time.monotonic()
    (row,) = protect([path], request, progress=_Silent())
    return {
        "status": row.status,
        "steps": row.steps,
        "whole_seconds": round(time.monotonic() - began, 3),
        "peak_memory_mib": round(peak_mib(), 1),
    }


class _Silent:
    """The child has nobody to report to."""

    def start(self, total: int) -> None: ...

    def photo(self, path: str) -> None: ...

    def done(self, outcome: object) -> None: ...

    def notice(self, text: str) -> None: ...
