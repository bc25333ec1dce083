"""`hashshield audit`: search a folder with a photo before and after protection, or for copies of photos."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hashshield.cli import options as o
from hashshield.cli.commands import examples
from hashshield.cli.output import Report
from hashshield.cli.progress import PhotoProgress
from hashshield.cli.prompts import ensure_available
from hashshield.cli.terminal import Column, Layout, count
from hashshield.config import Settings, resolve
from hashshield.errors import UsageError

if TYPE_CHECKING:
    from hashshield.pipeline.rows import Audit, CopyPair

__all__ = ["AUDIT", "COPIES", "EXAMPLES", "audit"]

EXAMPLES = examples(
    "hashshield audit photos/a.jpg --gallery photos/            # its original is in the vault",
    "hashshield audit out/a.jpg --original a.jpg --gallery photos/",
    "hashshield audit photos/a.jpg --gallery photos/ --sheet found.jpg",
    "hashshield audit photos/ --gallery saved/ --copies --sheet pairs.jpg",
)
_COPY_DETECTOR = "copies"
"""The network that --copies needs; see `pipeline.find_copies`."""


def _neighbours(rows: Sequence[Audit]) -> list[tuple[Audit, Any]]:
    """Return one line for each photo found by a search with the original."""
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
            *_copies(row),
        ]
    return lines


def _copies(row: Audit) -> list[str]:
    """Return a sentence for each other copy of the photo, on whether the two find each other."""
    said = []
    for copy in row.copies:
        named = f"Its copy {copy.path}" + (f" for {copy.place_name}" if copy.place_name else "")
        if copy.reason is not None:
            said.append(f"{named} was not compared: {copy.reason}.")
            continue
        verdict = "the two find each other" if copy.matches else "the two do not find each other"
        said.append(
            f"{named}: {copy.distance} of {row.bits} bits away, at rank {copy.rank:,} of {(row.gallery or 0) + 1:,}; "
            f"{verdict}."
        )
    return said


def _matching(row: Audit) -> bool:
    return row.distance is not None and row.threshold is not None and row.distance <= row.threshold


AUDIT = Layout(
    columns=(
        Column("Network", lambda line: line[0].model),
        Column("Nearest to the original", lambda line: line[1].path, is_name=True),
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


def _pairs(rows: Sequence[CopyPair]) -> Sequence[CopyPair]:
    return [row for row in rows if row.status == "copy"]


def _semantic(row: CopyPair) -> str:
    """Return the distances by networks with semantic codes, each marked `same` if it is a match."""
    return ", ".join(f"{each.distance} of {each.bits}{' same' if each.match else ''}" for each in row.semantic)


def _pdq(row: CopyPair) -> str:
    if row.pdq_distance is None:
        return ""
    return f"{row.pdq_distance} of 256{' same' if row.pdq_match else ''}"


def _copies_footer(rows: Sequence[CopyPair]) -> list[str]:
    pairs = _pairs(rows)
    if not pairs:
        return ["No copy was found."]
    first = pairs[0]
    known = sum(bool(row.pdq_match) for row in pairs)
    rule = f"at a distance of {first.within} bits or less"
    if first.cosine_threshold is not None:
        rule = f"from a cosine of {first.cosine_threshold} on, which one pair of unrelated photos in a thousand reaches"
    if first.pdq_within is not None:
        by_pdq = sum((row.cosine or 0.0) < (row.cosine_threshold or 0.0) for row in pairs)
        rule += f", or by PDQ within {first.pdq_within} of 256 bits ({by_pdq} by PDQ alone)"
    lines = [f"{count(len(pairs), 'pair')} of copies by {first.model}, {rule}: check each by eye."]
    if all(row.pdq_distance is None for row in pairs):
        lines.append("PDQ was not measured: `pipx inject hashshield pdqhash` adds it.")
    else:
        lines.append(f"PDQ counts {known} of them as copies at 31 bits, the first threshold its publisher recommends.")
    for place, each in enumerate(first.semantic):
        taken = sum(row.semantic[place].match for row in pairs)
        lines.append(f"{each.model}, a semantic code, takes {taken} of them for the same, and look-alikes too.")
    return lines


COPIES = Layout(
    columns=(
        Column("Photo", lambda row: row.path, is_name=True),
        Column("Copy", lambda row: row.copy, is_name=True),
        Column("Cosine", lambda row: f"{row.cosine:.2f}", right=True),
        Column("Bits", lambda row: f"{row.distance} of {row.bits}", right=True),
        Column("PDQ", _pdq, right=True),
        Column("Semantic", _semantic, right=True),
    ),
    expand=_pairs,
    footer=_copies_footer,
    summary=lambda rows: {
        "counts": {status: sum(row.status == status for row in rows) for status in ("copy", "skipped", "failed")}
    },
    resume="nothing was changed; run the same command again",
)


# Over 60 lines, because Typer reads one parameter for each option.
def audit(
    photo: Annotated[
        Path, typer.Argument(metavar="PATH", readable=False, help="A protected photo; with --copies, or a folder.")
    ],
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
            help="Largest distance in bits of a match; otherwise an eighth, with --copies what the card says.",
            rich_help_panel=o.SEARCH,
        ),
    ] = None,
    device: o.Device = None,
    vault: o.Vault = None,
    exclude: o.Exclude = None,
    copies: Annotated[
        bool, o.switch("--copies", text="Find copies of the photos instead: cropped, framed, ...", panel=o.AIM)
    ] = False,
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

    With --copies the folder is searched for copies of photos, protected or not: cropped, mirrored, filtered, in a
    frame, in a screenshot. Give the same folder twice to find copies among its own photos.
    """
    arguments = dict(locals())
    with Report("audit", COPIES if copies else AUDIT, as_json=as_json, quiet=quiet) as report:
        settings = resolve(arguments)
        wanted = settings["model"].value
        if copies and original is not None:
            raise UsageError("--original is for a protected photo; leave it out with --copies, or name it as PATH")
        ensure_available([*wanted, _COPY_DETECTOR] if copies else wanted, report, yes=yes)
        if copies:
            report.finish(_found_copies(report, photo, gallery, settings, top, threshold, sheet))
            return

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


def _found_copies(
    report: Report,
    photo: Path,
    gallery: Path,
    settings: Settings,
    top: int,
    threshold: int | None,
    sheet: Path | None,
) -> list[CopyPair]:
    from hashshield.pipeline.find_copies import find_copies

    with PhotoProgress(report) as progress:
        return find_copies(
            photo,
            gallery,
            models=settings["model"].value,
            top=top,
            threshold=threshold,
            sheet=sheet,
            vault=settings["vault"].value,
            device=settings["device"].value,
            exclude=settings["exclude"].value,
            progress=progress,
            found=report.finish,
        )
