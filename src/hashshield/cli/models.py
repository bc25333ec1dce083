"""`hashshield models`: what is known of networks; what is done with their files is in `models_files`."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hashshield.cli import models_files
from hashshield.cli import options as o
from hashshield.cli.output import Column, Layout, Sink, properties
from hashshield.config import resolve

if TYPE_CHECKING:
    from hashshield.checkpoints.entry import Entry

__all__ = ["app"]

app = typer.Typer(
    help="List, download and check the networks that are known.",
    epilog=o.examples("hashshield models list", "hashshield models download lite2-caltech101"),
    no_args_is_help=True,
)

_LIST = Layout(
    columns=(
        Column("Name", lambda row: row["name"]),
        Column("Bits", lambda row: ", ".join(map(str, row["bits"])), right=True),
        Column("MAP", lambda row: _range(row["map"].values()), right=True),
        Column("MB", lambda row: f"{row['size'] / 1e6:.1f}", right=True),
        Column("Licence", lambda row: row["licence"]),
        Column("State", lambda row: row["state"]),
    ),
    closing=lambda rows: ["hashshield models info NAME tells how a network was trained, and its MAP per code length."],
)
_NAMES = Layout(columns=(Column("", str),))


def list_(
    names: Annotated[bool, o.switch("--names", text="Only names, as --model takes them.", panel=o.REPORT)] = False,
    as_json: o.Json = False,
) -> None:
    """List the networks of the catalogue and your own: code lengths, MAP, size, licence.

    Embedded ones come with the package, downloaded and imported ones are in the cache, available ones can be
    downloaded.
    """
    with Sink("models list", _NAMES if names else _LIST, as_json=as_json) as sink:
        from hashshield.checkpoints import catalog

        entries = catalog.known()
        if names:
            sink.finish(name for entry in entries for name in _spellings(entry))
        else:
            sink.finish({**_row(entry), "state": catalog.state(entry)} for entry in entries)


def info(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="A network or a file; otherwise the default.")
    ] = None,
    classes: Annotated[
        bool, o.switch("--classes", text="Only its class names, for --target-class.", panel=o.REPORT)
    ] = False,
    as_json: o.Json = False,
) -> None:
    """Say what is known of a network: how it was trained, MAP, classes, licence."""
    with Sink("models info", _NAMES if classes else properties(), as_json=as_json) as sink:
        wanted = name or resolve()["model"].value[0]

        from hashshield.checkpoints import catalog

        lacking = catalog.absent([wanted])
        if lacking and not classes:
            sink.finish([{**_row(lacking[0]), "state": "available", "mirrors": lacking[0].mirrors}])
            return
        reference = catalog.resolve(wanted)
        if classes and reference.entry is not None and reference.entry.classes:
            sink.finish(reference.entry.classes)
            return

        from dataclasses import asdict

        from hashshield.checkpoints.card import read_card

        card = read_card(reference.path)
        entry: dict[str, Any] = {}
        if reference.entry is not None:
            entry = {**asdict(reference.entry), "state": catalog.state(reference.entry)}
        sink.finish(card.classes if classes else [{**entry, **asdict(card)}])


def _range(values: Collection[float]) -> str:
    """Of the code lengths; all of them on a line, and the summary too, leave no room for names in 80 columns."""
    return "-".join(f"{value:.3f}" for value in dict.fromkeys((min(values), max(values)))) if values else ""


def _spellings(entry: Entry) -> list[str]:
    return [entry.name, *(f"{entry.name}:{bits}" for bits in entry.bits)]


def _row(entry: Entry) -> dict[str, Any]:
    keys = ("name", "bits", "map", "size", "sha256", "licence", "embedded", "file", "summary")
    return {key: getattr(entry, key) for key in keys}


o.register(app, list_, "list", o.examples("hashshield models list", "hashshield models list --json"))
o.register(app, info, "info", o.examples("hashshield models info lite0-caltech101"))
models_files.register(app)
