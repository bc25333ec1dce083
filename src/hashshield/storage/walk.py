"""Files below a folder, in a fixed order, without following a single link."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from hashshield.storage.temporaries import is_temporary

__all__ = ["excluded", "named", "walk"]


def walk(
    folder: Path, *, skip: Path | None = None, failed: Callable[[Path, OSError], None] | None = None
) -> Iterator[Path]:
    """Yield regular files below `folder`, sorted, links and temporary files of this package left out.

    `skip` is a folder (real path) not to enter: the vault, should it lie among the photos. A folder that cannot be
    listed is told to `failed` and the rest goes on; without it OSError is raised.
    """
    if skip is not None and Path(os.path.realpath(folder)).is_relative_to(skip):
        return
    try:
        with os.scandir(folder) as listing:
            entries = sorted(listing, key=lambda entry: entry.name)
    except OSError as error:
        if failed is None:
            raise
        failed(folder, error)
        return
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            yield from walk(Path(entry.path), skip=skip, failed=failed)
        elif entry.is_file(follow_symlinks=False) and not is_temporary(entry.name):
            yield Path(entry.path)


def named(
    paths: Iterable[Path],
    *,
    skip: Path | None = None,
    exclude: Sequence[str] = (),
    failed: Callable[[Path, OSError], None],
) -> Iterator[tuple[Path, Path | None]]:
    """Yield (file, folder it was met in) for all that is below folders among `paths`, (file, None) for the others.

    What a pattern of `exclude` matches is passed over, named files too.
    """
    for path in paths:
        if os.path.isdir(path):  # noqa: PTH112 - Path.is_dir raises where a folder above may not be entered
            for file in walk(path, skip=skip, failed=failed):
                if not excluded(file.relative_to(path), exclude):
                    yield file, path
        elif not excluded(Path(path.name), exclude):
            yield path, None


def excluded(relative: Path, patterns: Sequence[str]) -> bool:
    """Whether a pattern matches the file or a folder above it.

    A pattern without a slash is held against every name on the way, one with a slash against the path from the folder
    that was named; `*` matches slashes too, and upper and lower case differ.
    """
    places = [relative, *relative.parents][:-1]
    for pattern in patterns:
        wanted = pattern.rstrip("/")
        if any(fnmatchcase(str(place) if "/" in wanted else place.name, wanted) for place in places):
            return True
    return False
