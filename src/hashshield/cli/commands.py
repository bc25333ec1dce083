"""Commands and groups of them: their registration, their help, and a check of the numbers they are given."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from hashshield.config import SETTINGS

__all__ = ["PlainCommand", "PlainGroup", "examples", "register"]


def _without_type(ctx: Any) -> None:
    """Replace Typer's `display_type_rich`, to show no type beside the name."""


def _plain(params: list[Any]) -> list[Any]:
    for param in params:
        if param.param_type_name == "argument" or "--help" in param.opts:
            vars(param)["display_type_rich"] = _without_type
    return params


class PlainCommand(TyperCommand):
    """A command whose help says `PATH`, not `PATH <list[Path]>`."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the parameters, arguments and `--help` without a type."""
        return _plain(super().get_params(ctx))

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Raise BadParameter for the numbers nan and inf, which older releases of Typer let through a range.

        Those of a setting are left to `config.resolve`, which knows its range.
        """
        rest = super().parse_args(ctx, args)
        params: list[Any] = [param for param in self.params if param.name not in SETTINGS]
        for param in params:
            values = ctx.params.get(param.name or "")
            for value in values if isinstance(values, list | tuple) else [values]:
                if isinstance(value, float) and not math.isfinite(value):
                    raise typer.BadParameter(f"{value} is not a finite number.", ctx=ctx, param=param)
        return rest


class PlainGroup(TyperGroup):
    """A group of commands whose help leaves out the types as `PlainCommand` does."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the parameters, arguments and `--help` without a type."""
        return _plain(super().get_params(ctx))


def examples(*lines: str) -> str:
    """Return the epilog of a command: its examples, as shell lines with comments."""
    return "\n\n".join(("Examples:", *(f"$ {line}" for line in lines)))


def register(
    app: typer.Typer, function: Callable[..., None], name: str, epilog: str, *, panel: str | None = None
) -> None:
    """Add a command to an application, with the paragraphs of its docstring as help."""
    paragraphs = inspect.cleandoc(function.__doc__ or "").split("\n\n")
    text = "\n\n".join(paragraph.replace("\n", " ") for paragraph in paragraphs)
    app.command(name, cls=PlainCommand, help=text, epilog=epilog, rich_help_panel=panel)(function)
