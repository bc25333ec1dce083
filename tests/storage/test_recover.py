from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from hashshield.errors import StorageError
from hashshield.storage import NewRecord, Store, read_snapshot
from hashshield.storage.records import PendingRecord
from hashshield.storage.temporaries import temporary_name


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
