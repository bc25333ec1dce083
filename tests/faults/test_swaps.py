from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hashshield.errors import HashshieldError
from hashshield.storage import NewRecord, Store, calls, read_snapshot
from hashshield.storage.folder import is_temporary

SWAPPER = Path(__file__).parent / "swapper.py"


def state_of(folder: Path) -> dict[str, tuple[bytes, int, int, int]]:
    """Content, mode, modification time and inode of everything in a folder."""
    return {
        str(path.relative_to(folder)): (path.read_bytes(), status.st_mode, status.st_mtime_ns, status.st_ino)
        for path in sorted(folder.rglob("*"))
        for status in (path.lstat(),)
    }


@pytest.fixture
def photos(quick: Path) -> Path:
    folder = quick / "photos"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.jpg").write_bytes(b"photo")
    (folder / "sub" / "a.jpg").write_bytes(b"photo below")
    return folder


@pytest.fixture
def outside(quick: Path) -> Path:
    folder = quick / "outside"
    folder.mkdir()
    for name in ("a.jpg", "b.jpg"):
        (folder / name).write_bytes(b"not ours " + name.encode())
    return folder


@contextmanager
def swapping(photos: Path, outside: Path) -> Iterator[None]:
    with subprocess.Popen([sys.executable, str(SWAPPER), str(photos), str(outside)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield
        finally:
            process.kill()


def write_many(photos: Path, outside: Path, vault: Path, *, writes: int) -> None:
    before = state_of(outside)
    written = refused = 0
    with Store.open(vault) as store, swapping(photos, outside):
        while written < writes:
            for path in (photos / "sub" / "a.jpg", photos / "a.jpg"):
                try:
                    source = read_snapshot(path, follow=False, within=photos)
                    data = b"written %d" % written
                    new = NewRecord(again=store.ledger.result(source.sha256))
                    store.replace(source, data, new, backup=False, allow_root=True)
                except HashshieldError:
                    refused += 1
                else:
                    written += 1
    after = state_of(outside)
    assert {name: state[:3] for name, state in after.items()} == {name: state[:3] for name, state in before.items()}
    assert [state[3] for state in after.values()] == [state[3] for state in before.values()]
    assert refused, "nothing was swapped in time: the test did not test"
    left = [path for path in vault.parent.rglob("*") if is_temporary(path.name)]
    assert left == []


def test_nothing_outside_changes_while_folders_are_swapped(photos: Path, outside: Path, quick: Path) -> None:
    write_many(photos, outside, quick / "vault", writes=200)


@pytest.mark.slow
def test_nothing_outside_changes_in_a_thousand_writes(photos: Path, outside: Path, quick: Path) -> None:
    write_many(photos, outside, quick / "vault", writes=1000)


def steps_of_a_write(quick: Path) -> list[str]:
    """Steps of replacing a photo whose original is in the vault already."""
    photo = quick / "rehearsal.jpg"
    with Store.open(quick / "vault") as store:
        for _ in range(2):
            photo.write_bytes(b"photo below")
            names: list[str] = []
            calls.observe(lambda name, arguments, names=names: names.append(f"{name} {arguments[1:2]}"))  # type: ignore[misc]
            store.replace(read_snapshot(photo, follow=False), b"protected", NewRecord(), allow_root=True)
            calls.observe(None)
    return names


@pytest.mark.parametrize("swap", ["folder for a link", "folder for another", "photo for a link", "photo for another"])
def test_a_swap_just_before_any_step_harms_nothing(swap: str, photos: Path, outside: Path, quick: Path) -> None:
    """A race hits some moments by chance; here each moment is hit once.

    Between the last look and the rename lies the one moment that no check can cover: another photo put there then is
    replaced. Nothing outside the folder changes even so.
    """
    before = state_of(outside)
    folder = photos / "sub"
    path = folder / "a.jpg"
    steps = steps_of_a_write(quick)
    renamed = steps.index("rename ('rehearsal.jpg',)")
    for number, step in enumerate(steps):
        shutil.rmtree(quick / "vault")
        with Store.open(quick / "vault") as store:
            store.vault.put(b"photo below")
        path.write_bytes(b"photo below")
        count = 0

        def observer(name: str, arguments: tuple[object, ...], number: int = number) -> None:
            nonlocal count
            count += 1
            if count == number + 1:
                if swap.startswith("folder"):
                    folder.rename(quick / "away")
                    if swap == "folder for a link":
                        folder.symlink_to(outside)
                    else:
                        folder.mkdir()
                        (folder / "a.jpg").write_bytes(b"another")
                else:
                    path.rename(quick / "aside.jpg")
                    if swap == "photo for a link":
                        path.symlink_to(outside / "a.jpg")
                    else:
                        path.write_bytes(b"another")

        with Store.open(quick / "vault") as store:
            source = read_snapshot(path, follow=False, within=photos)
            calls.observe(observer)
            done = True
            try:
                store.replace(source, b"protected", NewRecord(), allow_root=True)
            except HashshieldError:
                done = False
            calls.observe(None)
            settled = store.ledger.open_intents()
        assert state_of(outside) == before
        mine = quick / "away" / "a.jpg" if swap.startswith("folder") else quick / "aside.jpg"
        if number < renamed:
            assert not done, f"{step}: the swap was not noticed"
            assert mine.read_bytes() == b"photo below"
        if swap.endswith("for another") and number != renamed:
            assert path.read_bytes() == b"another", f"{step}: a photo put there meanwhile was lost"
        assert len(settled) <= 1
        # Put everything back for the next step.
        if swap.startswith("folder"):
            if folder.is_symlink():
                folder.unlink()
            else:
                (folder / "a.jpg").unlink()
                folder.rmdir()
            (quick / "away").rename(folder)
        else:
            path.unlink()
            mine.rename(path)


def test_a_file_in_the_place_of_the_temporary_one_is_not_taken_for_it(photos: Path, quick: Path) -> None:
    def observer(name: str, arguments: tuple[object, ...]) -> None:
        if name == "rename" and arguments[1] == "a.jpg":
            temporary = photos / str(arguments[0])
            assert temporary.read_bytes() == b"protected"

    def swap_after_sync(name: str, arguments: tuple[object, ...]) -> None:
        if name == "sync":
            path = Path(f"/proc/self/fd/{arguments[0]}").readlink()
            if path.parent == photos:
                path.unlink()
                path.write_bytes(b"something else")
        observer(name, arguments)

    path = photos / "a.jpg"
    with Store.open(quick / "vault") as store:
        source = read_snapshot(path, follow=False)
        calls.observe(swap_after_sync)
        with pytest.raises(HashshieldError, match="replaced the temporary file"):
            store.replace(source, b"protected", NewRecord(), allow_root=True)
        calls.observe(None)
    assert path.read_bytes() == b"photo"
