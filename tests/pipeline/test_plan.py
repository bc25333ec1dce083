from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hashshield.errors import StorageError
from hashshield.pipeline.plan import model_names, plan
from hashshield.storage import NewRecord, Store, read_snapshot
from hashshield.storage.folder import Folder
from hashshield.types import FileOptions, GoalSpec, Request
from tiny_net import encoded, picture

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


def test_one_file_by_several_names_is_one_job(photos: Path, store: Store) -> None:
    os.link(photos / "a.png", photos / "hard.png")
    (photos / "soft.png").symlink_to(photos / "b.png")
    # Without this a photo with two names is refused.
    request = Request(file_options=FileOptions(break_links=True))
    found = plan([photos / "soft.png", photos, photos / "sub" / ".." / "a.png", photos / "a.png"], request, store)
    assert [j.path.name for j in found.jobs] == ["soft.png", "a.png", "c.png"]
    assert {(Path(r.path).name, r.status) for r in found.resolved} == {
        ("b.png", "skipped"),
        ("hard.png", "skipped"),
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
