"""`hashshield bench untargeted`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from hashshield.cli import benching as b
from hashshield.cli import options as o
from hashshield.cli.output import keyed

if TYPE_CHECKING:
    from hashshield.bench.stage import Asked
    from hashshield.types import Progress

__all__ = ["EXAMPLES", "bench_untargeted"]

EXAMPLES = o.examples("hashshield bench untargeted --data caltech101/")


def bench_untargeted(
    data: b.Data,
    output: b.Output = Path("benchmarks"),
    model: o.Models = None,
    queries: b.Queries = 24,
    rival_queries: b.RivalQueries = 8,
    limit: b.Limit = 2000,
    anchor: b.Anchor = 9,
    tau: b.Tau = None,
    steps: b.Steps = None,
    seed: o.Seed = 0,
    device: o.Device = None,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
    yes: o.Yes = False,
) -> None:
    """Table 3 of the paper: MAP after untargeted methods, and after what a service may do against them."""
    layout = keyed(
        "bits",
        "method",
        "photos",
        "map",
        "map_random",
        "map_complement",
        "map_predicted_flip",
        "map_real_valued",
        "map_jpeg_q75",
        "map_blur",
        "map_index",
        "median_psnr_db",
    )

    def bench(asked: Asked, progress: Progress) -> list[dict[str, Any]]:
        from hashshield.bench import untargeted

        return untargeted.run(asked, rival_queries=rival_queries, limit=limit, anchor=anchor, progress=progress)

    b.run(
        "bench untargeted",
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
