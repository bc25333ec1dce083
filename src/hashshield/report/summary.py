"""The figures on top of the page, over all photos."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from hashshield.report.cards import PhotoCard, decibels, goal_text, network_text
from hashshield.types import Evaluation, Outcome

__all__ = ["Dot", "Summary", "SurvivalShare", "Tile", "summary_of"]

_FIRST = 5
_WIDTH = 1000


@dataclass(frozen=True, slots=True)
class Tile:
    """One large figure."""

    value: str
    label: str
    mood: str = "plain"


@dataclass(frozen=True, slots=True)
class SurvivalShare:
    """Number of photos that keep their goal after one transform."""

    label: str
    """Name of the transform."""
    survived: int
    measured: int


@dataclass(frozen=True, slots=True)
class Dot:
    """One photo on the PSNR axis; `x` is in thousandths of the axis' width."""

    card: PhotoCard
    x: float


@dataclass(frozen=True, slots=True)
class Summary:
    """The head of the page."""

    tiles: tuple[Tile, ...]
    survival: tuple[SurvivalShare, ...]
    dots: tuple[Dot, ...]
    ticks: tuple[tuple[int, float], ...]
    """Whole decibels below the axis, and their `x`."""
    lowest: tuple[PhotoCard, ...]
    """The photos with the lowest PSNR, lowest first; empty if there are only a few."""
    about: tuple[tuple[str, str], ...]
    """Names and values of what all photos share: networks, goal, method, bound."""


def summary_of(rows: Sequence[Outcome | Evaluation], cards: Sequence[PhotoCard]) -> Summary:
    """Return the summary of rows; `cards` are theirs, in the same order."""
    values = [card.psnr_db for card in cards if card.psnr_db is not None]
    measured = [card for card in cards if card.psnr_db is not None and math.isfinite(card.psnr_db)]
    lowest = sorted(measured, key=lambda card: card.psnr_db or 0)
    tiles = [*_outcome_tiles(rows)]
    if values:
        tiles += [Tile(decibels(median(values)), "median PSNR"), Tile(decibels(min(values)), "lowest PSNR")]
    low, high = _span([card.psnr_db or 0 for card in measured])
    return Summary(
        tiles=tuple(tiles),
        survival=_survival(rows),
        dots=tuple(Dot(card, _x(card.psnr_db or 0, low, high)) for card in measured),
        ticks=tuple((level, _x(level, low, high)) for level in range(low, high + 1, max((high - low) // 6, 1))),
        lowest=tuple(lowest[:_FIRST]) if len(cards) > _FIRST else (),
        about=tuple((key, value) for key, value in _about(rows) if value),
    )


def _outcome_tiles(rows: Sequence[Outcome | Evaluation]) -> list[Tile]:
    if not rows or isinstance(rows[0], Evaluation):
        compared = sum(row.status == "compared" for row in rows)
        return [Tile(f"{compared} of {len(rows)}", "pairs compared")]
    photos = [row for row in rows if row.status != "skipped"]
    done = sum(row.status in ("protected", "already") for row in photos)
    tiles = [Tile(f"{done} of {len(photos)}", "photos protected", "good" if done == len(photos) else "bad")]
    witnesses = [said for row in rows if isinstance(row, Outcome) for said in row.witness]
    if witnesses:
        unlinked = sum(said.unlinked for said in witnesses)
        tiles.append(Tile(f"{unlinked} of {len(witnesses)}", "unlinked to a network never searched on"))
    return tiles


def _survival(rows: Sequence[Outcome | Evaluation]) -> tuple[SurvivalShare, ...]:
    """Return the shares by transform, over written photos; a photo survives if it does for every network and view."""
    written = [row for row in rows if row.survival and row.status != "short"]
    found: dict[str, list[bool]] = {}
    for row in written:
        for name in dict.fromkeys(after.transform for after in row.survival):
            passed = [a.passed for a in row.survival if a.transform == name and a.passed is not None]
            if passed:
                found.setdefault(name, []).append(all(passed))
    return tuple(SurvivalShare(name, sum(passed), len(passed)) for name, passed in found.items())


def _about(rows: Sequence[Outcome | Evaluation]) -> list[tuple[str, str]]:
    networks = dict.fromkeys(network_text(code.model) for row in rows for code in row.codes)
    outcomes = [row for row in rows if isinstance(row, Outcome) and row.goal]
    witnesses = dict.fromkeys(network_text(said.model) for row in outcomes for said in row.witness)
    return [
        ("Networks", ", ".join(networks)),
        ("Never searched on", ", ".join(witnesses)),
        ("Goal", ", ".join(dict.fromkeys(goal_text(row.goal) for row in outcomes))),
        ("Method", ", ".join(dict.fromkeys(row.method or "" for row in outcomes))),
        ("Largest change allowed", ", ".join(dict.fromkeys(f"tau {row.tau:g}" for row in outcomes if row.tau))),
    ]


def _span(values: Sequence[float]) -> tuple[int, int]:
    """Return the whole decibels just around all values; they differ by 1 at least."""
    return (math.floor(min(values)), max(math.ceil(max(values)), math.floor(min(values)) + 1)) if values else (0, 1)


def _x(value: float, low: int, high: int) -> float:
    """Return the position of a value on the axis, with a margin of 20 at both ends."""
    return round(20 + (_WIDTH - 40) * (value - low) / (high - low), 1)
