"""Result files: written whole when a bench has finished, with a note beside the place as long as it has not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hashshield.bench.pool import complete
from hashshield.bench.stage import Stage
from hashshield.errors import UsageError

__all__ = ["Result", "read_result", "result"]

_NOTE = ".unfinished"


@dataclass(slots=True)
class Result:
    """What a bench found, while it is being put together."""

    bench: str
    path: Path
    """Of the result file."""
    picture: Path
    """Where a picture of it belongs."""
    settings: dict[str, Any]
    rows: list[dict[str, Any]] = field(default_factory=list)
    more: dict[str, Any] = field(default_factory=dict)
    """What is no row: curves, lists."""


@contextmanager
def result(bench: str, stage: Stage, output: Path, **settings: Any) -> Iterator[Result]:
    """Note that the bench has begun; write what it found once the block has ended well."""
    path = output / "results" / f"{bench}-{stage.name}.json"
    found = Result(bench, path, output / "plots" / f"{bench}-{stage.name}.png", stage.settings(**settings))
    note = path.with_name(path.name + _NOTE)
    _write(note, {"bench": bench, "environment": found.settings})
    yield found
    _write(path, {"bench": bench, "environment": found.settings, "rows": found.rows, **found.more})
    note.unlink()


def read_result(path: Path) -> dict[str, Any]:
    """Read a finished result file. Raises UsageError for one that is missing, unfinished or damaged."""
    if not path.exists():
        if path.with_name(path.name + _NOTE).exists():
            raise UsageError(
                f"{path}: this bench has begun and not finished; run its command again, it goes on where it stopped"
            )
        raise UsageError(f"{path}: no such result; `hashshield bench` writes them")
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: cannot be read ({error}); run its bench again") from error
    if not isinstance(document, dict) or not document.get("rows") or "bench" not in document:
        raise UsageError(f"{path}: holds no rows of a bench; run it again")
    return document


def _write(path: Path, document: dict[str, Any]) -> None:
    with complete(path) as partial:
        partial.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
