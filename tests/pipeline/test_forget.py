"""`originals forget`: no byte under the vault speaks of the photo any more, and nobody else loses anything."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from hashshield.errors import StorageError
from hashshield.pipeline.originals import forget, forget_all, list_originals
from hashshield.pipeline.restore import restore
from hashshield.storage import NewRecord, Store, digest, read_snapshot


@pytest.fixture
def vault(tmp_path: Path) -> Path:
    return tmp_path / "vault"


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
