"""`hashshield bench heatmap`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from hashshield.cli import benching as b
from hashshield.cli import options as o
from hashshield.cli.output import keyed

if TYPE_CHECKING:
    from hashshield.bench.stage import Asked
    from hashshield.types import Progress

__all__ = ["EXAMPLES", "bench_heatmap"]

EXAMPLES = o.examples("hashshield bench heatmap --data caltech101/ --model lite0-caltech101:48")


def bench_heatmap(
    data: b.Data,
    output: b.Output = Path("benchmarks"),
    model: o.Models = None,
    queries: b.Queries = 12,
    tau: b.Tau = None,
    steps: b.Steps = None,
    seed: o.Seed = 0,
    device: o.Device = None,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
    yes: o.Yes = False,
) -> None:
    """Figure 4 of the paper: Grad-CAM of the original, of what people did before, and of protected photos."""
    layout = keyed("bits", "change", "photos", "correlation_with_original", "spread", "median_psnr_db")

    def bench(asked: Asked, progress: Progress) -> list[dict[str, Any]]:
        from hashshield.bench import heatmap as paper

        return paper.run(asked, progress=progress)

    b.run(
        "bench heatmap",
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
