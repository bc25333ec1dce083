"""Questions to the user: before long work, before something that cannot be undone, and before a download."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

import typer

from hashshield.cli.output import Report
from hashshield.cli.progress import DownloadProgress
from hashshield.errors import UsageError

if TYPE_CHECKING:
    from hashshield.checkpoints.catalog import CatalogEntry

__all__ = ["ask", "confirm", "download_entry", "ensure_available"]


def ask(question: str, *, yes: bool) -> None:
    """Ask before something long or large; without a terminal, as in scripts, go on. Raises typer.Abort for a no."""
    if not yes and _is_interactive():
        _require_yes(question)


def confirm(question: str, *, yes: bool) -> None:
    """Ask before something that cannot be undone; without a terminal, --yes is required.

    Raises UsageError if there is nobody to ask, and typer.Abort for a no.
    """
    if yes:
        return
    if not _is_interactive():
        raise UsageError(f"{question} There is nobody to ask here; add --yes if you mean it")
    _require_yes(question)


def ensure_available(models: Iterable[str], report: Report, *, yes: bool) -> None:
    """Download the catalogue's networks among `models` that are missing here; ask first, except with --yes.

    Unknown names are ignored; the command reports them. Raises CheckpointError, with advice on how to download, if
    there is nobody to ask; DownloadError; typer.Abort for a no.
    """
    from hashshield.checkpoints import catalog

    entries = catalog.absent(models)
    if not entries:
        return
    if not yes:
        if not _is_interactive():
            catalog.resolve(entries[0].name)
        names = ", ".join(f"{entry.name} ({entry.size / 1e6:.1f} MB)" for entry in entries)
        confirm(f"Not here yet: {names}. Download?", yes=False)
    with DownloadProgress(report) as progress:
        for entry in entries:
            download_entry(entry, progress)


def download_entry(entry: CatalogEntry, progress: DownloadProgress) -> bool:
    """Download a network unless it is installed; return True if it was downloaded.

    Raises DownloadError, CheckpointError.
    """
    if entry.embedded or entry.imported:
        return False

    from hashshield.checkpoints.fetch import fetch

    return fetch(entry, progress=progress)


def _is_interactive() -> bool:
    return sys.stdin.isatty() and sys.stderr.isatty()


def _require_yes(question: str) -> None:
    try:
        agreed = typer.confirm(question, err=True)
    except typer.Abort:
        # Ctrl-C at the question counts as an interruption, with its usual exit code.
        raise KeyboardInterrupt from None
    if not agreed:
        raise typer.Abort
