"""Attempts that fell short: found by content and settings, bounded, and deleted with what they are about."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from first_format import FIRST_FORMAT
from hashshield.storage import Store, ledger_file
from hashshield.storage.ledger import Ledger
from hashshield.storage.schema import MIGRATIONS

DETAILS = {"reason": "3 of 48 bits from the goal", "psnr_db": math.inf, "bits": 48}


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    opened = Ledger(tmp_path, wal=True)
    yield opened
    opened.close()


def test_an_attempt_is_found_by_content_and_settings(ledger: Ledger) -> None:
    assert not ledger.attempts.about("a")
    ledger.attempts.add("a", "slow", Path("/photos/a"), DETAILS)
    assert ledger.attempts.about("a")
    assert ledger.attempts.find("a", "slow") == DETAILS
    assert ledger.attempts.find("a", "fast") is None
    assert ledger.attempts.find("b", "slow") is None
    ledger.attempts.add("a", "slow", Path("/photos/b"), {"reason": "other"})
    assert ledger.attempts.find("a", "slow") == {"reason": "other"}
    assert ledger.attempts.touching(Path("/photos/a"), []) == [], "one row per content and settings"


def test_an_attempt_is_no_result(ledger: Ledger) -> None:
    ledger.attempts.add("a", "slow", Path("/photos/a"), DETAILS)
    assert ledger.result("a") is None
    assert ledger.every() == ledger.of_path(Path("/photos/a")) == ledger.of_content("a") == []


def test_the_oldest_go_when_there_are_too_many(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_file, "MOST_ATTEMPTS", 3)
    for name in "abcde":
        ledger.attempts.add(name, "slow", Path(name), DETAILS)
    ledger.attempts.add("c", "slow", Path("c"), DETAILS)
    ledger.attempts.add("f", "slow", Path("f"), DETAILS)
    assert [name for name in "abcdef" if ledger.attempts.about(name)] == ["c", "e", "f"]


def test_those_about_a_path_or_a_content_are_erased(ledger: Ledger) -> None:
    for number, (content, path) in enumerate((("a", "/a"), ("a", "/a2"), ("b", "/a"), ("c", "/c"))):
        ledger.attempts.add(content, str(number), Path(path), DETAILS)
    found = ledger.attempts.touching(Path("/a"), {"a"})
    assert len(found) == 3
    ledger.deletions.mark([], found)
    ledger.deletions.erase(ledger.deletions.marked())
    assert [name for name in "abc" if ledger.attempts.about(name)] == ["c"]


@pytest.mark.skipif(sqlite3.sqlite_version_info < (3, 35), reason="SQLite cannot drop columns")
def test_a_ledger_of_the_first_format_learns_them_and_keeps_its_rows(tmp_path: Path, photos: Path, root: Path) -> None:
    from hashshield.storage import NewRecord, read_snapshot

    (photos / "a.jpg").write_bytes(b"original")
    with Store.open(root) as store:
        record = store.replace(read_snapshot(photos / "a.jpg", follow=True), b"protected", NewRecord())
    with sqlite3.connect(root / "ledger.sqlite") as db:
        for statement in FIRST_FORMAT:
            db.execute(statement)
    db.close()
    with Store.open(root) as store:
        assert store.ledger.every() == [record]
        store.remember_short(photos / "b.jpg", "b", "slow", DETAILS)
        assert store.ledger.attempts.find("b", "slow") == DETAILS
        assert store.restore(photos / "a.jpg").status == "restored"
    with sqlite3.connect(root / "ledger.sqlite") as db:
        assert db.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)
    db.close()
