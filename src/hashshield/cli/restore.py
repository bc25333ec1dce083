"""`hashshield restore`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hashshield.cli import options as o
from hashshield.cli.layouts import RESTORE
from hashshield.cli.output import Sink
from hashshield.cli.progress import PhotoProgress
from hashshield.config import resolve
from hashshield.errors import UsageError

__all__ = ["EXAMPLES", "restore"]

EXAMPLES = o.examples(
    "hashshield restore photos/                 # byte for byte as they were",
    "hashshield restore --last-run --dry-run    # what the last protect changed",
    "hashshield restore --last-run",
)


def restore(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(metavar="PATH", readable=False, help="Protected photos, or folders of them."),
    ] = None,
    last_run: Annotated[
        bool, o.switch("--last-run", text="All that the last protect changed, below PATH if given.", panel=o.FILES)
    ] = False,
    force: Annotated[
        bool,
        o.switch("--force", text="Also files edited since; the edit goes to the vault.", panel=o.FILES),
    ] = False,
    dry_run: Annotated[bool, o.switch("--dry-run", "-n", text="Say what would be done.", panel=o.FILES)] = False,
    vault: o.Vault = None,
    break_links: o.BreakLinks = False,
    allow_root: o.AllowRoot = False,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
    verbose: o.EveryFile = False,
) -> None:
    """Bring originals back from the vault, byte for byte.

    A photo is found by its content, so moved, renamed and copied files count. A file that was edited after
    protection is refused without --force.
    """
    with Sink("restore", RESTORE, as_json=as_json, quiet=quiet, verbose=verbose) as sink:
        if not paths and not last_run:
            raise UsageError("name the photos or folders to restore, or give --last-run")
        settings = resolve({"vault": vault})

        from hashshield.pipeline import restore as pipeline

        with PhotoProgress(sink) as progress:
            sink.finish(
                pipeline.restore(
                    o.expanded(paths or []),
                    vault=settings["vault"].value,
                    force=force,
                    dry_run=dry_run,
                    last_run=last_run,
                    break_links=break_links,
                    allow_root=allow_root,
                    progress=progress,
                )
            )
