"""`--output` never takes the place of a photo, whatever it is called and however it is reached."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hashshield.errors import UsageError
from hashshield.pipeline import places
from hashshield.pipeline.plan import plan
from hashshield.pipeline.protect import protect
from hashshield.pipeline.restore import restore
from hashshield.storage import Store
from hashshield.types import Request
from tiny_net import encoded, picture

Make = Callable[..., Request]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "vault") as opened:
        yield opened


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, name in enumerate(("a.png", "b.png")):
        (folder / name).write_bytes(encoded(picture(40, 40, seed=number)))
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("spelled", ["photos", "photos/../photos", "link", "photos/sub/.."])
@pytest.mark.parametrize("force", [True, False])
def test_the_folder_of_the_photos_is_no_place_for_copies(
    photos: Path, tmp_path: Path, store: Store, spelled: str, force: bool
) -> None:
    (photos / "sub").mkdir()
    (tmp_path / "link").symlink_to(photos)
    with pytest.raises(UsageError, match="folder of the photos themselves"):
        plan([photos], Request(output=tmp_path / spelled, force=force), store)


@pytest.mark.parametrize("force", [True, False])
def test_a_named_photo_is_never_the_place_of_its_copy(photos: Path, store: Store, force: bool) -> None:
    found = plan([photos / "a.png"], Request(output=photos, force=force), store)
    assert found.jobs == ()
    (row,) = found.resolved
    assert row.status == "failed"
    assert "the photo itself" in str(row.reason)


@pytest.mark.parametrize("how", ["hard link", "symbolic link", "another photo of the run"])
def test_no_photo_of_the_run_is_the_place_of_a_copy(photos: Path, tmp_path: Path, store: Store, how: str) -> None:
    out = tmp_path / "out"
    out.mkdir()
    if how == "hard link":
        os.link(photos / "b.png", out / "a.png")
    elif how == "symbolic link":
        (out / "a.png").symlink_to(photos / "b.png")
    else:
        (out / "a.png").write_bytes(encoded(picture(40, 40, seed=9)))
    named = [photos / "a.png", out / "a.png" if how.startswith("another") else photos / "b.png"]
    found = plan(named, Request(output=out, force=True), store)
    reasons = {row.path: str(row.reason) for row in found.resolved if row.status == "failed"}
    assert "a photo of this run" in reasons[str(photos / "a.png")]
    assert str(photos / "a.png") not in {str(job.path) for job in found.jobs}


def test_two_photos_of_one_name_get_no_common_place(photos: Path, tmp_path: Path, store: Store) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "a.png").write_bytes(encoded(picture(40, 40, seed=5)))
    found = plan([photos / "a.png", other / "a.png"], Request(output=tmp_path / "out", force=True), store)
    assert [job.path for job in found.jobs] == [photos / "a.png"]
    (row,) = found.resolved
    assert row.status == "failed"
    assert f"like that of {photos / 'a.png'}" in str(row.reason)


@pytest.mark.parametrize("folds", [True, False])
def test_where_case_is_ignored_two_spellings_are_one_place(
    photos: Path, tmp_path: Path, store: Store, folds: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    (photos / "A.PNG").write_bytes(encoded(picture(40, 40, seed=5)))
    monkeypatch.setattr(places, "ignores_case", lambda folder: folds)
    found = plan([photos], Request(output=tmp_path / "out"), store)
    assert len(found.jobs) == (2 if folds else 3)


def test_what_force_replaces_is_in_the_vault_and_comes_back(
    photos: Path, tmp_path: Path, request_for: Make, told: object
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    theirs = encoded(picture(40, 40, seed=7))
    (out / "a.png").write_bytes(theirs)
    (out / "a.png").chmod(0o640)
    os.utime(out / "a.png", ns=(1, 10**18))
    before = contents(photos)
    request = request_for(output=out, force=True, steps=8, accept_best=True)
    rows = protect([photos], request, progress=told)  # type: ignore[arg-type]
    assert {row.status for row in rows} <= {"protected", "partial"}
    assert (out / "a.png").read_bytes() != theirs
    assert contents(photos) == before
    # Once more, over the copy: what lay there at first is still the way back.
    protect([photos], request, progress=told)  # type: ignore[arg-type]

    (back, none) = restore([out / "a.png", out / "b.png"], vault=request.vault)
    assert back.status == "restored"
    assert (out / "a.png").read_bytes() == theirs
    assert (out / "a.png").stat().st_mode & 0o777 == 0o640
    assert (out / "a.png").stat().st_mtime_ns == 10**18
    assert (none.status, "never changed" in str(none.reason)) == ("skipped", True)


def test_a_deleted_copy_still_leads_to_what_it_replaced(
    photos: Path, tmp_path: Path, request_for: Make, told: object
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    theirs = encoded(picture(40, 40, seed=7))
    (out / "a.png").write_bytes(theirs)
    request = request_for(output=out, force=True, steps=8, accept_best=True)
    protect([photos / "a.png"], request, progress=told)  # type: ignore[arg-type]
    (out / "a.png").rename(tmp_path / "elsewhere.png")
    moved, back = restore([tmp_path / "elsewhere.png", out / "a.png"], vault=request.vault)
    assert moved.status == "skipped"
    assert back.status == "restored"
    assert (out / "a.png").read_bytes() == theirs


def test_a_copy_never_replaces_a_photo_protected_in_place_for_good(
    photos: Path, tmp_path: Path, request_for: Make, told: object
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    theirs = encoded(picture(40, 40, seed=8))
    (other / "a.png").write_bytes(theirs)
    common = {"steps": 8, "accept_best": True}
    protect([other], request_for(**common), progress=told)  # type: ignore[arg-type]
    protected = (other / "a.png").read_bytes()
    assert protected != theirs
    request = request_for(output=other, force=True, **common)
    protect([photos / "a.png"], request, progress=told)  # type: ignore[arg-type]
    assert (other / "a.png").read_bytes() not in (theirs, protected)
    (row,) = restore([other / "a.png"], vault=request.vault)
    assert (row.status, (other / "a.png").read_bytes() == protected) == ("restored", True)
    (row,) = restore([other / "a.png"], vault=request.vault)
    assert (row.status, (other / "a.png").read_bytes() == theirs) == ("restored", True)


def test_a_second_run_meets_its_own_copies(photos: Path, request_for: Make, told: object) -> None:
    request = request_for(output=photos / "out", steps=8, accept_best=True)
    for _ in range(2):
        rows = protect([photos], request, progress=told)  # type: ignore[arg-type]
        assert {row.status for row in rows} <= {"protected", "partial", "already"}, rows
    assert sorted(contents(photos)) == ["a.png", "b.png", "out/a.png", "out/b.png"]
