"""`hashshield bench retrieval`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from hashshield.cli import benching as b
from hashshield.cli import options as o
from hashshield.cli.output import keyed

if TYPE_CHECKING:
    from hashshield.bench.stage import Asked
    from hashshield.types import Progress

__all__ = ["EXAMPLES", "bench_retrieval"]

EXAMPLES = o.examples("hashshield bench retrieval --data caltech101/")


def bench_retrieval(
    data: b.Data,
    output: b.Output = Path("benchmarks"),
    model: o.Models = None,
    queries: b.Queries = 24,
    tau: b.Tau = None,
    steps: b.Steps = None,
    seed: o.Seed = 0,
    device: o.Device = None,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
    yes: o.Yes = False,
) -> None:
    """Figure 1 of the paper: what a photo, the protected photo and a carrier of its code find."""
    layout = keyed(
        "bits",
        "query",
        "photos",
        "map",
        "map_random",
        "map_ceiling",
        "map_unseen",
        "precision_radius_2",
        "recall_radius_2",
        "found_radius_2",
        "median_psnr_db",
    )

    def bench(asked: Asked, progress: Progress) -> list[dict[str, Any]]:
        from hashshield.bench import retrieval as paper

        return paper.run(asked, progress=progress)

    b.run(
        "bench retrieval",
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
