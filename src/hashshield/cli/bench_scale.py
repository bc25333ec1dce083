"""`hashshield bench scale`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hashshield.cli import options as o
from hashshield.cli.output import Report, keyed
from hashshield.cli.progress import PhotoProgress
from hashshield.cli.prompts import ensure_available
from hashshield.config import resolve

__all__ = ["EXAMPLES", "bench_scale"]

EXAMPLES = o.examples("hashshield bench scale photos/ --photos 96 --json")


def bench_scale(
    photos: Annotated[Path, typer.Argument(metavar="DIR", help="Photos to time; copies go to a temporary folder.")],
    count: Annotated[
        int, typer.Option("--photos", metavar="N", min=24, help="How many of them, evenly over all.")
    ] = 96,
    workers: Annotated[
        list[int] | None,
        typer.Option("--workers", metavar="N", min=1, help="A number of workers to time; 1 and 2 by default."),
    ] = None,
    steps: Annotated[int | None, typer.Option("--steps", metavar="N", min=1, help="Gradient steps per photo.")] = None,
    model: o.Models = None,
    device: o.Device = None,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
    yes: o.Yes = False,
) -> None:
    """Photos per second of one Ray worker and of several, and how near that is to as many times."""
    layout = keyed("model", "workers", "cores_each", "photos", "photos_per_second", "efficiency")
    with Report("bench scale", layout, as_json=as_json, quiet=quiet) as sink:
        settings = resolve({"model": model, "device": device})
        ensure_available(settings["model"].value[:1], sink, yes=yes)

        from hashshield.bench import scale as bench

        with PhotoProgress(sink) as progress:
            sink.finish(
                bench.run(
                    model=settings["model"].value[0],
                    photos=photos,
                    count=count,
                    steps=steps,
                    workers=workers or bench.WORKERS,
                    device=settings["device"].value,
                    progress=progress,
                )
            )
