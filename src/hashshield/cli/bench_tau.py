"""`hashshield bench tau`."""

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

__all__ = ["EXAMPLES", "bench_tau"]

EXAMPLES = o.examples("hashshield bench tau --data caltech101/ --model lite0-caltech101:24")


def bench_tau(
    data: b.Data,
    output: b.Output = Path("benchmarks"),
    model: o.Models = None,
    queries: b.Queries = 24,
    rival_queries: b.RivalQueries = 8,
    limit: b.Limit = 2000,
    anchor: b.Anchor = 9,
    tau: Annotated[
        list[float] | None,
        typer.Option(
            "--tau", metavar="NUMBER", min=1 / 255, max=1, help="A bound; repeat for several. Default: 0.01 to 0.05."
        ),
    ] = None,
    steps: b.Steps = None,
    seed: o.Seed = 0,
    device: o.Device = None,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
    yes: o.Yes = False,
) -> None:
    """Table 2 of the paper: t-MAP against the largest change of a pixel."""
    layout = keyed(
        "bits", "method", "tau", "photos", "map", "map_random", "map_ceiling", "share_at_target", "median_psnr_db"
    )

    def bench(asked: Asked, progress: Progress) -> list[dict[str, Any]]:
        from hashshield.bench import tau as paper

        return paper.run(
            asked,
            rival_queries=rival_queries,
            limit=limit,
            anchor=anchor,
            taus=tau or (),
            progress=progress,
        )

    b.run(
        "bench tau",
        layout,
        bench,
        model=model,
        data=data,
        output=output,
        queries=queries,
        seed=seed,
        device=device,
        steps=steps,
        as_json=as_json,
        quiet=quiet,
        yes=yes,
    )
