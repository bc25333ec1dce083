from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from hashshield.storage.volumes import volume_encryption


@pytest.fixture
def block(tmp_path: Path) -> Path:
    """The folder in which Linux would describe the disk that tmp_path lies on."""
    device = tmp_path.stat().st_dev
    if sys.platform != "linux" or os.major(device) == 0:
        device = os.makedev(8, 1)
    folder = tmp_path / "sys" / "dev" / "block" / f"{os.major(device)}:{os.minor(device)}"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def mountinfo(tmp_path: Path, block: Path) -> Path:
    """A table of mounts that names a disk, for where the real file system has none."""
    file = tmp_path / "mountinfo"
    file.write_text("1 0 0:1 / / rw - btrfs /dev/imitated rw\n")
    return file


def ask(tmp_path: Path, mountinfo: Path) -> bool | None:
    def device_of(path: Path) -> int:
        if path != Path("/dev/imitated"):
            raise FileNotFoundError(path)
        (block,) = (tmp_path / "sys" / "dev" / "block").iterdir()
        major, minor = map(int, block.name.split(":"))
        return os.makedev(major, minor)

    found = volume_encryption(
        tmp_path, platform="linux", sys_root=tmp_path / "sys", mountinfo=mountinfo, device_of=device_of
    )
    assert found.how
    return found.encrypted


@pytest.mark.skipif(sys.platform != "linux", reason="device numbers as Linux has them")
def test_linux_tells_by_the_device_mapper(tmp_path: Path, block: Path, mountinfo: Path) -> None:
    assert ask(tmp_path, mountinfo) is False
    (block / "dm").mkdir()
    (block / "dm" / "uuid").write_text("LVM-abc\n")
    assert ask(tmp_path, mountinfo) is False
    below = block / "slaves" / "dm-0" / "dm"
    below.mkdir(parents=True)
    (below / "uuid").write_text("CRYPT-LUKS2-abc\n")
    assert ask(tmp_path, mountinfo) is True, "a volume group on an encrypted disk"
    (block / "slaves" / "sdb").mkdir()
    assert ask(tmp_path, mountinfo) is False, "half of the volume group is not"
    (block / "dm" / "uuid").write_text("CRYPT-LUKS2-abc\n")
    assert ask(tmp_path, mountinfo) is True


@pytest.mark.skipif(sys.platform != "linux", reason="device numbers as Linux has them")
def test_linux_tells_by_the_file_system_and_says_when_it_cannot(tmp_path: Path) -> None:
    mountinfo = tmp_path / "mountinfo"
    mountinfo.write_text("1 0 0:1 / / rw - ecryptfs /home/me/.Private rw\n")
    assert ask(tmp_path, mountinfo) is True
    mountinfo.write_text("1 0 0:1 / / rw - zfs pool/home rw\n")
    assert ask(tmp_path, mountinfo) is None


@pytest.mark.parametrize(
    ("diskutil", "fdesetup", "expected"),
    [
        ("   FileVault:                 Yes (Unlocked)\n", None, True),
        ("   Encrypted:                 No\n", None, False),
        (None, "FileVault is On.\n", True),
        (None, "FileVault is Off.\n", False),
        (None, None, None),
    ],
)
def test_macos_is_asked(tmp_path: Path, diskutil: str | None, fdesetup: str | None, expected: bool | None) -> None:
    def run(command: Sequence[str]) -> str | None:
        return diskutil if command[0] == "diskutil" else fdesetup

    assert volume_encryption(tmp_path, platform="darwin", run=run).encrypted is expected


def test_elsewhere_it_is_not_known(tmp_path: Path) -> None:
    assert volume_encryption(tmp_path, platform="win32").encrypted is None
