"""Render the page: one file that loads nothing from elsewhere, with the figures over all photos on top.

Jinja renders it with autoescape, so that names and metadata of photos cannot become markup.
"""

from __future__ import annotations

import base64
import hashlib
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from statistics import median
from typing import Any

import jinja2
from markupsafe import Markup

from hashshield.boundary import boundary
from hashshield.errors import HashshieldError, UsageError
from hashshield.report.cards import (
    REENCODING,
    PhotoCard,
    PhotoVerdict,
    decibels,
    goal_text,
    network_text,
    photo_card,
    survives,
    verdict_of,
    visibility_rank,
    visibility_text,
    worst_first,
)
from hashshield.report.pictures import AMPLIFIED, Pictures, pictures, read_pair
from hashshield.storage import Store, check_page, put_page
from hashshield.text import clean
from hashshield.types import Evaluation, Outcome

__all__ = ["Dot", "Summary", "SurvivalShare", "Tile", "check_place", "fragment", "page", "summary_of", "write"]

_FIRST = 5
_WIDTH = 1000
_MARK = b"<!doctype html>\n<!-- HashShield report -->\n"
"""The first bytes of every page; a file that begins with other bytes is never replaced."""
_HERE = Path(__file__).parent
_PAGE_CHARACTERS = 27_500_000
"""Most characters for the pictures of all photos."""
_PHOTO_CHARACTERS = 1_400_000
"""Most characters for the pictures of one photo."""
_PICTURED = 200
"""Most photos with pictures; if there are more, those with the lowest PSNR get pictures."""
_WITH_PICTURES = {"protected", "partial", "already", "compared"}


@dataclass(frozen=True, slots=True)
class Tile:
    """One large figure at the top of the page."""

    label: str
    value: str
    mood: str = "plain"
    note: str = ""


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
    """The summary at the top of the page."""

    tiles: tuple[Tile, ...]
    survival: tuple[SurvivalShare, ...]
    dots: tuple[Dot, ...]
    ticks: tuple[tuple[int, float], ...]
    """Whole decibels below the axis, and their `x`."""
    lowest: tuple[PhotoCard, ...]
    """The photos with the lowest PSNR, lowest first; empty if there are only a few."""
    about: tuple[tuple[str, str], ...]
    """Names and values of the run's settings: preset, networks, goal, method, bound."""
    verdicts: tuple[tuple[PhotoVerdict, int], ...]
    """Each verdict with its number of photos, in the order of the cards; the filter's choices."""
    presets: str


def summary_of(rows: Sequence[Outcome | Evaluation], cards: Sequence[PhotoCard]) -> Summary:
    """Return the summary of rows; `cards` are the cards of these rows, in the same order."""
    values = [card.psnr_db for card in cards if card.psnr_db is not None]
    measured = [card for card in cards if card.psnr_db is not None and math.isfinite(card.psnr_db)]
    lowest = sorted(measured, key=lambda card: card.psnr_db or 0)
    tiles = [*_outcome_tiles(rows), *_visibility_tiles(rows)]
    if values:
        tiles.append(Tile("Lowest PSNR", decibels(min(values)), note=f"median {decibels(median(values))}"))
    low, high = _span([card.psnr_db or 0 for card in measured])
    return Summary(
        tiles=tuple(tiles),
        survival=_survival(rows),
        verdicts=_verdicts(rows),
        presets=", ".join(_presets(rows)),
        dots=tuple(Dot(card, _x(card.psnr_db or 0, low, high)) for card in measured),
        ticks=tuple((level, _x(level, low, high)) for level in range(low, high + 1, max((high - low) // 6, 1))),
        lowest=tuple(lowest[:_FIRST]) if len(cards) > _FIRST else (),
        about=tuple((key, value) for key, value in _about(rows) if value),
    )


def _outcome_tiles(rows: Sequence[Outcome | Evaluation]) -> list[Tile]:
    """Return the tiles with counts: photos protected, kept after JPEG, and not found by witnesses."""
    if not rows or isinstance(rows[0], Evaluation):
        tiles = [_share("Pairs compared", [row.status == "compared" for row in rows], judged=False)]
    else:
        photos = [row for row in rows if row.status != "skipped"]
        tiles = [_share("Protected", [row.status in ("protected", "already") for row in photos])]
    kept = [found for row in rows if row.status != "short" and (found := survives(row, REENCODING)) is not None]
    said = [each for row in rows if isinstance(row, Outcome) and row.status != "short" for each in row.witness]
    witnesses = [each.unlinked if each.finds is None else not each.finds for each in said]
    tiles += [_share("Kept after JPEG q75", kept)] if kept else []
    return tiles + ([_share("Not found by networks never searched on", witnesses)] if witnesses else [])


def _share(label: str, held: Sequence[bool], *, judged: bool = True) -> Tile:
    mood = "plain" if not judged or not held else "good" if all(held) else "bad"
    return Tile(label, f"{sum(held)} of {len(held)}", mood)


def _visibility_tiles(rows: Sequence[Outcome | Evaluation]) -> list[Tile]:
    """Return the tile of the most visible change, if it was measured."""
    seen = [row for row in rows if row.visibility is not None and row.status not in ("failed", "short")]
    if not seen:
        return []
    most = visibility_text(min(seen, key=visibility_rank))
    middle = median(row.visibility for row in seen if row.visibility is not None)
    return [Tile("Most visible change", most, note=f"median {middle:.2f}")]


def _verdicts(rows: Sequence[Outcome | Evaluation]) -> tuple[tuple[PhotoVerdict, int], ...]:
    return tuple(Counter(verdict_of(row) for row in rows).items())


def _presets(rows: Sequence[Outcome | Evaluation]) -> list[str]:
    return list(dict.fromkeys(row.preset for row in rows if isinstance(row, Outcome) and row.preset))


def _survival(rows: Sequence[Outcome | Evaluation]) -> tuple[SurvivalShare, ...]:
    """Return the shares by transform over written photos; empty if only JPEG q75, which has a tile, was measured."""
    written = [row for row in rows if row.survival and row.status != "short"]
    transforms = dict.fromkeys(after.transform for row in written for after in row.survival)
    if set(transforms) <= {REENCODING}:
        return ()
    found = {name: [kept for row in written if (kept := survives(row, name)) is not None] for name in transforms}
    return tuple(SurvivalShare(name, sum(kept), len(kept)) for name, kept in found.items() if kept)


def _no_witness(rows: Sequence[Outcome]) -> str:
    """Return why there was no witness, or "" if none was requested."""
    reasons = dict.fromkeys(row.no_witness for row in rows if row.no_witness is not None)
    return f"no witness: {'; '.join(reasons)}" if reasons else ""


def _about(rows: Sequence[Outcome | Evaluation]) -> list[tuple[str, str]]:
    networks = dict.fromkeys(network_text(code.model) for row in rows for code in row.codes)
    outcomes = [row for row in rows if isinstance(row, Outcome) and row.goal]
    witnesses = dict.fromkeys(network_text(said.model) for row in outcomes for said in row.witness)
    return [
        ("Preset", ", ".join(_presets(rows))),
        ("Networks", ", ".join(networks)),
        ("Never searched on", ", ".join(witnesses) or _no_witness(outcomes)),
        ("Goal", ", ".join(dict.fromkeys(goal_text(row.goal) for row in outcomes))),
        ("Method", ", ".join(dict.fromkeys(row.method or "" for row in outcomes))),
        ("Largest change allowed", ", ".join(dict.fromkeys(f"tau {row.tau:g}" for row in outcomes if row.tau))),
    ]


def _span(values: Sequence[float]) -> tuple[int, int]:
    """Return the whole decibels just below and above all values, at least 1 apart."""
    return (math.floor(min(values)), max(math.ceil(max(values)), math.floor(min(values)) + 1)) if values else (0, 1)


def _x(value: float, low: int, high: int) -> float:
    """Return the position of a value on the axis, in thousandths of its width, with a margin of 20 at both ends."""
    return round(20 + (_WIDTH - 40) * (value - low) / (high - low), 1)


def check_place(path: Path) -> None:
    """Check that `write` may write this file, before the work. Raises UsageError, StorageError."""
    if path.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"--report {path}: a page is written, so its name must end in .html")
    check_page(path, mark=_MARK)


def write(path: Path, rows: Sequence[Outcome | Evaluation], *, vault: Path | None = None, **rest: Any) -> None:
    """Write the page of a run to a file that only its owner can read; `rest` goes to `page`.

    `vault` is the folder with the originals of photos changed in place; None is the default vault. Raises UsageError,
    StorageError.
    """
    if any(isinstance(row, Outcome) for row in rows):
        with Store.open(vault, reading=True) as store:
            data = page(rows, store=store, **rest)
    else:
        data = page(rows, **rest)
    put_page(path, data, mark=_MARK)


def page(
    rows: Sequence[Outcome | Evaluation],
    *,
    command: str,
    said: Sequence[str] = (),
    store: Store | None = None,
    redact: bool = False,
    tell: Callable[[str], None] = lambda name: None,
) -> bytes:
    """Return the page of a run, in UTF-8, worst photo first; only one photo's pixels are in memory at a time.

    `said` are sentences for the top of the page; `store` has the originals of photos changed in place; `tell` is called
    with the path of each photo before its files are read. With `redact` the page shows no part of an original, no
    digest and no folder. A photo whose files cannot be read is shown without pictures.
    """
    templates = _environment()
    rows = worst_first(rows)
    cards = [photo_card(row, number, redact=redact) for number, row in enumerate(rows, 1)]
    pictured = _pictured(rows)
    room = min(_PAGE_CHARACTERS // max(len(pictured), 1), _PHOTO_CHARACTERS)
    one = templates.get_template("card.html")
    style, script = ((_HERE / name).read_text(encoding="utf-8") for name in ("style.css", "script.js"))

    def rendered() -> Iterator[Markup]:
        for index, (row, card) in enumerate(zip(rows, cards, strict=True)):
            shown, missing = _pictures(row, store, room, redact, tell) if index in pictured else (None, None)
            yield Markup(one.render(card=card, pictures=shown, missing=missing, amplified=AMPLIFIED))

    parts = templates.get_template("template.html").generate(
        command=command,
        # These sentences name networks, and a network may be a file in a private folder.
        said=() if redact else said,
        redact=redact,
        made=datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        summary=summary_of(rows, cards),
        cards=cards,
        unpictured=sum(row.status in _WITH_PICTURES for row in rows) - len(pictured),
        rendered=rendered(),
        style=Markup(style),
        script=Markup(script),
        policy=(
            f"default-src 'none'; img-src data:; style-src {_hash(style)}; script-src {_hash(script)}; "
            "base-uri 'none'; form-action 'none'"
        ),
    )
    return _MARK + b"".join(part.encode("utf-8") for part in parts)


def fragment(row: Outcome, number: int) -> str:
    """Return the card of one protected copy as HTML, for a page that includes `style.css` and `script.js`.

    It names no folder. Original and copy are read from the row's paths; if that fails, the card says so.
    """
    card = photo_card(row, number, redact=False)
    card = replace(card, folder=None, facts=tuple(fact for fact in card.facts if fact[0] != "Copy"))
    shown, missing = (None, None)
    if row.status in ("protected", "partial"):
        shown, missing = _pictures(row, None, _PHOTO_CHARACTERS, False, lambda name: None)
    template = _environment().get_template("card.html")
    return template.render(card=card, pictures=shown, missing=missing, amplified=AMPLIFIED)


def _pictured(rows: Sequence[Outcome | Evaluation]) -> frozenset[int]:
    """Return the indices of the rows with pictures: those with two files, at most `_PICTURED`, by lowest PSNR."""
    there = [index for index, row in enumerate(rows) if row.status in _WITH_PICTURES]
    value = {index: rows[index].psnr_db for index in there}
    return frozenset(sorted(there, key=lambda index: value[index] or 0.0)[:_PICTURED])


def _pictures(
    row: Outcome | Evaluation, store: Store | None, room: int, redact: bool, tell: Callable[[str], None]
) -> tuple[Pictures | None, str | None]:
    name = row.path if isinstance(row, Outcome) else row.protected
    tell(name)
    try:
        with boundary("row", name):
            before, after = read_pair(row, store)
            return pictures(before, after, room=room, redact=redact), None
    except HashshieldError as error:
        return None, "Its files could not be read." if redact else str(error)


def _environment() -> jinja2.Environment:
    """Return a Jinja environment that passes every text through `clean` and then escapes it as HTML."""

    def finalize(value: Any) -> Any:
        return clean(value) if isinstance(value, str) and not isinstance(value, Markup) else value

    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=finalize,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _hash(text: str) -> str:
    """Return the source expression of an inline block in a Content-Security-Policy (CSP 3, section 2.3.1)."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode('utf-8')).digest()).decode('ascii')}'"
