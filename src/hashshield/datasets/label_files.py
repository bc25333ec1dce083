"""Datasets with several labels per photo, kept in one file per label: MIRFLICKR-25K and NUS-WIDE."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from hashshield.datasets.base import LabelledFiles, Scheme
from hashshield.errors import UsageError

__all__ = ["FLICKR25K_LABELS", "read_flickr25k", "read_nuswide"]

_POTENTIAL = (
    *("animals", "baby", "bird", "car", "clouds", "dog", "female", "flower", "food", "indoor", "lake", "male"),
    *("night", "people", "plant_life", "portrait", "river", "sea", "sky", "structures", "sunset", "transport"),
    *("tree", "water"),
)
_RELEVANT = (
    *("baby", "bird", "car", "clouds", "dog", "female", "flower", "male", "night", "people", "portrait", "river"),
    *("sea", "tree"),
)
FLICKR25K_LABELS = (*_POTENTIAL, *(f"{name}_r1" for name in _RELEVANT))
"""24 labels of what a photo shows, and 14 of what it is mainly about (`_r1`)."""
_FLICKR_ANNOTATIONS = "mirflickr25k_annotations_v080"
_FLICKR_SOURCE = "get it and its annotations at https://press.liacs.nl/mirflickr/mirdownload.html"
_FLICKR_SCHEMES = {"paper": Scheme(500), "1700-5000": Scheme(1700, training=5000)}

_NUS_CONCEPTS = 81
_NUS_SOURCE = "get it at https://lms.comp.nus.edu.sg/wp-content/uploads/2019/research/nuswide/NUS-WIDE.html"
_NUS_SCHEMES = {"paper": Scheme(500), "tc21": Scheme(2100, training=10_500, labels=21, per_label=True)}
_NUS_PHOTOS = ("Flickr", "images", ".")


def read_flickr25k(root: Path) -> LabelledFiles:
    """Read MIRFLICKR-25K (Huiskes and Lew 2008): `im1.jpg` to `im25000.jpg`, and a file of photo numbers per label.

    `root` holds the photos or has them in `mirflickr/`. The label files lie beside them or in the folder of the
    archive they came in. Raises UsageError naming the first file that is missing or contradicts the others.
    """
    photos = root / "mirflickr" if (root / "mirflickr").is_dir() else root
    if not (photos / "im1.jpg").is_file():
        raise UsageError(
            f"{photos}: MIRFLICKR-25K keeps its photos as im1.jpg and so on, which is missing; {_FLICKR_SOURCE}"
        )
    folders = (photos / _FLICKR_ANNOTATIONS, root / _FLICKR_ANNOTATIONS, photos)
    notes = next((folder for folder in folders if folder.is_dir()), photos)
    found = {int(n) for path in photos.glob("im*.jpg") if (n := path.stem[2:]).isascii() and n.isdigit()}
    count = max(found)
    missing = sorted(set(range(1, count + 1)) - found)
    if missing:
        raise UsageError(f"{photos}: im{missing[0]}.jpg is missing of {count} photos; unpack them again")
    labels = np.zeros((count, len(FLICKR25K_LABELS)), dtype=bool)
    for column, name in enumerate(FLICKR25K_LABELS):
        labels[_photo_indices(notes / f"{name}.txt", count), column] = True
    paths = tuple(f"im{n}.jpg" for n in range(1, count + 1))
    return LabelledFiles("flickr25k", photos, paths, labels, FLICKR25K_LABELS, schemes=_FLICKR_SCHEMES)


def _photo_indices(path: Path, count: int) -> list[int]:
    """Return the indices, from 0, of the photos that a label file lists by number, from 1. Raises UsageError."""
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"{path}: no readable list of photo numbers, which every label has; {_FLICKR_SOURCE}"
        ) from error
    found = []
    for line, text in enumerate(lines, start=1):
        number = text.strip()
        if not number:
            continue
        if not number.isdigit() or not 1 <= int(number) <= count:
            raise UsageError(
                f"{path}, line {line}: names photo {number!r}, and photos im1.jpg to im{count}.jpg are there; "
                "unpack photos and annotations of the same release"
            )
        found.append(int(number) - 1)
    return found


def read_nuswide(root: Path) -> LabelledFiles:
    """Read NUS-WIDE (Chua et al. 2009): a list of 269,648 photos, and a file of as many zeros and ones per concept.

    `root` holds `ImageList/Imagelist.txt`, `Groundtruth/AllLabels/`, `Concepts81.txt` (or `ConceptsList/` with it, as
    in the archive) and the photos, in `Flickr/`, in `images/` or directly. Raises UsageError naming the first file that
    is missing or contradicts the others.
    """
    packed = root / "ConceptsList" / "Concepts81.txt"
    concepts = _lines(packed if packed.is_file() else root / "Concepts81.txt")
    if len(concepts) != _NUS_CONCEPTS or len(set(concepts)) != _NUS_CONCEPTS:
        raise UsageError(
            f"{root}: Concepts81.txt names {len(set(concepts))} concepts, not {_NUS_CONCEPTS}; {_NUS_SOURCE}"
        )
    listed = tuple(line.replace("\\", "/") for line in _lines(root / "ImageList" / "Imagelist.txt"))
    outside = next((path for path in listed if PurePosixPath(path).is_absolute() or ".." in path.split("/")), None)
    if outside is not None or not listed:
        raise UsageError(f"{root}: Imagelist.txt names {outside or 'no photo'!r}, which is in no folder of the dataset")
    folder = next((root / name for name in _NUS_PHOTOS if (root / name / listed[0]).is_file()), root / _NUS_PHOTOS[0])
    missing = [path for path in listed if not (folder / path).is_file()]
    if missing:
        raise UsageError(
            f"{folder / missing[0]}: this photo of Imagelist.txt is missing, as are {len(missing) - 1} others of "
            f"{len(listed)}; {_NUS_SOURCE}, or take the lines of missing photos out of the list and every label file"
        )
    notes = root / "Groundtruth" / "AllLabels"
    labels = np.stack([_column(notes / f"Labels_{name}.txt", len(listed)) for name in concepts], axis=1)
    return LabelledFiles("nuswide", folder, listed, labels, tuple(concepts), schemes=_NUS_SCHEMES)


def _lines(path: Path) -> list[str]:
    """Return the stripped lines of a list, without empty ones. Raises UsageError."""
    try:
        return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: no such list, which NUS-WIDE has; {_NUS_SOURCE}") from error


def _column(path: Path, count: int) -> NDArray[np.bool_]:
    """Return one label of every photo, (N,), from a file of one 0 or 1 per photo. Raises UsageError."""
    # Read by character, because splitting 81 files of 269,648 lines takes minutes.
    try:
        digits = np.frombuffer(path.read_bytes().translate(None, b" \t\r\n"), dtype=np.uint8) - ord("0")
    except OSError as error:
        raise UsageError(f"{path}: no such file, which every concept has; {_NUS_SOURCE}") from error
    wrong = np.flatnonzero(digits > 1)
    if len(wrong):
        raise UsageError(f"{path}: entry {wrong[0] + 1} is neither 0 nor 1; unpack Groundtruth again")
    if len(digits) != count:
        raise UsageError(f"{path}: {len(digits)} entries for {count} photos of Imagelist.txt; take both of one release")
    column: NDArray[np.bool_] = digits == 1
    return column
