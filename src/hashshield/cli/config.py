"""`hashshield config show`."""

from __future__ import annotations

from typing import Any

import typer

from hashshield.cli import options as o
from hashshield.cli.output import Column, Layout, Report
from hashshield.config import config_path, resolve, unknown_variables

__all__ = ["app"]

app = typer.Typer(
    help="Settings, and where each value comes from.",
    epilog=o.examples("hashshield config show"),
    no_args_is_help=True,
)


def _text(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "on" if value else "off"
    return ", ".join(value) if isinstance(value, tuple) else str(value)


_SHOW = Layout(
    columns=(
        Column("Setting", lambda row: row["key"]),
        Column("Value", lambda row: _text(row["value"])),
        Column("From", lambda row: row["where"]),
    ),
    footer=lambda rows: [f"Configuration file: {config_path()}", *unknown_variables()],
)


@app.callback()
def config() -> None:
    """Settings, and where each value comes from."""


def show(as_json: o.Json = False) -> None:
    """Print every setting, its value and its source: environment, configuration file or default.

    Options of a command take precedence over all three.
    """
    with Report("config show", _SHOW, as_json=as_json) as report:
        for key, found in resolve().items():
            report.add({"key": key, "value": found.value, "source": found.source, "where": found.where})


o.register(app, show, "show", o.examples("hashshield config show", "HASHSHIELD_TAU=0.02 hashshield config show --json"))
