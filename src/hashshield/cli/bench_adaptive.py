"""`hashshield bench adaptive`."""

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

__all__ = ["EXAMPLES", "bench_adaptive"]

EXAMPLES = o.examples("hashshield bench adaptive --data caltech101/ --service lite2-caltech101")


def bench_adaptive(
    data: b.Data,
    output: b.Output = Path("benchmarks"),
    model: o.Models = None,
    queries: b.Queries = 24,
    goal: Annotated[
        list[str] | None,
        typer.Option("--goal", metavar="WORD", help="A goal to try; repeatable. Default: all that need no target."),
    ] = None,
    service: Annotated[
        list[str] | None,
        typer.Option("--service", metavar="NAME", help="Another network of the service; repeat for several."),
    ] = None,
    psnr: Annotated[
        float | None,
        typer.Option("--psnr", metavar="DB", min=20, max=60, help="Make every change as large as this PSNR first."),
    ] = None,
    tau: b.Tau = None,
    steps: b.Steps = None,
    seed: o.Seed = 0,
    device: o.Device = None,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
    yes: o.Yes = False,
) -> None:
    """Goals against a service that knows of them: other queries, filters, networks, and learning from pairs."""
    layout = keyed("bits", "goal", "against", "photos", "map", "map_random", "map_ceiling", "auc", "median_psnr_db")

    def bench(asked: Asked, progress: Progress) -> list[dict[str, Any]]:
        from hashshield.bench import adaptive as paper

        goals = b.words_of("goal", goal)
        return paper.run(asked, goals=goals, services=service or (), psnr=psnr, progress=progress)

    b.run(
        "bench adaptive",
        layout,
        bench,
        model=model,
        others=service or (),
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
