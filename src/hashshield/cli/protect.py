"""`hashshield protect`."""

from __future__ import annotations

import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hashshield.cli import options as o
from hashshield.cli.layouts import PROTECT
from hashshield.cli.output import Report, check_page, with_page
from hashshield.cli.progress import PhotoProgress
from hashshield.cli.prompts import ask, confirm, ensure_available
from hashshield.config import resolve
from hashshield.errors import UsageError

if TYPE_CHECKING:
    from hashshield.types import Request

__all__ = ["EXAMPLES", "protect"]

EXAMPLES = (
    o.examples(
        "hashshield protect photos/                # in place; originals are kept",
        "hashshield protect a.jpg --output out/    # a protected copy",
        "hashshield protect a.png --target-class sunflower",
        "hashshield protect photos/ --dry-run      # what would be done, and how long it takes",
        "hashshield protect photos/ --sample 20    # try 20 of them on copies",
        "hashshield protect photos/ --report report.html    # before and after, to look at",
        "hashshield protect - < a.jpg > b.jpg      # one photo through a pipe",
        "hashshield protect photos/ --output out/ --engine ray --workers 2",
    )
    + "\n\nOptions with a default can be set for good in the environment (HASHSHIELD_TAU=0.02) or in a file; "
    "see `hashshield config show`."
)


def protect(
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="PATH", readable=False, help="Photos, or folders; - for one photo through a pipe."),
    ],
    model: o.Models = None,
    goal: o.OptionalGoal = None,
    target: o.TargetImage = None,
    target_set: o.TargetSet = None,
    target_class: o.TargetClass = None,
    tolerance: o.Tolerance = None,
    witness: Annotated[
        str | None,
        o.setting(
            "witness",
            "Network never used in the search that is asked about the result: auto, none or NAME.",
            panel=o.AIM,
            metavar="NAME",
        ),
    ] = None,
    accept_best: Annotated[
        bool, o.switch("--accept-best", text="Write the best found even when it falls short.", panel=o.AIM)
    ] = False,
    preset: o.Preset = None,
    tau: o.Tau = None,
    method: Annotated[
        str | None, o.setting("method", f"The search: {o.words('method')}.", panel=o.SEARCH, metavar="WORD")
    ] = None,
    steps: o.Steps = None,
    stop: Annotated[
        str | None,
        o.setting(
            "stop",
            "Use the whole step budget, or end at the first success: budget or first.",
            panel=o.SEARCH,
            metavar="WORD",
        ),
    ] = None,
    device: o.Device = None,
    batch_size: Annotated[
        str | None,
        o.setting("batch_size", "Photos searched at once; auto fits them to the memory.", panel=o.SEARCH, metavar="N"),
    ] = None,
    jobs: Annotated[
        int | None, o.setting("jobs", "Threads that read and write photos.", panel=o.SEARCH, metavar="N")
    ] = None,
    seed: o.Seed = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="DIR", help="Write copies here, not in place.", rich_help_panel=o.FILES),
    ] = None,
    vault: o.Vault = None,
    no_backup: Annotated[bool, o.switch("--no-backup", text="Keep no originals: no way back.", panel=o.FILES)] = False,
    dry_run: Annotated[bool, o.switch("--dry-run", "-n", text="Say what would be done.", panel=o.FILES)] = False,
    sample: Annotated[
        int | None,
        typer.Option(
            "--sample",
            metavar="N",
            min=1,
            help="Try this many of the photos on copies; yours stay as they are.",
            rich_help_panel=o.FILES,
        ),
    ] = None,
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
    engine: Annotated[
        str,
        typer.Option(
            "--engine", metavar="WORD", help="Who works: local or ray, with --output.", rich_help_panel=o.FLEET
        ),
    ] = "local",
    ray_address: Annotated[
        str | None,
        typer.Option(
            "--ray-address",
            metavar="HOST:PORT",
            help="Ray cluster to use, which wants a token; else one of this machine.",
            rich_help_panel=o.FLEET,
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers",
            metavar="N",
            min=1,
            help="Ray processes with opened networks; one per GPU, or four cores.",
            rich_help_panel=o.FLEET,
        ),
    ] = None,
    as_json: o.Json = False,
    page: o.ReportPage = None,
    redact: o.Redact = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
    yes: o.Yes = False,
) -> None:
    """Change photos, in place, so that their image-hash codes no longer match.

    The change is searched on the networks named and measured on the written file. Originals go to the vault;
    `hashshield restore` brings them back. A file that is already protected is left alone.
    """
    piped = Path("-") in paths
    data = sys.stderr if piped else None
    report = Report("protect", PROTECT, as_json=as_json, quiet=quiet, verbose=verbose, data=data)
    with report:
        settings = resolve(
            {
                "model": model,
                "goal": goal,
                "tolerance": tolerance,
                "witness": witness,
                "accept_best": accept_best or None,
                "preset": preset,
                "tau": tau,
                "method": method,
                "steps": steps,
                "stop": stop,
                "device": device,
                "batch_size": batch_size,
                "jobs": jobs,
                "vault": vault,
                "strip_copies": strip_copies or None,
                "strip_gps": strip_gps or None,
                "strip_metadata": strip_metadata or None,
                "remove_credentials": remove_credentials or None,
                "keep_mtime": keep_mtime or None,
                "lossy_formats": lossy_formats or None,
                "exclude": exclude,
                "survival": survival or None,
            }
        )
        _check_engine(engine, ray_address, workers, piped=piped)
        if sample is not None and output is None and not dry_run:
            output = Path(tempfile.mkdtemp(prefix="hashshield-sample-"))
            report.note(f"Copies go to {output}; your photos stay as they are.")

        from hashshield.pipeline.request import request_of

        request = request_of(
            settings,
            o.goal_of(target, target_set, target_class, goal),
            options={"break_links": break_links, "allow_root": allow_root},
            output=output,
            backup=not no_backup,
            dry_run=dry_run,
            force=force,
            sample=sample,
            seed=seed,
        )
        if piped:
            if page is not None or redact:
                raise UsageError("- stands for one photo through a pipe, of which no --report can be made")
            _through_pipe(paths, request, report, yes=yes)
            return
        if output is not None and output.exists() and not output.is_dir():
            raise UsageError(f"--output {output}: is a file; name the folder that is to hold the copies")
        if page is not None and (dry_run or (no_backup and output is None)):
            raise UsageError(
                "--report shows photos beside their originals: --dry-run makes none, and --no-backup keeps none unless "
                "copies are written with --output; leave one of them out"
            )
        check_page(page, redact=redact)
        if no_backup and output is None and not dry_run:
            confirm("Without a backup the originals cannot be restored. Go on?", yes=yes)
        if not dry_run:
            ensure_available(_networks(request), report, yes=yes)

        with PhotoProgress(report) as progress, with_page(page, report, progress, redact=redact, vault=request.vault):
            if engine == "ray":
                from hashshield.fleet import run as fleet

                found = o.expanded(paths)
                report.finish(fleet.protect(found, request, address=ray_address, workers=workers, progress=progress))
            else:
                from hashshield.pipeline import run

                agree = partial(ask, yes=yes)
                report.finish(run.protect(o.expanded(paths), request, progress=progress, agree=agree))


def _check_engine(engine: str, address: str | None, workers: int | None, *, piped: bool) -> None:
    """Refuse a word that is no engine, and options of the other one. Raises UsageError."""
    if engine not in ("local", "ray"):
        raise UsageError(f"--engine is {engine!r}, which is unknown; choose one of local, ray")
    if engine == "local" and (address is not None or workers is not None):
        raise UsageError("--ray-address and --workers are for --engine ray; add it, or leave them out")
    if engine == "ray" and piped:
        raise UsageError("- stands for one photo through a pipe, and --engine ray is for folders of them; keep one")


def _networks(request: Request) -> tuple[str, ...]:
    """Every network that was named."""
    return request.models if request.witness in ("auto", "none") else (*request.models, request.witness)


def _through_pipe(paths: list[Path], request: Request, report: Report, *, yes: bool) -> None:
    """Read one photo from standard input, write it to standard output; the report goes to standard error."""
    if len(paths) > 1 or request.output is not None or request.dry_run:
        raise UsageError(
            "- stands for one photo through a pipe; give no other path, and none of --output, --sample and --dry-run"
        )
    if sys.stdout.isatty() or sys.stdin.isatty():
        raise UsageError("- reads a photo from standard input and writes one to standard output; redirect both")
    ensure_available(_networks(request), report, yes=yes)

    from hashshield.pipeline import run

    data, outcome = run.protect_bytes(sys.stdin.buffer.read(), request, name="-")
    report.finish([outcome])
    if data is not None:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
