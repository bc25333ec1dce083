"""Options that several benches share, shorthands for the others, and their conversion to a configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

import typer

from hashshield.cli import options as o
from hashshield.config import resolve

__all__ = [
    "COMPARED",
    "DATA",
    "FROM_SETTINGS",
    "OUTPUT",
    "PAPER",
    "PAPER_LIMITS",
    "PHOTO_STEPS",
    "PRESETS",
    "PROTECTED",
    "SEARCH",
    "SEED",
    "STEPS",
    "BenchOptions",
    "argument",
    "configured",
    "number",
    "option",
    "options",
    "taus",
]


BenchOptions = Mapping[str, Any]
"""The option of each field, in the order of --help; the option `model` also sets a field `models`."""


def option(kind: Any, name: str, metavar: str, text: str, **limits: float) -> Any:
    """Return an option with a value of type `kind`; `limits` are Typer's `min` and `max`."""
    return Annotated[kind, typer.Option(name, metavar=metavar, help=text, **limits)]  # type: ignore[arg-type]


def options(kind: Any, name: str, metavar: str, text: str, **limits: float) -> Any:
    """Return a repeatable option, whose default is None."""
    return option(list[kind] | None, name, metavar, text, **limits)


def argument(metavar: str, text: str) -> Any:
    """Return an argument that is a path."""
    return Annotated[Path, typer.Argument(metavar=metavar, help=text)]


def number(name: str, text: str, least: int = 1) -> Any:
    """Return an option that is a whole number of at least `least`."""
    return option(int, name, "N", text, min=least)


DATA = option(Path, "--data", "DIR", "The dataset in its official layout.")
OUTPUT = Annotated[
    Path, typer.Option("--output", "-o", metavar="DIR", help="Folder for results/, plots/, and runs/ of cached trials.")
]
PAPER: BenchOptions = {
    "data": DATA,
    "output": OUTPUT,
    "model": o.Models,
    "queries": number("--queries", "Queries to attack, drawn at random.", 2),
}
PAPER_LIMITS: BenchOptions = {
    "limit": number("--limit", "Most steps of any method; the paper takes 2000."),
    "anchor": number("--anchor", "Photos of a kind whose vote is its anchor code."),
}
COMPARED: BenchOptions = {
    **PAPER_LIMITS,
    "presets": options(
        str, "--preset", "WORD", "A preset of protect to compare; repeatable. Default: invisible and balanced."
    ),
}
STEPS: BenchOptions = {
    "steps": option(int | None, "--steps", "N", "Gradient steps of rnm; by default its own number.", min=1)
}
PHOTO_STEPS = option(int | None, "--steps", "N", "Gradient steps per photo.", min=1)
SEED: BenchOptions = {"seed": o.Seed, "device": o.Device}
SEARCH: BenchOptions = {"tau": o.Tau, **STEPS, **SEED}
PRESETS = options(str, "--preset", "WORD", "A preset to try; repeatable. Default: all.")
PROTECTED: BenchOptions = {
    "photos": argument("DIR", "Photos; they are only read."),
    "model": o.Models,
    "presets": PRESETS,
    "goal": o.OptionalGoal,
    "target_class": o.TargetClass,
    "png": Annotated[bool, o.switch("--png", text="Protect PNG copies, whatever the format.", panel=o.AIM)],
    "count": option(int | None, "--photos", "N", "Most photos to protect, taken evenly from all.", min=1),
    **SEARCH,
}


def taus(default: str) -> Any:
    """Return the repeatable option --tau; `default` is its default as --help words it."""
    return options(float, "--tau", "NUMBER", f"A bound to try; repeatable. Default: {default}.", min=1 / 255, max=1)


FROM_SETTINGS = ("model", "device", "tau", "goal")
"""Options whose value comes from the settings if it is not given."""
_WORDS = {"goals": "goal", "presets": "preset", "preset": "preset"}
"""Fields whose words are checked against the choices of a setting, with that setting's key."""


def configured(kind: type[Any], given: dict[str, Any], *, on_dataset: bool) -> Any:
    """Return the configuration of a run, from the given options, the settings and its own defaults.

    `kind` is its dataclass. A bench `on_dataset` has a field `tau`, and without --model uses all code lengths of the
    network in the settings. Raises UsageError for an invalid value.
    """
    settings = {key: value.value for key, value in resolve({key: given.get(key) for key in FROM_SETTINGS}).items()}
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}
    for name, key in _WORDS.items():
        if isinstance(words := values.get(name), tuple):
            values[name] = tuple(resolve({key: word})[key].value for word in words)
        elif words is not None:
            values[name] = resolve({key: words})[key].value
    values["device"] = settings["device"]
    if on_dataset or "tau" in given:
        values["tau"] = settings["tau"]
    if "goal" in given:
        goal = settings["goal"] if given["goal"] is not None else None
        values["goal"] = o.goal_of(None, None, given["target_class"], goal)
        del values["target_class"]
    del values["model"]
    if on_dataset and not given["model"]:
        from hashshield.checkpoints.catalog import reference

        # A name without bits means all code lengths of the network.
        values["models"] = (reference(settings["model"][0]).name,)
    elif any(field.name == "models" for field in fields(kind)):
        values["models"] = tuple(settings["model"])
    else:
        values["model"] = settings["model"][0]
    return kind(**{name: value for name, value in values.items() if value not in (None, ())})
