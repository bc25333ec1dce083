"""Where the copies of a run go, so that none takes the place of a photo of the run or of another copy."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from hashshield.errors import UsageError
from hashshield.storage import ignores_case

__all__ = ["CopyPlaces", "check_output", "copy_place"]


def copy_place(output: Path, path: Path, within: Path | None) -> Path:
    """Return where the copy of a file goes: below `output` as it lies below the folder it was met in."""
    return output / (path.name if within is None else path.relative_to(within))


def check_output(paths: Sequence[Path], output: Path) -> None:
    """Refuse an output that is a file, or a folder whose photos are to be copied. Raises UsageError."""
    if os.path.lexists(output) and not output.is_dir():
        raise UsageError(f"--output {output}: is a file; name the folder that is to hold the copies")
    for path in paths:
        if path.is_dir() and (_same(path, output) or os.path.realpath(path) == os.path.realpath(output)):
            raise UsageError(
                f"--output {output}: is the folder of the photos themselves, whose places the copies would take; "
                "name another folder, or leave --output out to protect them in place"
            )


class CopyPlaces:
    """The photos of a run and the places of their copies, compared by file identity and by name.

    Names count as equal when the file system of `output` takes them for one, as those that ignore case do.
    """

    def __init__(self, paths: Sequence[Path], output: Path) -> None:
        """Look at the output folder; raises UsageError as `check_output`."""
        check_output(paths, output)
        self._folds = ignores_case(output)
        self._photos: dict[tuple[int, int], Path] = {}
        self._taken: dict[str, Path] = {}

    def add(self, path: Path, status: tuple[int, int]) -> None:
        """Take a photo of the run, with its device and inode number: no copy may replace it."""
        self._photos[status] = path

    def refusal(self, path: Path, destination: Path) -> str | None:
        """Return why the copy of `path` must not be written to `destination`; None where it may, and is expected then.

        To be asked when all photos of the run have been added.
        """
        try:
            there = destination.stat()
        except (OSError, ValueError):
            photo = None
        else:
            photo = self._photos.get((there.st_dev, there.st_ino))
        if photo is not None:
            whose = "the photo itself" if photo == path else f"{photo}, a photo of this run"
            return f"{path}: its copy would take the place of {whose}; name another folder with --output"
        claimant = self._taken.setdefault(self._key(destination), path)
        if claimant != path:
            return f"{path}: its copy would be {destination}, as that of {claimant}; give the two an output folder each"
        return None

    def _key(self, destination: Path) -> str:
        real = os.path.realpath(destination)
        return unicodedata.normalize("NFC", real).casefold() if self._folds else real


def _same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False
