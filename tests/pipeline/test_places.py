"""Copies of one photo for several places: codes by name, held against what the network says of the written files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from hashshield.arrays import Bits
from hashshield.attacks.goals import in_band
from hashshield.errors import UsageError
from hashshield.models.load import OpenModel, open_models
from hashshield.pipeline.audit import audit
from hashshield.pipeline.places import checked_place, codes_of_place, original_of, protections
from hashshield.pipeline.plan import asked_now
from hashshield.pipeline.protect import check, protect_bytes
from hashshield.storage import Store
from hashshield.transforms import CARD, SQUASH
from hashshield.types import GoalSpec, Outcome, Request
from tiny_net import encoded, picture

Protect = Callable[..., list[Outcome]]
EASY: dict[str, Any] = {"tau": 0.2, "steps": 150}


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "a.png"
    path.write_bytes(encoded(picture(seed=5)))
    return path


@pytest.fixture
def network(tiny: Path) -> OpenModel:
    (model,) = open_models([f"{tiny}:16"])
    return model


def seen(path: Path, model: OpenModel, view: str = CARD) -> Bits:
    with Image.open(path) as image, torch.inference_mode():
        return model.hash(np.asarray(image.convert("RGB")), view).bits


def apart(one: Path, other: Path, model: OpenModel, view: str) -> int:
    return int(np.count_nonzero(seen(one, model, view) != seen(other, model, view)))


@pytest.mark.long
def test_three_places_and_the_original_are_apart_in_both_views(
    photo: Path, tmp_path: Path, network: OpenModel, protect_now: Protect
) -> None:
    files = [photo]
    for name in ("alice", "bob", "carol"):
        (row,) = protect_now(photo, output=tmp_path / name, place_name=name, **EASY)
        assert (row.status, row.place_name) == ("protected", name)
        files.append(tmp_path / name / "a.png")
        others = [int(np.count_nonzero(seen(files[-1], network) != seen(file, network))) for file in files[1:-1]]
        # What the receipt says is of the codes that were aimed at; a copy may miss its own by a bit.
        assert [said.view for said in row.places] == ([CARD, SQUASH] if others else [])
        assert not others or abs(row.places[0].distance - min(others)) <= 1
    for one, other in combinations(files, 2):
        for view in (CARD, SQUASH):
            assert in_band(apart(one, other, network, view), 16), (one, other, view)


@pytest.mark.long
def test_a_place_is_given_its_code_again(photo: Path, tmp_path: Path, network: OpenModel, protect_now: Protect) -> None:
    for place, folder in (("alice", "one"), ("bob", "two"), ("alice", "three")):
        (row,) = protect_now(photo, output=tmp_path / folder, place_name=place, **EASY)
        assert row.status == "protected"
    with Store.open(tmp_path / "vault") as store:
        ((_, records),) = protections(store).items()
        wanted = [record.details["marks"][0]["wanted"] for record in records]
    assert wanted[0] == wanted[2] != wanted[1]


def test_without_a_name_nothing_is_recorded_or_drawn_otherwise(
    photo: Path, tmp_path: Path, protect_now: Protect, request_for: Callable[..., Request]
) -> None:
    (before,) = protect_now(photo, output=tmp_path / "before", **EASY)
    protect_now(photo, output=tmp_path / "alice", place_name="alice", **EASY)
    (after,) = protect_now(photo, output=tmp_path / "after", **EASY)
    assert (tmp_path / "before" / "a.png").read_bytes() == (tmp_path / "after" / "a.png").read_bytes()
    assert before.place_name is None
    assert after.places == ()
    with Store.open(tmp_path / "vault") as store:
        plain = store.known(str(after.sha256_after))
        assert plain is not None
        assert not {"place_name", "source"} & plain.details.keys()
    key = bytes(32)
    assert asked_now(request_for(), key) != asked_now(request_for(place_name="alice"), key)


def test_a_protected_photo_says_how_another_place_gets_its_copy(
    photo: Path, tmp_path: Path, network: OpenModel, protect_now: Protect
) -> None:
    before = tmp_path / "before.png"
    before.write_bytes(photo.read_bytes())
    assert protect_now(photo, place_name="alice", **EASY)[0].status == "protected"
    in_place = photo.read_bytes()
    (row,) = protect_now(photo, place_name="bob", **EASY)
    assert (row.status, row.place_name) == ("already", "alice")
    assert str(row.reason).startswith("protected for alice; --force --output DIR makes a copy for bob")
    (row,) = protect_now(photo, place_name="bob", output=tmp_path / "bob", **EASY)
    assert (row.status, row.reason) == (
        "already",
        "protected for alice; --force makes the copy for bob from the original in the vault",
    )
    (row,) = protect_now(photo, place_name="bob", output=tmp_path / "bob", force=True, **EASY)
    assert row.status == "protected"
    assert photo.read_bytes() == in_place, "the photo itself stays alice's"
    copies = (before, photo, tmp_path / "bob" / "a.png")
    assert all(in_band(apart(one, other, network, CARD), 16) for one, other in combinations(copies, 2))
    with Store.open(tmp_path / "vault") as store:
        assert len(protections(store)) == 1, "both are of one original"
        assert {original_of(record) for record in store.ledger.every()} == {row.sha256_before}


def test_a_copy_is_not_the_photo_to_start_from(photo: Path, tmp_path: Path, protect_now: Protect) -> None:
    protect_now(photo, output=tmp_path / "alice", place_name="alice", **EASY)
    (row,) = protect_now(tmp_path / "alice" / "a.png", output=tmp_path / "bob", place_name="bob", **EASY)
    assert row.reason == "is a copy protected for alice; for bob protect the original, into a folder of its own"
    (row,) = protect_now(tmp_path / "alice" / "a.png", place_name="alice", **EASY)
    assert (row.status, row.reason) == ("already", None)


def test_no_original_is_said(photo: Path, protect_now: Protect) -> None:
    protect_now(photo, backup=False, **EASY)
    (row,) = protect_now(photo, place_name="bob", **EASY)
    assert row.reason == "protected without a name, and no original is kept: there is nothing to protect for bob"


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "x" * 101, "\x1b[31m"])
def test_what_is_no_name(name: str) -> None:
    with pytest.raises(UsageError, match="is not a valid name for a place"):
        checked_place(name)


def test_one_name_has_one_spelling() -> None:
    assert checked_place(" Cafe\u0301 ") == checked_place("Caf\u00e9") == "Caf\u00e9"
    assert checked_place(None) is None


def test_a_goal_that_names_its_code_leaves_nothing_to_a_name(request_for: Callable[..., Request]) -> None:
    with pytest.raises(UsageError, match="the goal opposite says which code it is"):
        check(request_for(goal=GoalSpec("opposite"), place_name="alice"))
    check(request_for(place_name="alice"))


def test_a_photo_that_is_not_recorded_has_no_place(request_for: Callable[..., Request]) -> None:
    with pytest.raises(UsageError, match="--output DIR for a copy"):
        protect_bytes(encoded(picture()), request_for(place_name="alice"), name="-")


@pytest.mark.long
def test_audit_says_which_copies_find_each_other(
    photo: Path, tiny: Path, tmp_path: Path, network: OpenModel, protect_now: Protect, told: Any
) -> None:
    gallery = tmp_path / "gallery"
    gallery.mkdir()
    for seed in range(9):
        (gallery / f"{seed}.png").write_bytes(encoded(picture(seed=20 + seed)))
    for name in ("alice", "bob", "carol"):
        protect_now(photo, output=tmp_path / name, place_name=name, **EASY)
    protect_now(photo, output=tmp_path / "plain", **EASY)
    mine, (bob, carol, plain) = (
        tmp_path / "alice" / "a.png",
        ((tmp_path / n / "a.png") for n in ("bob", "carol", "plain")),
    )
    carol.write_bytes(mine.read_bytes())
    plain.unlink()

    def asked(threshold: int) -> Iterator[Any]:
        (row,) = audit(
            mine,
            gallery,
            models=[f"{tiny}:16"],
            original=photo,
            threshold=threshold,
            vault=tmp_path / "vault",
            device="cpu",
            progress=told,
        )
        return iter(row.copies)

    first, changed, gone = asked(2)
    between = apart(mine, bob, network, CARD)
    nearer = sum(apart(mine, file, network, CARD) < between for file in gallery.iterdir())
    assert first == replace(first, path=str(bob), place_name="bob", distance=between, rank=1 + nearer, matches=False)
    assert (changed.place_name, changed.reason, changed.matches) == ("carol", "changed since it was protected", None)
    assert (gone.place_name, gone.path, gone.distance) == (None, str(plain), None)
    assert "no such file" in str(gone.reason).lower()
    assert next(asked(16)).matches


def test_what_a_place_and_the_others_were_given(photo: Path, tmp_path: Path, protect_now: Protect) -> None:
    for name in ("alice", "bob"):
        protect_now(photo, output=tmp_path / name, place_name=name, **EASY)
    with Store.open(tmp_path / "vault") as store:
        ((_, records),) = protections(store).items()
    found, stranger = codes_of_place("alice", records), codes_of_place("carol", records)
    (model,) = found.given
    assert not stranger.given
    assert [len(codes) for codes in (found.other_codes[model], stranger.other_codes[model])] == [1, 2]
    assert in_band(int(np.count_nonzero(found.given[model] != found.other_codes[model][0])), 16)
