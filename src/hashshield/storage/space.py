"""Whether the disks have room for what is about to be written, asked before byte one."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from hashshield.storage.os_errors import storage_errors
from hashshield.storage.store import Store

__all__ = ["SpaceReport", "Volume", "preflight"]

_GROWTH = 1.5
"""A protected file is at most this much larger than its original, generously."""
_RESERVE_BYTES = 16 << 20
"""For the ledger, and so as not to fill a disk to its last byte."""


@dataclass(frozen=True, slots=True)
class Volume:
    """One disk and what it is asked to hold, in bytes."""

    folder: Path
    needed: int
    free: int

    @property
    def enough(self) -> bool:
        """Whether it fits, with a reserve."""
        return self.needed + _RESERVE_BYTES <= self.free

    @property
    def more_than_half(self) -> bool:
        """Whether more than half of what is free would be used."""
        return 2 * self.needed > self.free


@dataclass(frozen=True, slots=True)
class SpaceReport:
    """The volumes involved, each once."""

    volumes: tuple[Volume, ...]

    @property
    def enough(self) -> bool:
        """Whether every volume has room."""
        return all(volume.enough for volume in self.volumes)

    @property
    def more_than_half(self) -> bool:
        """Whether any volume would lose more than half of its free space."""
        return any(volume.more_than_half for volume in self.volumes)

    @property
    def reason(self) -> str | None:
        """What is short and what to do; None when there is room."""
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
    store: Store,
    *,
    folders: Iterable[Path] = (),
    largest_bytes: int | None = None,
    backup: bool = True,
) -> SpaceReport:
    """Compare what a run needs at most with what is free.

    The vault needs `total_bytes`, the sum of the photos (nothing without `backup`); each volume that holds `folders`
    needs room for one temporary copy of the largest photo and for the growth of all. A folder that is gone needs
    nothing: what is said of its photos is each photo's own. Raises StorageError.
    """
    largest = total_bytes if largest_bytes is None else largest_bytes
    needs: dict[int, tuple[Path, int]] = {}
    devices: set[int] = set()
    with storage_errors("asking for free space"):
        wanted = [(store.root, store.root.stat().st_dev, total_bytes if backup else 0)]
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
