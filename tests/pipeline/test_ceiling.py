"""How visible a protected photo may be: measured on the written file, and never exceeded in silence."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hashshield.attacks.presets import PRESETS
from hashshield.metrics.visibility import visibility
from hashshield.pipeline.receipt import lowered
from hashshield.pipeline.rows import ceiling_for
from hashshield.types import CodeRow, GoalSpec, Outcome, Receipt, Request
from hashshield.visible import WORDS, word
from tiny_net import encoded, picture

Protect = Callable[..., list[Outcome]]


@dataclass(frozen=True)
class Part:
    share: float
    receipt: Receipt | None


@dataclass
class Photo:
    """A photo whose goal needs a part of the change, and whose encoding makes visibility uneven."""

    needed: float
    full: float
    """Visibility of the whole change."""
    ceiling: float
    bump: float = 0.0
    written: int = 0

    def write(self, share: float) -> Part:
        self.written += 1
        seen = self.full * share * (1 + self.bump * math.sin(40 * share))
        reached = share >= self.needed
        codes = (CodeRow("m", 16, "card", 8, 0 if reached else 1, 0.1),)
        passed = reached and seen <= self.ceiling
        return Part(share, Receipt(passed, codes, (), 40.0, 0.99, 3, 3, reached=reached, visibility=seen))

    def lowered(self) -> Part:
        return lowered(self.write(1.0), self.ceiling, self.write)


@pytest.mark.parametrize("bump", [0.0, 0.1, 0.3])
@pytest.mark.parametrize("needed", [0.1, 0.3, 0.45])
def test_a_part_of_the_change_is_found_that_passes(needed: float, bump: float) -> None:
    photo = Photo(needed, full=3.2, ceiling=1.6, bump=bump)
    found = photo.lowered()
    assert found.receipt is not None
    assert found.receipt.passed
    assert found.receipt.visibility <= 1.6
    assert found.share >= 0.3, "no smaller than it has to be"
    assert photo.written <= 5


def test_what_needs_more_than_the_ceiling_comes_back_as_it_was() -> None:
    photo = Photo(0.8, full=3.2, ceiling=1.6)
    found = photo.lowered()
    assert found.share == 1.0
    assert photo.written <= 5


@pytest.mark.parametrize("photo", [Photo(0.5, full=1.0, ceiling=1.6), Photo(2.0, full=3.2, ceiling=1.6)])
def test_what_passes_or_misses_its_goal_is_not_written_again(photo: Photo) -> None:
    assert photo.lowered().share == 1.0
    assert photo.written == 1


def test_each_preset_has_a_ceiling_and_a_request_may_replace_it() -> None:
    ceilings = {name: ceiling_for(Request(preset=name)) for name in PRESETS}
    assert ceilings == {name: found.max_visible for name, found in PRESETS.items()}
    assert 0 < ceilings["invisible"] < ceilings["balanced"] < ceilings["strong"] < math.inf
    assert ceiling_for(Request(max_visible=0.5)) == 0.5
    assert ceiling_for(Request(max_visible="faint")) == WORDS["faint"]
    assert ceiling_for(Request(max_visible="obvious")) == math.inf


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photos" / "a.png"
    path.parent.mkdir()
    path.write_bytes(encoded(picture(60, 80, seed=3)))
    return path


def asked(**changes: Any) -> dict[str, Any]:
    return {"tau": 0.1, "steps": 100, **changes}


def pixels(path: Path) -> Any:
    return np.asarray(Image.open(path).convert("RGB"))


def test_the_row_says_how_visible_the_written_file_is(photo: Path, tmp_path: Path, protect_now: Protect) -> None:
    (row,) = protect_now(photo, **asked(output=tmp_path / "out"))
    assert row.status == "protected"
    assert row.visibility == visibility(pixels(photo), pixels(tmp_path / "out" / "a.png"))
    assert row.visibility_word == word(row.visibility or 0.0)
    assert row.max_visible == math.inf
    assert row.evaluations
    assert row.evaluations >= (row.steps or 0)


def test_a_photo_above_its_ceiling_is_short_and_stays_as_it_is(
    photo: Path, tmp_path: Path, protect_now: Protect, request_for: Callable[..., Request]
) -> None:
    before = photo.read_bytes()
    (free,) = protect_now(photo, **asked(output=tmp_path / "out", vault=tmp_path / "other"))
    assert free.visibility is not None
    (row,) = protect_now(photo, **asked(max_visible=0.05))
    assert row.status == "short"
    assert photo.read_bytes() == before
    assert row.max_visible == 0.05
    assert row.sha256_after is None
    assert row.visibility is not None
    assert row.visibility == pytest.approx(free.visibility)
    needed = f"{math.ceil(100 * row.visibility) / 100:.2f}"
    assert f"at a visibility of {needed} ({row.visibility_word}), above the ceiling of 0.05 (none)" in str(row.reason)
    (again,) = protect_now(photo, **asked(max_visible=0.05))
    assert "nothing new was tried" in str(again.reason)
    assert again.visibility == row.visibility
    (enough,) = protect_now(photo, **asked(max_visible=float(needed)))
    assert (enough.status, enough.visibility) == ("protected", row.visibility)
    assert photo.read_bytes() != before


def test_accept_best_writes_above_the_ceiling(photo: Path, protect_now: Protect) -> None:
    before = pixels(photo)
    (row,) = protect_now(photo, **asked(max_visible=0.05, accept_best=True))
    assert row.status == "partial"
    assert row.distance_to_goal == 0
    assert "above the ceiling" in str(row.reason)
    assert row.visibility == visibility(before, pixels(photo))
    assert row.visibility > 0.05


def test_a_change_that_goes_further_than_it_must_is_made_smaller(
    photo: Path, tmp_path: Path, protect_now: Protect
) -> None:
    """The search aims at every bit, and the receipt forgives eight: there is room below what it finds."""
    wide = asked(goal=GoalSpec("opposite"), tolerance=8)
    (free,) = protect_now(photo, **wide, output=tmp_path / "out")
    assert free.status == "protected"
    assert free.visibility is not None
    ceiling = 0.9 * free.visibility
    (row,) = protect_now(photo, **wide, max_visible=ceiling, output=tmp_path / "less")
    assert row.status == "protected"
    assert 0.6 * ceiling < (row.visibility or 0.0) <= ceiling
    assert (row.linf_levels or 0) < (free.linf_levels or 0)
    assert row.visibility == visibility(pixels(photo), pixels(tmp_path / "less" / "a.png"))


def test_a_protected_photo_says_later_how_visible_it_is(photo: Path, protect_now: Protect) -> None:
    (row,) = protect_now(photo, **asked())
    (later,) = protect_now(photo, **asked())
    assert (later.status, later.visibility) == ("already", row.visibility)
    assert later.visibility_word == row.visibility_word


def test_transparent_parts_count_as_they_are_shown(tmp_path: Path, protect_now: Protect) -> None:
    path = tmp_path / "glass.png"
    four = np.concatenate([picture(60, 80, seed=3), np.full((60, 80, 1), 128, np.uint8)], axis=2)
    path.write_bytes(encoded(four))
    (row,) = protect_now(path, **asked(accept_best=True), output=tmp_path / "out")
    shown = []
    for name in (path, tmp_path / "out" / "glass.png"):
        white = Image.new("RGBA", (80, 60), "white")
        shown.append(np.asarray(Image.alpha_composite(white, Image.open(name)).convert("RGB")))
    assert row.visibility == pytest.approx(visibility(*shown), rel=0.1)


def test_words_and_numbers_give_the_same_receipt(photo: Path, tmp_path: Path, protect_now: Protect) -> None:
    rows = [
        protect_now(photo, **asked(max_visible=given, output=tmp_path / str(given), vault=tmp_path / f"v{given}"))[0]
        for given in ("some", WORDS["some"])
    ]
    one, other = (replace(row, output=None, seconds=None) for row in rows)
    assert one == other
