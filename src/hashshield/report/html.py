"""The page itself: one file that needs no network and lets no photo's name or metadata become markup.

Jinja with autoescape renders it, because escaping is then what happens when nothing is said. torch requires Jinja, so
it is there anyway.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from hashshield.errors import HashshieldError, UsageError
from hashshield.report.cards import card_of
from hashshield.report.files import pair
from hashshield.report.pictures import AMPLIFIED, Pictures, pictures
from hashshield.report.summary import summary_of
from hashshield.storage import Store, check_page, put_page
from hashshield.text import clean
from hashshield.types import Evaluation, Outcome

__all__ = ["check_place", "page", "write"]

_MARK = b"<!doctype html>\n<!-- HashShield report -->\n"
"""What every page begins with; a file that begins otherwise is not ours to replace."""
_HERE = Path(__file__).parent
_ROOM = 27_500_000
"""Characters that all pictures together may take."""
_ROOM_OF_ONE = 1_400_000
_PICTURED = 200
"""More photos than this are listed, but only those with the lowest PSNR are shown."""
_SHOWN = {"protected", "partial", "already", "compared"}


def check_place(path: Path) -> None:
    """Refuse, before the work, a file that `write` would refuse. Raises UsageError, StorageError."""
    if path.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"--report {path}: a page is written, so its name must end in .html")
    check_page(path, mark=_MARK)


def write(path: Path, rows: Sequence[Outcome | Evaluation], *, vault: Path | None = None, **rest: Any) -> None:
    """Write the page of a run, readable by its owner only; `rest` as in `page`.

    Originals of photos changed in place are taken from the vault folder (None: the user's own). Raises UsageError,
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
    """Render the page of a run; one photo's pixels are in memory at a time.

    `said` are sentences for its head; `store` is where originals of photos changed in place are; `tell`
    hears of each photo. With `redact` nothing of an original is in the page, nor its digest or any folder. A photo
    whose files cannot be read is shown without pictures.
    """
    names = _environment()
    cards = [card_of(row, number, redact=redact) for number, row in enumerate(rows, 1)]
    pictured = _pictured(rows)
    room = min(_ROOM // max(len(pictured), 1), _ROOM_OF_ONE)
    one = names.get_template("card.html")
    style, script = ((_HERE / name).read_text(encoding="utf-8") for name in ("style.css", "script.js"))

    def rendered() -> Iterator[Markup]:
        for index, (row, card) in enumerate(zip(rows, cards, strict=True)):
            shown, missing = _pictures(row, store, room, redact, tell) if index in pictured else (None, None)
            yield Markup(one.render(card=card, pictures=shown, missing=missing, amplified=AMPLIFIED))

    parts = names.get_template("template.html").generate(
        command=command,
        # They name networks, and a network may be a file in somebody's folder.
        said=() if redact else said,
        redact=redact,
        made=datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        summary=summary_of(rows, cards),
        cards=cards,
        unpictured=sum(row.status in _SHOWN for row in rows) - len(pictured),
        rendered=rendered(),
        style=Markup(style),
        script=Markup(script),
        policy=(
            f"default-src 'none'; img-src data:; style-src {_hash(style)}; script-src {_hash(script)}; "
            "base-uri 'none'; form-action 'none'"
        ),
    )
    return _MARK + b"".join(part.encode("utf-8") for part in parts)


def _pictured(rows: Sequence[Outcome | Evaluation]) -> frozenset[int]:
    """Which rows get pictures: those that have two files, and when these are too many, the most changed ones."""
    there = [index for index, row in enumerate(rows) if row.status in _SHOWN]
    value = {index: rows[index].psnr_db for index in there}
    return frozenset(sorted(there, key=lambda index: value[index] or 0.0)[:_PICTURED])


def _pictures(
    row: Outcome | Evaluation, store: Store | None, room: int, redact: bool, tell: Callable[[str], None]
) -> tuple[Pictures | None, str | None]:
    tell(row.path if isinstance(row, Outcome) else row.protected)
    try:
        before, after = pair(row, store)
    except HashshieldError as error:
        return None, "Its files could not be read." if redact else str(error)
    return pictures(before, after, room=room, redact=redact), None


def _environment() -> jinja2.Environment:
    """Every value that is put into a page is first made harmless to read, then escaped."""

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
    """How a Content-Security-Policy names an inline block (CSP 3, section 2.3.1)."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode('utf-8')).digest()).decode('ascii')}'"
