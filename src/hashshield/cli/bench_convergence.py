"""`hashshield bench convergence`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from hashshield.cli import benching as b
from hashshield.cli import options as o
from hashshield.cli.output import keyed

if TYPE_CHECKING:
    from hashshield.bench.stage import Asked
    from hashshield.types import Progress

__all__ = ["EXAMPLES", "bench_convergence"]

EXAMPLES = o.examples("hashshield bench convergence --data caltech101/")


def bench_convergence(
    data: b.Data,
    output: b.Output = Path("benchmarks"),
    model: o.Models = None,
    queries: b.Queries = 8,
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
    """Figure 2 of the paper: mean Hamming distance to the anchor code against the step."""
    layout = keyed(
        "bits",
        "method",
        "photos",
        "steps_to_0.1",
        "distance_at_10",
        "distance_at_20",
        "distance_at_100",
        "distance_at_end",
    )

    def bench(asked: Asked, progress: Progress) -> list[dict[str, Any]]:
        from hashshield.bench import convergence

        return convergence.run(asked, limit=limit, anchor=anchor, progress=progress)

    b.run(
        "bench convergence",
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
