"""Files below a folder, in a fixed order, without following a single link."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path, PurePath, PureWindowsPath

from hashshield.storage.foreign import is_foreign
from hashshield.storage.temporaries import is_temporary

__all__ = ["excluded", "named", "walk"]

_MOUNT_POINT = 0xA0000003
"""IO_REPARSE_TAG_MOUNT_POINT of winnt.h."""


def walk(
    folder: Path,
    *,
    skip: Path | None = None,
    failed: Callable[[Path, OSError], None] | None = None,
    foreign: Callable[[Path], bool] = lambda path: False,
) -> Iterator[Path]:
    """Yield regular files below `folder`, sorted, links and temporary files of this package left out.

    `skip` is a folder (real path) not to enter: the vault, should it lie among the photos. A folder that cannot be
    listed is told to `failed` and the rest goes on; without it OSError is raised. What other programs look after
    (`storage.foreign`) is told to `foreign`, and entered only if that says so.
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
        if is_foreign(Path(entry.path)) and not entry.is_symlink() and not foreign(Path(entry.path)):
            continue
        if entry.is_dir(follow_symlinks=False):
            if not _is_junction(entry):
                yield from walk(Path(entry.path), skip=skip, failed=failed, foreign=foreign)
        elif entry.is_file(follow_symlinks=False) and not is_temporary(entry.name):
            yield Path(entry.path)


def named(
    paths: Iterable[Path],
    *,
    skip: Path | None = None,
    exclude: Sequence[str] = (),
    failed: Callable[[Path, OSError], None],
    foreign: Callable[[Path], bool] = lambda path: False,
) -> Iterator[tuple[Path, Path | None]]:
    """Yield (file, folder it was met in) for all that is below folders among `paths`, (file, None) for the others.

    What a pattern of `exclude` matches is passed over, named files too. `skip`, `failed` and `foreign` as in `walk`.
    """
    for path in paths:
        if os.path.isdir(path):  # noqa: PTH112 - Path.is_dir raises where a folder above may not be entered
            for file in walk(path, skip=skip, failed=failed, foreign=foreign):
                if not excluded(file.relative_to(path), exclude):
                    yield file, path
        elif not excluded(Path(path.name), exclude):
            yield path, None


def excluded(relative: PurePath, patterns: Sequence[str]) -> bool:
    """Whether a pattern matches the file or a folder above it.

    A pattern without a slash is held against every name on the way, one with a slash against the path from the folder
    that was named; `*` matches slashes too, and upper and lower case differ. Where paths are written with backslashes,
    patterns may be written with either.
    """
    places = [relative, *relative.parents][:-1]
    for pattern in patterns:
        wanted = (pattern.replace("\\", "/") if isinstance(relative, PureWindowsPath) else pattern).rstrip("/")
        if any(fnmatchcase(place.as_posix() if "/" in wanted else place.name, wanted) for place in places):
            return True
    return False


def _is_junction(entry: os.DirEntry[str]) -> bool:
    """Whether a folder of Windows stands for another one; like a link, it is not followed."""
    try:
        status = entry.stat(follow_symlinks=False)
    except OSError:
        return False
    return getattr(status, "st_reparse_tag", 0) == _MOUNT_POINT
