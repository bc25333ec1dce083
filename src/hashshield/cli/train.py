"""`hashshield train`: train a hash network from a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hashshield.cli import options as o
from hashshield.cli.commands import examples
from hashshield.cli.output import Report, properties
from hashshield.cli.progress import EpochProgress
from hashshield.config import resolve

__all__ = ["EXAMPLES", "train"]

EXAMPLES = examples(
    "hashshield train lite0-caltech101 --data caltech101/ -o new.safetensors",
    "hashshield train own --data photos/ --queries 40 --name mine -o mine.safetensors",
    "hashshield train mine.toml --data photos/ -o new.safetensors --resume",
)
_TRAIN = properties()._replace(resume="the last complete epoch is kept; run the same command with --resume")


def train(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="A recipe's name, or a TOML file.")],
    data: Annotated[
        Path, typer.Option("--data", metavar="PATH", help="The dataset in its official layout, or your own.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The checkpoint to write.")],
    bits: Annotated[
        list[int] | None, typer.Option("--bits", metavar="N", min=1, help="Code length; repeat for several heads.")
    ] = None,
    epochs: Annotated[
        int | None, typer.Option("--epochs", metavar="N", min=1, help="Epochs of each stage, for a trial.")
    ] = None,
    queries: Annotated[
        int | None, typer.Option("--queries", metavar="N", min=1, help="Photos held out for evaluation.")
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", metavar="TEXT", help="Name of the checkpoint; otherwise the recipe's.")
    ] = None,
    seed: Annotated[
        int, typer.Option("--seed", metavar="N", min=0, help="Seed of the training; the recipe has that of the split.")
    ] = 0,
    device: o.Device = None,
    resume: Annotated[bool, o.switch("--resume", text="Continue after an interruption.", panel=o.SEARCH)] = False,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Train a hash network from a recipe and write it with its card."""
    with Report("train", _TRAIN, as_json=as_json, quiet=quiet) as report:
        device = resolve({"device": device})["device"].value

        from dataclasses import asdict, replace

        from hashshield.training.recipe import read_recipe
        from hashshield.training.trainer import train as run_training

        plan = read_recipe(recipe)
        if bits:
            plan = replace(plan, model=replace(plan.model, bits=tuple(bits)))
        if queries:
            plan = replace(plan, data=replace(plan.data, queries=queries))
        if name:
            plan = replace(plan, name=name)
        if epochs:
            plan = replace(plan, stages=tuple(replace(stage, epochs=epochs) for stage in plan.stages))
        with EpochProgress(report) as progress:
            card = run_training(
                plan, data=data, output=output, seed=seed, device=device, resume=resume, reporter=progress
            )
        report.finish([asdict(card)])
