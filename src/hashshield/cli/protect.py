"""`hashshield protect`: turn the options into a `Request` and run it.

Photos are protected in this process, on a Ray cluster or, for a single photo, through a pipe.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from hashshield.cli import options as o
from hashshield.cli.commands import examples
from hashshield.cli.layouts import PROTECT
from hashshield.cli.options import expanded
from hashshield.cli.output import Report, check_page, with_page
from hashshield.cli.progress import PhotoProgress, checked_kind
from hashshield.cli.prompts import ask, confirm, ensure_available
from hashshield.cli.terminal import output_errors
from hashshield.config import resolve
from hashshield.errors import InternalError, PhotoError, UsageError

if TYPE_CHECKING:
    from hashshield.types import Request

__all__ = ["EXAMPLES", "Engine", "Page", "protect", "protect_folders", "protect_piped"]

EXAMPLES = (
    examples(
        "hashshield protect photos/                # in place; originals are kept",
        "hashshield protect a.jpg --output out/    # a protected copy",
        "hashshield protect photos/ --output out/ --rename --strip-metadata    # and nothing in name or file",
        "hashshield protect a.jpg --output forum/ --for forum    # each place gets a code of its own",
        "hashshield protect a.png --target-class sunflower",
        "hashshield protect photos/ --dry-run      # shows what would be done, and how long it takes",
        "hashshield protect photos/ --sample 20    # try 20 of them on copies",
        "hashshield protect photos/ --report report.html    # before and after, to look at",
        "hashshield protect - < a.jpg > b.jpg      # one photo through a pipe",
        "hashshield protect photos/ --output out/ --engine ray --workers 2",
    )
    + "\n\nOptions with a default can be set for good in the environment (HASHSHIELD_TAU=0.02) or in a file; "
    "see `hashshield config show`."
)


# Over 60 lines, because Typer reads one parameter for each option.
def protect(
    paths: o.Paths,
    model: o.Models = None,
    goal: o.OptionalGoal = None,
    target: o.TargetImage = None,
    target_set: o.TargetSet = None,
    target_class: o.TargetClass = None,
    tolerance: o.Tolerance = None,
    place_name: o.Place = None,
    witness: o.Witness = None,
    accept_best: o.AcceptBest = False,
    preset: o.Preset = None,
    tau: o.Tau = None,
    max_visible: o.MaxVisible = None,
    method: o.Method = None,
    steps: o.Steps = None,
    stop: o.Stop = None,
    device: o.Device = None,
    batch_size: o.BatchSize = None,
    jobs: o.Jobs = None,
    seed: o.Seed = None,
    output: o.Output = None,
    rename: o.Rename = False,
    vault: o.Vault = None,
    no_backup: o.NoBackup = False,
    dry_run: o.DryRun = False,
    sample: o.Sample = None,
    exclude: o.Exclude = None,
    force: o.Force = False,
    strip_copies: o.StripCopies = False,
    strip_gps: o.StripGps = False,
    strip_metadata: o.StripMetadata = False,
    remove_credentials: o.RemoveCredentials = False,
    keep_mtime: o.KeepMtime = False,
    lossy_formats: o.LossyFormats = False,
    break_links: o.BreakLinks = False,
    allow_root: o.AllowRoot = False,
    survival: o.Survival = False,
    engine: o.Engine = "local",
    ray_address: o.RayAddress = None,
    workers: o.Workers = None,
    as_json: o.Json = False,
    page: o.ReportPage = None,
    redact: o.Redact = False,
    progress_kind: o.ProgressKind = "auto",
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
    yes: o.Yes = False,
) -> None:
    """Change photos, in place, so that their image-hash codes no longer match.

    The change is found by a search on the named networks, and its effect is measured on the written file. Originals go
    to the vault; `hashshield restore` brings them back. A file that is already protected is left alone.
    """
    arguments, piped = dict(locals()), Path("-") in paths
    # Through a pipe, standard output carries the photo, so the report goes to standard error.
    data = sys.stderr if piped else None
    report = Report("protect", PROTECT, as_json=as_json, quiet=quiet, verbose=verbose, data=data)
    with report, ExitStack() as at_end:
        settings = resolve(arguments)
        chosen = Engine(engine, ray_address, workers)
        chosen.check(piped=piped)
        if sample is not None and output is None and not dry_run:
            output = Path(tempfile.mkdtemp(prefix="hashshield-sample-"))
            at_end.callback(_remove_if_empty, output)
            report.note(f"Copies go to {output}; your photos stay as they are.")

        from hashshield.pipeline.places import checked_place
        from hashshield.pipeline.request import request_of

        request = request_of(
            settings,
            o.goal_of(target, target_set, target_class, goal),
            break_links=break_links,
            allow_root=allow_root,
            output=output,
            backup=not no_backup,
            dry_run=dry_run,
            force=force,
            sample=sample,
            rename=rename,
            place_name=checked_place(place_name),
            seed=seed,
        )
        kind = checked_kind(progress_kind)
        if piped:
            _refuse_file_options(arguments)
            protect_piped(paths, request, report, page=Page(page, redact), yes=yes)
        else:
            protect_folders(paths, request, report, engine=chosen, page=Page(page, redact), progress_kind=kind, yes=yes)


_FILE_OPTIONS = ("no_backup", "exclude", "keep_mtime", "break_links", "allow_root")


def _refuse_file_options(arguments: Mapping[str, Any]) -> None:
    """Raise UsageError for options about files and progress, which a photo through a pipe has none of."""
    given = [f"--{key.replace('_', '-')}" for key in _FILE_OPTIONS if arguments[key]]
    if arguments["progress_kind"] != "auto":
        given.append("--progress")
    if given:
        raise UsageError(
            f"- stands for one photo through a pipe, for which {', '.join(given)} would do nothing; leave "
            f"{'it' if len(given) == 1 else 'them'} out"
        )


def _remove_if_empty(folder: Path) -> None:
    """Remove the folder of a sample unless it holds copies."""
    with suppress(OSError):
        folder.rmdir()


class Engine(NamedTuple):
    """Where the work is done."""

    kind: str
    """`local` or `ray`."""
    address: str | None
    """HOST:PORT of the Ray cluster; None starts one on this machine."""
    workers: int | None
    """Number of Ray processes; None: one per GPU, or per four cores."""

    def check(self, *, piped: bool) -> None:
        """Raise UsageError for an unknown engine, or for options that it does not support."""
        if self.kind not in ("local", "ray"):
            raise UsageError(f"--engine is {self.kind!r}, which is unknown; choose one of local, ray")
        if self.kind == "local" and (self.address is not None or self.workers is not None):
            raise UsageError("--ray-address and --workers are for --engine ray; add it, or leave them out")
        if self.kind == "ray" and piped:
            raise UsageError("- stands for one photo through a pipe, and --engine ray is for folders of them; keep one")


class Page(NamedTuple):
    """Options of the HTML page: its path from --report, and --redact."""

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
    """Protect photos and folders, in place or as copies, and write the page; `progress_kind` is `auto` or `plain`.

    Raises UsageError for options that exclude each other, and the errors of `pipeline.protect.protect`.
    """
    output, in_place = request.output, request.output is None
    if output is not None:
        from hashshield.pipeline.places import check_output

        check_output(paths, output)
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

    Raises UsageError for options that need files or if either end is a terminal, and the errors of
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

    from hashshield.imaging.photo import read_photo_stream
    from hashshield.pipeline import protect as pipeline
    from hashshield.types import Outcome

    try:
        photo = read_photo_stream(sys.stdin.buffer, name="-")
    except (PhotoError, InternalError) as error:
        report.finish([Outcome("-", "failed", reason=str(error))])
        return
    data, outcome = pipeline.protect_bytes(photo, request, name="-", notice=report.note)
    report.finish([outcome])
    if data is not None:
        with output_errors(sys.stdout.buffer):
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()


def _named_networks(request: Request) -> tuple[str, ...]:
    return request.models if request.witness in ("auto", "none") else (*request.models, request.witness)
