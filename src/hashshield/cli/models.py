"""`hashshield models list` and `hashshield models info`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from hashshield.cli import options as o
from hashshield.cli.output import Column, Layout, Sink, keyed
from hashshield.config import resolve
from hashshield.errors import UnknownNameError

if TYPE_CHECKING:
    from hashshield.checkpoints.catalog import Entry

__all__ = ["app"]

app = typer.Typer(help="List the networks that are known and say what they are.", no_args_is_help=True)

_LIST = Layout(
    columns=(
        Column("Name", lambda row: row["name"]),
        Column("Bits", lambda row: ", ".join(map(str, row["bits"])), right=True),
        Column("MAP", lambda row: ", ".join(f"{value:.3f}" for value in row["map"].values()), right=True),
        Column("MB", lambda row: f"{row['size'] / 1e6:.1f}", right=True),
        Column("Licence", lambda row: row["licence"]),
        Column("Where", lambda row: "in the package" if row["embedded"] else "to download"),
        Column("What", lambda row: row["summary"]),
    )
)
_INFO = keyed("key", "value")
_NAMES = Layout(columns=(Column("", str),))


def list_(
    names: Annotated[bool, o.switch("--names", text="Only names, as --model takes them.", panel=o.REPORT)] = False,
    as_json: o.Json = False,
) -> None:
    """List the networks in the catalogue: code lengths, MAP, size, licence."""
    with Sink("models list", _NAMES if names else _LIST, as_json=as_json) as sink:
        from hashshield.checkpoints import catalog

        entries = catalog.entries()
        if names:
            sink.finish(name for entry in entries for name in _spellings(entry))
        else:
            sink.finish(_row(entry) for entry in entries)


def info(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="A network; otherwise the default one.")] = None,
    classes: Annotated[
        bool, o.switch("--classes", text="Only its class names, for --target-class.", panel=o.REPORT)
    ] = False,
    as_json: o.Json = False,
) -> None:
    """Say what is known of a network: how it was trained, MAP, classes, licence."""
    with Sink("models info", _NAMES if classes else _INFO, as_json=as_json) as sink:
        wanted = name or resolve()["model"].value[0]
        entry = _entry(wanted)
        card = _card(entry)
        if classes:
            sink.finish(card.get("classes", ()))
        else:
            merged = {**_row(entry), **card}
            sink.finish({"key": key, "value": value} for key, value in merged.items())


def _spellings(entry: Entry) -> list[str]:
    return [entry.name, *(f"{entry.name}:{bits}" for bits in entry.bits)]


def _row(entry: Entry) -> dict[str, Any]:
    keys = ("name", "bits", "map", "size", "sha256", "licence", "embedded", "file", "summary")
    return {key: getattr(entry, key) for key in keys}


def _entry(wanted: str) -> Entry:
    """The catalogue's entry for NAME or NAME:BITS. Raises UnknownNameError naming the nearest."""
    import difflib

    from hashshield.checkpoints import catalog

    entries = catalog.entries()
    for entry in entries:
        if wanted in _spellings(entry):
            return entry
    known = [name for entry in entries for name in _spellings(entry)]
    close = difflib.get_close_matches(wanted, known, n=1)
    hint = f"did you mean {close[0]!r}?" if close else "see `hashshield models list`"
    raise UnknownNameError(f"no network is called {wanted!r}; {hint}")


def _card(entry: Entry) -> dict[str, Any]:
    """The card of a checkpoint that is in the package; empty for one that is not here yet."""
    if not entry.embedded:
        return {}
    from dataclasses import asdict
    from importlib.resources import as_file, files

    from hashshield.checkpoints.file import read_card

    with as_file(files("hashshield.checkpoints") / "bundled" / entry.file) as path:
        return asdict(read_card(path))


o.register(app, list_, "list", o.examples("hashshield models list", "hashshield models list --json"))
o.register(app, info, "info", o.examples("hashshield models info lite0-caltech101"))
