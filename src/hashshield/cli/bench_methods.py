"""`hashshield bench methods`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hashshield.cli import options as o
from hashshield.cli.output import Report, keyed
from hashshield.cli.progress import PhotoProgress
from hashshield.cli.prompts import ensure_available
from hashshield.config import resolve

__all__ = ["EXAMPLES", "bench_methods"]

EXAMPLES = o.examples("hashshield bench methods --data caltech101/ --photos 100 --json")


def bench_methods(
    data: Annotated[Path, typer.Option("--data", metavar="DIR", help="The dataset in its official layout.")],
    model: o.Models = None,
    photos: Annotated[int, typer.Option("--photos", metavar="N", min=1, help="Queries for rnm.")] = 100,
    rival_photos: Annotated[
        int, typer.Option("--rival-photos", metavar="N", min=1, help="Queries for the other methods.")
    ] = 20,
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=1, help="Steps of the other methods.")] = 2000,
    only: Annotated[
        list[str] | None,
        typer.Option("--only", metavar="METHOD", help="This method: rnm or a rival's name; repeat for several."),
    ] = None,
    seed: o.Seed = 0,
    device: o.Device = None,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
    yes: o.Yes = False,
) -> None:
    """Every method on the same photos and targets: success, steps until distance 0, PSNR, SSIM."""
    layout = keyed(
        "method",
        "photos",
        "distance_0_written",
        "steps_to_goal_50",
        "steps_to_goal_95",
        "median_psnr_db",
        "median_psnr_db_at_end",
        "median_ssim",
        "seconds",
    )
    with Report("bench methods", layout, as_json=as_json, quiet=quiet) as sink:
        settings = resolve({"model": model, "device": device})
        ensure_available(settings["model"].value[:1], sink, yes=yes)

        from hashshield.bench import methods as bench

        with PhotoProgress(sink) as progress:
            sink.finish(
                bench.run(
                    model=settings["model"].value[0],
                    data=data,
                    photos=photos,
                    rival_photos=rival_photos,
                    limit=limit,
                    only=only or (),
                    seed=seed or 0,
                    device=settings["device"].value,
                    progress=progress,
                )
            )
