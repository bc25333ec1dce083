"""NUS-WIDE (Chua et al. 2009): a list of 269,648 photos and one file of as many zeros and ones per concept."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from hashshield.datasets.base import LabelledFiles, Scheme
from hashshield.errors import UsageError

__all__ = ["read"]

_CONCEPTS = 81
_SOURCE = "get it at https://lms.comp.nus.edu.sg/wp-content/uploads/2019/research/nuswide/NUS-WIDE.html"
_SCHEMES = {"paper": Scheme(500), "tc21": Scheme(2100, training=10_500, labels=21, per_label=True)}
_PHOTOS = ("Flickr", "images", ".")


def read(root: Path) -> LabelledFiles:
    """Read `root` with `ImageList/Imagelist.txt`, `Groundtruth/AllLabels/`, `Concepts81.txt` and photos in `Flickr/`.

    The list of concepts may lie in `ConceptsList/`, as it is packed, the photos in `images/` or in `root`. Raises
    UsageError naming the first file that is missing or does not fit the others.
    """
    packed = root / "ConceptsList" / "Concepts81.txt"
    concepts = _lines(packed if packed.is_file() else root / "Concepts81.txt")
    if len(concepts) != _CONCEPTS or len(set(concepts)) != _CONCEPTS:
        raise UsageError(f"{root}: Concepts81.txt names {len(set(concepts))} concepts, not {_CONCEPTS}; {_SOURCE}")
    listed = tuple(line.replace("\\", "/") for line in _lines(root / "ImageList" / "Imagelist.txt"))
    outside = next((path for path in listed if PurePosixPath(path).is_absolute() or ".." in path.split("/")), None)
    if outside is not None or not listed:
        raise UsageError(f"{root}: Imagelist.txt names {outside or 'no photo'!r}, which is in no folder of the dataset")
    folder = next((root / name for name in _PHOTOS if (root / name / listed[0]).is_file()), root / _PHOTOS[0])
    missing = [path for path in listed if not (folder / path).is_file()]
    if missing:
        raise UsageError(
            f"{folder / missing[0]}: this photo of Imagelist.txt is missing, as are {len(missing) - 1} others of "
            f"{len(listed)}; {_SOURCE}, or take the lines of missing photos out of the list and every label file"
        )
    notes = root / "Groundtruth" / "AllLabels"
    labels = np.stack([_column(notes / f"Labels_{name}.txt", len(listed)) for name in concepts], axis=1)
    return LabelledFiles("nuswide", folder, listed, labels, tuple(concepts), schemes=_SCHEMES)


def _lines(path: Path) -> list[str]:
    try:
        return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: no such list, which NUS-WIDE has; {_SOURCE}") from error


def _column(path: Path, count: int) -> NDArray[np.bool_]:
    """One label of every photo. A character each, as 81 files of 269,648 lines take minutes by any slower way."""
    try:
        digits = np.frombuffer(path.read_bytes().translate(None, b" \t\r\n"), dtype=np.uint8) - ord("0")
    except OSError as error:
        raise UsageError(f"{path}: no such file, which every concept has; {_SOURCE}") from error
    wrong = np.flatnonzero(digits > 1)
    if len(wrong):
        raise UsageError(f"{path}: entry {wrong[0] + 1} is neither 0 nor 1; unpack Groundtruth again")
    if len(digits) != count:
        raise UsageError(f"{path}: {len(digits)} entries for {count} photos of Imagelist.txt; take both of one release")
    column: NDArray[np.bool_] = digits == 1
    return column
