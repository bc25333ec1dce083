"""The table of survival: one line with a bar per transform and network; and sentences on classical hashes."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from hashshield.cli.terminal import Column

if TYPE_CHECKING:
    from hashshield.types import Evaluation, Outcome

__all__ = ["COLUMNS", "SurvivalLine", "in_words", "lines", "still_matching", "summary"]

_CELLS = 24
"""Characters of a bar; at 48 bits, each stands for two."""


class SurvivalLine(NamedTuple):
    """One transform and network, over all photos; distances in bits."""

    transform: str
    model: str
    bits: int
    distances: tuple[int, ...]
    """Distance of each photo from its original code; photos that the transform does not apply to are left out."""
    to_goal: tuple[int, ...]
    kept_count: int


def lines(rows: Iterable[Outcome | Evaluation]) -> list[SurvivalLine]:
    """Return one line per transform and network over all rows, in the order in which they first occur."""
    found: dict[tuple[str, str], list[Any]] = {}
    bits: dict[str, int] = {}
    for row in rows:
        bits |= {code.model: code.bits for code in row.codes}
        for kept in row.survival:
            found.setdefault((kept.transform, kept.model), []).append(kept)
    result = []
    for (transform, model), group in found.items():
        measured = [row for row in group if row.reason is None]
        result.append(
            SurvivalLine(
                transform,
                model,
                bits[model],
                tuple(row.distance_from_original for row in measured),
                tuple(row.distance_to_goal for row in measured),
                sum(row.passed for row in measured),
            )
        )
    return result


def summary(rows: Iterable[Outcome | Evaluation]) -> list[dict[str, Any]]:
    """Return the lines for the JSON summary, with medians in bits."""
    return [
        {
            "transform": line.transform,
            "model": line.model,
            "kept": line.kept_count,
            "of": len(line.distances),
            "median_distance_from_original": _median(line.distances),
            "median_distance_to_goal": _median(line.to_goal),
        }
        for line in lines(rows)
    ]


def in_words(rows: Iterable[Outcome | Evaluation]) -> str:
    """Return how many photos keep their goal after each transform, on the network on which the fewest do."""
    least: dict[str, SurvivalLine] = {}
    for line in lines(rows):
        if line.distances and (line.transform not in least or line.kept_count < least[line.transform].kept_count):
            least[line.transform] = line
    return ", ".join(f"{line.transform} {line.kept_count}/{len(line.distances)}" for line in least.values())


def still_matching(rows: Sequence[Outcome | Evaluation]) -> list[str]:
    """Return one sentence for each classical perceptual hash, and one on what they mean; empty if none was measured."""
    found: dict[str, list[Any]] = {}
    for row in rows:
        for kind in row.perceptual:
            found.setdefault(kind.hash, []).append(kind)
    said = []
    for name, kinds in found.items():
        measured = [kind for kind in kinds if kind.reason is None]
        if not measured:
            said.append(f"{name}: not measured: {kinds[0].reason}.")
            continue
        matching, of = sum(kind.matches for kind in measured), len(measured)
        distance = _number(_median([kind.distance for kind in measured]))
        verdict = f"still matches {matching} of {of} photos: median distance {distance}"
        if of == 1:
            verdict = f"{'still matches' if matching else 'no longer matches'}: distance {distance}"
        said.append(f"{name} {verdict} of {kinds[0].bits} bits, where {kinds[0].threshold} or fewer count as a match.")
    return [*said, "HashShield does not hide photos from classical perceptual hashes."] if said else []


def _median(values: Sequence[int]) -> float | None:
    from statistics import median

    return median(values) if values else None


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:g}"


def _bits_changed(line: SurvivalLine) -> str:
    return f"{_number(_median(line.distances))} of {line.bits}" if line.distances else ""


def _bar(line: SurvivalLine) -> str:
    """Return a bar of the median distance as a share of all bits; unrelated photos fill half."""
    middle = _median(line.distances)
    if middle is None:
        return ""
    full, empty = ("█", "░") if (sys.stdout.encoding or "").lower().startswith("utf") else ("#", ".")
    filled = round(_CELLS * middle / line.bits)
    return full * filled + empty * (_CELLS - filled)


def _kept_text(line: SurvivalLine) -> str:
    if not line.distances:
        return "not applicable"
    if len(line.distances) == 1:
        return "yes" if line.kept_count else "no"
    return f"{line.kept_count} of {len(line.distances)}"


def _style(line: SurvivalLine) -> str:
    if not line.distances:
        return "bright_black"
    return "green" if line.kept_count == len(line.distances) else "yellow" if line.kept_count else "red"


COLUMNS = (
    Column("After", lambda line: line.transform),
    Column("Network", lambda line: line.model),
    Column("Bits changed", _bits_changed, right=True),
    Column("", _bar, style=_style, is_chart=True),
    Column("To goal", lambda line: _number(_median(line.to_goal)), right=True, is_detail=True),
    Column("Kept", _kept_text, style=_style),
)
