"""Run the request of `hashshield protect`: on this machine, on a Ray cluster, or for one photo through a pipe."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from hashshield.cli.options import expanded
from hashshield.cli.output import Report, check_page, with_page
from hashshield.cli.progress import PhotoProgress
from hashshield.cli.prompts import ask, confirm, ensure_available
from hashshield.cli.terminal import output_errors
from hashshield.errors import UsageError

if TYPE_CHECKING:
    from hashshield.types import Request

__all__ = ["Engine", "Page", "protect_folders", "protect_piped"]


class Engine(NamedTuple):
    """Who does the work."""

    kind: str
    """local or ray."""
    address: str | None
    """HOST:PORT of the Ray cluster; None starts one on this machine."""
    workers: int | None
    """Ray processes; None: one per GPU, or per four cores."""

    def check(self, *, piped: bool) -> None:
        """Raise UsageError for an unknown engine, and for options that belong to the other one."""
        if self.kind not in ("local", "ray"):
            raise UsageError(f"--engine is {self.kind!r}, which is unknown; choose one of local, ray")
        if self.kind == "local" and (self.address is not None or self.workers is not None):
            raise UsageError("--ray-address and --workers are for --engine ray; add it, or leave them out")
        if self.kind == "ray" and piped:
            raise UsageError("- stands for one photo through a pipe, and --engine ray is for folders of them; keep one")


class Page(NamedTuple):
    """The page of --report."""

    path: Path | None
    redact: bool


def protect_folders(
    paths: list[Path],
    request: Request,
    report: Report,
    *,
    engine: Engine,
    page: Page,
    progress_kind: str = "auto",
    yes: bool,
) -> None:
    """Protect photos and folders, in place or as copies, and write the page; `progress_kind` is the kind of progress.

    Raises UsageError for options that exclude each other, and the errors of `pipeline.protect.protect`.
    """
    output, in_place = request.output, request.output is None
    if output is not None and output.exists() and not output.is_dir():
        raise UsageError(f"--output {output}: is a file; name the folder that is to hold the copies")
    if page.path is not None and (request.dry_run or (in_place and not request.backup)):
        raise UsageError(
            "--report shows photos beside their originals: --dry-run makes none, and --no-backup keeps none unless "
            "copies are written with --output; leave one of them out"
        )
    check_page(page.path, redact=page.redact)
    if in_place and not request.backup and not request.dry_run:
        confirm("Without a backup the originals cannot be restored. Go on?", yes=yes)
    if not request.dry_run:
        ensure_available(_named_networks(request), report, yes=yes)

    with (
        PhotoProgress(report, kind=progress_kind) as progress,
        with_page(page.path, report, progress, redact=page.redact, vault=request.vault),
    ):
        found = expanded(paths)
        if engine.kind == "ray":
            from hashshield.fleet import run as fleet

            address, workers = engine.address, engine.workers
            report.finish(fleet.protect(found, request, address=address, workers=workers, progress=progress))
        else:
            from hashshield.pipeline import protect as pipeline

            agree = partial(ask, yes=yes)
            report.finish(pipeline.protect(found, request, progress=progress, agree=agree, finish_first=True))


def protect_piped(paths: list[Path], request: Request, report: Report, *, page: Page, yes: bool) -> None:
    """Read one photo from standard input and write its protected copy, if there is one, to standard output.

    Raises UsageError for options that need files and for a terminal at either end, and the errors of
    `pipeline.protect.protect_bytes`.
    """
    if page.path is not None or page.redact:
        raise UsageError("- stands for one photo through a pipe, of which no --report can be made")
    if len(paths) > 1 or request.output is not None or request.dry_run:
        raise UsageError(
            "- stands for one photo through a pipe; give no other path, and none of --output, --sample and --dry-run"
        )
    if sys.stdout.isatty() or sys.stdin.isatty():
        raise UsageError("- reads a photo from standard input and writes one to standard output; redirect both")
    ensure_available(_named_networks(request), report, yes=yes)

    from hashshield.pipeline import protect as pipeline

    data, outcome = pipeline.protect_bytes(sys.stdin.buffer.read(), request, name="-", notice=report.note)
    report.finish([outcome])
    if data is not None:
        with output_errors(sys.stdout.buffer):
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()


def _named_networks(request: Request) -> tuple[str, ...]:
    return request.models if request.witness in ("auto", "none") else (*request.models, request.witness)
