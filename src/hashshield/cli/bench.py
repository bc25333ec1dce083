"""`hashshield bench`: one sub-command per table or figure, each in its own file beside this one."""

from __future__ import annotations

import typer

from hashshield.cli import bench_goals, bench_map, bench_methods, bench_size, bench_speed
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


@app.callback()
def bench() -> None:
    """Measure again what the documentation claims."""
