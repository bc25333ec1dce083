from __future__ import annotations

import errno
import os
import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import fault_scenario as scenario
import pytest

from hashshield.errors import HashshieldError, PhotoError, StorageError
from hashshield.storage import NewRecord, Store, calls, read_snapshot
from hashshield.storage.folder import is_temporary


def steps(base: Path) -> list[str]:
    scenario.lay_out(base)
    names: list[str] = []
    calls.observe(lambda name, arguments: names.append(name))
    scenario.act(base)
    calls.observe(None)
    return names


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC, errno.EACCES])
def test_nothing_is_lost_when_any_call_fails(code: int, quick: Path) -> None:
    named = steps(quick)
    for number, failing in enumerate(named):
        if failing.startswith("ledger."):
            continue
        # All is done and recorded by then; an earlier backup stays, and the next run makes a newer one.
        backing_up = named[:number].count("ledger.backup") > named[:number].count("ledger.backup.done")
        scenario.lay_out(quick)
        count = 0

        def observer(name: str, arguments: tuple[object, ...], number: int = number) -> None:
            nonlocal count
            count += 1
            if count == number + 1:
                raise OSError(code, os.strerror(code))

        calls.observe(observer)
        try:
            with nullcontext() if backing_up else pytest.raises(HashshieldError) as caught:
                scenario.act(quick)
        finally:
            calls.observe(None)
        assert caught is None or os.strerror(code) in str(caught.value), f"step {number}, {failing}: {caught.value}"
        left = [path for path in quick.rglob("*") if is_temporary(path.name)]
        assert not left or failing == "remove", f"step {number}, {failing}"
        scenario.check(quick)
        if number % 10 == 0:
            scenario.finish(quick)


@pytest.mark.parametrize("step", ["ledger.intend", "ledger.commit", "ledger.commit.done"])
def test_an_interruption_at_any_point_is_settled(step: str, quick: Path) -> None:
    scenario.lay_out(quick)

    def observer(name: str, arguments: tuple[object, ...]) -> None:
        if name == step:
            raise KeyboardInterrupt

    calls.observe(observer)
    with pytest.raises(KeyboardInterrupt):
        scenario.act(quick)
    calls.observe(None)
    scenario.check(quick)
    scenario.finish(quick)


def test_a_failure_after_the_rename_says_that_the_file_was_written(quick: Path) -> None:
    photo = quick / "a.jpg"
    photo.write_bytes(b"original")
    renamed = False

    def observer(name: str, arguments: tuple[object, ...]) -> None:
        nonlocal renamed
        if renamed and name == "sync_folder":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        renamed = renamed or (name == "rename" and arguments[1] == "a.jpg")

    with Store.open(quick / "vault") as store:
        source = read_snapshot(photo, follow=True)
        calls.observe(observer)
        with pytest.raises(StorageError, match=r"was written, but the disk did not confirm it.*in the vault"):
            store.replace(source, b"protected", NewRecord(), allow_root=True)
        calls.observe(None)
        assert photo.read_bytes() == b"protected"
        assert store.ledger.open_intents() == []
        assert store.restore(photo, allow_root=True).status == "restored"


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("limit", [0, 1, 4096, 60_000, 200_000, 299_999])
def test_a_limit_on_file_size_is_reported_and_harmless(limit: int, quick: Path) -> None:
    photo = quick / "a.jpg"
    original = os.urandom(300_000)
    photo.write_bytes(original)
    with files_of_at_most(limit), pytest.raises(StorageError), Store.open(quick / "vault") as store:
        store.replace(read_snapshot(photo, follow=True), b"protected" * 50_000, NewRecord(), allow_root=True)
    assert photo.read_bytes() == original
    with Store.open(quick / "vault") as store:
        assert scenario.unsettled(store) == []
        store.replace(read_snapshot(photo, follow=True), b"protected", NewRecord(), allow_root=True)
        assert store.restore(photo, allow_root=True).status == "restored"
    assert photo.read_bytes() == original


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "small"
    folder.mkdir()
    # A shell holds the mount: its input ends with this process, however that is killed, and then it unmounts.
    script = """
        mount -t tmpfs -o size=1m,mode=700 hashshield-test "$1" || exit 1
        echo mounted
        cat >/dev/null
        umount "$1" || umount --lazy "$1"
    """
    holder = subprocess.Popen(
        ["sh", "-c", script, "sh", str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert holder.stdout is not None
    if holder.stdout.readline() != "mounted\n":
        _, reason = holder.communicate()
        pytest.skip(f"no file system can be mounted here: {reason.strip()}")
    yield folder
    _, complaint = holder.communicate()
    assert (holder.returncode, complaint) == (0, ""), "it is unmounted, and nothing was open"


@pytest.mark.parametrize("where", ["vault", "photos"])
@pytest.mark.parametrize("spare", [0, 20_000, 150_000, 290_000, 450_000])
def test_a_full_disk_is_reported_and_harmless(where: str, spare: int, small_disk: Path, tmp_path: Path) -> None:
    photos = small_disk / "photos" if where == "photos" else tmp_path / "photos"
    vault = small_disk / "vault" if where == "vault" else tmp_path / "vault"
    photos.mkdir()
    photo = photos / "a.jpg"
    original = os.urandom(300_000)
    photo.write_bytes(original)
    with Store.open(vault) as store:
        store.key()
    free = os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize
    filler = small_disk / "filler"
    filler.write_bytes(bytes(max(0, free - spare)))
    refused = pytest.raises(StorageError, match=r"space|full") if spare < len(original) else nullcontext()
    with refused, Store.open(vault) as store:
        store.replace(read_snapshot(photo, follow=True), original[::-1], NewRecord())
    assert photo.read_bytes() == (original if spare < len(original) else original[::-1])
    assert not [path for path in tmp_path.rglob("*") if is_temporary(path.name)]
    filler.unlink()
    with Store.open(vault) as store:
        assert scenario.unsettled(store) == []
        if photo.read_bytes() == original:
            store.replace(read_snapshot(photo, follow=True), original[::-1], NewRecord())
        assert store.restore(photo).status == "restored"
    assert photo.read_bytes() == original


def test_a_folder_that_may_not_be_written(as_user: Path) -> None:
    photo = as_user / "photos" / "a.jpg"
    photo.parent.mkdir()
    photo.write_bytes(b"original")
    with Store.open(as_user / "vault") as store:
        source = read_snapshot(photo, follow=True)
        photo.parent.chmod(0o500)
        with pytest.raises(StorageError, match="this user may make no files in its folder"):
            store.replace(source, b"protected", NewRecord())
        photo.parent.chmod(0o700)
        assert photo.read_bytes() == b"original"
        assert store.ledger.every() == []


def test_a_photo_that_may_not_be_read_or_written(as_user: Path) -> None:
    photo = as_user / "a.jpg"
    photo.write_bytes(b"original")
    with Store.open(as_user / "vault") as store:
        source = read_snapshot(photo, follow=True)
        photo.chmod(0o040)
        with pytest.raises(PhotoError, match="permission denied"):
            read_snapshot(photo, follow=True)
        with pytest.raises(StorageError):
            store.replace(source, b"protected", NewRecord())
        photo.chmod(0o400 | 0o020)
        with pytest.raises(StorageError, match="may not be written"):
            store.replace(source, b"protected", NewRecord())
        assert photo.read_bytes() == b"original"


@pytest.mark.parametrize("mode", [0o500, 0o000])
def test_a_vault_that_may_not_be_written(mode: int, as_user: Path) -> None:
    photo = as_user / "a.jpg"
    photo.write_bytes(b"original")
    vault = as_user / "vault"
    with Store.open(vault) as store:
        source = read_snapshot(photo, follow=True)
        store.vault.path.chmod(mode)
        with pytest.raises(StorageError, match="permission denied"):
            store.replace(source, b"protected", NewRecord())
        assert photo.read_bytes() == b"original"
        store.vault.path.chmod(0o700)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files of others")
def test_a_file_whose_owner_cannot_be_kept_is_left(quick: Path) -> None:
    photo = quick / "photos" / "a.jpg"
    photo.parent.mkdir()
    photo.write_bytes(b"original")
    photo.chmod(0o666)
    os.chown(quick, 65534, 65534)
    os.chown(photo.parent, 65534, 65534)
    os.seteuid(65534)
    try:
        with Store.open(quick / "vault") as store:
            source = read_snapshot(photo, follow=True)
            with pytest.raises(StorageError, match="belongs to user 0 and group 0"):
                store.replace(source, b"protected", NewRecord())
            assert store.ledger.every() == []
    finally:
        os.seteuid(0)
    assert photo.read_bytes() == b"original"
    assert not [path for path in quick.rglob("*") if is_temporary(path.name)]
