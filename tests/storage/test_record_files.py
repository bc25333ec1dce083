"""Records beside originals, backups of the ledger, and what is told from them."""

from __future__ import annotations

import os
import sqlite3
import stat
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hashshield.errors import LedgerError
from hashshield.storage import NewRecord, Record, Store, calls, digest, read_snapshot, repair
from hashshield.storage.record_files import decode, encode

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def row(**given: object) -> Record:
    fields: dict[str, object] = {
        "id": 7, "kind": "protect", "state": "done", "path": Path("/photos/a.jpg"), "sha256_before": "ab" * 32,
        "sha256_replaced": None, "sha256_after": "cd" * 32, "pixels_after": None, "original": "ab" * 32, "kept": None,
        "pruned": False, "created": "2026-01-01T00:00:00+00:00", "tool": "1", "run": "run", "mode": 0o640,
        "mtime_ns": 1, "size": 3, "undoes": None, "details": {},
    }  # fmt: skip
    return Record(**{**fields, **given})  # type: ignore[arg-type]


@settings(max_examples=60, deadline=None)
@given(st.binary(min_size=1, max_size=40), st.dictionaries(st.text(), JSON, max_size=4), st.data())
def test_a_record_comes_back_and_no_changed_byte_passes(
    raw: bytes, details: dict[str, object], data: st.DataObject
) -> None:
    record = row(path=Path(os.fsdecode(b"/" + raw.replace(b"\0", b"x"))), details=details)
    written = encode(record)
    assert decode(written, "done") == record
    place = data.draw(st.integers(0, len(written) - 1))
    changed = bytearray(written)
    changed[place] ^= 1 << data.draw(st.integers(0, 7))
    found = decode(bytes(changed), "done")
    assert found is None or found == record, "white space and spelling may change, values may not"


def protect(store: Store, path: Path, result: bytes) -> Record:
    return store.replace(read_snapshot(path, follow=True), result, NewRecord(details={"n": 1}), allow_root=True)


def test_each_row_has_a_private_record_in_its_state(root: Path, photos: Path) -> None:
    (photos / "a.jpg").write_bytes(b"original")
    (photos / "b.jpg").write_bytes(b"no backup")
    with Store.open(root) as store:
        protect(store, photos / "a.jpg", b"protected")
        store.restore(photos / "a.jpg", allow_root=True)
        store.replace(read_snapshot(photos / "b.jpg", follow=True), b"p", NewRecord(), backup=False, allow_root=True)
        rows = store.ledger.every()
        assert [record.state for record in rows] == ["restored", "done", "done"]
        read = sorted((store.files.read(file) for file in store.files.all()), key=lambda record: record.id)  # type: ignore[union-attr]
        assert read == rows
        for file in store.files.all():
            path = root / "originals" / file.anchor[:2] / file.name
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
    beside = root / "originals" / digest(b"original")[:2]
    assert (beside / digest(b"original")).exists()
    assert len(list(beside.glob(f"{digest(b'original')}.*.json"))) == 1


def test_the_record_is_there_before_the_photo_is_replaced(root: Path, photos: Path) -> None:
    (photos / "a.jpg").write_bytes(b"original")
    found = []

    def observer(name: str, arguments: tuple[object, ...]) -> None:
        if name == "rename" and arguments[1] == "a.jpg":
            found.extend(root.glob("originals/*/*.intent.json"))

    with Store.open(root) as store:
        calls.observe(observer)
        protect(store, photos / "a.jpg", b"protected")
    assert len(found) == 1


def test_records_that_are_missing_are_written_again(root: Path, photos: Path) -> None:
    (photos / "a.jpg").write_bytes(b"original")
    with Store.open(root) as store:
        protect(store, photos / "a.jpg", b"protected")
    (record,) = root.glob("originals/*/*.json")
    text = record.read_bytes()
    record.unlink()
    with Store.open(root) as store:
        store.require_sound()
    assert record.read_bytes() == text
    record.write_bytes(text[:40])
    assert {found.status for found in repair(root)} == {"kept"}
    assert record.read_bytes() == text


def test_a_run_that_changed_the_ledger_leaves_a_backup_and_keeps_the_one_before(root: Path, photos: Path) -> None:
    (photos / "a.jpg").write_bytes(b"original")
    (photos / "b.jpg").write_bytes(b"other original")
    newest, older = root / "ledger.backup.sqlite", root / "ledger.backup-older.sqlite"
    with Store.open(root) as store:
        protect(store, photos / "a.jpg", b"protected")
    assert stat.S_IMODE(newest.stat().st_mode) == 0o600
    first = newest.read_bytes()
    Store.open(root).close()
    assert newest.read_bytes() == first, "nothing changed, nothing is copied"
    with Store.open(root) as store:
        protect(store, photos / "b.jpg", b"protected b")
    assert older.read_bytes() == first
    db = sqlite3.connect(f"file:{newest}?immutable=1", uri=True)
    assert db.execute("SELECT count(*) FROM records").fetchone() == (2,)
    db.close()
    assert sorted(path.name for path in root.iterdir()) == [
        "ledger.backup-older.sqlite", "ledger.backup.sqlite", "ledger.sqlite", "lock", "originals"
    ]  # fmt: skip


def change(root: Path, statement: str) -> None:
    with sqlite3.connect(root / "ledger.sqlite") as db:
        db.execute(statement)
    db.close()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE records SET sha256_after = replace(sha256_after, 'a', 'b') WHERE id = 1",
        "UPDATE records SET path = CAST('/elsewhere' AS BLOB) WHERE id = 1",
        "UPDATE originals SET pruned = '2026-01-01' WHERE rowid = 1",
        "INSERT INTO deletions VALUES ('everything', 0, 'no seal')",
        "DELETE FROM records WHERE id = 2",
    ],
)
def test_what_was_changed_behind_our_back_stops_protect_and_not_the_restore_of_others(
    statement: str, root: Path, photos: Path
) -> None:
    for name in "abc":
        (photos / name).write_bytes(f"original {name}".encode())
    with Store.open(root) as store:
        for name in "abc":
            protect(store, photos / name, f"protected {name}".encode())
    backup = (root / "ledger.backup.sqlite").read_bytes()
    change(root, statement)
    (photos / "new").write_bytes(b"new original")
    with Store.open(root) as store:
        with pytest.raises(LedgerError, match="originals repair"):
            protect(store, photos / "new", b"never written")
        assert store.restore(photos / "c", allow_root=True).status == "restored"
    assert (photos / "new").read_bytes() == b"new original"
    assert (photos / "c").read_bytes() == b"original c"
    assert (root / "ledger.backup.sqlite").read_bytes() == backup, "never of a damaged ledger"
    assert {found.status for found in repair(root)} <= {"kept", "recovered"}
    with Store.open(root) as store:
        for name in "ab":
            assert store.restore(photos / name, allow_root=True).status == "restored"
            assert (photos / name).read_bytes() == f"original {name}".encode()


def test_what_nothing_tells_any_more_is_said_and_kept(root: Path, photos: Path) -> None:
    for name in "ab":
        (photos / name).write_bytes(f"original {name}".encode())
    with Store.open(root) as store:
        for name in "ab":
            protect(store, photos / name, f"protected {name}".encode())
    for path in root.glob("ledger.*"):
        path.unlink()
    record = next(root.glob(f"originals/*/{digest(b'original a')}.*.json"))
    record.write_bytes(b"damaged")
    (root / "originals" / digest(b"original b")[:2] / digest(b"original b")).write_bytes(b"rotten")
    found = {(row.status, row.id) for row in repair(root)}
    assert found == {
        ("unrecoverable", None), ("unrecorded", digest(b"original a")), ("damaged", digest(b"original b"))
    }  # fmt: skip
    assert (root / "originals" / digest(b"original a")[:2] / digest(b"original a")).read_bytes() == b"original a"
    assert record.with_name(record.name + ".damaged").read_bytes() == b"damaged"
    with Store.open(root) as store:
        store.require_sound()


@pytest.mark.slow
def test_three_thousand_rows_are_checked_well_within_a_second(root: Path, photos: Path) -> None:
    (photos / "a").write_bytes(b"original a")
    with Store.open(root) as store:
        first = protect(store, photos / "a", b"protected a")
    details = {"codes": [{"bits": 48, "original": [1, -1] * 200, "view": "resize"}] * 4}
    files = []
    with Store.open(root) as store:
        names = [digest(str(number).encode()) for number in range(3000)]
        rows = [
            replace(
                first,
                id=number + 10,
                original=name,
                sha256_before=name,
                sha256_after=digest(name.encode()),
                details=details,
            )
            for number, name in enumerate(names)
        ]
        store.ledger.fill(rows, dict.fromkeys(names, (1, None)), [], [])
        for record in rows:
            shelf = root / "originals" / str(record.original)[:2]
            shelf.mkdir(exist_ok=True)
            files.append(shelf / f"{record.original}.{record.id}.done.json")
            files[-1].write_bytes(encode(record))
    with Store.open(root) as store:
        began = time.process_time()
        assert store.integrity_errors() == []
        seconds = time.process_time() - began
    print(f"{seconds:.3f} s")
    assert seconds < 1
