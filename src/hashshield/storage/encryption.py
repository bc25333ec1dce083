"""Whether the volume a folder lies on is encrypted, as far as the operating system tells."""

from __future__ import annotations

import os
import re
import struct
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hashshield.storage.volumes import mount_of

__all__ = ["Encryption", "volume_encryption"]

_ENCRYPTED_TYPES = frozenset(
    {"ecryptfs", "fuse.cryfs", "fuse.encfs", "fuse.gocryptfs", "fuse.securefs", "fuse.veracrypt"}
)
_GET_FLAGS = 0x80086601
"""FS_IOC_GETFLAGS where a long has eight bytes."""
_ENCRYPTED_FLAG = 0x800
"""FS_ENCRYPT_FL: the folder is encrypted by fscrypt."""
_SECONDS = 5

Run = Callable[[Sequence[str]], "str | None"]
"""Runs a command and returns what it prints; None if it cannot be run or fails."""


@dataclass(frozen=True, slots=True)
class Encryption:
    """What is known of a volume."""

    encrypted: bool | None
    """None: it cannot be told."""
    how: str
    """By what, or why it cannot be told."""


def volume_encryption(
    folder: Path,
    *,
    platform: str = sys.platform,
    sys_root: Path = Path("/sys"),
    mountinfo: Path = Path("/proc/self/mountinfo"),
    run: Run | None = None,
    device_of: Callable[[Path], int] | None = None,
) -> Encryption:
    """Return whether the volume of `folder` is encrypted; self-encrypting drives cannot be told from others.

    The rest is for tests: where the system tells, how commands are run, and the device number of a device file.
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
        # Of file systems that span devices, or lie on none, the folder does not name one.
        device = _source_device(folder, mountinfo, device_of)
    block = sys_root / "dev" / "block" / f"{os.major(device)}:{os.minor(device)}"
    if not device or not block.exists():
        kind = "its file system" if mount is None else f"the file system {mount[1]}"
        return Encryption(None, f"{kind} does not name a disk")
    found = _crypt(block)
    return Encryption(True, "dm-crypt") if found else Encryption(False, "no dm-crypt below it, and no fscrypt")


def _crypt(block: Path) -> bool:
    """Whether a block device, or one it is made of, is a dm-crypt mapping; all of several must be."""
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
    """Return the device number of the disk a mount names; 0 where it names none."""
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
    # It speaks of the startup volume only.
    if re.search(r"FileVault is (On|Off)", said) and not str(folder).startswith("/Volumes/"):
        return Encryption("FileVault is On" in said, "as fdesetup says of FileVault")
    return Encryption(None, "neither diskutil nor fdesetup tells")


def _run(command: Sequence[str]) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout if done.returncode == 0 else None
