from __future__ import annotations

import sqlite3
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hashshield.errors import StorageError
from hashshield.storage import calls
from hashshield.storage.ledger import Ledger
from hashshield.storage.schema import PendingRecord


@pytest.fixture(params=[True, False], ids=["wal", "rollback"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ledger]:
    opened = Ledger(tmp_path, wal=request.param)
    yield opened
    opened.close()


def entry(name: str = "a", **given: object) -> PendingRecord:
    fields: dict[str, object] = {
        "kind": "protect",
        "path": Path("/photos") / name,
        "sha256_before": f"before {name}",
        "sha256_replaced": f"before {name}",
        "sha256_after": f"after {name}",
        "created": "2026-01-01T00:00:00+00:00",
        "tool": "1",
        "run": "run",
    }
    return PendingRecord(**{**fields, **given})  # type: ignore[arg-type]


def intend(ledger: Ledger, name: str = "a", **given: object) -> int:
    original = given.get("original")
    return ledger.intend(
        entry(name, **given), originals={str(original): 1} if original else {}, temporary=Path(f"/photos/.{name}.tmp")
    )


def test_a_file_that_holds_the_result_of_an_intent_proves_that_it_was_carried_out(ledger: Ledger) -> None:
    number = intend(ledger)
    proven = ledger.result("after a")
    assert proven is not None
    assert (proven.id, proven.state) == (number, "intent")
    assert ledger.by_original("before a") is None, "what is still the original proves nothing"
    assert [record.id for record in ledger.open_intents()] == [number]
    assert ledger.temporaries() == [Path("/photos/.a.tmp")]
    ledger.commit(number, [Path("/photos/.a.tmp")])
    found = ledger.result("after a")
    assert found is not None
    assert found.id == number
    assert ledger.open_intents() == []
    assert ledger.temporaries() == []


def test_dropping_forgets_an_intent_and_never_a_result(ledger: Ledger) -> None:
    first, second = intend(ledger), intend(ledger, "b")
    ledger.commit(first)
    ledger.drop(first)
    ledger.drop(second, [Path("/photos/.b.tmp")])
    assert [record.id for record in ledger.every()] == [first]


def test_a_restore_marks_what_it_undoes(ledger: Ledger) -> None:
    first = intend(ledger)
    ledger.commit(first)
    undo = intend(ledger, kind="restore", undoes=first, sha256_after="before a")
    assert ledger.record(first).state == "done"
    ledger.commit(undo)
    assert ledger.record(first).state == "restored"
    assert ledger.result("before a") is None, "an original put back is no protected file"
    found = ledger.result("after a")
    assert found is not None
    assert found.id == first


def test_of_several_rows_the_one_that_can_be_taken_back_wins(ledger: Ledger) -> None:
    numbers = [
        intend(ledger, "a", sha256_after="same", original="o"),
        intend(ledger, "b", sha256_after="same", original="o"),
        intend(ledger, "c", sha256_after="same"),
        intend(ledger, "d", sha256_after="same", kind="copy"),
    ]
    for number in numbers:
        ledger.commit(number)

    def best(path: str | None = None) -> int:
        found = ledger.result("same", path=None if path is None else Path(path))
        assert found is not None
        return found.id

    assert best() == numbers[1]
    assert best("/photos/a") == numbers[0]
    assert best("/photos/c") == numbers[1]
    ledger.mark_pruned(["o"], "2026-01-02")
    assert best("/photos/c") == numbers[2]


def test_pixels_are_asked_when_the_content_is_unknown(ledger: Ledger) -> None:
    assert not ledger.holds_pixels()
    number = intend(ledger, pixels_after="pixels")
    ledger.commit(number)
    assert ledger.holds_pixels()
    found = ledger.result("edited", "pixels")
    assert found is not None
    assert found.id == number
    assert ledger.result("edited", "other") is None
    assert ledger.result("edited") is None


PATHS = st.binary(min_size=1, max_size=50).map(lambda raw: raw.replace(b"\0", b"x"))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(PATHS, st.dictionaries(st.text(), JSON, max_size=4), st.integers(-(2**40), 2**62))
def test_any_path_and_details_come_back(ledger: Ledger, raw: bytes, details: dict[str, object], mtime_ns: int) -> None:
    import os

    path = Path(os.fsdecode(b"/" + raw))
    record = ledger.record(intend(ledger, path=path, details=details, mtime_ns=mtime_ns))
    assert (record.path, record.details, record.mtime_ns) == (path, details, mtime_ns)
    ledger.drop(record.id)


def test_the_file_is_private_and_in_the_right_mode(tmp_path: Path) -> None:
    for wal, mode in ((True, "wal"), (False, "delete")):
        ledger = Ledger(tmp_path, wal=wal)
        assert stat.S_IMODE(ledger.path.stat().st_mode) == 0o600
        ledger.close()
        with sqlite3.connect(ledger.path) as db:
            assert db.execute("PRAGMA journal_mode").fetchone() == (mode,)
            assert db.execute("PRAGMA user_version").fetchone() == (3,)
        db.close()


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    Ledger(tmp_path, wal=False).close()
    with sqlite3.connect(tmp_path / "ledger.sqlite") as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(StorageError, match="newer HashShield"):
        Ledger(tmp_path, wal=False)


@pytest.mark.parametrize("damage", ["not a database", "a folder", "a link"])
def test_a_damaged_file_is_reported(damage: str, tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    if damage == "not a database":
        path.write_bytes(b"this is no database at all" * 100)
    elif damage == "a folder":
        path.mkdir()
    else:
        path.symlink_to(tmp_path / "nowhere" / "else")
    with pytest.raises(StorageError, match=r"ledger"):
        Ledger(tmp_path, wal=False)


def test_a_transaction_that_fails_leaves_nothing(ledger: Ledger) -> None:
    with pytest.raises(StorageError, match="cannot be used"):
        intend(ledger, original=None, kept="an id nobody stored")
    assert ledger.every() == []
    assert ledger.temporaries() == []


def test_threads_may_share_it(ledger: Ledger) -> None:
    def work(name: str) -> None:
        for number in range(10):
            ledger.commit(intend(ledger, f"{name}{number}"))

    threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ledger.every()) == 40
    assert ledger.open_intents() == []


def test_each_transaction_is_announced(ledger: Ledger) -> None:
    names: list[str] = []
    calls.observe(lambda name, arguments: names.append(name))
    ledger.drop(intend(ledger))
    assert names == ["ledger.intend", "ledger.intend.done", "ledger.drop", "ledger.drop.done"]
