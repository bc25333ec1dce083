from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

import pytest

from hashshield.errors import StorageError
from hashshield.storage import NewRecord, Record, Store, read_snapshot
from hashshield.storage.folder import temporary_name
from hashshield.storage.schema import PendingRecord


@pytest.fixture(autouse=True)
def _only_what_recovery_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the temporary folder of a test run lies is no matter here."""
    monkeypatch.setattr("hashshield.storage.store.volume_notices", lambda root: [])


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def leave_open(root: Path, path: Path, *, replaced: bytes | None, kind: str = "protect") -> Path:
    """Do what a run does up to the intent, and die."""
    with Store.open(root) as store:
        original = store.vault.put(b"before")
        temporary = path.with_name(temporary_name())
        store.ledger.intend(
            PendingRecord(
                kind=kind,  # type: ignore[arg-type]
                path=path,
                sha256_before=digest(b"before"),
                sha256_replaced=None if replaced is None else digest(replaced),
                sha256_after=digest(b"after"),
                original=original,
                created="2026-01-01T00:00:00+00:00",
                tool="1",
                run="run",
            ),
            originals={original: 6},
            temporary=temporary,
        )
    return temporary


def test_a_file_that_holds_the_result_is_committed(root: Path, photos: Path) -> None:
    photo = photos / "a.jpg"
    leave_open(root, photo, replaced=b"before")
    photo.write_bytes(b"after")
    with Store.open(root) as store:
        assert store.notices == []
        assert store.known(digest(b"after")) is not None
        assert store.restore(photo).status == "restored"
    assert photo.read_bytes() == b"before"


def test_a_file_that_holds_what_it_held_is_dropped(root: Path, photos: Path) -> None:
    photo = photos / "a.jpg"
    temporary = leave_open(root, photo, replaced=b"before")
    photo.write_bytes(b"before")
    temporary.write_bytes(b"aft")
    with Store.open(root) as store:
        assert store.notices == []
        assert store.ledger.every() == []
        assert store.ledger.temporaries() == []
    assert not temporary.exists()
    assert photo.read_bytes() == b"before"


@pytest.mark.parametrize("found", ["something else", "nothing", "a folder", "no folder"])
def test_anything_else_is_left_and_said(found: str, root: Path, photos: Path) -> None:
    photo = photos / "sub" / "a.jpg"
    photo.parent.mkdir()
    leave_open(root, photo, replaced=b"before")
    if found == "something else":
        photo.write_bytes(b"edited since")
    elif found == "a folder":
        photo.mkdir()
    elif found == "no folder":
        photo.parent.rmdir()
    for _ in range(2):
        with Store.open(root) as store:
            assert len(store.notices) == 1
            assert str(photo) in store.notices[0]
            assert "left as it is" in store.notices[0]
            assert len(store.ledger.open_intents()) == 1
    if found == "something else":
        assert photo.read_bytes() == b"edited since"
    if found in {"nothing", "no folder"}:
        # A volume that was unplugged comes back.
        photo.parent.mkdir(exist_ok=True)
        photo.write_bytes(b"after")
        with Store.open(root) as store:
            assert store.notices == []
            assert store.known(digest(b"after")) is not None


@pytest.mark.parametrize("kind", ["copy", "restore"])
def test_a_new_file_that_was_not_made_is_dropped(kind: str, root: Path, photos: Path) -> None:
    leave_open(root, photos / "a.jpg", replaced=None, kind=kind)
    with Store.open(root) as store:
        assert store.notices == []
        assert store.ledger.every() == []


def test_a_link_is_not_followed_when_settling(root: Path, photos: Path, tmp_path: Path) -> None:
    photo = photos / "a.jpg"
    leave_open(root, photo, replaced=b"before")
    elsewhere = tmp_path / "elsewhere.jpg"
    elsewhere.write_bytes(b"after")
    photo.symlink_to(elsewhere)
    with Store.open(root) as store:
        assert len(store.notices) == 1
        assert len(store.ledger.open_intents()) == 1


def test_only_temporary_files_are_ever_removed(root: Path, photos: Path) -> None:
    photo = photos / "a.jpg"
    photo.write_bytes(b"precious")
    with Store.open(root) as store:
        store.ledger.announce(photo)
    with pytest.raises(StorageError, match="it is none"):
        Store.open(root)
    assert photo.read_bytes() == b"precious"


def test_a_temporary_on_an_unplugged_volume_is_remembered(root: Path, photos: Path) -> None:
    temporary = photos / temporary_name()
    with Store.open(root) as store:
        store.ledger.announce(temporary)
    away = photos.with_name("away")
    photos.rename(away)
    (away / temporary.name).write_bytes(b"half")
    Store.open(root).close()
    away.rename(photos)
    Store.open(root).close()
    assert not temporary.exists()
    with Store.open(root) as store:
        assert store.ledger.temporaries() == []


def test_recovery_leaves_finished_work_alone(root: Path, photos: Path) -> None:
    photo = photos / "a.jpg"
    photo.write_bytes(b"before")
    with Store.open(root) as store:
        record = store.replace(read_snapshot(photo, follow=True), b"after", NewRecord())
    photo.write_bytes(b"edited since")
    with Store.open(root) as store:
        assert store.notices == []
        assert store.ledger.every() == [record]


MTIME_NS = 1_500_000_000_123_456_789


def protect(store: Store, path: Path, data: bytes = b"protected", **given: object) -> Record:
    return store.replace(read_snapshot(path, follow=True), data, NewRecord(**given))  # type: ignore[arg-type]


@pytest.fixture
def photo(photos: Path) -> Path:
    path = photos / "a.jpg"
    path.write_bytes(b"original")
    path.chmod(0o640)
    os.utime(path, ns=(MTIME_NS, MTIME_NS))
    return path


def is_original(path: Path) -> bool:
    status = path.stat()
    return path.read_bytes() == b"original" and stat.S_IMODE(status.st_mode) == 0o640 and status.st_mtime_ns == MTIME_NS


def test_bytes_mode_and_time_come_back(store: Store, photo: Path) -> None:
    record = protect(store, photo)
    photo.chmod(0o600)
    row = store.restore(photo)
    assert (row.status, row.sha256) == ("restored", record.sha256_before)
    assert is_original(photo)
    assert store.ledger.record(record.id).state == "restored"


@pytest.mark.parametrize("how", ["renamed", "copied", "moved"])
def test_a_file_is_found_by_its_content(how: str, store: Store, photo: Path, tmp_path: Path) -> None:
    record = protect(store, photo)
    target = tmp_path / "b.jpg" if how == "moved" else photo.with_name("b.jpg")
    if how == "copied":
        target.write_bytes(photo.read_bytes())
    else:
        photo.rename(target)
    assert store.restore(target).status == "restored"
    assert is_original(target)
    if how == "copied":
        assert photo.read_bytes() == b"protected"
        assert store.ledger.record(record.id).state == "done", "the recorded file still is protected"
        assert store.restore(photo).status == "restored"
        assert is_original(photo)
    assert store.known(record.sha256_after) is not None, "another copy may be anywhere and must not be protected twice"


def test_of_two_equal_photos_each_gets_its_own_time_back(store: Store, photo: Path) -> None:
    twin = photo.with_name("twin.jpg")
    twin.write_bytes(b"original")
    os.utime(twin, ns=(5, 5))
    protect(store, photo)
    protect(store, twin)
    store.restore(photo)
    store.restore(twin)
    assert is_original(photo)
    assert twin.stat().st_mtime_ns == 5


def test_an_edited_photo_is_left_unless_forced(store: Store, photo: Path) -> None:
    protect(store, photo)
    photo.write_bytes(b"edited")
    row = store.restore(photo)
    assert row.status == "failed"
    assert "--force" in (row.reason or "")
    assert photo.read_bytes() == b"edited"
    assert store.restore(photo, force=True).status == "restored"
    assert is_original(photo)
    kept = [record.kept for record in store.ledger.every() if record.kept]
    assert [store.vault.get(name) for name in kept] == [b"edited"]


def test_a_photo_with_edited_metadata_is_known_by_its_pixels(store: Store, photo: Path) -> None:
    protect(store, photo, pixels_after="the pixels")
    photo.write_bytes(b"protected, with a caption")
    assert store.restore(photo).status == "failed"
    assert store.restore(photo, pixel_digest=lambda data, path: "other pixels").status == "failed"
    assert store.restore(photo, pixel_digest=lambda data, path: "the pixels").status == "restored"
    assert is_original(photo)
    kept = [record.kept for record in store.ledger.every() if record.kept]
    assert [store.vault.get(name) for name in kept] == [b"protected, with a caption"]


def test_a_deleted_file_is_brought_back(store: Store, photo: Path) -> None:
    record = protect(store, photo)
    photo.unlink()
    photo.parent.rmdir()
    assert store.restore(photo, dry_run=True).status == "planned"
    assert not photo.exists()
    assert store.restore(photo).status == "restored"
    assert is_original(photo)
    assert store.ledger.record(record.id).state == "restored"


def test_dry_run_and_nothing_to_do(store: Store, photo: Path) -> None:
    record = protect(store, photo)
    row = store.restore(photo, dry_run=True)
    assert (row.status, row.sha256) == ("planned", record.sha256_before)
    assert photo.read_bytes() == b"protected"
    store.restore(photo)
    again = store.restore(photo)
    assert (again.status, again.reason) == ("skipped", "is the original already")
    stranger = photo.with_name("stranger.jpg")
    stranger.write_bytes(b"never seen")
    assert store.restore(stranger).status == "failed"
    assert store.restore(stranger, follow=False).status == "skipped"
    assert store.restore(photo.with_name("nowhere.jpg")).status == "failed"


def test_a_damaged_original_is_never_put_back(store: Store, photo: Path) -> None:
    record = protect(store, photo)
    assert record.original is not None
    blob = store.vault.path / record.original[:2] / record.original
    blob.write_bytes(b"damaged")
    with pytest.raises(StorageError, match="damaged"):
        store.restore(photo)
    assert photo.read_bytes() == b"protected"
    blob.unlink()
    with pytest.raises(StorageError, match="not in the vault"):
        store.restore(photo)
    assert photo.read_bytes() == b"protected"


def test_links_are_not_followed_unless_named(store: Store, photo: Path, tmp_path: Path) -> None:
    protect(store, photo)
    folder = tmp_path / "links"
    folder.mkdir()
    link = folder / "link.jpg"
    link.symlink_to(photo)
    assert store.restore(link).status == "restored"
    assert link.is_symlink()
    assert is_original(photo)
