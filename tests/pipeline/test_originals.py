"""`originals forget`: no byte under the vault speaks of the photo any more, and nobody else loses anything."""

from __future__ import annotations

import hashlib
import os
import sqlite3
from pathlib import Path

import pytest

from hashshield.errors import StorageError
from hashshield.pipeline.originals import export, forget, forget_all, forget_each, list_originals, prune
from hashshield.pipeline.restore import restore
from hashshield.storage import NewRecord, Store, calls, digest, read_snapshot


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


def keep_another(vault: Path, photos: Path, name: str = "late.jpg") -> Path:
    """Protect one more file, as `watch` would while a question waits for its answer."""
    path = photos / name
    path.write_bytes(b"original " + name.encode())
    with Store.open(vault) as store:
        store.replace(read_snapshot(path, follow=True), b"protected " + name.encode(), NewRecord(details={}))
    return path


def test_prune_deletes_nothing_that_was_not_in_the_question(vault: Path, photos: Path) -> None:
    asked = prune(vault=vault).originals
    late = keep_another(vault, photos)
    keep_another(vault, photos, "b.jpg")  # restored when it was asked, and now in need of its original
    gone = prune(vault=vault, dry_run=False, confirmed=asked).originals
    assert sorted(Path(row.paths[0]).name for row in gone) == ["A.jpg", "a.jpg"]
    restored = {Path(row.path).name: row.status for row in restore([late, photos / "b.jpg"], vault=vault)}
    assert restored == {"late.jpg": "restored", "b.jpg": "restored"}
    assert late.read_bytes() == b"original late.jpg"


def test_forget_all_deletes_nothing_if_the_vault_changed_since_the_question(vault: Path, photos: Path) -> None:
    asked = forget_all(vault=vault, dry_run=True)
    keep_another(vault, photos)
    with pytest.raises(StorageError, match="changed since the question; nothing was deleted"):
        forget_all(vault=vault, confirmed=asked)
    assert len(list_originals(vault)) == 4
    forget_all(vault=vault, confirmed=forget_all(vault=vault, dry_run=True))
    assert list_originals(vault) == []


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


def test_a_path_without_records_does_not_keep_the_others(vault: Path, photos: Path) -> None:
    named = [photos / "a.jpg", photos / "none.jpg", photos / "b.jpg"]
    for dry_run, status in ((True, "planned"), (False, "forgotten")):
        rows = list(forget_each(named, vault=vault, dry_run=dry_run))
        assert [(row.path, row.status) for row in rows] == [
            (str(named[0]), status),
            (str(named[1]), "failed"),
            (str(named[2]), status),
        ]
        assert str(rows[1].reason).startswith(f"{named[1]}: nothing is recorded")
    assert [Path(row.paths[0]).name for row in list_originals(vault)] == ["A.jpg"]
    with Store.open(vault) as store:
        assert store.integrity_errors() == []
        assert store.backup_is_current()


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


def protect(vault: Path, *paths: Path, result: bytes | None = None) -> None:
    with Store.open(vault) as store:
        for path in paths:
            source = read_snapshot(path, follow=True)
            details = {"codes": [f"code of {path.name}"]}
            after = result or b"protected " + path.name.encode() + source.data
            store.replace(source, after, NewRecord(details=details, pixels_after=digest(after[::-1])), allow_root=True)


def photo(folder: Path, name: str, data: bytes | None = None) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data or f"original of {name}".encode() * 9)
    return path


def held(vault: Path) -> bytes:
    files = [path for path in vault.rglob("*") if path.is_file()]
    return b"".join(os.fsencode(path.relative_to(vault)) + b"\0" + path.read_bytes() for path in files)


def traces(path: Path, *contents: bytes) -> list[bytes]:
    found = [os.fsencode(path), os.fsencode(path).hex().encode(), path.name.encode(), f"code of {path.name}".encode()]
    for data in contents:
        for value in (digest(data), digest(data[::-1])):
            found += [value.encode(), value.upper().encode(), bytes.fromhex(value)]
        found.append(data)
    return found


def test_no_byte_under_the_vault_speaks_of_a_forgotten_photo(tmp_path: Path, vault: Path) -> None:
    gone, stays = photo(tmp_path, "Ünique-holiday.jpg"), photo(tmp_path, "stays.jpg")
    before = gone.read_bytes()
    protect(vault, gone)
    protect(vault, stays)
    after = gone.read_bytes()
    with Store.open(vault) as store:
        store.restore(gone, allow_root=True)
        store.remember_short(gone, digest(before), "settings", {"reason": f"short of {gone.name}"})
    protect(vault, gone)
    (vault / "errors.log").write_text(f"{gone}: traceback")
    (vault / "ledger.damaged.sqlite").write_bytes(os.fsencode(gone))
    # Every form is there before, or the search below would prove nothing.
    data = held(vault)
    present = [trace for trace in traces(gone, before, after) if trace in data]
    assert {os.fsencode(gone), digest(before).encode(), digest(after).encode(), before} <= set(present)
    with Store.open(vault):
        # Another process has the vault open, so that its write-ahead log stays.
        forget(gone, vault=vault)
        data = held(vault)
        assert [trace for trace in traces(gone, before, after) if trace in data] == []
    data = held(vault)
    assert [trace for trace in traces(gone, before, after) if trace in data] == []
    assert os.fsencode(stays) in data
    assert restore([stays], vault=vault, allow_root=True)[0].status == "restored"
    assert (vault / "ledger.backup.sqlite").exists(), "backed up anew"


def test_a_twin_that_is_still_there_keeps_row_and_original_and_is_named(tmp_path: Path, vault: Path) -> None:
    same = b"the same photo twice" * 9
    one, twin = photo(tmp_path, "x/a.png", same), photo(tmp_path, "y/copy.png", same)
    # Of equal photos the results are equal too: they depend on content and key alone.
    protect(vault, one, twin, result=b"protected, both")
    told = forget(one, vault=vault)
    assert told.kept_for == (str(twin),)
    assert (told.rows, told.originals, len(told.shared)) == (1, (), 1)
    assert os.fsencode(one) not in held(vault)
    assert restore([twin], vault=vault, allow_root=True)[0].status == "restored"
    assert twin.read_bytes() == same
    with pytest.raises(StorageError, match="nothing is recorded"):
        forget(one, vault=vault)
    assert forget(twin, vault=vault).rows == 2, "the protection and the restore"
    assert list_originals(vault) == []
    assert digest(same).encode() not in held(vault)


def test_a_moved_photo_is_forgotten_with_all_that_was_done_to_it(tmp_path: Path, vault: Path) -> None:
    path = photo(tmp_path, "first.jpg")
    before = path.read_bytes()
    protect(vault, path)
    moved = path.rename(tmp_path / "second.jpg")
    with Store.open(vault) as store:
        record = store.known(digest(moved.read_bytes()))
        store.replace(read_snapshot(moved, follow=True), b"protected anew", NewRecord(again=record), allow_root=True)
    assert forget(moved, vault=vault).rows == 2
    data = held(vault)
    assert [trace for trace in traces(path, before) if trace in data] == []


def test_forget_all_leaves_the_key_and_nothing_else(tmp_path: Path, vault: Path) -> None:
    paths = [photo(tmp_path, f"{name}.jpg") for name in ("one", "two", "three")]
    befores = [path.read_bytes() for path in paths]
    protect(vault, *paths)
    with Store.open(vault) as store:
        key = store.key()
        store.vault.put(b"nobody's original")
    planned = forget_all(vault=vault, dry_run=True)
    assert (planned.rows, len(planned.originals)) == (3, 4)
    assert len(list_originals(vault)) == 4
    forget_all(vault=vault)
    data = held(vault)
    for path, before in zip(paths, befores, strict=True):
        assert [trace for trace in traces(path, before, path.read_bytes()) if trace in data] == []
    assert hashlib.sha256(b"nobody's original").hexdigest().encode() not in data
    assert list_originals(vault) == []
    with Store.open(vault) as store:
        assert store.key() == key
    protect(vault, paths[0])
