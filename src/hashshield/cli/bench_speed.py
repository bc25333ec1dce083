"""`hashshield bench speed`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hashshield.cli import options as o
from hashshield.cli.output import Report, keyed
from hashshield.cli.progress import PhotoProgress
from hashshield.cli.prompts import ensure_available
from hashshield.config import resolve

__all__ = ["EXAMPLES", "bench_speed"]

EXAMPLES = o.examples("hashshield bench speed photos/ --json")


def bench_speed(
    photos: Annotated[Path, typer.Argument(metavar="DIR", help="Photos to time; they are copied first.")],
    model: o.Models = None,
    batch_size: Annotated[int, typer.Option("--batch-size", metavar="N", min=1, help="Photos searched at once.")] = 8,
    device: o.Device = None,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
    yes: o.Yes = False,
) -> None:
    """Cost of a step over the bare gradient step, and of a whole run over what it cannot do without."""
    layout = keyed("model", "loop_over_floor", "photos", "photos_per_second", "whole_over_floor_decode_encode")
    with Report("bench speed", layout, as_json=as_json, quiet=quiet) as sink:
        settings = resolve({"model": model, "device": device})
        ensure_available(settings["model"].value[:1], sink, yes=yes)

        from hashshield.bench import speed as bench

        with PhotoProgress(sink) as progress:
            sink.finish(
                bench.run(
                    model=settings["model"].value[0],
                    photos=photos,
                    batch_size=batch_size,
                    device=settings["device"].value,
                    progress=progress,
                )
            )
