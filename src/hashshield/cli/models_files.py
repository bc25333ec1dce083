"""The files of networks: `hashshield models download`, `verify`, `remove`, `path` and `import`."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hashshield.cli import options as o
from hashshield.cli.networks import download_entry
from hashshield.cli.output import Column, Layout, Sink, keyed
from hashshield.cli.progress import DownloadProgress
from hashshield.errors import CheckpointError, UsageError

if TYPE_CHECKING:
    from hashshield.checkpoints.entry import Entry

__all__ = ["register"]

Names = Annotated[list[str] | None, typer.Argument(metavar="NAME", help="Networks, by name.")]
_STATUS = Layout(
    columns=(
        Column("Name", lambda row: row["name"]),
        Column("Status", lambda row: row["status"]),
        Column("MB", lambda row: f"{row['size'] / 1e6:.1f}", right=True),
        Column("File", lambda row: str(row["path"] or "")),
    )
)


def _row(entry: Entry, status: str, **more: Any) -> dict[str, Any]:
    from hashshield.checkpoints import cache, catalog

    where = catalog.file_of(entry)
    path = where if cache.is_here(where) else None
    return {"name": entry.name, "status": status, "size": entry.size, "sha256": entry.sha256, "path": path, **more}


def _named(names: Iterable[str]) -> list[Entry]:
    """The networks of these names, each once; NAME:BITS, as completion offers it, means NAME."""
    from hashshield.checkpoints import catalog

    found: dict[str, Entry] = {}
    for name in names:
        entry = catalog.reference(name).entry
        if entry is None:
            raise UsageError(f"{name} is a file; name networks of `hashshield models list`, or import it first")
        found[entry.name] = entry
    return list(found.values())


def _raise_all(errors: list[CheckpointError]) -> None:
    """One failure as it is; several as one, each on its own terms."""
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise CheckpointError("; ".join(map(str, errors)))


def download(
    names: Names = None,
    every: Annotated[bool, o.switch("--all", text="Every network of the catalogue.", panel=o.FILES)] = False,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Download networks of the catalogue into the cache.

    Size and SHA-256 are the catalogue's; where a file comes from does not matter. HASHSHIELD_MIRROR names another
    address or a folder, HASHSHIELD_OFFLINE=1 forbids the network, HASHSHIELD_CACHE names another cache. The variables
    http_proxy, https_proxy and no_proxy are honoured. What was cut off is gone on with the next time.
    """
    with Sink("models download", _STATUS, as_json=as_json, quiet=quiet) as sink:
        if bool(names) == every:
            raise UsageError("name the networks to download, or give --all; `hashshield models list` shows them")

        from hashshield.checkpoints import catalog

        entries = catalog.entries() if every else _named(names or ())
        errors: list[CheckpointError] = []
        with DownloadProgress(sink) as progress:
            for entry in entries:
                began = time.monotonic()
                try:
                    status = "downloaded" if download_entry(entry, progress) else "already"
                except CheckpointError as error:
                    errors.append(error)
                    sink.add(_row(entry, "failed", reason=str(error)))
                    continue
                sink.add(_row(entry, status, reason=None, seconds=round(time.monotonic() - began, 3)))
        _raise_all(errors)


def verify(names: Names = None, as_json: o.Json = False, quiet: o.Quiet = False) -> None:
    """Check networks that are here: the digest, and that every code length loads, is finite and reacts to images.

    Without a name all that are here.
    """
    with Sink("models verify", _STATUS, as_json=as_json, quiet=quiet) as sink:
        from hashshield.checkpoints import catalog
        from hashshield.models.importing import look_at

        here = [entry for entry in catalog.known() if catalog.state(entry) != "available"]
        entries = _named(names) if names else here
        errors: list[CheckpointError] = []
        for entry in entries:
            try:
                look_at(entry)
            except CheckpointError as error:
                errors.append(error)
                sink.add(_row(entry, "failed", reason=str(error)))
            else:
                sink.add(_row(entry, "ok", reason=None))
        _raise_all(errors)


def remove(
    names: Annotated[list[str], typer.Argument(metavar="NAME", help="Networks, by name.")],
    as_json: o.Json = False,
    quiet: o.Quiet = False,
    yes: o.Yes = False,
) -> None:
    """Remove downloaded and imported networks, and what is left of a download that was cut off."""
    with Sink("models remove", _STATUS, as_json=as_json, quiet=quiet) as sink:
        from hashshield.checkpoints import cache

        entries = _named(names)
        for entry in entries:
            if entry.embedded:
                raise UsageError(f"{entry.name} is part of the package and stays; name downloaded or imported networks")
        own = [entry.name for entry in entries if entry.imported]
        if own:
            o.confirm(f"Remove {', '.join(own)}, which no catalogue can bring back?", yes=yes)
        for entry in entries:
            sink.add(_row(entry, "removed" if cache.remove(entry) else "absent"))


def path(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="A network that is here.")] = None,
    as_json: o.Json = False,
) -> None:
    """Print the path of a network's file; without a name, the folder of the cache."""
    with Sink("models path", keyed("path"), as_json=as_json) as sink:
        from hashshield.checkpoints import cache, catalog

        where = cache.folder() if name is None else catalog.resolve(name).path
        sink.finish([{"name": name, "path": str(where.absolute())}])


def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A checkpoint, or a hash network in ONNX.")],
    card: Annotated[
        Path | None, typer.Option("--card", metavar="FILE", help="For ONNX: what the network reads and gives, in TOML.")
    ] = None,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Take a checkpoint of your own into the cache, so that its card's name can stand for it.

    It is looked at first, as models verify does. A file of the catalogue, however it came here, counts as downloaded.
    ONNX is translated (needs the extra onnx): data outside the file is refused, and so is a network that does not
    agree with onnxruntime to 1e-4.
    """
    with Sink("models import", _STATUS, as_json=as_json, quiet=quiet) as sink:
        from hashshield.checkpoints import catalog
        from hashshield.models.importing import import_model

        entry = import_model(file, card=card)
        sink.finish([_row(entry, catalog.state(entry))])


def register(app: typer.Typer) -> None:
    """Add the commands to `hashshield models`."""
    o.register(
        app,
        download,
        "download",
        o.examples(
            "hashshield models download lite2-caltech101",
            "hashshield models download --all",
            "HASHSHIELD_MIRROR=checkpoints/ hashshield models download --all   # from a clone",
        ),
    )
    o.register(app, verify, "verify", o.examples("hashshield models verify"))
    o.register(app, remove, "remove", o.examples("hashshield models remove lite2-caltech101"))
    o.register(app, path, "path", o.examples("hashshield models path lite0-caltech101"))
    o.register(
        app,
        import_,
        "import",
        o.examples(
            "hashshield models import mine.safetensors",
            "hashshield models import model.onnx --card card.toml",
        ),
    )
