"""`hashshield protect`: its options and the request they make; `protect_run` carries it out."""

from __future__ import annotations

import sys
import tempfile
from contextlib import ExitStack, suppress
from pathlib import Path

from hashshield.cli import options as o
from hashshield.cli.layouts import PROTECT
from hashshield.cli.output import Report
from hashshield.cli.progress import checked_kind
from hashshield.cli.protect_run import Engine, Page, protect_folders, protect_piped
from hashshield.config import resolve

__all__ = ["EXAMPLES", "protect"]

EXAMPLES = (
    o.examples(
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
    # Through a pipe, standard output is the photo's.
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
        if piped:
            protect_piped(paths, request, report, page=Page(page, redact), yes=yes)
        else:
            kind = checked_kind(progress_kind)
            protect_folders(paths, request, report, engine=chosen, page=Page(page, redact), progress_kind=kind, yes=yes)


def _remove_if_empty(folder: Path) -> None:
    """Remove the folder of a sample that came to nothing; one with copies in it stays."""
    with suppress(OSError):
        folder.rmdir()
