"""Layouts of the rows about photos: protect, verify, evaluate, restore."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

from hashshield.cli import survival
from hashshield.cli.output import Column, Layout
from hashshield.cli.terminal import count

if TYPE_CHECKING:
    from hashshield.types import CodeRow, Evaluation, Outcome, Restoration, SurvivalRow, Verification

__all__ = ["EVALUATE", "PROTECT", "RESTORE", "SURVIVAL", "VERIFY"]

_FIRST = 20
"""Rows of a folder that a terminal shows whatever their status."""
_STATUSES = ("protected", "already", "planned", "skipped", "short", "partial", "failed")
_WRITTEN = ("protected", "partial")
_REENCODING = "jpeg q75"
"""The transform in every receipt; spelled out, since what an interruption prints must not import torch.

An import of torch that was cut short cannot be tried again.
"""
_VERDICTS = ("protected", "not_protected", "unknown", "skipped", "failed")
_RESTORED = ("restored", "exported", "planned", "skipped", "failed")
_UNREMARKABLE = {"protected", "already", "planned", "skipped", "restored", "exported", "compared"}


def _number(value: float | None, form: str = ".1f") -> str:
    if value is None:
        return ""
    return "identical" if math.isinf(value) else format(value, form)


def _whole(value: int | None) -> str:
    return "" if value is None else str(value)


def _of(value: int | None, bits: int | None) -> str:
    return "" if value is None else f"{value}/{bits}" if bits else str(value)


def _worst_bits(row: Verification | Evaluation) -> str:
    """Return the smallest distance from the original over networks and views, as bits of the code length."""
    worst = min(row.codes, key=lambda code: code.distance_from_original / code.bits, default=None)
    return _of(worst.distance_from_original, worst.bits) if worst else ""


def _first_and_remarkable(rows: Sequence[Any]) -> Sequence[Any]:
    return [row for i, row in enumerate(rows) if i < _FIRST or row.status not in _UNREMARKABLE]


def _counts(rows: Iterable[Any], statuses: tuple[str, ...]) -> dict[str, int]:
    found = [row.status for row in rows]
    return {status: found.count(status) for status in statuses}


def _median_psnr(rows: Iterable[Outcome | Evaluation]) -> float | None:
    from statistics import median

    values = [row.psnr_db for row in rows if row.psnr_db is not None]
    return median(values) if values else None


def _reencoded(written: Iterable[Outcome]) -> tuple[str, int, int]:
    """Return the transform in every receipt, how many written photos keep their goal after it, and of how many."""
    measured = [[row.passed for row in outcome.survival if row.transform == _REENCODING] for outcome in written]
    return _REENCODING, sum(all(passed) for passed in measured if passed), sum(1 for passed in measured if passed)


def _measured(name: str, codes: Iterable[CodeRow], survival: Iterable[SurvivalRow] = ()) -> list[str]:
    """Return one line per network, view and transform, for --verbose."""
    lines = [
        f"{name}: {code.model} {code.view}: {code.distance_from_original} of {code.bits} bits from its own code, "
        f"{code.distance_to_goal} from the goal, least margin {code.min_margin:.3f}"
        + (f", {code.class_rank} classes nearer than its own" if code.class_rank is not None else "")
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


def _written_details(row: Outcome) -> list[str]:
    quality = f"PSNR {_number(row.psnr_db, '.2f')} dB, SSIM {_number(row.ssim, '.5f')}"
    levels = f"largest change {row.linf_levels} levels meant and {row.linf_levels_written} written"
    lines_of_row = [f"{row.path}: {row.method}, tau {row.tau}: {quality}, {levels}"]
    lines = (lines_of_row if row.codes else []) + _measured(row.path, row.codes, row.survival)
    lines += [
        f"{row.path}: {said.model}, never searched on: {said.distance_from_original} of {said.bits} bits from its own "
        f"code, {'unlinked' if said.unlinked else 'still linked'}"
        for said in row.witness
    ]
    return lines


def _protect_summary(rows: Sequence[Outcome]) -> dict[str, Any]:
    """Return the summary; its measurements cover the photos that were written."""
    written = [row for row in rows if row.status in _WRITTEN]
    from_original = [row.distance_from_original for row in written if row.distance_from_original is not None]
    to_goal = [row.distance_to_goal for row in written if row.distance_to_goal is not None]
    transform, passed, measured = _reencoded(written)
    return {
        "counts": _counts(rows, _STATUSES),
        "median_psnr_db": _median_psnr(written),
        "least_distance_from_original": min(from_original, default=None),
        "worst_distance_to_goal": max(to_goal, default=None),
        "planned_seconds": sum(row.seconds or 0 for row in rows if row.status == "planned") or None,
        "witness": _witnessed(written),
        "after_reencoding": {"transform": transform, "passed": passed, "measured": measured},
        "survival": survival.summary(written),
    }


def _witnessed(written: Iterable[Outcome]) -> list[dict[str, Any]]:
    """Return for each witness how many photos it no longer links, of how many, and the median distance in bits."""
    from statistics import median

    rows = [row for outcome in written for row in outcome.witness]
    found = []
    for model in sorted({row.model for row in rows}):
        mine = [row for row in rows if row.model == model]
        distance = median(row.distance_from_original for row in mine)
        unlinked = sum(row.unlinked for row in mine)
        found.append(
            {"model": model, "bits": mine[0].bits, "unlinked": unlinked, "of": len(mine), "median_distance": distance}
        )
    return found


def _protect_footer(rows: Sequence[Outcome]) -> list[str]:
    """Return the verdicts in plain words."""
    if not rows:
        return ["No photos were found; nothing was changed."]
    counts = {status: number for status, number in _counts(rows, _STATUSES).items() if number}
    written = [row for row in rows if row.status in _WRITTEN]
    photos = len(rows) - counts.get("skipped", 0)
    if counts.get("already") == photos:
        skipped = f" {counts['skipped']} skipped." if counts.get("skipped") else ""
        return [f"Nothing to do: {count(photos, 'photo')} protected already.{skipped}"]
    rest = [f"{number} {status}" for status, number in counts.items() if status not in ("protected", "planned")]
    tail = f" {', '.join(rest).capitalize()}." if rest else ""
    if counts.get("planned"):
        return [f"Would protect {count(counts['planned'], 'photo')}; nothing was written.{tail}"]
    lines = [f"Protected {counts.get('protected', 0)} of {count(photos, 'photo')}{_visibly(written)}.{tail}"]
    if not written:
        return lines
    goals = {row.goal for row in written}
    unlinked = goals <= {"away", "opposite", None}
    met = "unlinked from their originals" if unlinked else "at their goal"
    models = sorted({code.model for row in written for code in row.codes} or {row.model or "" for row in written})
    used = f"Networks used in the search ({', '.join(models)}): {counts.get('protected', 0)} of {len(written)} {met}"
    _, passed, measured = _reencoded(written)
    after_jpeg = f"; after re-encoding as JPEG q75, {passed} of {measured} still are" if measured else ""
    lines.append(f"{used}{after_jpeg}.")
    if not any(row.witness for row in written):
        lines.append("A network never used in the search: none was asked; see --witness.")
    for said in _witnessed(written):
        lines.append(
            f"A network never used in the search ({said['model']}): {said['unlinked']} of {said['of']} unlinked; "
            f"median distance {said['median_distance']:g} of {said['bits']} bits."
        )
    if any(row.perceptual for row in written):
        lines.append(f"Kept after what services do: {survival.in_words(written)}.")
        lines += survival.still_matching(written)
    lines.append("No service is known to run these networks; another network may still match these photos.")
    return lines + _left_in_files(written)


def _visibly(written: Sequence[Outcome]) -> str:
    """Return how visible the changes are, with the most changed photo; empty if nothing was measured."""
    psnr = _median_psnr(written)
    if psnr is None:
        return ""
    quality = f"; median PSNR {_number(psnr)} dB (higher is less visible)"
    most = min((row for row in written if row.psnr_db is not None), key=lambda row: row.psnr_db or 0.0)
    return f"{quality}, the most changed is {most.path}, {_number(most.psnr_db)} dB" if len(written) > 1 else quality


def _left_in_files(written: Sequence[Outcome]) -> list[str]:
    """Return sentences on unprotected copies and personal data that the files still hold."""
    lines = []
    if copies := [row.unprotected_copies for row in written if row.unprotected_copies]:
        kinds = ", ".join(sorted(set(chain.from_iterable(copies))))
        lines.append(f"Files that still hold unprotected copies ({kinds}): {len(copies)}; see --strip-copies.")
    if links := [row.links_to_owner for row in written if row.links_to_owner]:
        kinds = ", ".join(sorted(set(chain.from_iterable(links))))
        lines.append(
            f"Files that keep what can name you ({kinds}): {len(links)}; see --strip-gps and --strip-metadata."
        )
    return lines


def _verify_footer(rows: Sequence[Verification]) -> list[str]:
    counts = {status: number for status, number in _counts(rows, _VERDICTS).items() if number}
    if not counts:
        return ["No photos were found."]
    lines = [", ".join(f"{number} {status.replace('_', ' ')}" for status, number in counts.items()) + "."]
    unknown = [row for row in rows if row.status == "unknown"]
    for row in unknown[:_FIRST]:
        lines += [f"{row.path}: {model} {code}" for model, code in row.hex_codes.items()]
    if len(unknown) > _FIRST:
        lines.append(f"... and {len(unknown) - _FIRST} more; --json has all codes.")
    return lines


def _evaluate_footer(rows: Sequence[Evaluation]) -> list[str]:
    return [
        f"{row.protected}: {code.model} {code.view}: {code.distance_from_original} of {code.bits} bits differ"
        for row in rows[:_FIRST]
        for code in row.codes
    ]


def _survival_footer(rows: Sequence[Evaluation]) -> list[str]:
    """Return the sentences for which the table of transforms has no column."""
    measured = [row for row in rows if row.psnr_db is not None]
    pixels = [
        f"{row.protected}: PSNR {_number(row.psnr_db)} dB, SSIM {_number(row.ssim, '.4f')}, largest change "
        f"{row.linf_levels} levels"
        for row in measured[:_FIRST]
    ]
    return _evaluate_footer(rows) + pixels + survival.still_matching(rows)


def _restore_footer(rows: Sequence[Restoration]) -> list[str]:
    counts = _counts(rows, _RESTORED)
    return (
        [", ".join(f"{number} {status}" for status, number in counts.items() if number) + "."]
        if rows
        else ["Nothing was kept for these."]
    )


PROTECT = Layout(
    columns=(
        Column("File", lambda row: row.path),
        Column("Status", lambda row: row.status),
        Column("From own", lambda row: _of(row.distance_from_original, row.bits), right=True),
        Column("To goal", lambda row: _whole(row.distance_to_goal), right=True),
        Column("PSNR dB", lambda row: _number(row.psnr_db), right=True),
        # A photo that was refused took no steps; zeros beside it would read as a measurement.
        Column("Steps", lambda row: _whole(row.steps or None), right=True),
        Column("Seconds", lambda row: _number(row.seconds or None), right=True),
    ),
    visible=_first_and_remarkable,
    footer=_protect_footer,
    details=_written_details,
    summary=_protect_summary,
    resume="every file is either untouched or complete; run the same command again, it passes over what is done",
)

VERIFY = Layout(
    columns=(
        Column("File", lambda row: row.path),
        Column("Status", lambda row: row.status.replace("_", " ")),
        Column("Known from", lambda row: row.source or ""),
        Column("Goal", lambda row: row.goal or ""),
        Column("From own", lambda row: _worst_bits(row) or _whole(row.distance_from_original), right=True),
        Column("To goal", lambda row: _whole(row.distance_to_goal), right=True),
    ),
    visible=_first_and_remarkable,
    footer=_verify_footer,
    details=lambda row: _measured(row.path, row.codes),
    summary=lambda rows: {"counts": _counts(rows, _VERDICTS)},
)

EVALUATE = Layout(
    columns=(
        Column("Original", lambda row: row.original),
        Column("Protected", lambda row: row.protected),
        Column("Status", lambda row: row.status),
        Column("Bits", _worst_bits, right=True),
        Column("PSNR dB", lambda row: _number(row.psnr_db), right=True),
        Column("SSIM", lambda row: _number(row.ssim, ".4f"), right=True),
        Column("Levels", lambda row: _whole(row.linf_levels), right=True),
        Column("Changed", lambda row: "" if row.changed_pixels is None else f"{row.changed_pixels:.0%}", right=True),
    ),
    visible=_first_and_remarkable,
    footer=_evaluate_footer,
    details=lambda row: _measured(row.protected, row.codes, row.survival),
    summary=lambda rows: {
        "counts": _counts(rows, ("compared", "failed")),
        "median_psnr_db": _median_psnr(rows),
        "survival": survival.summary(rows),
    },
)

SURVIVAL = EVALUATE._replace(
    columns=survival.COLUMNS, expand=survival.lines, visible=lambda lines: lines, footer=_survival_footer
)
"""`evaluate --survival`: its lines are transforms."""

RESTORE = Layout(
    columns=(Column("File", lambda row: row.path), Column("Status", lambda row: row.status)),
    visible=_first_and_remarkable,
    footer=_restore_footer,
    summary=lambda rows: {"counts": _counts(rows, _RESTORED)},
)
