"""`hashshield bench traditional`."""

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

__all__ = ["EXAMPLES", "bench_traditional"]

EXAMPLES = o.examples("hashshield bench traditional --data caltech101/ --model lite0-caltech101:48")


def bench_traditional(
    data: b.Data,
    output: b.Output = Path("benchmarks"),
    model: o.Models = None,
    queries: b.Queries = 24,
    tau: Annotated[
        list[float] | None,
        typer.Option("--tau", metavar="NUMBER", min=1 / 255, max=1, help="A bound; repeatable. Default: 0.01 to 0.04."),
    ] = None,
    steps: b.Steps = None,
    seed: o.Seed = 0,
    device: o.Device = None,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
    yes: o.Yes = False,
) -> None:
    """Figure 3 of the paper: mosaic, brightness, transparency and noise beside adversarial changes."""
    layout = keyed(
        "bits",
        "change",
        "photos",
        "median_psnr_db",
        "median_ssim",
        "map",
        "map_random",
        "map_ceiling",
        "map_unseen",
        "map_index",
    )

    def bench(asked: Asked, progress: Progress) -> list[dict[str, Any]]:
        from hashshield.bench import traditional as paper

        return paper.run(asked, taus=tau or (), progress=progress)

    b.run(
        "bench traditional",
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
