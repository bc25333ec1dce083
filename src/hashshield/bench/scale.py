"""`bench scale`: what a second worker of a fleet brings.

Each number of workers protects the same photos in a cluster of its own on this machine, with the same number of cores
for each worker. The clock begins when each worker has done a batch, so that starting Ray and opening networks is not in
it: over many photos they do not count.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hashshield.bench.environment import environment
from hashshield.errors import UsageError
from hashshield.fleet.run import protect
from hashshield.types import Progress, Request

__all__ = ["WORKERS", "run"]

WORKERS = (1, 2)


def run(
    *,
    model: str,
    photos: Path,
    count: int = 96,
    steps: int | None = None,
    workers: Sequence[int] = WORKERS,
    device: str = "auto",
    progress: Progress,
) -> list[dict[str, Any]]:
    """One row per number of workers; efficiency is over the first's. Raises UsageError, FleetError.

    An efficiency of 1 means that so many workers do so many times the photos.
    """
    cores = (os.cpu_count() or 1) // max(workers)
    if cores < 1:
        raise UsageError(f"--workers {max(workers)}: this machine has {os.cpu_count()} cores, and each needs one")
    rows: list[dict[str, Any]] = []
    for number in workers:
        with tempfile.TemporaryDirectory() as folder:
            output = Path(folder) / "out"
            request = Request(
                models=(model,),
                steps=steps,
                device=device,
                vault=Path(folder) / "vault",
                output=output,
                sample=count,
                seed=0,
                witness="none",
                accept_best=True,
            )
            protect([photos], request, workers=number, cores=cores * number, progress=progress)
            row = {"model": model, "workers": number, "cores_each": cores, **_pace(output, number)}
            row["core_seconds_per_photo"] = round(cores * number / row["photos_per_second"], 3)
        first = rows[0] if rows else row
        ratio = row["photos_per_second"] / first["photos_per_second"] * first["workers"] / number
        rows.append({**row, "efficiency": round(ratio, 3), "environment": environment(steps=steps, photos=count)})
    return rows


def _pace(output: Path, workers: int) -> dict[str, Any]:
    """Photos and seconds from when each worker had done a batch, by when the parts of the manifest were written."""
    from hashshield.fleet import manifest

    parts = sorted((output / manifest.FOLDER).glob("*.parquet"), key=lambda path: path.stat().st_mtime_ns)
    entries = [manifest.read_part(part) for part in parts]
    if len(parts) < 3 * workers:
        raise UsageError(
            f"--photos {sum(map(len, entries))}: are {len(parts)} batches, too few for {workers} workers; time more"
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
