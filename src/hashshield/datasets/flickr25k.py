"""MIRFLICKR-25K (Huiskes and Lew 2008): `im1.jpg` to `im25000.jpg`, and one file of photo numbers per label."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hashshield.datasets.base import LabelledFiles, Scheme
from hashshield.errors import UsageError

__all__ = ["LABELS", "read"]

_POTENTIAL = (
    *("animals", "baby", "bird", "car", "clouds", "dog", "female", "flower", "food", "indoor", "lake", "male"),
    *("night", "people", "plant_life", "portrait", "river", "sea", "sky", "structures", "sunset", "transport"),
    *("tree", "water"),
)
_RELEVANT = (
    *("baby", "bird", "car", "clouds", "dog", "female", "flower", "male", "night", "people", "portrait", "river"),
    *("sea", "tree"),
)
LABELS = (*_POTENTIAL, *(f"{name}_r1" for name in _RELEVANT))
"""24 labels where a photo shows something of it, and 14 where it is about it (`_r1`)."""
_ANNOTATIONS = "mirflickr25k_annotations_v080"
_SOURCE = "get it and its annotations at https://press.liacs.nl/mirflickr/mirdownload.html"
_SCHEMES = {"paper": Scheme(500), "1700-5000": Scheme(1700, training=5000)}


def read(root: Path) -> LabelledFiles:
    """Read `root` or its `mirflickr/`; the label files lie beside the photos or in the folder they are packed in.

    Raises UsageError naming the first file that is missing or does not fit the others.
    """
    photos = root / "mirflickr" if (root / "mirflickr").is_dir() else root
    if not (photos / "im1.jpg").is_file():
        raise UsageError(f"{photos}: MIRFLICKR-25K keeps its photos as im1.jpg and so on, which is missing; {_SOURCE}")
    folders = (photos / _ANNOTATIONS, root / _ANNOTATIONS, photos)
    notes = next((folder for folder in folders if folder.is_dir()), photos)
    numbers = {int(n) for path in photos.glob("im*.jpg") if (n := path.stem[2:]).isascii() and n.isdigit()}
    count = max(numbers)
    missing = sorted(set(range(1, count + 1)) - numbers)
    if missing:
        raise UsageError(f"{photos}: im{missing[0]}.jpg is missing of {count} photos; unpack them again")
    labels = np.zeros((count, len(LABELS)), dtype=bool)
    for column, name in enumerate(LABELS):
        labels[_numbers(notes / f"{name}.txt", count), column] = True
    paths = tuple(f"im{n}.jpg" for n in range(1, count + 1))
    return LabelledFiles("flickr25k", photos, paths, labels, LABELS, schemes=_SCHEMES)


def _numbers(path: Path, count: int) -> list[int]:
    """Indices, from 0, of the photos that a label file names by number, from 1."""
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: no readable list of photo numbers, which every label has; {_SOURCE}") from error
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
