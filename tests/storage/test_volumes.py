from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from hashshield.storage import Store, may_be_unplugged, preflight, volumes

MOUNTS = """\
1 0 254:0 / / rw,relatime - ext4 /dev/vda rw
2 1 0:50 / /home rw - btrfs /dev/vdb rw
3 1 0:51 / /net/share rw shared:7 - nfs4 server:/share rw
4 1 0:52 / /mnt/with\\040space rw - fuse.sshfs host: rw
5 1 0:53 / /over rw - ext4 /dev/vdc rw
6 1 0:54 / /over rw - cifs //host/share rw
garbage
"""


@pytest.fixture
def mountinfo(tmp_path: Path) -> Path:
    path = tmp_path / "mountinfo"
    path.write_text(MOUNTS)
    return path


@pytest.mark.parametrize(
    ("path", "point", "kind"),
    [
        ("/", "/", "ext4"),
        ("/somewhere/else", "/", "ext4"),
        ("/home/me/vault", "/home", "btrfs"),
        ("/homestead", "/", "ext4"),
        ("/net/share/x", "/net/share", "nfs4"),
        ("/mnt/with space/x", "/mnt/with space", "fuse.sshfs"),
        ("/over/x", "/over", "cifs"),
    ],
)
def test_the_mount_of_a_folder(path: str, point: str, kind: str, mountinfo: Path) -> None:
    assert volumes.mount_of(Path(path), mountinfo=mountinfo) == (Path(point), kind)


def test_where_the_system_does_not_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert volumes.mount_of(tmp_path, mountinfo=tmp_path / "nowhere") is None
    monkeypatch.setattr(volumes, "mount_of", lambda path: None)
    assert not volumes.is_local(tmp_path), "when in doubt, the journal that works everywhere"
    assert volumes.volume_notices(tmp_path) == []


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the system does not say")
def test_this_machine(tmp_path: Path) -> None:
    assert volumes.mount_of(tmp_path) is not None


@pytest.mark.parametrize(
    ("mount", "words"),
    [((Path("/net"), "nfs4"), "nfs4 file system"), ((Path("/mnt"), "fuse.rclone"), "fuse.rclone file system")],
)
def test_a_remote_volume_is_said(
    mount: tuple[Path, str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(volumes, "mount_of", lambda path: mount)
    assert any(words in notice for notice in volumes.volume_notices(tmp_path))
    assert not volumes.is_local(tmp_path)


def test_memory_is_no_place_for_originals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(volumes, "mount_of", lambda path: (Path("/tmp"), "tmpfs"))
    assert any("lost at the next restart" in notice for notice in volumes.volume_notices(tmp_path))
    assert volumes.is_local(tmp_path)


def test_a_removable_volume_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(volumes, "mount_of", lambda path: (Path("/"), "ext4"))
    assert any("removable" in notice for notice in volumes.volume_notices(Path("/media/me/stick/vault")))
    assert any("removable" in notice for notice in volumes.volume_notices(Path("/run/media/me/stick/vault")))
    assert volumes.volume_notices(Path("/mediathek/vault")) == []


@pytest.mark.parametrize("name", ["Dropbox", "OneDrive - Work", "Google Drive", "Nextcloud", "Mobile Documents"])
def test_a_synchronised_folder_is_said(name: str, tmp_path: Path) -> None:
    vault = tmp_path / name / "deep" / "vault"
    vault.mkdir(parents=True)
    assert any("synchronised" in notice for notice in volumes.volume_notices(vault))


def test_the_store_passes_it_on(tmp_path: Path) -> None:
    (tmp_path / "Dropbox").mkdir()
    with Store.open(tmp_path / "Dropbox" / "vault") as store:
        assert any("synchronised" in notice for notice in store.notices)


def test_a_marker_of_a_synchronising_program_is_noticed(tmp_path: Path) -> None:
    vault = tmp_path / "vault"
    vault.mkdir()
    assert not any("synchronised" in notice for notice in volumes.volume_notices(vault))
    (tmp_path / ".stfolder").mkdir()
    assert any("synchronised" in notice for notice in volumes.volume_notices(vault))


def test_a_file_that_cannot_be_looked_at_may_be_there(tmp_path: Path) -> None:
    assert not may_be_unplugged(tmp_path / "gone.jpg")
    assert not may_be_unplugged(tmp_path / "gone" / "gone.jpg")
    assert may_be_unplugged(tmp_path / ("x" * 300))


def test_case_counts_where_the_file_system_says_so(tmp_path: Path) -> None:
    assert not volumes.ignores_case(tmp_path / "not" / "there")
    # As a file system that ignores case shows it: both spellings lead to one folder.
    (tmp_path / "Out").mkdir()
    (tmp_path / "oUT").symlink_to(tmp_path / "Out")
    assert volumes.ignores_case(tmp_path / "Out" / "new")


class Usage(NamedTuple):
    total: int
    used: int
    free: int


@pytest.fixture(autouse=True)
def _one_gigabyte_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(0, 0, 10**9))


def test_one_volume_holds_vault_and_photos(store: Store, photos: Path) -> None:
    report = preflight(100_000_000, store.root, folders=[photos, photos], largest_bytes=10_000_000)
    assert [(volume.folder, volume.needed) for volume in report.volumes] == [(store.root, 165_000_000)]
    assert report.enough
    assert not report.more_than_half
    assert report.reason is None


def test_without_backup_the_vault_needs_nothing(store: Store) -> None:
    assert preflight(10**12, store.root, backup=False).enough


def test_too_little_space_is_said_with_numbers(store: Store) -> None:
    report = preflight(2_000_000_000, store.root)
    assert not report.enough
    assert report.more_than_half
    assert report.reason is not None
    assert "needs 2,017 MB and has 1,000 MB free" in report.reason


def test_half_of_the_space_is_worth_a_question(store: Store) -> None:
    report = preflight(600_000_000, store.root)
    assert report.enough
    assert report.more_than_half


def test_two_volumes_are_counted_apart(store: Store, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stat = Path.stat

    class Elsewhere:
        st_dev = -1

    monkeypatch.setattr(Path, "stat", lambda path, **given: Elsewhere() if path == photos else stat(path, **given))
    report = preflight(100, store.root, folders=[photos])
    assert [(volume.folder, volume.needed) for volume in report.volumes] == [(store.root, 100), (photos, 200)]
