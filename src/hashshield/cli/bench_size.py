"""`hashshield bench size`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hashshield.cli import options as o
from hashshield.cli.output import Report, keyed
from hashshield.cli.progress import PhotoProgress
from hashshield.config import resolve

__all__ = ["EXAMPLES", "bench_size"]

EXAMPLES = o.examples("hashshield bench size photo.jpg --json")


def bench_size(
    photo: Annotated[Path, typer.Argument(metavar="PHOTO", help="A photo; scaled copies of it are timed.")],
    megapixels: Annotated[
        list[float] | None,
        typer.Option("--megapixels", metavar="NUMBER", min=0.01, help="A size to time; 0.2 and 24 by default."),
    ] = None,
    model: o.Models = None,
    device: o.Device = None,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Time and memory that a large photo takes more than a small one."""
    layout = keyed("model", "megapixels", "without_ssim_seconds", "ssim_seconds", "whole_seconds", "peak_memory_mib")
    with Report("bench size", layout, as_json=as_json, quiet=quiet) as sink:
        settings = resolve({"model": model, "device": device})

        from hashshield.bench import size as bench

        with PhotoProgress(sink) as progress:
            sink.finish(
                bench.run(
                    model=settings["model"].value[0],
                    photo=photo,
                    megapixels=megapixels or bench.MEGAPIXELS,
                    device=settings["device"].value,
                    progress=progress,
                )
            )
