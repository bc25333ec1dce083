"""Questions to the person at the terminal: before something long, something final, or a download."""

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
    """Ask before something long or large, if there is a terminal; a script goes on. Raises typer.Abort for a no."""
    if not yes and _is_interactive():
        _require_yes(question)


def confirm(question: str, *, yes: bool) -> None:
    """Ask before something that cannot be undone; without a terminal it needs --yes.

    Raises UsageError if there is nobody to ask, and typer.Abort for a no.
    """
    if yes:
        return
    if not _is_interactive():
        raise UsageError(f"{question} There is nobody to ask here; add --yes if you mean it")
    _require_yes(question)


def ensure_available(models: Iterable[str], report: Report, *, yes: bool) -> None:
    """Download the known networks among `models` that are not here: at once with --yes, else if the user agrees.

    Names that are not known are left to the command. Raises CheckpointError, which says how to download, if there is
    nobody to ask; DownloadError; typer.Abort for a no.
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
    """Download one network unless it is here; return True if that was needed. Raises DownloadError, CheckpointError."""
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
        # Ctrl-C at the question is an interruption as anywhere else, with its exit code.
        raise KeyboardInterrupt from None
    if not agreed:
        raise typer.Abort
