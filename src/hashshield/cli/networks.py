"""Networks that are known but not here: asked for, downloaded, or said to be missing."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

from hashshield.cli import options as o
from hashshield.cli.output import Sink
from hashshield.cli.progress import DownloadProgress

if TYPE_CHECKING:
    from hashshield.checkpoints.entry import Entry

__all__ = ["download_entry", "ensure_available"]


def ensure_available(models: Iterable[str], sink: Sink, *, yes: bool) -> None:
    """Download what is known but not here: with --yes at once, on a terminal when the user agrees.

    Off a terminal without --yes it raises CheckpointError, which says how. Names that are not known are left to the
    command.
    """
    from hashshield.checkpoints import catalog

    entries = catalog.absent(models)
    if not entries:
        return
    if not yes:
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            catalog.resolve(entries[0].name)
        names = ", ".join(f"{entry.name} ({entry.size / 1e6:.1f} MB)" for entry in entries)
        o.confirm(f"Not here yet: {names}. Download?", yes=False)
    with DownloadProgress(sink) as progress:
        for entry in entries:
            download_entry(entry, progress)


def download_entry(entry: Entry, progress: DownloadProgress) -> bool:
    """Download one network unless it is here; whether that was needed. Raises DownloadError, CheckpointError."""
    if entry.embedded or entry.imported:
        return False

    from hashshield.checkpoints.fetch import fetch

    return fetch(entry, progress=progress)
