"""A ledger that is gone, empty, cut short, changed by a byte or from the future: noticed, refused, rebuilt."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from hashshield.errors import HashshieldError, LedgerError, StorageError
from hashshield.pipeline.originals import export, list_originals
from hashshield.pipeline.plan import plan
from hashshield.pipeline.restore import restore
from hashshield.storage import NewRecord, Store, read_snapshot, repair
from hashshield.types import FileOptions, Outcome, Request

PHOTOS = {f"{number}.jpg": f"\xff\xd8\xff original {number} ".encode("latin-1") * 40 for number in range(9)}
FLIPS, MANY_FLIPS = 40, 500


def protected(name: str) -> bytes:
    return b"\xff\xd8\xff protected " + name.encode()


@pytest.fixture
def vault(quick: Path) -> Path:
    return quick / "vault"


@pytest.fixture
def photos(quick: Path, vault: Path) -> Path:
    """Nine photos, protected in two runs; one restored, one a twin of another, one moved, one attempt remembered."""
    folder = quick / "photos"
    folder.mkdir()
    for name, data in PHOTOS.items():
        (folder / name).write_bytes(data)
    (folder / "twin.jpg").write_bytes(PHOTOS["0.jpg"])
    for half in (list(PHOTOS)[:5], [*list(PHOTOS)[5:], "twin.jpg"]):
        with Store.open(vault) as store:
            for name in half:
                details = {"model": "tiny", "codes": ["ä" * 100] * 4}
                source = read_snapshot(folder / name, follow=True)
                store.replace(source, protected(name), NewRecord(details=details), allow_root=True)
    with Store.open(vault) as store:
        store.restore(folder / "3.jpg", allow_root=True)
        store.remember_short(folder / "short.jpg", "ab" * 32, "settings", {"reason": "fell short"})
    (folder / "4.jpg").rename(folder / "moved.jpg")
    return folder


def planned(photos: Path, vault: Path) -> list[Outcome]:
    """What `protect` decides; nothing is left to do, since every file is a result, or an original put back."""
    with Store.open(vault) as store:
        todo = plan([photos], Request(models=(), vault=vault, file_options=FileOptions(allow_root=True)), store)
        assert [job.path.name for job in todo.jobs] == ["3.jpg"], "changed on top of a change"
        return list(todo.resolved)


def assert_all_come_back(photos: Path, vault: Path) -> None:
    rows = restore([photos], vault=vault, allow_root=True)
    assert {row.status for row in rows} <= {"restored", "skipped"}, rows
    expected = {**PHOTOS, "twin.jpg": PHOTOS["0.jpg"], "moved.jpg": PHOTOS["4.jpg"]}
    del expected["4.jpg"]
    assert {path.name: path.read_bytes() for path in photos.iterdir()} == expected


def snapshot(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def remove(vault: Path) -> None:
    for path in vault.glob("ledger.sqlite*"):
        path.unlink()


def lose_all(vault: Path) -> None:
    for path in vault.glob("ledger.*"):
        path.unlink()


def empty(vault: Path) -> None:
    (vault / "ledger.sqlite").write_bytes(b"")


def cut(vault: Path) -> None:
    os.truncate(vault / "ledger.sqlite", 10_000)


def cut_to_a_page(vault: Path) -> None:
    os.truncate(vault / "ledger.sqlite", 4096)


def start_anew(vault: Path) -> None:
    remove(vault)
    with sqlite3.connect(vault / "ledger.sqlite") as db:
        db.execute("CREATE TABLE other (a)")
    db.close()


def delete_rows(vault: Path) -> None:
    with sqlite3.connect(vault / "ledger.sqlite") as db:
        db.execute("DELETE FROM records WHERE id > 2")
        db.execute("DELETE FROM originals WHERE id NOT IN (SELECT original FROM records)")
    db.close()


def overwrite(vault: Path) -> None:
    (vault / "ledger.sqlite").write_bytes(b"not a database at all" * 1000)


@pytest.mark.parametrize(
    "harm", [remove, lose_all, empty, cut, cut_to_a_page, start_anew, delete_rows, overwrite], ids=lambda f: f.__name__
)
def test_a_ledger_that_lost_something_stops_protect_and_is_rebuilt(
    harm: Callable[[Path], None], photos: Path, vault: Path, quick: Path
) -> None:
    harm(vault)
    before = snapshot(photos)
    for _ in range(2):
        with pytest.raises(LedgerError, match="originals repair"):
            planned(photos, vault)
    assert snapshot(photos) == before
    out = export(quick / "out", vault=vault)
    assert {row.status for row in out} == {"exported"}
    assert sorted(path.read_bytes() for path in (quick / "out").iterdir()) == sorted(PHOTOS.values())
    here = snapshot(vault)
    assert {row.status for row in repair(vault, dry_run=True)} <= {"kept", "recovered"}
    assert snapshot(vault) == here
    rows = repair(vault)
    assert {row.status for row in rows} <= {"kept", "recovered"}
    assert len(rows) == 11
    assert {row.status for row in repair(vault)} == {"kept"}
    assert not list(vault.glob("ledger.damaged*"))
    statuses = {Path(row.path).name: row.status for row in planned(photos, vault)}
    assert set(statuses.values()) == {"already"}
    assert_all_come_back(photos, vault)


def test_a_ledger_from_a_newer_version_is_left_alone(photos: Path, vault: Path) -> None:
    with sqlite3.connect(vault / "ledger.sqlite") as db:
        db.execute("PRAGMA user_version = 99")
        db.execute(f"PRAGMA application_id = {0x48530000 | 99}")
    db.close()
    before = snapshot(vault)
    for action in (
        lambda: planned(photos, vault),
        lambda: list_originals(vault),
        lambda: restore([photos], vault=vault),
        lambda: repair(vault),
        lambda: export(photos, vault=vault),
    ):
        with pytest.raises(StorageError, match="newer HashShield") as caught:
            action()
        assert "\n" not in str(caught.value)
        assert not isinstance(caught.value, LedgerError)
    assert snapshot(vault) == before


def refused(photos: Path, vault: Path) -> HashshieldError | None:
    try:
        planned(photos, vault)
    except HashshieldError as error:
        return error
    return None


def flip(vault: Path, generator: random.Random) -> tuple[int, int]:
    path = vault / "ledger.sqlite"
    data = bytearray(path.read_bytes())
    place, bit = generator.randrange(len(data)), 1 << generator.randrange(8)
    data[place] ^= bit
    path.write_bytes(data)
    return place, bit


def try_flips(photos: Path, vault: Path, *, trials: int, seed: int) -> int:
    """Change one bit of a byte of the ledger, again and again; return how often that was noticed."""
    generator = random.Random(seed)
    base = photos.parent
    kept = base / "kept"
    shutil.copytree(vault, kept / "vault")
    shutil.copytree(photos, kept / "photos")
    noticed = 0
    for _ in range(trials):
        for name in ("vault", "photos"):
            shutil.rmtree(base / name)
            shutil.copytree(kept / name, base / name)
        where = flip(vault, generator)
        refusal = refused(photos, vault)
        if refusal is not None:
            assert isinstance(refusal, LedgerError), (where, refusal)
            assert "originals repair" in str(refusal), (where, refusal)
            assert "\n" not in str(refusal), (where, refusal)
            noticed += 1
        assert {row.status for row in repair(vault)} <= {"kept", "recovered"}, where
        planned(photos, vault)
        assert_all_come_back(photos, vault)
    shutil.rmtree(kept)
    return noticed


def test_one_changed_byte_of_the_ledger_never_leads_to_a_change(photos: Path, vault: Path) -> None:
    assert try_flips(photos, vault, trials=FLIPS, seed=1) > 5


@pytest.mark.slow
def test_five_hundred_changed_bytes_of_the_ledger_never_lead_to_a_change(photos: Path, vault: Path) -> None:
    noticed = try_flips(photos, vault, trials=MANY_FLIPS, seed=2)
    print(f"{noticed} of {MANY_FLIPS} were noticed; the others lay where nothing is written")
    assert noticed > 100
