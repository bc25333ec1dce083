"""Layouts of result rows about photos: columns, details and JSON summaries of protect, verify, evaluate and restore."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from hashshield.cli import survival
from hashshield.cli.summaries import (
    RESTORED,
    STATUSES,
    VERDICTS,
    WRITTEN,
    after_jpeg,
    bits,
    counts,
    evaluate_footer,
    found_by,
    median_psnr,
    median_visibility,
    most_visible,
    number,
    protect_footer,
    protect_took,
    reencoded,
    restore_footer,
    survival_footer,
    verify_footer,
    visible,
    witnessed,
    worst_bits,
)
from hashshield.cli.terminal import Column, Layout

if TYPE_CHECKING:
    from hashshield.types import CodeRow, Evaluation, Outcome, SurvivalRow, Verification, WitnessRow

__all__ = ["EVALUATE", "PROTECT", "RESTORE", "SURVIVAL", "VERIFY"]

_FIRST = 20
"""Number of rows that a terminal always shows, whatever their status."""
_UNREMARKABLE = {"protected", "already", "planned", "skipped", "restored", "exported", "compared"}


def _whole(value: int | None) -> str:
    return "" if value is None else str(value)


_STYLES = {
    **dict.fromkeys(("protected", "restored", "exported"), "green"),
    **dict.fromkeys(("short", "partial", "unknown", "original"), "yellow"),
    **dict.fromkeys(("failed", "not_protected"), "red"),
    **dict.fromkeys(("already", "skipped"), "bright_black"),
}


def _status_style(row: Any) -> str:
    return _STYLES.get(row.status, "")


def _after_jpeg_style(row: Outcome | Evaluation) -> str:
    return {"kept": "green", "lost": "yellow"}.get(after_jpeg(row), "")


def _found_style(row: Outcome) -> str:
    verdicts = [said.finds for said in row.witness if said.finds is not None]
    return "" if not verdicts else "yellow" if any(verdicts) else "green"


def _worth_showing(rows: Sequence[Any]) -> Sequence[Any]:
    """Return the rows that a terminal shows: the first ones, the failures, and the most visible changes."""
    worst = {id(row) for row in most_visible(rows)}
    return [row for i, row in enumerate(rows) if i < _FIRST or row.status not in _UNREMARKABLE or id(row) in worst]


def _measured(name: str, codes: Iterable[CodeRow], survival: Iterable[SurvivalRow] = ()) -> list[str]:
    """Return one line per network, view and transform, for --verbose."""
    lines = [
        f"{name}: {code.model} {code.view}: {code.distance_from_original} of {code.bits} bits from its own code, "
        f"{code.distance_to_goal} from the goal, least margin {code.min_margin:.3f}"
        + (f", {code.class_rank} classes nearer than its own" if code.class_rank is not None else "")
        + (f", cosine {code.cosine:.2f} ({code.cosine_threshold} is a copy)" if code.cosine is not None else "")
        + (f", imported for {code.purpose}" if code.purpose else "")
        for code in codes
    ]
    lines += [
        f"{name}: {kept.model} {kept.view} after {kept.transform}: "
        + (
            f"{kept.distance_from_original} bits from its own code, {kept.distance_to_goal} from the goal, "
            f"{'kept' if kept.passed else 'not kept'}"
            if kept.reason is None
            else kept.reason
        )
        for kept in survival
    ]
    return lines


def _found(said: WitnessRow) -> str:
    if said.finds is None:
        return f"{'unlinked' if said.unlinked else 'still linked'}; no verdict, its checkpoint has no reference codes"
    verdict = "still found" if said.finds else "no longer found"
    return f"{verdict}: the nearest of its reference codes is {said.nearest_reference} bits away"


def _written_details(row: Outcome) -> list[str]:
    quality = f"visibility {visible(row)}, PSNR {number(row.psnr_db, '.2f')} dB, SSIM {number(row.ssim, '.5f')}"
    levels = f"largest change {row.linf_levels} levels meant and {row.linf_levels_written} written"
    lines_of_row = [f"{row.path}: {row.method}, tau {row.tau}: {quality}, {levels}"]
    lines = (lines_of_row if row.codes else []) + _measured(row.path, row.codes, row.survival)
    lines += [
        f"{row.path}: for {row.place_name}: {said.model} {said.view}: {said.distance} of {said.bits} bits from the "
        "nearest code of another place"
        for said in row.places
    ]
    lines += [
        f"{row.path}: {said.model}, never searched on: {said.distance_from_original} of {said.bits} bits from its own "
        f"code, {_found(said)}"
        for said in row.witness
    ]
    lines += [f"{row.path}: no witness: {row.no_witness}"] if row.no_witness is not None and row.codes else []
    return lines


def _protect_summary(rows: Sequence[Outcome]) -> dict[str, Any]:
    """Return the summary; its measurements cover the photos that were written."""
    written = [row for row in rows if row.status in WRITTEN]
    from_original = [row.distance_from_original for row in written if row.distance_from_original is not None]
    to_goal = [row.distance_to_goal for row in written if row.distance_to_goal is not None]
    transform, passed, measured = reencoded(written)
    return {
        "counts": counts(rows, STATUSES),
        "median_visibility": median_visibility(written),
        "highest_visibility": max((row.visibility for row in written if row.visibility is not None), default=None),
        "median_psnr_db": median_psnr(written),
        "least_distance_from_original": min(from_original, default=None),
        "worst_distance_to_goal": max(to_goal, default=None),
        "planned_seconds": sum(row.seconds or 0 for row in rows if row.status == "planned") or None,
        "witness": witnessed(written),
        "after_reencoding": {"transform": transform, "passed": passed, "measured": measured},
        "survival": survival.summary(written),
    }


def _verify_details(row: Verification) -> list[str]:
    codes = [f"{row.path}: {model} {code}" for model, code in row.hex_codes.items()]
    return _measured(row.path, row.codes) + codes


_BITS_LEGEND = "unrelated photos differ in about half"
_FOUND_LEGEND = "how many networks that were not searched on still find it"
_JPEG_LEGEND = "still so when saved as JPEG q75"
_VISIBLE_LEGEND = "of its change at 100%: below 0.35 none, to 0.9 faint, to 2 some"
_STATUS = Column("Status", lambda row: row.status.replace("_", " "), style=_status_style)
_AFTER_JPEG = Column("After JPEG", after_jpeg, style=_after_jpeg_style, legend=_JPEG_LEGEND)
_VISIBLE = Column("Visible", visible, right=True, legend=_VISIBLE_LEGEND)
_PSNR = Column("PSNR dB", lambda row: number(row.psnr_db), right=True, is_detail=True)

PROTECT = Layout(
    columns=(
        Column("File", lambda row: row.path, is_name=True),
        _STATUS,
        Column("Bits changed", lambda row: bits(row.distance_from_original, row.bits), right=True, legend=_BITS_LEGEND),
        _AFTER_JPEG,
        Column("Found by others", found_by, style=_found_style, legend=_FOUND_LEGEND),
        _VISIBLE,
        _PSNR,
        Column("To goal", lambda row: _whole(row.distance_to_goal), right=True, is_detail=True),
        # A refused photo took no steps; a zero would look like a measurement.
        Column("Steps", lambda row: _whole(row.steps or None), right=True, is_detail=True),
    ),
    visible=_worth_showing,
    footer=protect_footer,
    took=protect_took,
    details=_written_details,
    summary=_protect_summary,
    resume="every file is either untouched or complete; run the same command again, it passes over what is done",
)

VERIFY = Layout(
    columns=(
        Column("File", lambda row: row.path, is_name=True),
        _STATUS,
        Column(
            "Bits changed",
            lambda row: worst_bits(row) or _whole(row.distance_from_original),
            right=True,
            legend=_BITS_LEGEND,
        ),
        Column("Known from", lambda row: row.source or "", is_detail=True),
        Column("Goal", lambda row: row.goal or "", is_detail=True),
        Column("To goal", lambda row: _whole(row.distance_to_goal), right=True, is_detail=True),
    ),
    visible=_worth_showing,
    footer=verify_footer,
    details=_verify_details,
    summary=lambda rows: {"counts": counts(rows, VERDICTS)},
)

EVALUATE = Layout(
    columns=(
        Column("Original", lambda row: row.original, is_name=True),
        Column("Protected", lambda row: row.protected, is_name=True),
        _STATUS._replace(is_detail=True),
        Column("Bits changed", worst_bits, right=True, legend=_BITS_LEGEND),
        _AFTER_JPEG,
        _VISIBLE,
        _PSNR,
        Column("SSIM", lambda row: number(row.ssim, ".4f"), right=True, is_detail=True),
        Column(
            "Largest change",
            lambda row: _whole(row.linf_levels),
            right=True,
            is_detail=True,
            legend="in levels of 255; encoding as JPEG adds to what --tau allows",
        ),
        Column(
            "Pixels changed",
            lambda row: "" if row.changed_pixels is None else f"{row.changed_pixels:.0%}",
            right=True,
            is_detail=True,
        ),
    ),
    visible=_worth_showing,
    footer=evaluate_footer,
    details=lambda row: _measured(row.protected, row.codes, row.survival),
    summary=lambda rows: {
        "counts": counts(rows, ("compared", "failed")),
        "median_visibility": median_visibility(rows),
        "median_psnr_db": median_psnr(rows),
        "survival": survival.summary(rows),
    },
)

SURVIVAL = EVALUATE._replace(
    columns=survival.COLUMNS, expand=survival.lines, visible=lambda lines: lines, footer=survival_footer
)
"""The layout of `evaluate --survival`: one line per transform and network."""

RESTORE = Layout(
    columns=(Column("File", lambda row: row.path, is_name=True), _STATUS),
    visible=_worth_showing,
    footer=restore_footer,
    summary=lambda rows: {"counts": counts(rows, RESTORED)},
)
