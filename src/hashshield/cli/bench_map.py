"""`hashshield bench map`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hashshield.cli import options as o
from hashshield.cli.output import Report, keyed
from hashshield.cli.progress import PhotoProgress
from hashshield.cli.prompts import ensure_available
from hashshield.config import resolve

__all__ = ["EXAMPLES", "bench_map"]

EXAMPLES = o.examples("hashshield bench map --model lite0-caltech101:48 --data caltech101/")


def bench_map(
    data: Annotated[Path, typer.Option("--data", metavar="PATH", help="The dataset it was trained on.")],
    model: o.Models = None,
    device: o.Device = None,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
    yes: o.Yes = False,
) -> None:
    """Mean average precision of a network, by the protocol of its card."""
    with Report(
        "bench map", keyed("model", "bits", "split", "queries", "database", "map"), as_json=as_json, quiet=quiet
    ) as sink:
        settings = resolve({"model": model, "device": device})
        ensure_available(settings["model"].value, sink, yes=yes)

        from hashshield.bench import map as bench

        with PhotoProgress(sink) as progress:
            sink.finish(
                bench.run(models=settings["model"].value, data=data, device=settings["device"].value, progress=progress)
            )
