"""Files below a folder, in a fixed order, without following a single link."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from hashshield.storage.temporaries import is_temporary

__all__ = ["walk"]


def walk(folder: Path, *, skip: Path | None = None) -> Iterator[Path]:
    """Yield regular files below `folder`, sorted, links and temporary files of this package left out.

    `skip` is a folder not to enter: the vault, should it lie among the photos. Raises OSError where listing fails.
    """
    with os.scandir(folder) as listing:
        entries = sorted(listing, key=lambda entry: entry.name)
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            if skip is None or Path(os.path.realpath(entry.path)) != skip:
                yield from walk(Path(entry.path), skip=skip)
        elif entry.is_file(follow_symlinks=False) and not is_temporary(entry.name):
            yield Path(entry.path)
