from __future__ import annotations

import sys
from pathlib import Path

import pytest

from hashshield.storage import Store, volumes

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
    with Store.open(tmp_path / "Dropbox" / "vault") as store:
        assert any("synchronised" in notice for notice in store.notices)


def test_a_marker_of_a_synchronising_program_is_noticed(tmp_path: Path) -> None:
    vault = tmp_path / "vault"
    vault.mkdir()
    assert not any("synchronised" in notice for notice in volumes.volume_notices(vault))
    (tmp_path / ".stfolder").mkdir()
    assert any("synchronised" in notice for notice in volumes.volume_notices(vault))


def test_case_counts_where_the_file_system_says_so(tmp_path: Path) -> None:
    assert not volumes.ignores_case(tmp_path / "not" / "there")
    # As a file system that ignores case shows it: both spellings lead to one folder.
    (tmp_path / "Out").mkdir()
    (tmp_path / "oUT").symlink_to(tmp_path / "Out")
    assert volumes.ignores_case(tmp_path / "Out" / "new")
