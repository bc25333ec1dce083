"""`hashshield evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hashshield.cli import options as o
from hashshield.cli.layouts import EVALUATE, SURVIVAL
from hashshield.cli.output import Report, check_page, write_page
from hashshield.cli.progress import PhotoProgress
from hashshield.cli.prompts import ensure_available
from hashshield.config import resolve

__all__ = ["EXAMPLES", "evaluate"]

EXAMPLES = o.examples(
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
    device: o.Device = None,
    survival: o.Survival = False,
    as_json: o.Json = False,
    page: o.ReportPage = None,
    redact: o.Redact = False,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
    yes: o.Yes = False,
) -> None:
    """Compare photos with their protected copies: PSNR, SSIM, largest change, Hamming distances.

    With --survival, the protected copies are measured again after what services do to photos (JPEG, WebP, smaller
    sizes, crops and more), and with classical perceptual hashes. If the photos were protected with a target, name it;
    otherwise about half of the bits have to differ from the original's.
    """
    arguments = dict(locals())
    with Report("evaluate", EVALUATE, as_json=as_json, quiet=quiet, verbose=verbose) as report:
        settings = resolve(arguments)
        check_page(page, redact=redact)
        if settings["survival"].value:
            report.layout = SURVIVAL
        ensure_available(settings["model"].value, report, yes=yes)

        from hashshield.pipeline import evaluate as pipeline

        with PhotoProgress(report) as progress:
            rows = pipeline.evaluate(
                original,
                protected,
                models=settings["model"].value,
                goal=o.goal_of(target, target_set, target_class, None),
                survival=settings["survival"].value,
                device=settings["device"].value,
                progress=progress,
            )
            report.finish(rows)
            write_page(page, rows, report, progress, redact=redact)
