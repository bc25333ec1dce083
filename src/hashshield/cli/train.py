"""`hashshield train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from hashshield.cli import options as o
from hashshield.cli.output import Layout, Sink, keyed
from hashshield.cli.progress import EpochProgress
from hashshield.config import resolve

__all__ = ["EXAMPLES", "train"]

EXAMPLES = o.examples(
    "hashshield train lite0-caltech101 --data caltech101/ -o new.safetensors",
    "hashshield train mine.toml --data photos/ -o new.safetensors --resume",
)
_TRAIN = Layout(
    columns=keyed("key", "value").columns,
    resume="the last complete epoch is kept; run the same command with --resume",
)


def train(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="A recipe's name, or a TOML file.")],
    data: Annotated[Path, typer.Option("--data", metavar="DIR", help="The dataset in its official layout.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The checkpoint to write.")],
    bits: Annotated[
        list[int] | None, typer.Option("--bits", metavar="N", min=1, help="Code length; repeat for several heads.")
    ] = None,
    epochs: Annotated[int | None, typer.Option("--epochs", metavar="N", min=1, help="Passes over the data.")] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", metavar="N", min=0, help="Of the split and the training.")
    ] = None,
    device: o.Device = None,
    resume: Annotated[bool, o.switch("--resume", text="Go on after an interruption.", panel=o.SEARCH)] = False,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Train a hash network from a recipe and write it with its card."""
    with Sink("train", _TRAIN, as_json=as_json, quiet=quiet) as sink:
        settings = resolve({"device": device})
        overrides: dict[str, Any] = {"bits": tuple(bits) if bits else None, "epochs": epochs}

        from hashshield.training import train as run_training

        with EpochProgress(quiet=quiet) as progress:
            card = run_training(
                recipe,
                data=data,
                output=output,
                overrides={key: value for key, value in overrides.items() if value is not None},
                resume=resume,
                device=settings["device"].value,
                seed=seed,
                progress=progress,
            )
        sink.finish({"key": key, "value": value} for key, value in card.items())
