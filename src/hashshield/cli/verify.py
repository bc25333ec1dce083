"""`hashshield verify`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hashshield.cli import options as o
from hashshield.cli.layouts import VERIFY
from hashshield.cli.networks import require
from hashshield.cli.output import Sink
from hashshield.cli.progress import PhotoProgress
from hashshield.config import resolve
from hashshield.errors import UsageError

__all__ = ["EXAMPLES", "verify"]

EXAMPLES = o.examples(
    "hashshield verify photos/                          # by the ledger",
    "hashshield verify online.jpg --original mine.jpg   # check after upload",
)


def verify(
    paths: o.Paths,
    original: Annotated[
        Path | None,
        typer.Option(
            "--original", metavar="FILE", help="Compare with this photo, not the ledger.", rich_help_panel=o.AIM
        ),
    ] = None,
    target: o.TargetImage = None,
    target_set: o.TargetSet = None,
    target_class: o.TargetClass = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            metavar="NAME",
            help="Network to hash with; repeatable. Otherwise those it was protected against.",
            rich_help_panel=o.AIM,
        ),
    ] = None,
    tolerance: o.Tolerance = None,
    preset: o.Preset = None,
    device: o.Device = None,
    vault: o.Vault = None,
    exclude: o.Exclude = None,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
    yes: o.Yes = False,
) -> None:
    """Hash photos again and say whether they are still protected.

    Without --original the ledger knows what a photo's code was. A photo that neither knows is unknown: its code is
    printed and the exit code is 3.
    """
    with Sink("verify", VERIFY, as_json=as_json, quiet=quiet, verbose=verbose) as sink:
        goal = o.goal_of(target, target_set, target_class, None)
        if goal is not None and original is None:
            raise UsageError("a target needs --original too; without it the ledger says what each photo was aimed at")
        settings = resolve(
            {
                "model": model,
                "tolerance": tolerance,
                "preset": preset,
                "device": device,
                "vault": vault,
                "exclude": exclude,
            }
        )
        # The ledger names its own networks; a configured default must not take their place.
        models = settings["model"].value if model or original else ()
        require(models, sink, yes=yes)

        from hashshield.pipeline import verify as pipeline

        with PhotoProgress(sink) as progress:
            sink.finish(
                pipeline.verify(
                    o.expanded(paths),
                    models=models,
                    original=original,
                    goal=goal,
                    tolerance=settings["tolerance"].value,
                    preset=settings["preset"].value,
                    vault=settings["vault"].value,
                    device=settings["device"].value,
                    exclude=settings["exclude"].value,
                    progress=progress,
                )
            )
