from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest

from hashshield.errors import StorageError
from hashshield.pipeline.originals import export, forget, list_originals, prune
from hashshield.pipeline.restore import restore
from hashshield.storage import NewRecord, Store, calls, read_snapshot


@pytest.fixture
def vault(tmp_path: Path) -> Path:
    return tmp_path / "vault"


@pytest.fixture
def photos(tmp_path: Path, vault: Path) -> Path:
    """a.jpg, sub/A.jpg and b.jpg, protected; b.jpg restored again."""
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    with Store.open(vault) as store:
        for name in ("a.jpg", "sub/A.jpg", "b.jpg"):
            path = folder / name
            path.write_bytes(b"original " + name.encode())
            path.chmod(0o640)
            os.utime(path, ns=(1, 1_500_000_000_000_000_001))
            details = {"secret": f"codes of {name}"}
            store.replace(read_snapshot(path, follow=True), b"protected " + name.encode(), NewRecord(details=details))
        store.restore(folder / "b.jpg")
    return folder


def test_list_says_what_is_kept_and_what_for(vault: Path, photos: Path) -> None:
    rows = list_originals(vault)
    assert [(Path(row.paths[0]).name, row.state, row.in_use) for row in rows] == [
        ("a.jpg", "kept", True),
        ("A.jpg", "kept", True),
        ("b.jpg", "kept", False),
    ]
    with Store.open(vault) as store:
        store.vault.remove(rows[0].id)
        store.vault.put(b"nobody's")
    assert [row.state for row in list_originals(vault)] == ["missing", "kept", "kept", "unrecorded"]


def test_prune_asks_first_and_marks_rows(vault: Path, photos: Path) -> None:
    planned = prune(vault=vault)
    assert planned.dry_run
    assert len(planned.originals) == 3
    assert planned.size == sum(row.size for row in planned.originals) > 0
    assert [row.state for row in list_originals(vault)] == ["kept"] * 3
    assert [Path(row.paths[0]).name for row in prune(vault=vault, restored_only=True, dry_run=False).originals] == [
        "b.jpg"
    ]
    assert [row.state for row in list_originals(vault)] == ["kept", "kept", "pruned"]
    assert prune(vault=vault, older_than_days=1, dry_run=False).originals == ()
    prune(vault=vault, older_than_days=-1, dry_run=False)
    assert [row.state for row in list_originals(vault)] == ["pruned"] * 3
    row = restore([photos / "a.jpg"], vault=vault)[0]
    assert row.status == "failed"
    assert "pruned" in (row.reason or "")
    assert (photos / "a.jpg").read_bytes() == b"protected a.jpg"


def test_prune_leaves_files_without_a_row_unless_asked(vault: Path, photos: Path) -> None:
    with Store.open(vault) as store:
        name = store.vault.put(b"nobody's")
    assert name not in {row.id for row in prune(vault=vault).originals}
    assert [row.id for row in prune(vault=vault, unrecorded=True, dry_run=False).originals] == [name]
    assert name not in {row.id for row in list_originals(vault)}


def test_a_pruned_original_that_is_kept_again_counts_again(vault: Path, photos: Path) -> None:
    prune(vault=vault, dry_run=False)
    with Store.open(vault) as store:
        store.replace(read_snapshot(photos / "b.jpg", follow=True), b"protected b.jpg", NewRecord())
    assert [row.state for row in list_originals(vault)] == ["pruned", "pruned", "kept"]
    assert restore([photos / "b.jpg"], vault=vault)[0].status == "restored"


def test_export_writes_all_under_their_names(vault: Path, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert [row.status for row in export(out, vault=vault, dry_run=True)] == ["planned"] * 3
    assert not out.exists()
    rows = export(out, vault=vault)
    assert [row.status for row in rows] == ["exported"] * 3
    assert {path.name: path.read_bytes() for path in out.iterdir()} == {
        "a.jpg": b"original a.jpg",
        "A-2.jpg": b"original sub/A.jpg",
        "b.jpg": b"original b.jpg",
    }
    status = (out / "a.jpg").stat()
    assert (status.st_mode & 0o777, status.st_mtime_ns) == (0o640, 1_500_000_000_000_000_001)
    (out / "b.jpg").write_bytes(b"mine")
    again = {Path(row.path).name: row.status for row in export(out, vault=vault)}
    assert again == {"a.jpg": "exported", "A-2.jpg": "exported", "b.jpg": "failed"}
    assert (out / "b.jpg").read_bytes() == b"mine"


def test_forget_leaves_no_trace(vault: Path, photos: Path) -> None:
    path = photos / "a.jpg"
    planned = forget(path, vault=vault, dry_run=True)
    assert (planned.rows, len(planned.originals), planned.dry_run) == (1, 1, True)
    assert len(list_originals(vault)) == 3
    forget(path, vault=vault)
    assert {Path(row.paths[0]).name for row in list_originals(vault)} == {"A.jpg", "b.jpg"}
    assert path.read_bytes() == b"protected a.jpg"
    held = b"".join(file.read_bytes() for file in vault.rglob("*") if file.is_file())
    assert b"codes of a.jpg" not in held
    assert b"photos/a.jpg" not in held
    assert b"original a.jpg" not in held
    assert b"codes of b.jpg" in held
    with pytest.raises(StorageError, match="nothing is recorded"):
        forget(path, vault=vault)


def test_forget_finds_a_moved_file_and_spares_what_others_need(vault: Path, photos: Path) -> None:
    twin = photos / "twin.jpg"
    twin.write_bytes(b"original a.jpg")
    with Store.open(vault) as store:
        store.replace(read_snapshot(twin, follow=True), b"protected twin.jpg", NewRecord())
    moved = photos / "moved.jpg"
    twin.rename(moved)
    gone = forget(moved, vault=vault)
    assert (gone.rows, gone.originals, len(gone.shared)) == (1, (), 1)
    assert restore([photos / "a.jpg"], vault=vault)[0].status == "restored"


def test_forget_cut_short_is_finished_by_the_next_command(vault: Path, photos: Path) -> None:
    def observer(name: str, arguments: tuple[object, ...]) -> None:
        if name == "ledger.erase":
            raise KeyboardInterrupt

    calls.observe(observer)
    with pytest.raises(KeyboardInterrupt):
        forget(photos / "a.jpg", vault=vault)
    calls.observe(None)
    assert [Path(row.paths[0]).name for row in list_originals(vault)] == ["A.jpg", "b.jpg"]
    with sqlite3.connect(vault / "ledger.sqlite") as db:
        rows = db.execute("SELECT path FROM records").fetchall()
    db.close()
    assert all(not path.endswith(b"/a.jpg") for (path,) in rows)


def test_export_has_a_row_for_what_is_missing(vault: Path, photos: Path, tmp_path: Path) -> None:
    lost = list_originals(vault)[0]
    with Store.open(vault) as store:
        store.vault.remove(lost.id)
    rows = export(tmp_path / "out", vault=vault)
    assert sorted((row.id == lost.id, row.status) for row in rows) == [
        (False, "exported"),
        (False, "exported"),
        (True, "failed"),
    ]
    (row,) = [row for row in rows if row.status == "failed"]
    assert (row.path, "not in the vault" in str(row.reason)) == (str(photos / "a.jpg"), True)
    prune(vault=vault, dry_run=False, restored_only=True)
    assert len(export(tmp_path / "out", vault=vault)) == 2, "what was pruned was deleted at the user's wish"


def test_a_file_without_a_row_is_as_old_as_it_is(vault: Path, photos: Path) -> None:
    with Store.open(vault) as store:
        old, new = store.vault.put(b"old"), store.vault.put(b"new")
    os.utime(vault / "originals" / old[:2] / old, (1, 1_500_000_000))
    chosen = prune(vault=vault, unrecorded=True, older_than_days=365, dry_run=False).originals
    assert [row.id for row in chosen] == [old]
    assert [row.id for row in list_originals(vault) if row.state == "unrecorded"] == [new]


def test_restoring_over_a_later_caption_keeps_it_and_says_so(vault: Path, photos: Path) -> None:
    with Store.open(vault) as store:
        photo = photos / "captioned.jpg"
        photo.write_bytes(b"original")
        store.replace(read_snapshot(photo, follow=True), b"protected", NewRecord(pixels_after="pixels"))
        photo.write_bytes(b"protected, with a caption")
        row = store.restore(photo, pixel_digest=lambda data, path: "pixels")
        assert row.status == "restored"
        assert "the edit is kept in the vault" in str(row.reason)
        assert photo.read_bytes() == b"original"
        kept = store.ledger.every()[-1].kept
        assert kept is not None
        assert store.vault.get(kept) == b"protected, with a caption"
