"""`hashshield bench survival`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hashshield.cli import benching as b
from hashshield.cli import options as o
from hashshield.cli.output import Report, keyed
from hashshield.cli.progress import PhotoProgress
from hashshield.cli.prompts import ensure_available
from hashshield.config import resolve

__all__ = ["EXAMPLES", "bench_survival"]

EXAMPLES = o.examples(
    "hashshield bench survival photos/ --preset invisible --preset balanced",
    "hashshield bench survival photos/ --target-class sunflower --png --json",
)


def bench_survival(
    photos: Annotated[Path, typer.Argument(metavar="DIR", help="Photos; they are only read.")],
    model: o.Models = None,
    preset: Annotated[
        list[str] | None,
        typer.Option("--preset", metavar="WORD", help="A preset to try; repeatable. Default: all."),
    ] = None,
    goal: o.OptionalGoal = None,
    target_class: o.TargetClass = None,
    png: Annotated[bool, o.switch("--png", text="Protect PNG copies, whatever the format.", panel=o.AIM)] = False,
    sample: Annotated[
        int | None, typer.Option("--photos", metavar="N", min=1, help="At most so many, evenly over all.")
    ] = None,
    tau: b.Tau = None,
    steps: b.Steps = None,
    seed: o.Seed = 0,
    device: o.Device = None,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
    yes: o.Yes = False,
) -> None:
    """What is left of a protection after what services do, and what it cost, preset by preset."""
    layout = keyed(
        "preset",
        "transform",
        "view",
        "measured",
        "goal_met",
        "goal_met_in_every_view",
        "within_2",
        "median_to_goal",
        "median_from_original",
        "noise_median_from_original",
        "median_psnr_db",
    )
    with Report("bench survival", layout, as_json=as_json, quiet=quiet) as sink:
        settings = resolve({"model": model, "device": device, "tau": tau})
        presets = b.words_of("preset", preset)
        wanted = None if goal is None else resolve({"goal": goal})["goal"].value
        ensure_available(settings["model"].value[:1], sink, yes=yes)

        from hashshield.bench import survival as bench

        with PhotoProgress(sink) as progress:
            sink.finish(
                bench.run(
                    photos=photos,
                    model=settings["model"].value[0],
                    presets=presets,
                    goal=o.goal_of(None, None, target_class, wanted),
                    png=png,
                    count=sample,
                    steps=steps,
                    tau=settings["tau"].value,
                    seed=seed or 0,
                    device=settings["device"].value,
                    progress=progress,
                )
            )
