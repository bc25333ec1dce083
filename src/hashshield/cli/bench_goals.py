"""`hashshield bench goals`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hashshield.cli import benching as b
from hashshield.cli import options as o
from hashshield.cli.output import Report, keyed
from hashshield.cli.progress import PhotoProgress
from hashshield.cli.prompts import ensure_available
from hashshield.config import resolve

__all__ = ["EXAMPLES", "bench_goals"]

EXAMPLES = o.examples("hashshield bench goals --data caltech101/ --goal away --goal opposite --json")


def bench_goals(
    data: Annotated[Path, typer.Option("--data", metavar="DIR", help="The dataset in its official layout.")],
    goal: Annotated[
        list[str] | None, typer.Option("--goal", metavar="WORD", help="A goal to judge; repeatable. Default: away.")
    ] = None,
    preset: Annotated[
        str, typer.Option("--preset", metavar="WORD", help="The preset to protect them with.")
    ] = "invisible",
    model: o.Models = None,
    photos: Annotated[int, typer.Option("--photos", metavar="N", min=2, help="Queries to protect.")] = 100,
    steps: Annotated[int | None, typer.Option("--steps", metavar="N", min=1, help="Gradient steps per photo.")] = None,
    seed: o.Seed = 0,
    device: o.Device = None,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
    yes: o.Yes = False,
) -> None:
    """Judge goals by retrieval: what a service still finds with a protected photo, asked in five ways."""
    layout = keyed(
        "goal",
        "passed",
        "median_psnr_db",
        "map_symmetric",
        "map_complement",
        "map_predicted_flip",
        "map_real_valued",
        "rank_features",
    )
    with Report("bench goals", layout, as_json=as_json, quiet=quiet) as sink:
        settings = resolve({"model": model, "device": device})
        wanted = b.words_of("goal", goal or ["away"])
        (preset,) = b.words_of("preset", [preset])
        ensure_available(settings["model"].value[:1], sink, yes=yes)

        from hashshield.bench import goals as bench

        with PhotoProgress(sink) as progress:
            sink.finish(
                bench.run(
                    model=settings["model"].value[0],
                    data=data,
                    goals=wanted,
                    preset=preset,
                    photos=photos,
                    steps=steps,
                    seed=0 if seed is None else seed,
                    device=settings["device"].value,
                    progress=progress,
                )
            )
