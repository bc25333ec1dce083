from __future__ import annotations

import errno
import os
import stat
import threading
from pathlib import Path

import pytest

from hashshield.errors import ChangedError, StorageError
from hashshield.storage import NewRecord, Store, calls, read_snapshot
from hashshield.storage.folder import is_temporary
from hashshield.storage.vault import VAULT_VARIABLE, default_root


def make(folder: Path, name: str = "a.jpg", data: bytes = b"original") -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def temporaries(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if is_temporary(path.name)]


def test_replace_keeps_the_original_and_says_what_was_done(store: Store, photos: Path) -> None:
    photo = make(photos)
    source = read_snapshot(photo, follow=True)
    record = store.replace(source, b"protected", NewRecord(pixels_after="pixels", details={"bits": 48, "tau": 0.032}))
    assert photo.read_bytes() == b"protected"
    assert record.state == "done"
    assert record.path == source.path
    assert record.sha256_before == source.sha256
    assert record.details == {"bits": 48, "tau": 0.032}
    assert record.run == store.run
    assert store.original(record) == b"original"
    assert store.known(record.sha256_after) == record
    assert store.known("0" * 64, "pixels") == record
    assert store.record_for_original(source.sha256) == record
    assert store.known(source.sha256) is None
    assert not temporaries(photos)


def test_everything_in_the_vault_is_private(root: Path, photos: Path) -> None:
    before = os.umask(0)
    try:
        with Store.open(root) as store:
            store.key()
            store.replace(read_snapshot(make(photos), follow=True), b"protected", NewRecord())
            modes = {path: stat.S_IMODE(path.stat().st_mode) for path in [root, *root.rglob("*")]}
    finally:
        os.umask(before)
    assert {mode for path, mode in modes.items() if path.is_dir()} == {0o700}
    assert {mode for path, mode in modes.items() if not path.is_dir()} == {0o600}
    assert any("ledger.sqlite-" in path.name for path in modes), "a journal is open and was looked at"


def test_mode_owner_times_and_attributes_stay(store: Store, photos: Path) -> None:
    photo = make(photos)
    photo.chmod(0o640)
    os.setxattr(photo, "user.caption", b"holiday")
    os.utime(photo, ns=(1_000, 2_000_000_123))
    before = photo.stat()
    store.replace(read_snapshot(photo, follow=True), b"protected", NewRecord(), keep_mtime=True)
    after = photo.stat()
    assert stat.S_IMODE(after.st_mode) == 0o640
    assert (after.st_uid, after.st_gid) == (before.st_uid, before.st_gid)
    assert after.st_mtime_ns == 2_000_000_123
    assert os.getxattr(photo, "user.caption") == b"holiday"


def test_the_time_is_the_time_of_writing_unless_asked(store: Store, photos: Path) -> None:
    photo = make(photos)
    os.utime(photo, ns=(1_000, 2_000_000_123))
    store.replace(read_snapshot(photo, follow=True), b"protected", NewRecord())
    assert photo.stat().st_mtime_ns > 10**18


@pytest.mark.parametrize(
    "change", ["edited", "replaced", "gone", "linked", "folder gone", "folder swapped", "same size"]
)
def test_a_file_that_changed_since_reading_is_left(change: str, store: Store, photos: Path, tmp_path: Path) -> None:
    folder = photos / "sub"
    folder.mkdir()
    photo = make(folder)
    source = read_snapshot(photo, follow=False, within=photos)
    outside = tmp_path / "outside"
    outside.mkdir()
    victim = make(outside, data=b"victim")
    if change == "edited":
        photo.write_bytes(b"edited since")
    elif change == "replaced":
        make(folder, "b.jpg").replace(photo)
    elif change == "gone":
        photo.unlink()
    elif change == "linked":
        photo.unlink()
        photo.symlink_to(victim)
    elif change == "folder gone":
        folder.rename(tmp_path / "away")
    elif change == "folder swapped":
        folder.rename(tmp_path / "away")
        folder.symlink_to(outside)
    else:
        status = photo.stat()
        with photo.open("r+b") as file:
            file.write(b"ORIGINAL")
        os.utime(photo, ns=(status.st_atime_ns, status.st_mtime_ns))
    held = photo.read_bytes() if photo.exists() else None
    with pytest.raises(ChangedError):
        store.replace(source, b"protected", NewRecord())
    assert (photo.read_bytes() if photo.exists() else None) == held
    assert victim.read_bytes() == b"victim"
    assert not temporaries(tmp_path)
    assert store.ledger.open_intents() == []
    assert store.ledger.every() == []


def test_the_same_file_in_another_folder_is_not_the_photo(store: Store, photos: Path, tmp_path: Path) -> None:
    folder = photos / "sub"
    folder.mkdir()
    source = read_snapshot(make(folder), follow=False, within=photos)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "a.jpg").hardlink_to(folder / "a.jpg")
    folder.rename(tmp_path / "away")
    folder.symlink_to(outside)
    with pytest.raises(ChangedError, match="folder was replaced"):
        store.replace(source, b"protected", NewRecord(), break_links=True, allow_root=True)
    assert (outside / "a.jpg").read_bytes() == b"original"


def test_a_touched_but_unchanged_file_is_protected(store: Store, photos: Path) -> None:
    photo = make(photos)
    source = read_snapshot(photo, follow=True)
    photo.chmod(0o600)
    store.replace(source, b"protected", NewRecord())
    assert photo.read_bytes() == b"protected"
    assert stat.S_IMODE(photo.stat().st_mode) == 0o600


def test_hard_links_are_refused_unless_allowed(store: Store, photos: Path) -> None:
    photo = make(photos)
    other = photos / "b.jpg"
    other.hardlink_to(photo)
    source = read_snapshot(photo, follow=True)
    with pytest.raises(StorageError, match="--break-links"):
        store.replace(source, b"protected", NewRecord())
    assert photo.samefile(other)
    store.replace(source, b"protected", NewRecord(), break_links=True)
    assert (photo.read_bytes(), other.read_bytes()) == (b"protected", b"original")


def test_read_only_files_are_left(store: Store, photos: Path) -> None:
    photo = make(photos)
    photo.chmod(0o444)
    with pytest.raises(StorageError, match="read-only"):
        store.replace(read_snapshot(photo, follow=True), b"protected", NewRecord())
    assert photo.read_bytes() == b"original"


@pytest.mark.skipif(os.geteuid() != 0, reason="about root")
@pytest.mark.parametrize(("mode", "owner"), [(0o777, 0), (0o1777, 0), (0o775, 0), (0o700, 12345)])
def test_root_stays_out_of_folders_of_others(mode: int, owner: int, store: Store, photos: Path) -> None:
    photo = make(photos)
    photos.chmod(mode)
    os.chown(photos, owner, -1)
    source = read_snapshot(photo, follow=True)
    with pytest.raises(StorageError, match="--allow-root"):
        store.replace(source, b"protected", NewRecord())
    assert photo.read_bytes() == b"original"
    store.replace(source, b"protected", NewRecord(), allow_root=True)
    assert photo.read_bytes() == b"protected"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files of others")
def test_the_owner_is_kept(store: Store, photos: Path) -> None:
    photo = make(photos)
    os.chown(photo, 12345, 23456)
    store.replace(read_snapshot(photo, follow=True), b"protected", NewRecord())
    assert (photo.stat().st_uid, photo.stat().st_gid) == (12345, 23456)


def test_without_backup_nothing_is_kept(store: Store, photos: Path, root: Path) -> None:
    photo = make(photos)
    record = store.replace(read_snapshot(photo, follow=True), b"protected", NewRecord(), backup=False)
    assert record.original is None
    assert list(store.vault.sizes()) == []
    with pytest.raises(StorageError, match="--no-backup"):
        store.original(record)
    assert store.restore(photo).status == "failed"
    assert photo.read_bytes() == b"protected"


def test_protecting_anew_goes_back_to_the_first_original(store: Store, photos: Path) -> None:
    photo = make(photos)
    os.utime(photo, ns=(1_000, 2_000_000_123))
    first = store.replace(read_snapshot(photo, follow=True), b"protected", NewRecord())
    second = store.replace(read_snapshot(photo, follow=True), b"protected anew", NewRecord(again=first))
    assert (second.sha256_before, second.sha256_replaced) == (first.sha256_before, first.sha256_after)
    assert second.kept is None
    assert len(list(store.vault.sizes())) == 1
    assert store.restore(photo).status == "restored"
    assert photo.read_bytes() == b"original"
    assert photo.stat().st_mtime_ns == 2_000_000_123


def test_protecting_anew_keeps_an_edit_nobody_else_has(store: Store, photos: Path) -> None:
    photo = make(photos)
    first = store.replace(read_snapshot(photo, follow=True), b"protected", NewRecord())
    photo.write_bytes(b"protected with a caption")
    second = store.replace(read_snapshot(photo, follow=True), b"protected anew", NewRecord(again=first))
    assert second.kept is not None
    assert store.vault.get(second.kept) == b"protected with a caption"


def test_files_of_the_vault_are_never_changed(store: Store, root: Path) -> None:
    inside = make(root, "photo.jpg")
    with pytest.raises(StorageError, match="belongs to the vault"):
        store.replace(read_snapshot(inside, follow=True), b"protected", NewRecord())
    with pytest.raises(StorageError, match="belongs to the vault"):
        store.write_new(root / "b.jpg", b"x", like=read_snapshot(inside, follow=True))


def test_a_copy_is_recorded_and_never_overwrites(store: Store, photos: Path, tmp_path: Path) -> None:
    photo = make(photos)
    photo.chmod(0o640)
    source = read_snapshot(photo, follow=True)
    target = tmp_path / "out" / "deep" / "a.jpg"
    record = store.write_new(target, b"protected", like=source, record=NewRecord(pixels_after="p"))
    assert target.read_bytes() == b"protected"
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    assert (record.kind, record.state, record.original) == ("copy", "done", None)
    assert store.known(record.sha256_after) == record
    assert store.write_new(target, b"protected", like=source).state == "done"
    with pytest.raises(StorageError, match="exists already"):
        store.write_new(target, b"other", like=source)
    assert target.read_bytes() == b"protected"
    store.write_new(target, b"other", like=source, overwrite=True)
    assert target.read_bytes() == b"other"
    assert photo.read_bytes() == b"original"
    assert store.restore(target).status == "skipped"


def test_the_key_is_made_once(root: Path) -> None:
    with Store.open(root) as one, Store.open(root) as other:
        keys: list[bytes] = []
        threads = [threading.Thread(target=lambda s=s: keys.append(s.key())) for s in (one, other) * 4]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(keys) == 8
    assert len(set(keys)) == 1
    assert len(keys[0]) == 32
    with Store.open(root) as again:
        assert again.key() == keys[0]


def test_a_damaged_key_is_not_replaced_silently(root: Path) -> None:
    Store.open(root).close()
    (root / "key").write_bytes(b"short")
    with Store.open(root) as store, pytest.raises(StorageError, match="5 bytes where 32"):
        store.key()


def test_the_folder_comes_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VAULT_VARIABLE, str(tmp_path / "named"))
    with Store.open() as store:
        assert store.root == Path(os.path.realpath(tmp_path / "named"))
    monkeypatch.delenv(VAULT_VARIABLE)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert default_root().name == "hashshield"


def test_a_folder_with_other_things_is_no_vault(tmp_path: Path) -> None:
    make(tmp_path, "holiday.jpg")
    mode = tmp_path.stat().st_mode
    with pytest.raises(StorageError, match="not empty and no HashShield vault"):
        Store.open(tmp_path)
    assert tmp_path.stat().st_mode == mode
    assert [path.name for path in tmp_path.iterdir()] == ["holiday.jpg"]


def test_a_vault_others_could_read_is_closed_to_them(root: Path) -> None:
    Store.open(root).close()
    root.chmod(0o755)
    with Store.open(root) as store:
        assert any("0700" in notice for notice in store.notices)
    assert stat.S_IMODE(root.stat().st_mode) == 0o700


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make folders of others")
def test_a_vault_of_another_user_is_refused(root: Path) -> None:
    Store.open(root).close()
    os.chown(root, 12345, -1)
    with pytest.raises(StorageError, match="belongs to user 12345"):
        Store.open(root)


def test_names_that_are_no_text_are_kept(store: Store, photos: Path) -> None:
    photo = Path(os.fsdecode(os.fsencode(photos) + b"/\xff\xfe \xe9.jpg"))
    photo.write_bytes(b"original")
    record = store.replace(read_snapshot(photo, follow=True), b"protected", NewRecord())
    assert os.fsencode(record.path.name) == b"\xff\xfe \xe9.jpg"
    assert store.restore(photo).status == "restored"
    assert photo.read_bytes() == b"original"


def test_closing_twice_is_fine(root: Path) -> None:
    store = Store.open(root)
    store.close()
    store.close()


def test_protecting_a_restored_photo_anew_keeps_its_original(store: Store, photos: Path) -> None:
    photo = make(photos)
    first = store.replace(read_snapshot(photo, follow=True), b"protected", NewRecord())
    store.restore(photo)
    assert first.original is not None
    store.vault.remove(first.original)
    second = store.replace(read_snapshot(photo, follow=True), b"protected anew", NewRecord(again=first))
    assert store.original(second) == b"original"


def test_a_copy_never_replaces_the_photo_it_is_of(store: Store, photos: Path) -> None:
    photo, other = photos / "a.jpg", photos / "other.jpg"
    photo.write_bytes(b"before")
    os.link(photo, other)
    source = read_snapshot(photo, follow=True)
    for target in (photo, other):
        with pytest.raises(StorageError, match="is the photo that was to be copied"):
            store.write_new(target, b"after", like=source, overwrite=True)
    assert photo.read_bytes() == other.read_bytes() == b"before"
    assert photo.stat().st_nlink == 2


def test_what_a_copy_replaces_must_not_change_meanwhile(store: Store, photos: Path) -> None:
    photo, target = photos / "a.jpg", photos / "out.jpg"
    photo.write_bytes(b"before")
    target.write_bytes(b"theirs")
    source = read_snapshot(photo, follow=True)

    def edit(name: str, arguments: tuple[object, ...]) -> None:
        if name == "ledger.intend.done":
            target.write_bytes(b"theirs, edited")

    calls.observe(edit)
    with pytest.raises(ChangedError, match="changed while it was being replaced"):
        store.write_new(target, b"after", like=source, overwrite=True)
    assert target.read_bytes() == b"theirs, edited"
    assert sorted(path.name for path in photos.iterdir()) == ["a.jpg", "out.jpg"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root is refused")
def test_root_writes_new_files_only_where_nobody_else_could(store: Store, photos: Path) -> None:
    (photos / "a.jpg").write_bytes(b"before")
    source = read_snapshot(photos / "a.jpg", follow=True)
    record = store.replace(source, b"after", NewRecord())
    open_to_all = photos / "shared"
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    for target in (open_to_all / "new.jpg", open_to_all / "below" / "new.jpg"):
        with pytest.raises(StorageError, match="--allow-root"):
            store.write_new(target, b"copy", like=source)
        with pytest.raises(StorageError, match="--allow-root"):
            store.export(target, b"original", mode=0o600, mtime_ns=None)
    assert list(open_to_all.iterdir()) == []
    store.write_new(open_to_all / "below" / "new.jpg", b"copy", like=source, allow_root=True)
    store.export(open_to_all / "original.jpg", b"original", mode=0o600, mtime_ns=None, allow_root=True)

    record.path.unlink()
    photos.chmod(0o777)
    with pytest.raises(StorageError, match="--allow-root"):
        store.restore(record.path)
    assert not record.path.exists()
    assert store.restore(record.path, allow_root=True).status == "restored"


@pytest.mark.parametrize("refuses", [True, False])
def test_a_file_system_without_modes_is_told_of_at_every_opening(
    root: Path, monkeypatch: pytest.MonkeyPatch, refuses: bool
) -> None:
    """As NTFS and exFAT: a mode is taken and not kept, or refused."""
    Store.open(root).close()
    root.chmod(0o777)

    def change_mode(descriptor: int, mode: int) -> None:
        if refuses:
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(calls, "change_mode", change_mode)
    for _ in range(2):
        with Store.open(root) as opened:
            (notice,) = [text for text in opened.notices if "mode" in text]
        assert "stores no permissions" in notice
        assert "0777" in notice
        assert "is 0700 now" not in notice
    assert stat.S_IMODE(root.stat().st_mode) == 0o777


def test_a_mode_that_is_kept_is_mended_and_said_once(root: Path) -> None:
    Store.open(root).close()
    root.chmod(0o755)
    with Store.open(root) as opened:
        assert [text for text in opened.notices if "mode is 0700 now" in text]
    with Store.open(root) as opened:
        assert [text for text in opened.notices if "mode" in text] == []


def test_an_exports_folder_is_private_whatever_the_umask(store: Store, photos: Path) -> None:
    before = os.umask(0)
    try:
        store.export(photos / "out" / "a.jpg", b"original", mode=0o644, mtime_ns=None)
    finally:
        os.umask(before)
    assert stat.S_IMODE((photos / "out").stat().st_mode) == 0o700


def test_a_photo_read_between_anothers_rename_and_commit_is_not_changed_twice(root: Path, photos: Path) -> None:
    photo = make(photos)
    source = read_snapshot(photo, follow=True)
    seen: list[object] = []
    with Store.open(root) as one, Store.open(root) as other:

        def look(name: str, arguments: tuple[object, ...]) -> None:
            if name == "ledger.commit":
                seen.append(read_snapshot(photo, follow=True))
                found = other.known(seen[0].sha256)  # type: ignore[attr-defined]
                assert found is not None
                assert found.state == "intent", "its content proves that it is a result"

        calls.observe(look)
        one.replace(source, b"protected", NewRecord())
        calls.observe(None)
        with pytest.raises(ChangedError, match="by another process meanwhile"):
            other.replace(seen[0], b"protected twice", NewRecord())  # type: ignore[arg-type]
    assert photo.read_bytes() == b"protected"
