"""`hashshield bench`: one sub-command per table or figure, each in its own file beside this one."""

from __future__ import annotations

import typer

from hashshield.cli import (
    bench_adaptive,
    bench_convergence,
    bench_goals,
    bench_heatmap,
    bench_map,
    bench_methods,
    bench_retrieval,
    bench_scale,
    bench_size,
    bench_speed,
    bench_survival,
    bench_targeted,
    bench_tau,
    bench_traditional,
    bench_transfer,
    bench_untargeted,
)
from hashshield.cli import options as o

__all__ = ["app"]

app = typer.Typer(
    help="Measure again what the documentation claims.",
    epilog=o.examples(
        "hashshield bench speed photos/",
        "hashshield bench map --data caltech101/",
    ),
    no_args_is_help=True,
)
o.register(app, bench_map.bench_map, "map", bench_map.EXAMPLES)
o.register(app, bench_goals.bench_goals, "goals", bench_goals.EXAMPLES)
o.register(app, bench_methods.bench_methods, "methods", bench_methods.EXAMPLES)
o.register(app, bench_speed.bench_speed, "speed", bench_speed.EXAMPLES)
o.register(app, bench_size.bench_size, "size", bench_size.EXAMPLES)
o.register(app, bench_scale.bench_scale, "scale", bench_scale.EXAMPLES)
o.register(app, bench_targeted.bench_targeted, "targeted", bench_targeted.EXAMPLES)
o.register(app, bench_tau.bench_tau, "tau", bench_tau.EXAMPLES)
o.register(app, bench_untargeted.bench_untargeted, "untargeted", bench_untargeted.EXAMPLES)
o.register(app, bench_convergence.bench_convergence, "convergence", bench_convergence.EXAMPLES)
o.register(app, bench_adaptive.bench_adaptive, "adaptive", bench_adaptive.EXAMPLES)
o.register(app, bench_survival.bench_survival, "survival", bench_survival.EXAMPLES)
o.register(app, bench_transfer.bench_transfer, "transfer", bench_transfer.EXAMPLES)
o.register(app, bench_heatmap.bench_heatmap, "heatmap", bench_heatmap.EXAMPLES)
o.register(app, bench_traditional.bench_traditional, "traditional", bench_traditional.EXAMPLES)
o.register(app, bench_retrieval.bench_retrieval, "retrieval", bench_retrieval.EXAMPLES)


@app.callback()
def bench() -> None:
    """Measure again what the documentation claims."""
