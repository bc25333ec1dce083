"""The card of one photo on the page, made from its row of `protect` or `evaluate`: verdict, facts and bars.

Photos are shown worst first.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import TypeVar

from hashshield.types import Evaluation, Outcome

__all__ = [
    "REENCODING",
    "Bar",
    "PhotoCard",
    "PhotoVerdict",
    "decibels",
    "goal_text",
    "network_text",
    "photo_card",
    "survives",
    "verdict_of",
    "visibility_rank",
    "visibility_text",
    "worst_first",
]


REENCODING = "jpeg q75"
"""The transform that every receipt measures; see `transforms.pillow`."""
_WORDS = {
    "protected": ("protected", "good"),
    "already": ("protected earlier", "good"),
    "planned": ("planned", "plain"),
    "skipped": ("skipped", "plain"),
    "short": ("fell short", "bad"),
    "partial": ("partly protected", "bad"),
    "failed": ("failed", "bad"),
    "compared": ("compared", "good"),
}
_UNDONE_BY_JPEG = "protected, not after JPEG q75"
_WORST = ("failed", "short", "partial", "lost", "protected", "compared", "already", "planned", "skipped")
_Row = TypeVar("_Row", bound=Outcome | Evaluation)


@dataclass(frozen=True, slots=True)
class PhotoVerdict:
    """The verdict on a photo, by which the page can be filtered."""

    key: str
    """The row's status, or `lost` for a written photo whose goal JPEG q75 undoes."""
    words: str
    mood: str
    """The colour: good, fair, bad or plain."""


def verdict_of(row: Outcome | Evaluation) -> PhotoVerdict:
    """Return the verdict on a row: its status, unless a photo that was protected loses its goal in JPEG q75."""
    if row.status == "protected" and survives(row, REENCODING) is False:
        return PhotoVerdict("lost", _UNDONE_BY_JPEG, "fair")
    return PhotoVerdict(row.status, *_WORDS[row.status])


def survives(row: Outcome | Evaluation, transform: str) -> bool | None:
    """Return True if a photo keeps its goal after a transform for every network and view; None if not measured."""
    passed = [after.passed for after in row.survival if after.transform == transform and after.passed is not None]
    return all(passed) if passed else None


def visibility_text(row: Outcome | Evaluation) -> str:
    """Return how visible the change is, as number and word; "" if it was not measured."""
    return "" if row.visibility is None else f"{row.visibility:.2f}, {row.visibility_word}"


def worst_first(rows: Sequence[_Row]) -> list[_Row]:
    """Return the rows sorted by verdict, worst first, then by visibility, then by PSNR."""
    return sorted(rows, key=lambda row: (_WORST.index(verdict_of(row).key), *visibility_rank(row)))


def visibility_rank(row: Outcome | Evaluation) -> tuple[float, float]:
    """Return a sort key that puts the most visible changes first: by visibility, then by PSNR in dB."""
    return -(row.visibility or 0.0), math.inf if row.psnr_db is None else row.psnr_db


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar of the chart: how many bits differ from the original's code."""

    label: str
    group: str
    """Heading of the bar: a network, or the classical hashes."""
    distance: int | None
    """Bits; None if it was not measured."""
    bits: int
    goal_kept: bool | None
    """True if the goal is met; None if there is no goal."""
    verdict: str
    banded: bool = False
    """True if the goal was to change 45 to 55% of the bits."""
    threshold: int | None = None
    """Largest distance that customarily counts as a match; None for networks."""


@dataclass(frozen=True, slots=True)
class PhotoCard:
    """The card of one photo."""

    number: int
    name: str
    folder: str | None
    """None on a redacted page."""
    verdict: PhotoVerdict
    reason: str | None
    facts: tuple[tuple[str, str], ...]
    bars: dict[str, list[Bar]]
    """By group, in the order of the receipt."""
    banded: bool
    """True if the goal was to change 45 to 55% of the bits."""
    psnr_db: float | None
    visibility: float | None
    """See `hashshield.visible`."""
    visible: str
    """The word for the visibility; empty if it was not measured."""
    note: str | None
    """A sentence on unprotected copies and owner's data in the file; None if there are none."""


def photo_card(row: Outcome | Evaluation, number: int, *, redact: bool) -> PhotoCard:
    """Return the card of a row; `redact` omits folders, digests, and messages, which may name folders or files."""
    path = row.path if isinstance(row, Outcome) else row.protected
    folder = str(PurePath(path).parent)
    reason = row.reason
    if redact and reason is not None and row.status not in ("short", "partial"):
        reason = "The reason is left out of a page to be shared."
    elif redact and reason is not None:
        reason = "The written photo missed the goal."
    return PhotoCard(
        number=number,
        name=PurePath(path).name or path,
        folder=None if redact or folder == "." else folder,
        verdict=verdict_of(row),
        reason=reason,
        facts=tuple((key, value) for key, value in _facts(row, redact=redact) if value),
        bars=_grouped(_bars(row)),
        banded=_banded(row),
        psnr_db=row.psnr_db,
        visibility=row.visibility,
        visible=row.visibility_word or "",
        note=_note(row) if isinstance(row, Outcome) else None,
    )


def decibels(value: float) -> str:
    """Return a PSNR as text, in dB; "identical" if it is infinite."""
    return "identical" if math.isinf(value) else f"{value:.1f} dB"


def network_text(model: str) -> str:
    """Return a network's name without the folder of its file."""
    return PurePath(model).name


def goal_text(goal: str | None) -> str:
    """Return a goal as text, without the folder of its image or set."""
    kind, _, value = (goal or "").partition(":")
    return f"{kind}: {PurePath(value).name}" if value else kind


def _banded(row: Outcome | Evaluation) -> bool:
    return isinstance(row, Outcome) and row.goal == "away"


def _facts(row: Outcome | Evaluation, *, redact: bool) -> Iterable[tuple[str, str]]:
    """Yield names and values of the facts; values that the row does not have are empty."""
    yield "Visibility", visibility_text(row)
    yield "PSNR", "" if row.psnr_db is None else decibels(row.psnr_db)
    yield "SSIM", "" if row.ssim is None else f"{row.ssim:.5f}"
    if isinstance(row, Evaluation):
        yield "Largest change", _levels(row.linf_levels)
        yield "Pixels changed", "" if row.changed_pixels is None else f"{row.changed_pixels:.0%}"
        if not redact:
            yield "Original", row.original
        return
    yield "Largest change", _levels(row.linf_levels)
    if row.linf_levels_written != row.linf_levels:
        yield "After encoding", _levels(row.linf_levels_written)
    yield "Goal", goal_text(row.goal)
    if row.steps and row.seconds is not None:
        evaluations = f", {row.evaluations} network evaluations" if row.evaluations else ""
        yield "Search", f"{row.steps} steps{evaluations}, {row.seconds:.1f} s"
    if not redact:
        yield "Copy", row.output or ""
        yield "SHA-256", row.sha256_after or ""


def _bars(row: Outcome | Evaluation) -> Iterable[Bar]:
    """Yield the bars: the written file, its transformed copies, then witnesses and classical hashes."""
    bits = {code.model: code.bits for code in row.codes}
    banded = _banded(row)
    for code in row.codes:
        goal_kept = _goal_kept(row.status)
        network, label = network_text(code.model), _label("as written", code.view)
        yield Bar(label, network, code.distance_from_original, code.bits, goal_kept, _verdict(goal_kept), banded)
    for after in row.survival:
        if after.model in bits:
            network, label = network_text(after.model), _label(after.transform, after.view)
            verdict = "not measured" if after.distance_from_original is None else _verdict(after.passed)
            yield Bar(label, network, after.distance_from_original, bits[after.model], after.passed, verdict, banded)
    for witness in row.witness if isinstance(row, Outcome) else ():
        away = witness.unlinked if witness.finds is None else not witness.finds
        words = ("unlinked" if away else "linked") if witness.finds is None else "not found" if away else "found"
        group = f"{network_text(witness.model)}, never searched on"
        yield Bar(
            _label("as written", witness.view),
            group,
            witness.distance_from_original,
            witness.bits,
            away,
            words,
        )
    for hashed in row.perceptual:
        words = "not measured" if hashed.matches is None else "matches" if hashed.matches else "no match"
        unmatched = None if hashed.matches is None else not hashed.matches
        group = "Classical hashes, not aimed at"
        yield Bar(hashed.hash, group, hashed.distance, hashed.bits, unmatched, words, threshold=hashed.threshold)


def _grouped(bars: Iterable[Bar]) -> dict[str, list[Bar]]:
    groups: dict[str, list[Bar]] = {}
    for bar in bars:
        groups.setdefault(bar.group, []).append(bar)
    return groups


def _label(transform: str, view: str) -> str:
    return transform if view in ("card", transform) else f"{transform}, {view}"


def _goal_kept(status: str) -> bool | None:
    return {"protected": True, "short": False, "partial": False}.get(status)


def _verdict(goal_kept: bool | None) -> str:
    return "" if goal_kept is None else "kept" if goal_kept else "lost"


def _note(row: Outcome) -> str | None:
    parts = []
    if row.unprotected_copies:
        parts.append(f"still holds unprotected copies: {', '.join(row.unprotected_copies)}")
    if row.links_to_owner:
        parts.append(f"keeps what can name its owner: {', '.join(row.links_to_owner)}")
    return f"The file {'; it '.join(parts)}." if parts else None


def _levels(value: int | None) -> str:
    return "" if value is None else f"{value} of 255 levels"
