"""`hashshield watch` and `hashshield ui`: the commands that run until they are stopped."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hashshield.cli import options as o
from hashshield.cli.commands import examples
from hashshield.cli.layouts import PROTECT
from hashshield.cli.output import Report, plain, reasons
from hashshield.cli.prompts import ensure_available
from hashshield.cli.terminal import count, output_errors, say, shown_warnings
from hashshield.config import resolve
from hashshield.errors import HashshieldError, StorageError
from hashshield.text import clean

if TYPE_CHECKING:
    from hashshield.types import Outcome

__all__ = [
    "EXAMPLES",
    "UI_EXAMPLES",
    "ui",
    "watch",
]


EXAMPLES = examples(
    "hashshield watch photos/                  # until Ctrl-C",
    "hashshield watch photos/ --exclude '*.png' --strip-gps",
)

_QUIET = {"already", "skipped"}
"""Statuses of files that are left alone; their rows are shown with --verbose only."""


class _Lines:
    """The `Progress` of `watch`: prints one line on standard output for each photo as it finishes."""

    def __init__(self, *, as_json: bool, quiet: bool, verbose: bool) -> None:
        self._as_json, self._quiet, self._verbose = as_json, quiet, verbose
        self._said: set[str] = set()
        self.handled = 0
        self.code = 0
        """Exit code of the command."""

    def start(self, total: int) -> None:
        """Print nothing: lines come as photos finish."""

    def photo(self, path: str) -> None:
        """Print nothing, as for `start`."""

    def done(self, outcome: object) -> None:
        """Print the line of a photo, unless it was left alone."""
        row: Outcome = outcome  # type: ignore[assignment]
        if row.status in _QUIET and not self._verbose:
            return
        self.handled += 1
        if self._as_json:
            import json

            self._print(json.dumps(plain(row)))
        elif not self._quiet:
            self._print("\t".join(clean(column.cell(row)) for column in PROTECT.columns))
        for line in reasons([row], only_bad=True):
            say(line)

    def notice(self, text: str) -> None:
        """Print a line on standard error, but the same text only once."""
        if text not in self._said and not self._quiet:
            say(text)
        self._said.add(text)

    def _print(self, text: str) -> None:
        try:
            with output_errors(sys.stdout):
                sys.stdout.write(f"{text}\n")
                sys.stdout.flush()
        except (StorageError, BrokenPipeError) as error:
            # Protecting photos goes on without the lines about them.
            if not self.code:
                say(f"hashshield watch: {error}; photos are protected as before")
            self.code = 1


# Over 60 lines, because Typer reads one parameter for each option.
def watch(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder in which photos arrive, with all folders below it.")
    ],
    model: o.Models = None,
    goal: o.OptionalGoal = None,
    preset: o.Preset = None,
    tau: o.Tau = None,
    max_visible: o.MaxVisible = None,
    steps: o.Steps = None,
    device: o.Device = None,
    settle: Annotated[
        float,
        typer.Option(
            "--settle",
            metavar="SECONDS",
            min=0.1,
            help="Time without a write after which a file counts as complete.",
            rich_help_panel=o.FILES,
        ),
    ] = 2.0,
    exclude: o.Exclude = None,
    strip_copies: o.StripCopies = False,
    strip_gps: o.StripGps = False,
    strip_metadata: o.StripMetadata = False,
    remove_credentials: o.RemoveCredentials = False,
    keep_mtime: o.KeepMtime = False,
    lossy_formats: o.LossyFormats = False,
    vault: o.Vault = None,
    allow_root: o.AllowRoot = False,
    as_json: Annotated[bool, o.switch("--json", text="Print one JSON object a line.", panel=o.REPORT)] = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
    yes: o.Yes = False,
) -> None:
    """Protect photos in place as they arrive in a folder, until Ctrl-C or SIGTERM.

    Photos that are there already are protected first. A file is protected when nothing has written to it for some
    seconds and no program has it open for writing. Protected photos are left alone, also after a restart.
    """
    arguments = dict(locals())
    lines = _Lines(as_json=as_json, quiet=quiet, verbose=verbose)

    from hashshield.boundary import terminable

    try:
        with terminable(), shown_warnings():
            settings = resolve(arguments)

            from hashshield.pipeline.request import request_of

            request = request_of(settings, None, allow_root=allow_root)
            ensure_available(request.models, Report("watch", PROTECT, quiet=quiet), yes=yes)

            from hashshield.pipeline.watch import watch as run

            run(folder, request, progress=lines, settle=settle)
    except KeyboardInterrupt:
        if not quiet:
            say(f"Stopped after {count(lines.handled, 'photo')}; every file is either untouched or complete.")
        if lines.code:
            raise typer.Exit(lines.code) from None
    except HashshieldError as error:
        say(f"hashshield watch: {error}")
        raise typer.Exit(error.exit_code) from None


UI_EXAMPLES = examples(
    "hashshield ui                  # opens the page in your browser",
    "hashshield ui --no-browser     # prints its link",
)


def ui(
    port: Annotated[
        int,
        typer.Option(
            "--port",
            metavar="N",
            min=0,
            max=65535,
            help="Port of 127.0.0.1; 0 takes any that is free.",
            rich_help_panel=o.REPORT,
        ),
    ] = 0,
    no_browser: Annotated[
        bool, o.switch("--no-browser", text="Print the link, and open no browser.", panel=o.REPORT)
    ] = False,
) -> None:
    """Open a page on this computer on which photos are dropped and protected copies are saved.

    Photos go from the browser to this command and nowhere else. They lie in a private folder that is removed when the
    page is closed, on Ctrl-C, and at the next start after a crash. Your own files stay as they are.
    """

    def announce(link: str) -> None:
        typer.echo(link)
        say("The link works once, in one browser. Close the page there, or end it with Ctrl-C.")
        if not no_browser and _has_screen():
            import webbrowser

            webbrowser.open(link)

    try:
        with shown_warnings():
            from hashshield.ui.serve import serve

            serve(port, announce)
        say("Closed; what was on the page is deleted.")
    except KeyboardInterrupt:
        say("Ended; what was on the page is deleted.")
    except HashshieldError as error:
        say(f"hashshield ui: {error}")
        raise typer.Exit(error.exit_code) from None


def _has_screen() -> bool:
    """Return True if a browser can open a window; a text browser would take over the terminal."""
    if sys.platform in ("win32", "darwin"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
