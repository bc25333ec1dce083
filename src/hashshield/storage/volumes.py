"""The volume that holds a folder: its file system, encryption and free space, if they can be determined."""

from __future__ import annotations

import os
import re
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hashshield.paths import exists, is_folder
from hashshield.storage.calls import storage_errors

__all__ = [
    "Encryption",
    "SpaceReport",
    "Volume",
    "ignores_case",
    "is_local",
    "may_be_unplugged",
    "mount_of",
    "preflight",
    "volume_encryption",
    "volume_notices",
]

# File systems on which shared memory maps work, which write-ahead logs need; all others count as remote.
_LOCAL = frozenset(
    {
        "apfs",
        "bcachefs",
        "btrfs",
        "ecryptfs",
        "exfat",
        "ext2",
        "ext3",
        "ext4",
        "f2fs",
        "hfs",
        "hfsplus",
        "jfs",
        "nilfs2",
    }
    | {"ntfs", "ntfs3", "overlay", "ramfs", "reiserfs", "tmpfs", "udf", "vfat", "xfs", "zfs"}
)
_MEMORY = frozenset({"ramfs", "tmpfs"})
_REMOVABLE_MOUNTS = (Path("/media"), Path("/run/media"), Path("/Volumes"))
_SYNCED_NAMES = re.compile(
    r"dropbox.*|onedrive.*|google ?drive.*|my drive|icloud.*|mobile documents|cloudstorage|nextcloud|owncloud|"
    r"pcloud ?drive|mega|megasync|syncthing|box sync|seafile|proton ?drive.*",
    re.IGNORECASE,
)
_SYNCED_MARKERS = (".stfolder", ".dropbox", ".dropbox.cache", ".sync", ".owncloudsync.log")
_ENCRYPTED_TYPES = frozenset(
    {"ecryptfs", "fuse.cryfs", "fuse.encfs", "fuse.gocryptfs", "fuse.securefs", "fuse.veracrypt"}
)
_GET_FLAGS = 0x80086601
"""FS_IOC_GETFLAGS on systems with a long of eight bytes."""
_ENCRYPTED_FLAG = 0x800
"""FS_ENCRYPT_FL: the folder is encrypted by fscrypt."""
_SECONDS = 5

Run = Callable[[Sequence[str]], "str | None"]
"""Runs a command and returns its standard output; None if it cannot be run or fails."""
_GROWTH = 1.5
"""Assumed largest ratio of a protected file's size to its original's."""
_RESERVE_BYTES = 16 << 20
"""Free space to leave, for the ledger and other programs."""


def mount_of(path: Path, *, mountinfo: Path = Path("/proc/self/mountinfo")) -> tuple[Path, str] | None:
    """Return a folder's mount point and its file system's type; None if the system does not tell."""
    try:
        lines = mountinfo.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return None
    real = Path(os.path.realpath(path))
    best: tuple[Path, str] | None = None
    for line in lines:
        before, separator, after = line.partition(" - ")
        fields = before.split(" ")
        if not separator or len(fields) < 5:
            continue
        name = _unescape(fields[4])
        # Compared as text first: there are many lines, and creating paths is slow.
        if not str(real).startswith(name):
            continue
        point = Path(name)
        # A later line for the same point covers the earlier one.
        if real.is_relative_to(point) and (best is None or len(point.parts) >= len(best[0].parts)):
            best = (point, after.split(" ")[0])
    return best


def is_local(path: Path) -> bool:
    """Return whether the folder is known to be on a local file system; False if in doubt."""
    mount = mount_of(path)
    return mount is not None and mount[1] in _LOCAL


def ignores_case(folder: Path) -> bool:
    """Return whether names that differ only in case are the same file in a folder, which need not exist.

    This is tested with the nearest existing folder on the same volume that has a letter in its name. If there is none,
    the answer is the operating system's default.
    """
    there = [place for place in (folder, *folder.absolute().parents) if is_folder(place)]
    for place in there:
        real = Path(os.path.realpath(place))
        if real.stat().st_dev != there[0].stat().st_dev:
            break
        other = real.with_name(real.name.swapcase()) if real.name else real
        if other != real:
            return exists(other) and real.samefile(other)
    return sys.platform in ("darwin", "win32")


def may_be_unplugged(path: Path) -> bool:
    """Return whether a missing file may be there: its volume is not mounted now, or its folder may not be entered."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError:
        return True
    there = next((place for place in path.parents if exists(place)), None)
    mounts = (*_REMOVABLE_MOUNTS, Path("/mnt"))
    # A user's volumes are one level deeper, in /media/NAME.
    return there is None or any(there == place or (there.parent == place and there != path.parent) for place in mounts)


def volume_notices(root: Path) -> list[str]:
    """Return warnings about the vault's volume; empty if there are none."""
    notices = []
    mount = mount_of(root)
    if mount is not None and mount[1] not in _LOCAL:
        notices.append(
            f"{root}: the vault lies on a {mount[1]} file system, which may be remote; the ledger uses a rollback "
            "journal there, and a local folder (--vault) is safer and faster"
        )
    elif mount is not None and mount[1] in _MEMORY:
        notices.append(f"{root}: the vault lies in memory and is lost at the next restart; choose another with --vault")
    elif any(real.is_relative_to(point) for point in _REMOVABLE_MOUNTS for real in (Path(os.path.realpath(root)),)):
        notices.append(
            f"{root}: the vault lies on a removable volume; photos can only be restored while it is plugged in"
        )
    synced = _synced(root)
    if synced is not None:
        notices.append(
            f"{root}: the vault lies in {synced}, which looks synchronised with a service; "
            "your originals and their codes would be copied there: choose another folder with --vault"
        )
    return notices


def _synced(root: Path) -> Path | None:
    real = Path(os.path.realpath(root))
    for folder in (real, *real.parents):
        if _SYNCED_NAMES.fullmatch(folder.name) or any(exists(folder / marker) for marker in _SYNCED_MARKERS):
            return folder
    return None


def _unescape(field: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field) if "\\" in field else field


@dataclass(frozen=True, slots=True)
class Encryption:
    """Whether a volume is encrypted, as far as can be determined."""

    encrypted: bool | None
    """None if unknown."""
    how: str
    """The kind of encryption, or why it is unknown."""


def volume_encryption(
    folder: Path,
    *,
    platform: str = sys.platform,
    sys_root: Path = Path("/sys"),
    mountinfo: Path = Path("/proc/self/mountinfo"),
    run: Run | None = None,
    device_of: Callable[[Path], int] | None = None,
) -> Encryption:
    """Return whether the volume of `folder` is encrypted; self-encrypting drives cannot be detected.

    The other arguments let tests replace the platform, the system's files, and the functions that run commands and
    return device numbers.
    """
    if platform.startswith("linux"):
        return _linux(folder, sys_root, mountinfo, device_of or _device_of)
    if platform == "darwin":
        return _macos(folder, run or _run)
    return Encryption(None, f"this cannot be told on {platform}")


def _linux(folder: Path, sys_root: Path, mountinfo: Path, device_of: Callable[[Path], int]) -> Encryption:
    mount = mount_of(folder, mountinfo=mountinfo)
    if mount is not None and mount[1] in _ENCRYPTED_TYPES:
        return Encryption(True, mount[1])
    if _has_policy(folder):
        return Encryption(True, "fscrypt")
    device = folder.stat().st_dev
    if os.major(device) == 0:
        # For a file system on several devices, or none, `st_dev` names no disk.
        device = _source_device(folder, mountinfo, device_of)
    block = sys_root / "dev" / "block" / f"{os.major(device)}:{os.minor(device)}"
    if not device or not exists(block):
        kind = "its file system" if mount is None else f"the file system {mount[1]}"
        return Encryption(None, f"{kind} does not name a disk")
    found = _crypt(block)
    return Encryption(True, "dm-crypt") if found else Encryption(False, "no dm-crypt below it, and no fscrypt")


def _crypt(block: Path) -> bool:
    """Return whether a block device is a dm-crypt mapping, or all devices that it is made of are encrypted."""
    try:
        if (block / "dm" / "uuid").read_text(encoding="utf-8").startswith("CRYPT-"):
            return True
    except OSError:
        pass
    try:
        below = list((block / "slaves").iterdir())
    except OSError:
        return False
    return bool(below) and all(_crypt(device) for device in below)


def _source_device(folder: Path, mountinfo: Path, device_of: Callable[[Path], int]) -> int:
    """Return the device number of the disk that a folder's mount names; 0 if it names none."""
    mount = mount_of(folder, mountinfo=mountinfo)
    if mount is None:
        return 0
    for line in mountinfo.read_text(encoding="utf-8", errors="surrogateescape").splitlines():
        before, _, after = line.partition(" - ")
        if before.split(" ")[4:5] == [str(mount[0])] and len(after.split(" ")) > 1:
            try:
                return device_of(Path(after.split(" ")[1]))
            except OSError:
                return 0
    return 0


def _device_of(path: Path) -> int:
    return path.stat().st_rdev


def _has_policy(folder: Path) -> bool:
    if sys.platform != "linux" or struct.calcsize("l") != 8:
        return False
    import fcntl

    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return False
    try:
        flags = struct.unpack("l", fcntl.ioctl(descriptor, _GET_FLAGS, struct.pack("l", 0)))[0]
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return bool(flags & _ENCRYPTED_FLAG)


def _macos(folder: Path, run: Run) -> Encryption:
    said = run(["diskutil", "info", str(folder)]) or ""
    found = re.search(r"^\s*(?:FileVault|Encrypted):\s*(Yes|No)", said, re.MULTILINE)
    if found:
        return Encryption(found[1] == "Yes", "as diskutil says")
    said = run(["fdesetup", "status"]) or ""
    # fdesetup reports on the startup volume only.
    if re.search(r"FileVault is (On|Off)", said) and not str(folder).startswith("/Volumes/"):
        return Encryption("FileVault is On" in said, "as fdesetup says of FileVault")
    return Encryption(None, "neither diskutil nor fdesetup tells")


def _run(command: Sequence[str]) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout if done.returncode == 0 else None


@dataclass(frozen=True, slots=True)
class Volume:
    """One volume, with the space needed and the space free on it, in bytes."""

    folder: Path
    needed: int
    free: int

    @property
    def enough(self) -> bool:
        """Whether the space needed and a reserve are free."""
        return self.needed + _RESERVE_BYTES <= self.free

    @property
    def more_than_half(self) -> bool:
        """Whether more than half of the free space would be used."""
        return 2 * self.needed > self.free


@dataclass(frozen=True, slots=True)
class SpaceReport:
    """The space on all volumes of a run, one entry each."""

    volumes: tuple[Volume, ...]

    @property
    def enough(self) -> bool:
        """Whether every volume has enough space."""
        return all(volume.enough for volume in self.volumes)

    @property
    def more_than_half(self) -> bool:
        """Whether any volume would lose more than half of its free space."""
        return any(volume.more_than_half for volume in self.volumes)

    @property
    def reason(self) -> str | None:
        """Which volume is too full and what to do; None if all have enough space."""
        for volume in self.volumes:
            if not volume.enough:
                return (
                    f"{volume.folder}: needs {_megabytes(volume.needed + _RESERVE_BYTES)} and has "
                    f"{_megabytes(volume.free)} free; free some space, choose another folder with --vault, "
                    "or protect fewer photos at a time"
                )
        return None


def preflight(
    total_bytes: int,
    vault: Path,
    *,
    folders: Iterable[Path] = (),
    largest_bytes: int | None = None,
    backup: bool = True,
) -> SpaceReport:
    """Compare the most space that a run may need with the space that is free.

    The vault needs `total_bytes`, the sum of the photos, or nothing without `backup`; one that is not there yet is
    looked for where it will be made. Each volume of `folders` needs space for a temporary copy of the largest photo and
    for the growth of all. A missing folder is skipped; its photos fail one by one. Raises StorageError.
    """
    largest = total_bytes if largest_bytes is None else largest_bytes
    needs: dict[int, tuple[Path, int]] = {}
    devices: set[int] = set()
    with storage_errors("asking for free space"):
        while not exists(vault) and vault != vault.parent:
            vault = vault.parent
        wanted = [(vault, vault.stat().st_dev, total_bytes if backup else 0)]
        for folder in folders:
            try:
                device = folder.stat().st_dev
            except OSError:
                continue
            if device not in devices:
                devices.add(device)
                wanted.append((folder, device, int(_GROWTH * largest) + int((_GROWTH - 1) * total_bytes)))
        for folder, device, needed in wanted:
            first, sum_so_far = needs.get(device, (folder, 0))
            needs[device] = (first, sum_so_far + needed)
        return SpaceReport(
            tuple(Volume(folder, needed, shutil.disk_usage(folder).free) for folder, needed in needs.values())
        )


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.0f} MB"
