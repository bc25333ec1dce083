"""`hashshield bench transfer`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hashshield.cli import benching as b
from hashshield.cli import options as o
from hashshield.cli.output import keyed

if TYPE_CHECKING:
    from hashshield.bench.stage import Asked
    from hashshield.types import Progress

__all__ = ["EXAMPLES", "bench_transfer"]

EXAMPLES = o.examples(
    "hashshield bench transfer --data caltech101/ --model lite0-caltech101 --model lite2-caltech101 "
    "--model regnet-caltech101"
)


def bench_transfer(
    data: b.Data,
    output: b.Output = Path("benchmarks"),
    model: o.Models = None,
    queries: b.Queries = 24,
    preset: Annotated[
        list[str] | None,
        typer.Option("--preset", metavar="WORD", help="A preset to try; repeatable. Default: all."),
    ] = None,
    goal: Annotated[
        list[str] | None,
        typer.Option("--goal", metavar="WORD", help="A goal to try; repeatable. Default: away and opposite."),
    ] = None,
    tau: b.Tau = None,
    steps: b.Steps = None,
    seed: o.Seed = 0,
    device: o.Device = None,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
    yes: o.Yes = False,
) -> None:
    """What networks that the search never used still find: each --model is held out once, the others are searched."""
    layout = keyed(
        "held_out",
        "preset",
        "goal",
        "photos",
        "map",
        "map_random",
        "map_ceiling",
        "map_complement",
        "map_jpeg_q75",
        "mean_distance_from_original",
        "share_reached_where_searched",
        "median_psnr_db",
    )

    def bench(asked: Asked, progress: Progress) -> list[dict[str, Any]]:
        from hashshield.bench import transfer

        presets = b.words_of("preset", preset)
        goals = b.words_of("goal", goal)
        return transfer.run(asked, presets=presets, goals=goals, progress=progress)

    b.run(
        "bench transfer",
        layout,
        bench,
        model=model,
        data=data,
        output=output,
        queries=queries,
        seed=seed,
        device=device,
        steps=steps,
        tau=tau,
        as_json=as_json,
        quiet=quiet,
        yes=yes,
    )
