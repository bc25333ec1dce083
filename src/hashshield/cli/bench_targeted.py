"""`hashshield bench targeted`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from hashshield.cli import benching as b
from hashshield.cli import options as o
from hashshield.cli.output import keyed

if TYPE_CHECKING:
    from hashshield.bench.stage import Asked
    from hashshield.types import Progress

__all__ = ["EXAMPLES", "bench_targeted"]

EXAMPLES = o.examples("hashshield bench targeted --data caltech101/")


def bench_targeted(
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
    """Table 1 of the paper: t-MAP of targeted methods, at every length of a network."""
    layout = keyed(
        "bits",
        "method",
        "photos",
        "map",
        "map_low",
        "map_high",
        "map_random",
        "map_ceiling",
        "map_unseen",
        "map_index",
        "share_at_target",
        "median_psnr_db",
    )

    def bench(asked: Asked, progress: Progress) -> list[dict[str, Any]]:
        from hashshield.bench import targeted

        return targeted.run(asked, rival_queries=rival_queries, limit=limit, anchor=anchor, progress=progress)

    b.run(
        "bench targeted",
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
