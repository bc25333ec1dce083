"""A search that fell short is not repeated under the same settings, and only then."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hashshield.pipeline.attempts import asked_now
from hashshield.pipeline.originals import forget, list_originals, prune
from hashshield.storage import Store
from hashshield.types import FileOptions, GoalSpec, Outcome, Request
from tiny_net import encoded, picture, write_tiny

Protect = Callable[..., list[Outcome]]
SAYS = "same settings as before: nothing new was tried; --force tries again"
HARD: dict[str, Any] = {"tau": 1 / 255, "steps": 1, "goal": GoalSpec("opposite")}


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    path = folder / "a.png"
    path.write_bytes(encoded(picture(96, 128)))
    return path


@pytest.fixture
def first(photo: Path, protect_now: Protect) -> Outcome:
    """The row of a run that fell short."""
    (row,) = protect_now(photo, **HARD)
    assert row.status == "short"
    assert SAYS not in str(row.reason)
    return row


def test_the_same_again_is_answered_with_what_was_found(photo: Path, first: Outcome, protect_now: Protect) -> None:
    before = photo.read_bytes()
    (row,) = protect_now(photo, **HARD)
    assert row == replace(first, reason=f"{first.reason} ({SAYS})", steps=None, seconds=None, codes=(), survival=())
    assert row.sha256_before == hashlib.sha256(before).hexdigest()
    assert photo.read_bytes() == before
    (planned,) = protect_now(photo, dry_run=True, **HARD)
    assert planned == row


def test_a_copy_is_the_same_photo_and_an_edit_another(photo: Path, first: Outcome, protect_now: Protect) -> None:
    shutil.copy(photo, photo.with_name("copy.png"))
    photo.write_bytes(encoded(picture(96, 128, seed=1)))
    rows = {Path(row.path).name: row for row in protect_now(photo.parent, **HARD)}
    assert SAYS in str(rows["copy.png"].reason)
    assert SAYS not in str(rows["a.png"].reason)
    assert rows["a.png"].seconds is not None


@pytest.mark.parametrize("changes", [{"tau": 2 / 255}, {"force": True}, {"accept_best": True}])
def test_anything_else_is_tried(changes: dict[str, Any], photo: Path, first: Outcome, protect_now: Protect) -> None:
    (row,) = protect_now(photo, **{**HARD, **changes})
    assert row.seconds is not None, "a search was made"
    assert SAYS not in str(row.reason)


def test_every_setting_that_matters_makes_another_attempt(request_for: Callable[..., Request], tmp_path: Path) -> None:
    changes: list[dict[str, Any]] = [
        {},
        {"tau": 2 / 255},
        {"steps": 2},
        {"steps": None},
        {"goal": GoalSpec("opposite")},
        {"goal": GoalSpec("class", "cat")},
        {"method": "tanh"},
        {"preset": "balanced"},
        {"stop": "first"},
        {"tolerance": 0},
        {"seed": 2},
        {"seed": None},
        {"batch_size": 1},
        {"models": ("lite0-caltech101:32",)},
    ]
    assert len({asked_now(request_for(**change), b"key") for change in changes}) == len(changes)
    for change in (
        {"jobs": 7},
        {"force": True},
        {"output": tmp_path},
        {"backup": False},
        {"file_options": FileOptions(strip_gps=True)},
    ):
        assert asked_now(request_for(**change), b"key") == asked_now(request_for(), b"key")


def test_another_network_of_the_same_name_is_tried(tmp_path: Path, photo: Path, protect_now: Protect) -> None:
    network = write_tiny(tmp_path / "own.safetensors")
    models = (f"{network}:16",)
    for new in (True, False):
        (row,) = protect_now(photo, **HARD, models=models)
        assert (SAYS not in str(row.reason)) == new
    write_tiny(network, seed=7)
    (row,) = protect_now(photo, **HARD, models=models)
    assert SAYS not in str(row.reason)


def test_another_version_of_the_search_is_tried(
    photo: Path, first: Outcome, protect_now: Protect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hashshield.pipeline.attempts.SEARCH_VERSION", 0)
    (row,) = protect_now(photo, **HARD)
    assert SAYS not in str(row.reason)


PNG = b"\x89PNG\r\n\x1a\n"


@pytest.mark.parametrize("kind", ["image", "set"])
def test_a_target_is_its_contents(kind: Any, tmp_path: Path, request_for: Callable[..., Request]) -> None:
    folder = tmp_path / "targets"
    folder.mkdir()
    target = folder / "b.png"
    asked = request_for(goal=GoalSpec(kind, str(target if kind == "image" else folder)))
    found = [asked_now(asked, b"key")]
    for content in (b"one", b"two"):
        target.write_bytes(PNG + content)
        found.append(asked_now(asked, b"key"))
    assert len(set(found)) == 3
    target.write_bytes(PNG + b"one")
    assert asked_now(asked, b"key") == found[1]


def test_models_are_named_in_any_way_and_keys_count(tiny: Path, request_for: Callable[..., Request]) -> None:
    named = [request_for(models=(name,)) for name in ("lite0-caltech101", "lite0-caltech101:48")]
    assert asked_now(named[0], b"key") == asked_now(named[1], b"other"), "with a seed the key is not used"
    own = [request_for(seed=None) for _ in range(2)]
    assert asked_now(own[0], b"key") != asked_now(own[1], b"other")


def test_forget_deletes_attempts_and_prune_does_not(
    tmp_path: Path, photo: Path, first: Outcome, protect_now: Protect
) -> None:
    vault = tmp_path / "vault"
    assert list_originals(vault) == []
    assert prune(vault=vault, dry_run=False).originals == ()
    assert SAYS in str(protect_now(photo, **HARD)[0].reason)
    assert forget(photo, vault=vault, dry_run=True).rows == 1
    assert forget(photo, vault=vault).rows == 1
    content = hashlib.sha256(photo.read_bytes()).hexdigest().encode()
    assert all(content not in file.read_bytes() for file in vault.iterdir() if file.is_file())
    assert SAYS not in str(protect_now(photo, **HARD)[0].reason)
    photo.unlink()
    assert forget(photo, vault=vault).rows == 1, "by its path"


def test_attempts_go_with_the_protection_of_the_photo(
    tmp_path: Path, photo: Path, first: Outcome, protect_now: Protect
) -> None:
    (row,) = protect_now(photo, accept_best=True)
    assert row.status in ("protected", "partial")
    photo = photo.rename(photo.with_name("moved.png"))
    assert forget(photo, vault=tmp_path / "vault").rows == 2
    with Store.open(tmp_path / "vault") as store:
        assert not store.ledger.attempts.about(str(first.sha256_before))
