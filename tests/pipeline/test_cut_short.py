"""What a killed run leaves where the user goes on working: photos that were moved, prunes that were not finished."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from hashshield.pipeline.originals import list_originals, prune
from hashshield.pipeline.plan import plan
from hashshield.pipeline.restore import restore
from hashshield.storage import NewRecord, Store, calls, read_snapshot
from hashshield.types import Request


class Killed(BaseException):
    """Stands for the end of the process: nothing after it may run."""


def stop_at(step: str, *, after: int = 0) -> None:
    """From a step on, let nothing of the file system be changed any more."""
    count = 0

    def observer(name: str, arguments: tuple[object, ...]) -> None:
        nonlocal count
        count += name == step
        if count > after:
            raise Killed

    calls.observe(observer)


ORIGINAL, PROTECTED = (b"\x89PNG\r\n\x1a\n" + text for text in (b"original", b"protected"))
"""An image by its first bytes; nothing here decodes it."""


@pytest.fixture
def vault(tmp_path: Path) -> Path:
    return tmp_path / "vault"


@pytest.fixture
def photo(tmp_path: Path, vault: Path) -> Path:
    """A photo that holds its result, while the ledger has only its intent; moved since."""
    path = tmp_path / "photos" / "a.png"
    path.parent.mkdir()
    path.write_bytes(ORIGINAL)
    stop_at("ledger.commit")
    with pytest.raises(Killed), Store.open(vault) as store:
        store.replace(read_snapshot(path, follow=True), PROTECTED, NewRecord(), allow_root=True)
    calls.observe(None)
    assert path.read_bytes() == PROTECTED
    (tmp_path / "elsewhere").mkdir()
    return path.rename(tmp_path / "elsewhere" / "b.png")


def test_a_photo_moved_after_a_kill_is_protected_already(photo: Path, vault: Path) -> None:
    request = Request(models=(), vault=vault)
    with Store.open(vault) as store:
        assert len(store.notices) >= 1
        (row,) = plan([photo], request, store).resolved
    assert row.status == "already"
    with Store.open(vault) as store:
        assert store.ledger.open_intents() == [], "what was seen once is not said again"
        assert [record.state for record in store.ledger.every()] == ["done"]


def test_a_photo_moved_after_a_kill_is_restored(photo: Path, vault: Path) -> None:
    assert restore([photo], vault=vault, allow_root=True)[0].status == "restored"
    assert photo.read_bytes() == ORIGINAL
    with Store.open(vault) as store:
        assert store.ledger.open_intents() == []


def test_the_original_comes_back_under_the_old_path_too(photo: Path, vault: Path, tmp_path: Path) -> None:
    old = tmp_path / "photos" / "a.png"
    assert restore([old], vault=vault, allow_root=True)[0].status == "restored"
    assert old.read_bytes() == ORIGINAL


@pytest.fixture
def many(tmp_path: Path, vault: Path) -> Path:
    """Forty protected photos: more than are pruned at a time."""
    folder = tmp_path / "many"
    folder.mkdir()
    with Store.open(vault) as store:
        for number in range(40):
            path = folder / f"{number}.png"
            path.write_bytes(f"original {number}".encode())
            store.replace(
                read_snapshot(path, follow=True), f"protected {number}".encode(), NewRecord(), allow_root=True
            )
    return folder


def killed_prune(vault: Path, *, after: int) -> None:
    stop_at("remove", after=after)
    with pytest.raises(Killed):
        prune(vault=vault, dry_run=False)
    calls.observe(None)


def blobs(vault: Path) -> set[str]:
    return {path.name for path in vault.glob("originals/*/*") if len(path.name) == 64}


def test_a_prune_cut_short_keeps_what_it_did_not_reach_and_can_go_on(many: Path, vault: Path) -> None:
    killed_prune(vault, after=20)
    assert len(blobs(vault)) == 20
    rows = list_originals(vault)
    states = [row.state for row in rows]
    assert (states.count("kept"), states.count("pruned")) == (8, 32), "32 at a time: those marked are finished"
    assert {row.id for row in rows if row.state == "kept"} == blobs(vault)
    kept = [Path(row.paths[0]) for row in rows if row.state == "kept"]
    assert {row.status for row in restore(kept, vault=vault, allow_root=True)} == {"restored"}
    assert len(prune(vault=vault, dry_run=False).originals) == 8
    assert blobs(vault) == set()


def test_what_is_marked_and_still_here_can_be_restored(many: Path, vault: Path) -> None:
    killed_prune(vault, after=20)
    here = blobs(vault)
    rows = {Path(row.path).stem: row.status for row in restore([many], vault=vault, allow_root=True)}
    for number in range(40):
        original = f"original {number}".encode()
        there = hashlib.sha256(original).hexdigest() in here
        assert rows[str(number)] == ("restored" if there else "failed")
        assert ((many / f"{number}.png").read_bytes() == original) == there
    assert len(blobs(vault)) == 8, "then the prune is finished"
