"""A full disk in every command that writes: nothing is lost, one line says why, and the next run goes on."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from hashshield.errors import HashshieldError, StorageError
from hashshield.pipeline.originals import export, forget, list_originals, prune
from hashshield.pipeline.restore import restore
from hashshield.storage import NewRecord, Store, calls, put_page, read_snapshot
from hashshield.storage.folder import is_temporary

BACKUP = "ledger.backup"
"""The last step of a run: the work is done and recorded, and the backups that are there stay."""
WRITING = ("create", "reopen", "write", "sync", "sync_folder", "rename", "link", "make_folder")


@pytest.fixture
def vault(quick: Path) -> Path:
    """One with the originals of two protected photos, and one that was edited since."""
    (quick / "photos").mkdir()
    with Store.open(quick / "vault") as store:
        for name in ("a.jpg", "b.jpg"):
            path = quick / "photos" / name
            path.write_bytes(b"original " + name.encode())
            store.replace(read_snapshot(path, follow=True), b"protected " + name.encode(), NewRecord())
    (quick / "photos" / "b.jpg").write_bytes(b"edited")
    return quick / "vault"


def full_at(number: int) -> list[str]:
    """Let the disk be full from the call of that number on; returns the calls that were made."""
    made: list[str] = []

    def observer(name: str, arguments: tuple[object, ...]) -> None:
        if name == BACKUP and len(made) <= number:
            made.append(name)
        elif name in WRITING:
            made.append(name)
            if len(made) > number:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    calls.observe(observer)
    return made


def contents(vault: Path) -> dict[str, bytes]:
    """Everything that is somebody's: photos and originals."""
    places = (vault.parent / "photos", vault / "originals")
    return {str(p): p.read_bytes() for place in places for p in place.rglob("*") if p.is_file()}


def reasons(run: Callable[[], list[str]], number: int) -> tuple[list[str], list[str]]:
    """What is said when the disk is full from that call on, and the calls."""
    made = full_at(number)
    try:
        return run(), made
    except HashshieldError as error:
        return [str(error)], made
    finally:
        calls.observe(None)


@pytest.mark.parametrize("command", ["export", "restore", "restore --force", "page", "copy"])
def test_nothing_is_lost_wherever_the_disk_is_full(command: str, vault: Path, quick: Path) -> None:
    photos = quick / "photos"

    def run() -> list[str]:
        if command == "export":
            return [str(row.reason) for row in export(quick / "out", vault=vault) if row.status == "failed"]
        if command == "page":
            # Written before the disk was full to its last step, perhaps; a page is never replaced.
            (quick / "page.html").unlink(missing_ok=True)
            put_page(quick / "page.html", b"page")
            return []
        if command == "copy":
            with Store.open(vault) as store:
                source = read_snapshot(photos / "b.jpg", follow=True)
                store.write_new(quick / "out" / "b.jpg", b"copy", like=source, overwrite=True)
            return []
        rows = restore([photos / "a.jpg", photos / "b.jpg"], vault=vault, force=command.endswith("--force"))
        wanted = rows if command.endswith("--force") else rows[:1]
        return [str(row.reason) for row in wanted if row.status == "failed"]

    before = contents(vault)
    number = 0
    while True:
        said, made = reasons(run, number)
        after = contents(vault)
        if len(made) <= number:
            break
        assert said or BACKUP in made, f"full at {number} ({made[-1]}), and not a word"
        assert all("the disk is full" in text and "\n" not in text for text in said), said
        # Nothing that was there is gone, unless its original took its place.
        lost = {before[path] for path in before if before[path] not in after.values()}
        assert lost <= {b"protected a.jpg", b"protected b.jpg"}, f"full at {number}"
        assert not [path for path in quick.rglob("*") if is_temporary(path.name)]
        number += 1
        if command.startswith("restore"):
            # The next try starts where this one did.
            (photos / "a.jpg").write_bytes(before[str(photos / "a.jpg")])
            (photos / "b.jpg").write_bytes(before[str(photos / "b.jpg")])
    assert number > 2
    assert said == []


@pytest.mark.parametrize("command", ["prune", "forget"])
def test_deleting_needs_no_room(command: str, vault: Path, quick: Path) -> None:
    """A user whose disk is full deletes originals for that very reason."""
    with Store.open(vault) as store:
        kept = len(store.ledger.every())
    made = full_at(10**6)
    try:
        if command == "prune":
            prune(vault=vault, dry_run=False)
        else:
            forget(quick / "photos" / "a.jpg", vault=vault)
    finally:
        calls.observe(None)
    assert "write" not in made
    left = [original.state for original in list_originals(vault)]
    assert left == (["pruned"] * kept if command == "prune" else ["kept"])


def test_a_full_disk_under_the_ledger_is_one_line(vault: Path, quick: Path) -> None:
    before = contents(vault)
    with Store.open(vault) as store:
        # As SQLite reports a full disk.
        (pages,) = store.ledger._db.execute("PRAGMA page_count").fetchone()
        store.ledger._db.execute(f"PRAGMA max_page_count = {pages}")
        photo = quick / "photos" / "b.jpg"
        details = {"much": "x" * 100_000}
        with pytest.raises(StorageError, match=r"ledger cannot be used .*full.*make sure its disk has space"):
            store.replace(read_snapshot(photo, follow=True), b"protected", NewRecord(details=details))
    assert {path: contents(vault)[path] for path in before} == before
