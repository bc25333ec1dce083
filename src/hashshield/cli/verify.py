"""`hashshield verify` and `hashshield evaluate`: check that photos are still protected, and measure their change."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hashshield.cli import options as o
from hashshield.cli.commands import examples
from hashshield.cli.layouts import EVALUATE, SURVIVAL, VERIFY
from hashshield.cli.output import Report, check_page, write_page
from hashshield.cli.progress import PhotoProgress, checked_kind
from hashshield.cli.prompts import ensure_available
from hashshield.config import resolve
from hashshield.errors import InternalError, PhotoError, UsageError

if TYPE_CHECKING:
    from hashshield.types import Verification

__all__ = [
    "EVALUATE_EXAMPLES",
    "EXAMPLES",
    "evaluate",
    "verify",
]


EXAMPLES = examples(
    "hashshield verify photos/                          # by the ledger",
    "hashshield verify online.jpg --original mine.jpg   # check after upload",
    "hashshield verify - --original mine.jpg < online.jpg",
)


# Over 60 lines, because Typer reads one parameter for each option.
def verify(
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="PATH", readable=False, help="Photos, or folders; - for one from standard input."),
    ],
    original: Annotated[
        Path | None,
        typer.Option(
            "--original",
            metavar="FILE",
            help="Compare with this photo, or with the original of a protected one.",
            rich_help_panel=o.AIM,
        ),
    ] = None,
    target: o.TargetImage = None,
    target_set: o.TargetSet = None,
    target_class: o.TargetClass = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            metavar="NAME",
            help="Network to hash with; repeatable. Otherwise those that the photo was protected against.",
            rich_help_panel=o.AIM,
        ),
    ] = None,
    tolerance: o.Tolerance = None,
    preset: o.Preset = None,
    device: o.Device = None,
    vault: o.Vault = None,
    exclude: o.Exclude = None,
    as_json: o.Json = False,
    progress_kind: o.ProgressKind = "auto",
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
    yes: o.Yes = False,
) -> None:
    """Hash photos again and say whether they are still protected.

    Without --original, photos are compared with the codes in the ledger. The status of a restored photo is original,
    that of a photo not in the ledger is unknown; both give exit code 3, and --verbose prints their codes.
    """
    arguments = dict(locals())
    with Report("verify", VERIFY, as_json=as_json, quiet=quiet, verbose=verbose) as report:
        goal = o.goal_of(target, target_set, target_class, None)
        if goal is not None and original is None:
            raise UsageError("a target needs --original too; without it the ledger says what each photo was aimed at")
        settings = resolve(arguments)
        # The ledger names the networks of each photo; a configured default must not replace them.
        models, otherwise = (settings["model"].value, ()) if model else ((), settings["model"].value)
        ensure_available(models or (otherwise if original else ()), report, yes=yes)

        from hashshield.pipeline import verify as pipeline

        with (
            _piped(o.expanded(paths)) as (files, spelled),
            PhotoProgress(report, kind=checked_kind(progress_kind)) as progress,
        ):
            rows = pipeline.verify(
                files,
                models=models,
                otherwise=otherwise,
                original=original,
                goal=goal,
                tolerance=settings["tolerance"].value,
                preset=settings["preset"].value,
                vault=settings["vault"].value,
                device=settings["device"].value,
                exclude=settings["exclude"].value,
                progress=progress,
            )
            report.finish(spelled(rows))


_Spelled = Callable[[Iterable["Verification"]], list["Verification"]]


@contextmanager
def _piped(paths: list[Path]) -> Iterator[tuple[list[Path], _Spelled]]:
    """Yield the paths with - replaced by a temporary file, and a function that puts - back into the result rows.

    If standard input is not a readable photo, - is left out, and the function adds its row. Raises UsageError if
    standard input is a terminal.
    """
    if Path("-") not in paths:
        yield paths, list
        return
    if sys.stdin.isatty():
        raise UsageError("- reads a photo from standard input; redirect it")

    from dataclasses import replace

    from hashshield.imaging.photo import read_photo_stream
    from hashshield.types import Verification

    try:
        photo = read_photo_stream(sys.stdin.buffer, name="-")
    except (PhotoError, InternalError) as error:
        refused = Verification("-", "failed", reason=str(error))
        yield [path for path in paths if path != Path("-")], lambda rows: [refused, *rows]
        return
    with tempfile.TemporaryDirectory(prefix="hashshield-") as folder:
        file = Path(folder) / "photo"
        file.write_bytes(photo)

        def spelled(row: Verification) -> Verification:
            if row.path != str(file):
                return row
            return replace(row, path="-", reason=row.reason and row.reason.replace(str(file), "-"))

        yield [file if path == Path("-") else path for path in paths], lambda rows: list(map(spelled, rows))


EVALUATE_EXAMPLES = examples(
    "hashshield evaluate original.jpg protected.jpg",
    "hashshield evaluate originals/ protected/ --json   # same names",
    "hashshield evaluate original.jpg protected.jpg --survival",
    "hashshield evaluate originals/ protected/ --report report.html",
)


def evaluate(
    original: Annotated[Path, typer.Argument(metavar="ORIGINAL", help="A photo, or a folder of photos.")],
    protected: Annotated[Path, typer.Argument(metavar="PROTECTED", help="Its protected copy, or their folder.")],
    model: o.Models = None,
    target: o.TargetImage = None,
    target_set: o.TargetSet = None,
    target_class: o.TargetClass = None,
    preset: o.Preset = None,
    device: o.Device = None,
    vault: o.Vault = None,
    survival: o.Survival = False,
    as_json: o.Json = False,
    page: o.ReportPage = None,
    redact: o.Redact = False,
    progress_kind: o.ProgressKind = "auto",
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
    yes: o.Yes = False,
) -> None:
    """Compare photos with protected copies: bits that changed, also after JPEG q75, visibility, PSNR, largest change.

    A copy known to the ledger is measured as by protect, in the same views and against the same goal; any other in the
    views of --preset. With --survival, the copies are measured again after what services do to photos (JPEG, WebP,
    smaller sizes, crops and more), and with classical perceptual hashes. If the photos were protected with a target,
    name it; otherwise about half of the bits have to differ from the original's.
    """
    arguments = dict(locals())
    with Report("evaluate", EVALUATE, as_json=as_json, quiet=quiet, verbose=verbose) as report:
        settings = resolve(arguments)
        check_page(page, redact=redact)
        if settings["survival"].value:
            report.layout = SURVIVAL
        ensure_available(settings["model"].value, report, yes=yes)

        from hashshield.pipeline import evaluate as pipeline

        with PhotoProgress(report, kind=checked_kind(progress_kind)) as progress:
            rows = pipeline.evaluate(
                original,
                protected,
                models=settings["model"].value,
                goal=o.goal_of(target, target_set, target_class, None),
                preset=settings["preset"].value,
                survival=settings["survival"].value,
                vault=settings["vault"].value,
                device=settings["device"].value,
                progress=progress,
            )
            report.finish(rows)
            write_page(page, rows, report, progress, redact=redact)
