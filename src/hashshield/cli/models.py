"""`hashshield models`: list, describe, download, check, remove and import networks."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hashshield.cli import options as o
from hashshield.cli.commands import PlainGroup, examples, register
from hashshield.cli.output import Report
from hashshield.cli.progress import DownloadProgress
from hashshield.cli.prompts import confirm, download_entry
from hashshield.cli.terminal import Column, Layout, keyed, say
from hashshield.config import resolve
from hashshield.errors import CheckpointError, DownloadError, UsageError
from hashshield.paths import is_file

if TYPE_CHECKING:
    from hashshield.checkpoints.cache import CatalogEntry

__all__ = ["app"]

app = typer.Typer(
    cls=PlainGroup,
    help="List, download, check and import networks.",
    epilog=examples("hashshield models list", "hashshield models download lite2-caltech101"),
    no_args_is_help=True,
)

_MAP_LEGEND = (
    "mean average precision of a search among unchanged photos, 0 to 1; at 1 all photos of the same class come first"
)
_LIST = Layout(
    columns=(
        Column("Name", lambda row: row["name"], is_name=True),
        Column("Bits", lambda row: ", ".join(map(str, row["bits"])), right=True),
        Column("MAP", lambda row: _range(row["map"].values()), right=True, legend=_MAP_LEGEND),
        Column("MB", lambda row: f"{row['size'] / 1e6:.1f}", right=True),
        Column("Licence", lambda row: row["licence"]),
        Column("State", lambda row: row["state"]),
    ),
    footer=lambda rows: ["hashshield models info NAME: how a network was trained, and its MAP per code length."],
)


_FEW = 3
"""Number of classes that the page about a network names."""


def _page(rows: Sequence[dict[str, Any]]) -> list[tuple[str, str]]:
    """Return the page about a network as pairs of heading and text."""
    return [(heading, text) for row in rows for heading, text in _facts(row) if text]


def _facts(row: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield "Network", row["name"]
    yield "What it is", row.get("summary") or f"{row.get('arch', '')}, trained on {row.get('dataset', '')}"
    yield "Use it as", f"--model {row['name']}:{row['bits'][-1]}; code lengths {', '.join(map(str, row['bits']))}"
    yield "State", f"{row['state']}, {row['size'] / 1e6:.1f} MB" if "state" in row else "a file of your own"
    yield "MAP", _maps(row.get("map"))
    yield "MAP, unseen gallery", _maps(row.get("map_unseen"))
    shape = row.get("input")
    if shape and shape.get("squash"):
        yield "Reads", f"the whole photo, squashed to {shape['crop']} x {shape['crop']} pixels"
    elif shape:
        yield "Reads", f"short side {shape['resize']}, centre {shape['crop']} x {shape['crop']} pixels"
    bits = f", or {row['within']} bits or fewer between the codes" if row.get("within") is not None else ""
    yield "Takes for a copy", f"a cosine of {row['cosine']} or more{bits}" if row.get("cosine") is not None else ""
    classes = row.get("classes") or ()
    more = ", ... (--classes lists all)" if len(classes) > _FEW else ""
    yield "Classes", f"{len(classes)}: {', '.join(classes[:_FEW])}{more}" if classes else ""
    yield "Trained with", _recipe(row)
    yield "Licence", row["licence"]
    yield "From", row.get("attribution") or ""
    yield "File", row.get("path") or row.get("file") or ""
    yield "SHA-256", row.get("sha256") or ""


def _maps(values: Any) -> str:
    return ", ".join(f"{bits} bits {value:.3f}" for bits, value in (values or {}).items())


def _recipe(row: dict[str, Any]) -> str:
    recipe = row.get("recipe") or {}
    name = recipe.get("name")
    return f"recipe {name}" if name else ", ".join(str(recipe[key]) for key in ("loss", "method") if key in recipe)


def _page_footer(rows: Sequence[dict[str, Any]]) -> list[str]:
    known = [row for row in rows if row.get("map")]
    return [f"MAP: {_MAP_LEGEND}. --json has all details."] if known else ["--json has all details."]


_INFO = Layout(
    columns=(Column("", lambda pair: pair[0]), Column("", lambda pair: pair[1])), expand=_page, footer=_page_footer
)
_NAMES = Layout(columns=(Column("", str),))
_STATUS = Layout(
    columns=(
        Column("Name", lambda row: row["name"]),
        Column("Status", lambda row: row["status"]),
        Column("MB", lambda row: f"{row['size'] / 1e6:.1f}", right=True),
        Column("File", lambda row: str(row["path"] or ""), is_name=True),
    )
)
Names = Annotated[list[str] | None, typer.Argument(metavar="NAME", help="Networks, by name.")]


def list_(
    names: Annotated[bool, o.switch("--names", text="Only names, as --model takes them.", panel=o.REPORT)] = False,
    as_json: o.Json = False,
) -> None:
    """List the networks of the catalogue and your own: code lengths, MAP, size, licence.

    Embedded ones come with the package, downloaded and imported ones are in the cache, available ones can be
    downloaded.
    """
    with Report("models list", _NAMES if names else _LIST, as_json=as_json) as report:
        from hashshield.checkpoints import catalog

        entries = catalog.known()
        if names:
            report.finish(name for entry in entries for name in _spellings(entry))
        else:
            report.finish({**_row(entry), "state": catalog.state(entry)} for entry in entries)


def info(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="A network or a file; otherwise the default.")
    ] = None,
    classes: Annotated[
        bool, o.switch("--classes", text="Only its class names, for --target-class.", panel=o.REPORT)
    ] = False,
    as_json: o.Json = False,
) -> None:
    """Describe a network: how it was trained, MAP, classes, licence."""
    with Report("models info", _NAMES if classes else _INFO, as_json=as_json) as report:
        wanted = name or resolve()["model"].value[0]

        from hashshield.checkpoints import catalog

        lacking = catalog.absent([wanted])
        if lacking and not classes:
            report.finish([{**_row(lacking[0]), "state": "available", "mirrors": lacking[0].mirrors}])
            return
        reference = catalog.resolve(wanted)
        if classes and reference.entry is not None and reference.entry.classes:
            report.finish(reference.entry.classes)
            return

        from dataclasses import asdict

        from hashshield.checkpoints.card import read_card

        card = read_card(reference.path)
        entry: dict[str, Any] = {}
        if reference.entry is not None:
            entry = {**asdict(reference.entry), "state": catalog.state(reference.entry)}
        report.finish(card.classes if classes else [{**entry, **asdict(card)}])


def _range(values: Collection[float]) -> str:
    """Return the range of MAP over the code lengths; 80 columns have no room for each of them."""
    return "-".join(f"{value:.3f}" for value in dict.fromkeys((min(values), max(values)))) if values else ""


def _spellings(entry: CatalogEntry) -> list[str]:
    return [entry.name, *(f"{entry.name}:{bits}" for bits in entry.bits)]


def _row(entry: CatalogEntry) -> dict[str, Any]:
    keys = ("name", "bits", "map", "size", "sha256", "licence", "embedded", "file", "summary")
    return {key: getattr(entry, key) for key in keys}


def _file_row(entry: CatalogEntry, status: str, **more: Any) -> dict[str, Any]:
    from hashshield.checkpoints import catalog

    where = catalog.file_of(entry)
    path = where if is_file(where) else None
    return {"name": entry.name, "status": status, "size": entry.size, "sha256": entry.sha256, "path": path, **more}


def _named(names: Iterable[str]) -> list[CatalogEntry]:
    """Return the catalogue entries of these names, without duplicates; NAME:BITS, as completion offers it, means NAME.

    Raises UnknownNameError, and UsageError for the path of a file.
    """
    from hashshield.checkpoints import catalog

    found: dict[str, CatalogEntry] = {}
    for name in names:
        entry = catalog.reference(name).entry
        if entry is None:
            raise UsageError(f"{name} is a file; name networks of `hashshield models list`, or import it first")
        found[entry.name] = entry
    return list(found.values())


def _raise_all(errors: list[CheckpointError]) -> None:
    """Raise a single error as it is; print several as a line each and raise one CheckpointError with their advice."""
    if len(errors) == 1:
        raise errors[0]
    if errors:
        for error in errors:
            say(f"failed: {error.what if isinstance(error, DownloadError) else error}")
        shared_advice = dict.fromkeys(
            error.advice for error in errors if isinstance(error, DownloadError) and error.advice
        )
        raise CheckpointError(" ".join((f"{len(errors)} networks failed.", *shared_advice)))


def download(
    names: Names = None,
    every: Annotated[bool, o.switch("--all", text="Every network of the catalogue.", panel=o.FILES)] = False,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Download networks of the catalogue into the cache.

    Every file is checked against the size and SHA-256 of the catalogue, so its source does not matter.
    HASHSHIELD_MIRROR names another address or a folder, HASHSHIELD_OFFLINE=1 forbids the network, HASHSHIELD_CACHE
    names another cache. The variables http_proxy, https_proxy and no_proxy are honoured. An interrupted download
    continues the next time.
    """
    with Report("models download", _STATUS, as_json=as_json, quiet=quiet) as report:
        if bool(names) == every:
            raise UsageError("name the networks to download, or give --all; `hashshield models list` shows them")

        from hashshield.checkpoints import catalog

        entries = catalog.entries() if every else _named(names or ())
        errors: list[CheckpointError] = []
        with DownloadProgress(report) as progress:
            for entry in entries:
                began = time.monotonic()
                try:
                    status = "downloaded" if download_entry(entry, progress) else "already"
                except CheckpointError as error:
                    errors.append(error)
                    report.add(_file_row(entry, "failed", reason=str(error)))
                    continue
                report.add(_file_row(entry, status, reason=None, seconds=round(time.monotonic() - began, 3)))
        _raise_all(errors)


def verify(names: Names = None, as_json: o.Json = False, quiet: o.Quiet = False) -> None:
    """Check networks on this machine: the digest, and that every code length loads, is finite and reacts to images.

    Without a name, all of them are checked.
    """
    with Report("models verify", _STATUS, as_json=as_json, quiet=quiet) as report:
        from hashshield.checkpoints import catalog
        from hashshield.models.importing import look_at

        installed = [entry for entry in catalog.known() if catalog.state(entry) != "available"]
        entries = _named(names) if names else installed
        errors: list[CheckpointError] = []
        for entry in entries:
            try:
                look_at(entry)
            except CheckpointError as error:
                errors.append(error)
                report.add(_file_row(entry, "failed", reason=str(error)))
            else:
                report.add(_file_row(entry, "ok", reason=None))
        _raise_all(errors)


def remove(
    names: Annotated[list[str], typer.Argument(metavar="NAME", help="Networks, by name.")],
    as_json: o.Json = False,
    quiet: o.Quiet = False,
    yes: o.Yes = False,
) -> None:
    """Remove downloaded and imported networks, and partial files of interrupted downloads."""
    with Report("models remove", _STATUS, as_json=as_json, quiet=quiet) as report:
        from hashshield.checkpoints import cache

        entries = _named(names)
        for entry in entries:
            if entry.embedded:
                raise UsageError(f"{entry.name} is part of the package and stays; name downloaded or imported networks")
        imported = [entry.name for entry in entries if entry.imported]
        if imported:
            confirm(f"Remove {', '.join(imported)}, which no catalogue can bring back?", yes=yes)
        for entry in entries:
            report.add(_file_row(entry, "removed" if cache.remove(entry) else "absent"))


def path(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="An installed network.")] = None,
    as_json: o.Json = False,
) -> None:
    """Print the path of a network's file; without a name, the folder of the cache."""
    with Report("models path", keyed("path"), as_json=as_json) as report:
        from hashshield.checkpoints import cache, catalog

        where = cache.folder() if name is None else catalog.resolve(name).path
        report.finish([{"name": name, "path": str(where.absolute())}])


def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A checkpoint, or a hash network in ONNX.")],
    card: Annotated[
        Path | None,
        typer.Option("--card", metavar="FILE", help="For ONNX: inputs and outputs of the network, in TOML."),
    ] = None,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Import a checkpoint of your own into the cache, so that commands accept the name in its card.

    It is checked first, as `models verify` does. A file of the catalogue counts as downloaded, wherever it comes from.
    ONNX is translated (needs the extra onnx), and refused if its outputs differ from onnxruntime's by more than 1e-4;
    its external data may be in plain files beside it. A network from ONNX can be used with the goal away only, unless
    its card says that it is for research.
    """
    with Report("models import", _STATUS, as_json=as_json, quiet=quiet) as report:
        from hashshield.checkpoints import catalog
        from hashshield.models.importing import import_model

        entry = import_model(file, card=card)
        report.finish([_file_row(entry, catalog.state(entry))])


register(app, list_, "list", examples("hashshield models list", "hashshield models list --json"))
register(app, info, "info", examples("hashshield models info lite0-caltech101"))
register(
    app,
    download,
    "download",
    examples(
        "hashshield models download lite2-caltech101",
        "hashshield models download --all",
        "HASHSHIELD_MIRROR=checkpoints/ hashshield models download --all   # from a clone",
    ),
)
register(app, verify, "verify", examples("hashshield models verify"))
register(app, remove, "remove", examples("hashshield models remove lite2-caltech101"))
register(app, path, "path", examples("hashshield models path lite0-caltech101"))
register(
    app,
    import_,
    "import",
    examples(
        "hashshield models import mine.safetensors",
        "hashshield models import model.onnx --card card.toml",
    ),
)
