"""A search that fell short is not repeated under the same settings, and only then."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hashshield.errors import StorageError
from hashshield.pipeline.originals import forget, list_originals, prune
from hashshield.pipeline.plan import asked_now, model_names, plan
from hashshield.storage import NewRecord, Store, read_snapshot
from hashshield.storage.folder import Folder
from hashshield.types import FileOptions, GoalSpec, Outcome, Request
from tiny_net import encoded, picture, write_tiny

PHOTO = encoded(picture(40, 40))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "vault") as opened:
        yield opened


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    for name in ("b.png", "a.png", "sub/c.png"):
        (folder / name).write_bytes(PHOTO + name.encode())
    return folder


def test_folders_are_walked_and_files_taken_as_named(photos: Path, store: Store) -> None:
    found = plan([photos / "a.png", photos], Request(), store)
    assert [(j.path, j.within) for j in found.jobs] == [
        (photos / "a.png", None),
        (photos / "b.png", photos),
        (photos / "sub" / "c.png", photos),
    ]
    assert found.resolved == ()
    assert [j.size for j in found.jobs] == [len(PHOTO) + 5, len(PHOTO) + 5, len(PHOTO) + 9]


def test_copies_keep_their_place_below_the_folder(photos: Path, store: Store, tmp_path: Path) -> None:
    out = tmp_path / "out"
    found = plan([photos, photos / "sub"], Request(output=out), store)
    assert {j.output for j in found.jobs} == {out / "a.png", out / "b.png", out / "sub" / "c.png"}


def test_one_file_by_several_paths_is_one_job_and_a_hard_link_another(photos: Path, store: Store) -> None:
    os.link(photos / "a.png", photos / "hard.png")
    (photos / "soft.png").symlink_to(photos / "b.png")
    # Without this a photo with two names is refused.
    request = Request(file_options=FileOptions(break_links=True))
    found = plan([photos / "soft.png", photos, photos / "sub" / ".." / "a.png", photos / "a.png"], request, store)
    assert [j.path.name for j in found.jobs] == ["soft.png", "a.png", "hard.png", "c.png"]
    assert {(Path(r.path).name, r.status) for r in found.resolved} == {
        ("b.png", "skipped"),
        ("a.png", "skipped"),
    }


def test_links_met_in_a_folder_are_not_followed(photos: Path, store: Store, tmp_path: Path) -> None:
    outside = tmp_path / "outside.png"
    outside.write_bytes(PHOTO)
    (photos / "link.png").symlink_to(outside)
    (photos / "loop").symlink_to(photos)
    found = plan([photos], Request(), store)
    assert [j.path.name for j in found.jobs] == ["a.png", "b.png", "c.png"]


def test_no_image_is_skipped_when_met_and_failed_when_named(photos: Path, store: Store) -> None:
    (photos / "notes.txt").write_text("text")
    (photos / "empty.jpg").write_bytes(b"")
    found = plan([photos], Request(), store)
    assert {(Path(r.path).name, r.status, r.reason) for r in found.resolved} == {
        ("notes.txt", "skipped", "not an image"),
        ("empty.jpg", "skipped", "not an image"),
    }
    named = plan([photos / "notes.txt"], Request(), store)
    assert named.jobs == ()
    assert [(row.status, "not an image" in str(row.reason)) for row in named.resolved] == [("failed", True)]


def test_what_is_not_there_is_a_row(photos: Path, store: Store) -> None:
    (photos / "dangling.png").symlink_to(photos / "gone.png")
    found = plan([photos / "nowhere.png", photos / "dangling.png"], Request(), store)
    assert found.jobs == ()
    assert [r.status for r in found.resolved] == ["failed", "failed"]
    assert "no such file or folder" in str(found.resolved[0].reason)


def test_results_are_already_protected_unless_forced(photos: Path, store: Store) -> None:
    details = {"model": "lite0-caltech101:48", "goal": "away", "tau": 0.032, "method": "rnm", "bits": 48}
    path = photos / "a.png"
    record = store.replace(read_snapshot(path, follow=True), PHOTO + b"after", NewRecord(details=details))
    found = plan([path], Request(), store)
    assert found.jobs == ()
    (row,) = found.resolved
    assert (row.status, row.reason, row.bits, row.sha256_after) == ("already", None, 48, record.sha256_after)
    for named in ("lite0-caltech101", "lite0-caltech101:48"):
        assert plan([path], Request(models=(named,)), store).resolved[0].reason is None
    (row,) = plan([path], Request(tau=0.02, goal=GoalSpec("class", "lotus")), store).resolved
    assert row.reason == "protected earlier with goal away, tau 0.032; --force starts again from the original"
    (job,) = plan([path], Request(force=True), store).jobs
    assert job.again == record


def test_the_vault_is_not_walked(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(PHOTO)
    with Store.open(tmp_path / "vault") as store:
        store.replace(read_snapshot(tmp_path / "a.png", follow=True), PHOTO + b"after", NewRecord())
        found = plan([tmp_path], Request(), store)
    assert found.jobs == ()
    assert [Path(r.path).name for r in found.resolved] == ["a.png"]


@pytest.mark.parametrize(
    ("goal", "name"),
    [(GoalSpec(), "away"), (GoalSpec("class", "lotus"), "class:lotus")],
)
def test_goals_are_named_with_their_value(goal: GoalSpec, name: str) -> None:
    assert goal.label == name


def test_networks_are_named_in_full(tiny: Path) -> None:
    request = Request(models=("lite0-caltech101", f"{tiny}:16", "lite0-caltech101:48"))
    assert model_names(request) == f"lite0-caltech101:48,{tiny.resolve()}:16"


def test_planning_waits_for_neither_torch_nor_pillow() -> None:
    code = "import sys, hashshield.pipeline.plan; assert not {'torch', 'PIL'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("made", ["read-only file", "file of another", "read-only folder"])
def test_a_photo_that_may_not_be_replaced_is_refused_before_any_search(
    made: str, photos: Path, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root may write everything, so what the file system would say is said in its place."""
    photo = photos / "a.png"
    if made == "read-only file":
        photo.chmod(0o444)
    elif made == "file of another":
        monkeypatch.setattr(Folder, "may_write", lambda folder, name: name != "a.png")
    else:
        monkeypatch.setattr(Folder, "may_add", lambda folder: folder.path != photos)
    words = {"read-only file": "is read-only", "file of another": "as its owner", "read-only folder": "folder writable"}
    refused = {photos / "a.png"} if made != "read-only folder" else {photos / "a.png", photos / "b.png"}
    for within in (None, photos):
        named = [photos] if within is None else sorted(photos.rglob("*.png"))
        found = plan(named, Request(), store, within=within)
        assert {row.path: row.status for row in found.resolved} == dict.fromkeys(map(str, refused), "failed")
        assert all(words[made] in str(row.reason) for row in found.resolved)
        assert {job.path for job in found.jobs} == set(photos.rglob("*.png")) - refused
    copies = plan([photos], Request(output=tmp_path / "out"), store)
    assert (len(copies.jobs), copies.resolved) == (3, ())
    store.require_replaceable(read_snapshot(photos / "sub" / "c.png", follow=True))
    with pytest.raises(StorageError, match=words[made]):
        store.replace(read_snapshot(photo, follow=True), b"protected", NewRecord(), allow_root=True)


def test_a_read_only_photo_that_is_protected_already_is_left_alone(photos: Path, store: Store) -> None:
    photo = photos / "a.png"
    store.replace(read_snapshot(photo, follow=True), encoded(picture(40, 40, seed=3)), NewRecord(), allow_root=True)
    photo.chmod(0o444)
    (row,) = plan([photo], Request(), store).resolved
    assert row.status == "already"
    (row,) = plan([photo], Request(force=True), store).resolved
    assert (row.status, "is read-only" in str(row.reason)) == ("failed", True)


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
    assert row == replace(
        first, reason=f"{first.reason} ({SAYS})", steps=None, evaluations=None, seconds=None, codes=(), survival=()
    )
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
    monkeypatch.setattr("hashshield.pipeline.plan.SEARCH_VERSION", 0)
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
