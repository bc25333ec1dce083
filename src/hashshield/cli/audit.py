"""`hashshield audit`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hashshield.cli import options as o
from hashshield.cli.output import Column, Layout, Report
from hashshield.cli.progress import PhotoProgress
from hashshield.cli.prompts import ensure_available
from hashshield.cli.terminal import count
from hashshield.config import resolve

if TYPE_CHECKING:
    from hashshield.types import Audit

__all__ = ["AUDIT", "EXAMPLES", "audit"]

EXAMPLES = o.examples(
    "hashshield audit photos/a.jpg --gallery photos/            # its original is in the vault",
    "hashshield audit out/a.jpg --original a.jpg --gallery photos/",
    "hashshield audit photos/a.jpg --gallery photos/ --sheet found.jpg",
)


def _neighbours(rows: Sequence[Audit]) -> list[tuple[Audit, Any]]:
    """Return one line for each photo that a search with the original shows."""
    return [(row, neighbour) for row in rows for neighbour in row.nearest_before]


def _footer(rows: Sequence[Audit]) -> list[str]:
    lines = []
    for row in rows:
        if row.status != "audited":
            continue
        of, top = f"of {(row.gallery or 0) + 1:,}", len(row.nearest_before)
        lines += [
            f"{row.model}, {count(row.gallery or 0, 'photo')} to search among; original and protected photo differ in "
            f"{row.distance} of {row.bits} bits.",
            f"A search with the protected photo finds the original at rank {row.original_rank:,} {of}; a search with "
            f"the original finds the protected photo at rank {row.protected_rank:,} {of}.",
            f"Of the {top} nearest to the original, {row.shared} are among the {top} nearest to the protected photo.",
            f"Within {row.threshold} bits: {row.within_before} photos of the original, {row.within_after} of the "
            f"protected photo, and the two {'match' if _matching(row) else 'do not match'} each other.",
        ]
    return lines


def _matching(row: Audit) -> bool:
    return row.distance is not None and row.threshold is not None and row.distance <= row.threshold


AUDIT = Layout(
    columns=(
        Column("Network", lambda line: line[0].model),
        Column("Nearest to the original", lambda line: line[1].path),
        Column("Bits", lambda line: str(line[1].distance_before), right=True),
        Column("Rank", lambda line: str(line[1].rank_before), right=True),
        Column("Bits after", lambda line: str(line[1].distance_after), right=True),
        Column("Rank after", lambda line: str(line[1].rank_after), right=True),
    ),
    expand=_neighbours,
    footer=_footer,
    summary=lambda rows: {
        "counts": {
            status: sum(row.status == status for row in rows) for status in ("audited", "unknown", "skipped", "failed")
        }
    },
    resume="nothing was changed; run the same command again",
)


# Over 60 lines, because Typer reads one parameter for each option.
def audit(
    photo: Annotated[Path, typer.Argument(metavar="PATH", readable=False, help="A protected photo.")],
    gallery: Annotated[
        Path,
        typer.Option("--gallery", metavar="DIR", help="Folder of photos to search among.", rich_help_panel=o.AIM),
    ],
    original: Annotated[
        Path | None,
        typer.Option("--original", metavar="FILE", help="The original; otherwise the vault's.", rich_help_panel=o.AIM),
    ] = None,
    model: o.Models = None,
    top: Annotated[
        int,
        typer.Option(
            "--top", metavar="N", min=1, help="Number of photos that a search shows.", rich_help_panel=o.SEARCH
        ),
    ] = 10,
    threshold: Annotated[
        int | None,
        typer.Option(
            "--threshold",
            metavar="N",
            min=0,
            help="Largest distance in bits of a match; otherwise an eighth of the code.",
            rich_help_panel=o.SEARCH,
        ),
    ] = None,
    device: o.Device = None,
    vault: o.Vault = None,
    exclude: o.Exclude = None,
    sheet: Annotated[
        Path | None,
        typer.Option(
            "--sheet", metavar="FILE", help="Write a picture of both searches: .jpg or .png.", rich_help_panel=o.REPORT
        ),
    ] = None,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
    yes: o.Yes = False,
) -> None:
    """Search a folder as a service would, with a photo before and after protection.

    The photos of the folder are hashed and ranked by their distance in bits. The report says at which rank original and
    protected photo find each other, and at which rank the original's nearest neighbours are afterwards. A rank counts
    only photos that are strictly nearer, so ties favour the service.
    """
    arguments = dict(locals())
    with Report("audit", AUDIT, as_json=as_json, quiet=quiet) as report:
        settings = resolve(arguments)
        ensure_available(settings["model"].value, report, yes=yes)

        from hashshield.pipeline import audit as pipeline

        with PhotoProgress(report) as progress:
            report.finish(
                pipeline.audit(
                    photo,
                    gallery,
                    models=settings["model"].value,
                    original=original,
                    top=top,
                    threshold=threshold,
                    sheet=sheet,
                    vault=settings["vault"].value,
                    device=settings["device"].value,
                    exclude=settings["exclude"].value,
                    progress=progress,
                    found=report.finish,
                )
            )
