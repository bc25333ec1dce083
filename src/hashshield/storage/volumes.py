"""What kind of disk a folder lies on, as far as it matters for safety."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

__all__ = ["ignores_case", "is_local", "may_be_unplugged", "mount_of", "volume_notices"]

# Where memory-mapped shared files are known to work, which write-ahead logs need; anything else is taken for remote.
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


def mount_of(path: Path, *, mountinfo: Path = Path("/proc/self/mountinfo")) -> tuple[Path, str] | None:
    """Return the mount point a folder lies under and its file system's type; None where the system does not say."""
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
        point = Path(_unescape(fields[4]))
        # A later line for the same point covers the earlier one.
        if real.is_relative_to(point) and (best is None or len(point.parts) >= len(best[0].parts)):
            best = (point, after.split(" ")[0])
    return best


def is_local(path: Path) -> bool:
    """Whether the folder is known to lie on a disk of this machine; when in doubt it is not."""
    mount = mount_of(path)
    return mount is not None and mount[1] in _LOCAL


def ignores_case(folder: Path) -> bool:
    """Whether names that differ in case only are one file in a folder, which need not be there yet.

    Told from the nearest folder above that exists and has a letter in its name; where none lies on the same volume,
    from what is usual on the system.
    """
    there = [place for place in (folder, *folder.absolute().parents) if place.is_dir()]
    for place in there:
        real = Path(os.path.realpath(place))
        if real.stat().st_dev != there[0].stat().st_dev:
            break
        other = real.with_name(real.name.swapcase()) if real.name else real
        if other != real:
            return other.exists() and real.samefile(other)
    return sys.platform in ("darwin", "win32")


def may_be_unplugged(path: Path) -> bool:
    """Whether a file that is not there may lie on a volume that is not mounted now."""
    there = next((place for place in path.parents if place.exists()), None)
    mounts = (*_REMOVABLE_MOUNTS, Path("/mnt"))
    # The volumes of a user lie one level deeper, in /media/NAME.
    return there is None or any(there == place or (there.parent == place and there != path.parent) for place in mounts)


def volume_notices(root: Path) -> list[str]:
    """Return what the user should know about where the vault lies; nothing when it lies well."""
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
        if _SYNCED_NAMES.fullmatch(folder.name) or any((folder / marker).exists() for marker in _SYNCED_MARKERS):
            return folder
    return None


def _unescape(field: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field)
