"""Summaries of the rows of protect, verify, evaluate and restore: figures for tables, and the sentences below them.

The sentences say what was done, what it means, and what to do next, usually in at most three lines.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import chain
from statistics import median
from typing import TYPE_CHECKING, Any

from hashshield.cli import survival
from hashshield.cli.terminal import count, duration

if TYPE_CHECKING:
    from hashshield.types import Evaluation, Outcome, Restoration, Verification

__all__ = [
    "RESTORED",
    "STATUSES",
    "VERDICTS",
    "WRITTEN",
    "after_jpeg",
    "bits",
    "counts",
    "evaluate_footer",
    "feature_cosines",
    "found_by",
    "median_psnr",
    "median_visibility",
    "most_visible",
    "number",
    "protect_footer",
    "protect_took",
    "reencoded",
    "restore_footer",
    "survival_footer",
    "verify_footer",
    "visible",
    "witnessed",
    "worst_bits",
]


STATUSES = ("protected", "already", "planned", "skipped", "short", "partial", "failed")
WRITTEN = ("protected", "partial")
VERDICTS = ("protected", "not_protected", "original", "unknown", "skipped", "failed")
RESTORED = ("restored", "exported", "planned", "skipped", "failed")
_REENCODING = "jpeg q75"
"""The transform in every receipt. Repeated here, because the report after an interruption must not import torch.

An interrupted import of torch cannot be repeated.
"""
_WORST = 3
"""Number of photos with the most visible changes that a terminal always shows."""


def number(value: float | None, form: str = ".1f") -> str:
    """Return a measurement as text: "" for None, `identical` for the infinite PSNR of equal pictures."""
    if value is None:
        return ""
    return "identical" if math.isinf(value) else format(value, form)


def bits(changed: int | None, bits: int | None) -> str:
    """Return how many bits of a code changed: `24 of 48`."""
    return "" if changed is None else f"{changed} of {bits}" if bits else str(changed)


def worst_bits(row: Verification | Evaluation) -> str:
    """Return the smallest distance from the original over all networks and views: `24 of 48`."""
    worst = min(row.codes, key=lambda code: code.distance_from_original / code.bits, default=None)
    return bits(worst.distance_from_original, worst.bits) if worst else ""


def after_jpeg(row: Outcome | Evaluation) -> str:
    """Return `kept` if the goal is still met after JPEG q75, `lost` if not, "" if it was not measured."""
    passed = [kept.passed for kept in row.survival if kept.transform == _REENCODING and kept.passed is not None]
    return ("kept" if all(passed) else "lost") if passed else ""


def most_visible(rows: Iterable[Any]) -> list[Any]:
    """Return the three rows with the most visible changes, the most visible first."""
    measured = [row for row in rows if getattr(row, "visibility", None) is not None]
    return sorted(measured, key=lambda row: -row.visibility)[:_WORST]


def visible(row: Outcome | Evaluation) -> str:
    """Return how visible the change is: `0.62 faint`."""
    return "" if row.visibility is None else f"{row.visibility:.2f} {row.visibility_word}"


def median_visibility(rows: Iterable[Outcome | Evaluation]) -> float | None:
    """Return the median visibility of the rows that have one, or None."""
    from statistics import median

    values = [row.visibility for row in rows if row.visibility is not None]
    return median(values) if values else None


def counts(rows: Iterable[Any], statuses: tuple[str, ...]) -> dict[str, int]:
    """Return how many rows have each of the statuses, in their order."""
    found = [row.status for row in rows]
    return {status: found.count(status) for status in statuses}


def median_psnr(rows: Iterable[Outcome | Evaluation]) -> float | None:
    """Return the median PSNR in dB of the rows that have one, or None."""
    from statistics import median

    values = [row.psnr_db for row in rows if row.psnr_db is not None]
    return median(values) if values else None


def reencoded(written: Iterable[Outcome]) -> tuple[str, int, int]:
    """Return the name of JPEG q75, the number of written photos that meet their goal after it, and those measured."""
    measured = [[row.passed for row in outcome.survival if row.transform == _REENCODING] for outcome in written]
    return _REENCODING, sum(all(passed) for passed in measured if passed), sum(1 for passed in measured if passed)


def witnessed(written: Iterable[Outcome]) -> list[dict[str, Any]]:
    """Return for each witness the median distance in bits, and how many photos it no longer links and still finds.

    `unlinked` is a share of the photos in `of`. `finds` counts those no further from their originals than the nearest
    reference code, out of `judged`.
    """
    from statistics import median

    rows = [row for outcome in written for row in outcome.witness]
    found = []
    for model in sorted({row.model for row in rows}):
        mine = [row for row in rows if row.model == model]
        distance = median(row.distance_from_original for row in mine)
        verdicts = [row.finds for row in mine if row.finds is not None]
        found.append(
            {
                "model": model,
                "bits": mine[0].bits,
                "unlinked": sum(row.unlinked for row in mine),
                "of": len(mine),
                "median_distance": distance,
                "finds": sum(verdicts),
                "judged": len(verdicts),
            }
        )
    return found


def feature_cosines(rows: Iterable[Outcome]) -> dict[str, float]:
    """Return for each surrogate the median cosine similarity of its features to the originals'; 1 is unmoved."""
    found: dict[str, list[float]] = {}
    for row in rows:
        for moved in row.surrogates:
            found.setdefault(moved.model, []).append(moved.cosine)
    return {model: median(cosines) for model, cosines in found.items()}


def found_by(row: Outcome) -> str:
    """Return how many witnesses still find a written photo: `1 of 2`, or `no witness`."""
    verdicts = [said.finds for said in row.witness if said.finds is not None]
    if verdicts:
        return f"{sum(verdicts)} of {len(verdicts)}"
    return "no witness" if row.no_witness is not None and row.status in WRITTEN else ""


_FIRST = 20
"""Most photos that get a sentence each."""


def protect_footer(rows: Sequence[Outcome]) -> list[str]:
    """Return the sentences below the table: what was done, what it means, and its limits."""
    if not rows:
        return ["No photos were found; nothing was changed."]
    found = {status: times for status, times in counts(rows, STATUSES).items() if times}
    written = [row for row in rows if row.status in WRITTEN]
    photos = len(rows) - found.get("skipped", 0)
    if found.get("already") == photos:
        skipped = f" {found['skipped']} skipped." if found.get("skipped") else ""
        return [f"Nothing to do: {count(photos, 'photo')} protected already.{skipped}"]
    others = [f"{times} {status}" for status, times in found.items() if status not in ("protected", "planned")]
    rest = f"; {', '.join(others)}" if others else ""
    if found.get("planned"):
        return [f"Would protect {count(found['planned'], 'photo')}{rest}. Nothing was written."]
    done = f"Protected {found.get('protected', 0)} of {count(photos, 'photo')}{rest}."
    if not written:
        return [done]
    lines = [" ".join(filter(None, (done, _most_changed(written)))), _what_it_means(written)]
    if any(row.perceptual for row in written):
        lines.append(f"Kept after what services do: {survival.in_words(written)}.")
        lines += survival.still_matching(written)
    lines += _places(written)
    networks = "this network" if len({code.model for row in written for code in row.codes}) < 2 else "these networks"
    limits = f"Other networks may still match these photos, and no service is known to run {networks}."
    return [*lines, " ".join(filter(None, (limits, _left_in_files(written))))]


def _places(written: Sequence[Outcome]) -> list[str]:
    """Return how far the photos are from the codes of other places; empty without a place."""
    names = sorted({row.place_name for row in written if row.place_name is not None})
    if not names:
        return []
    copied = [min(row.places, key=lambda said: said.distance / said.bits) for row in written if row.places]
    if not copied:
        return [f"For {', '.join(names)}: no other place has a copy of {'it' if len(written) == 1 else 'them'} yet."]
    nearest = min(copied, key=lambda said: said.distance / said.bits)
    return [
        f"For {', '.join(names)}: {count(len(copied), 'photo')} with copies for other places, from whose codes they "
        f"are {nearest.distance} of {nearest.bits} bits or more."
    ]


def _most_changed(written: Sequence[Outcome]) -> str:
    """Return which photo's change is most visible, and how visible; empty if nothing was measured."""
    worst = most_visible(written)
    if not worst:
        return ""
    middle = f"visibility {median_visibility(written):.2f} in the median, "
    if len(written) == 1:
        return f"Its change: visibility {visible(worst[0])}."
    return f"Changes: {middle}{visible(worst[0])} in {worst[0].path}."


def _what_it_means(written: Sequence[Outcome]) -> str:
    """Return on which networks the goal is met, also after JPEG, and what surrogates and witnesses measured."""
    unlinked = {row.goal for row in written} <= {"away", "opposite", None}
    met = "unlinked from their originals" if unlinked else "at their goal"
    if len(written) == 1:
        met = "unlinked from its original" if unlinked else "at its goal"
    models = sorted({code.model for row in written for code in row.codes} or {row.model or "" for row in written})
    passed_now = sum(row.status == "protected" for row in written)
    _, passed, measured = reencoded(written)
    after_jpeg = f", {passed} of {measured} also after JPEG q75" if measured else ""
    named = f"{', '.join(models)}: {passed_now} of {len(written)} {met}{after_jpeg}."
    return f"{named} {_features(written)}{_strangers(written)}"


def _features(written: Sequence[Outcome]) -> str:
    """Return how far the features of surrogates moved, with a trailing space; "" if none were moved."""
    moved = feature_cosines(written)
    if not moved:
        return ""
    said = ", ".join(f"{model} {median:.2f}" for model, median in moved.items())
    return f"Features, moved to affect networks not named: cosine to the original's {said}. "


def _strangers(written: Sequence[Outcome]) -> str:
    """Return how many photos each witness still finds, or why there was no witness."""
    said = []
    for found in witnessed(written):
        moved = f"{found['median_distance']:g} of {found['bits']} bits changed in the median"
        if found["judged"]:
            said.append(
                f"{found['model']}, never searched on, still finds {found['finds']} of {found['judged']} ({moved})."
            )
        else:
            said.append(f"{found['model']}, never searched on, has no reference codes to judge by ({moved}).")
    if len(said) > 1:
        rows = [verdicts for row in written if (verdicts := [w.finds for w in row.witness if w.finds is not None])]
        still = sum(any(verdicts) for verdicts in rows)
        said.append(f"One or more of these {len(said)} networks still find {still} of {count(len(rows), 'photo')}.")
    if said:
        return " ".join(said)
    reasons = dict.fromkeys(row.no_witness for row in written if row.no_witness is not None)
    if reasons:
        return f"No witness: {'; '.join(reasons)}."
    return "No other network was asked; see --witness."


def protect_took(rows: Sequence[Outcome], seconds: float) -> str:
    """Return the time of the run and per photo, or "" if no search ran."""
    searched = sum(bool(row.steps) for row in rows)
    each = f", {duration(seconds / searched)} a photo" if searched > 1 else ""
    return f"{duration(seconds)}{each}." if searched else ""


def _left_in_files(written: Sequence[Outcome]) -> str:
    """Return sentences on unprotected copies and personal data left in the files, and the options that remove them."""
    lines = []
    if copies := [row.unprotected_copies for row in written if row.unprotected_copies]:
        kinds = ", ".join(sorted(set(chain.from_iterable(copies))))
        lines.append(f"Still unprotected inside or beside {count(len(copies), 'file')}: {kinds} (--strip-copies).")
    if links := [row.links_to_owner for row in written if row.links_to_owner]:
        kinds = ", ".join(sorted(set(chain.from_iterable(links))))
        rename = ", --rename" if "file name" in kinds else ""
        options = f"--strip-gps, --strip-metadata{rename}"
        lines.append(f"Can still name you in {count(len(links), 'file')}: {kinds} ({options}).")
    return " ".join(lines)


def verify_footer(rows: Sequence[Verification]) -> list[str]:
    """Return the number of files per status, and what to do about those still linked with their originals."""
    found = {status: times for status, times in counts(rows, VERDICTS).items() if times}
    if not found:
        return ["No photos were found."]
    lines = [", ".join(f"{times} {status.replace('_', ' ')}" for status, times in found.items()) + "."]
    return lines + [advice for source, advice in _ADVICE.items() if _is_linked(rows, source)]


def _is_linked(rows: Iterable[Verification], source: str) -> bool:
    return any(row.status == "not_protected" and row.source == source for row in rows)


_ADVICE = {
    "original": "What to do: take the linked copy down if you can. Protect your photo at the size and in the format "
    "that the service shows, upload that, and verify the copy again. No setting survives every service.",
    "ledger": "What to do: hashshield restore brings the photo back as it was; then protect it again, with more "
    "--steps or as a PNG copy.",
}
"""What to do about a photo that is linked with its original, by the source it was compared with."""


def evaluate_footer(rows: Sequence[Evaluation]) -> list[str]:
    """Return how many pairs were compared, on which networks, and how many are kept after JPEG q75."""
    compared = [row for row in rows if row.status == "compared"]
    if not compared:
        return []
    models = ", ".join(sorted({code.model for row in compared for code in row.codes}))
    after = [after_jpeg(row) for row in compared]
    kept = f"; {after.count('kept')} of {len(compared) - after.count('')} kept after JPEG q75" if any(after) else ""
    return [f"Compared {count(len(compared), 'photo')} on {models}{kept}."]


def survival_footer(rows: Sequence[Evaluation]) -> list[str]:
    """Return the sentences below the table of transforms: pairs, visibility, and classical perceptual hashes."""
    measured = [row for row in rows if row.psnr_db is not None]
    pixels = [
        f"{row.protected}: visibility {visible(row)}, PSNR {number(row.psnr_db)} dB, SSIM {number(row.ssim, '.4f')}, "
        f"largest change {row.linf_levels} levels"
        for row in measured[:_FIRST]
    ]
    return evaluate_footer(rows) + pixels + survival.still_matching(rows)


def restore_footer(rows: Sequence[Restoration]) -> list[str]:
    """Return the number of files per status."""
    found = counts(rows, RESTORED)
    return (
        [", ".join(f"{times} {status}" for status, times in found.items() if times) + "."]
        if rows
        else ["Nothing was kept for these."]
    )
