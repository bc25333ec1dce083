"""The datasets that can be opened by name, read from their layouts: a folder per class, a file per label, a table."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np
from numpy.typing import NDArray

from hashshield.datasets.base import LabelledFiles, Scheme
from hashshield.errors import UnknownNameError, UsageError
from hashshield.paths import is_file, is_folder

__all__ = [
    "DATASETS",
    "FLICKR25K_LABELS",
    "open_dataset",
    "read_caltech101",
    "read_cifar10",
    "read_flickr25k",
    "read_folder",
    "read_nuswide",
    "read_table",
]

_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}
_CALTECH101 = "101_ObjectCategories"
_CALTECH101_EXCLUDED = frozenset({"BACKGROUND_Google", "Faces_easy"})
"""Clutter, and a second copy of `Faces`."""
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
_HEADER = ["path", "labels"]


def read_folder(root: Path) -> LabelledFiles:
    """Read a folder whose sub-folders are the classes, sorted by name.

    Raises UsageError if fewer than two of them hold photos.
    """
    return _read_classes("folder", root)


def read_caltech101(root: Path) -> LabelledFiles:
    """Read Caltech-101 (Fei-Fei et al. 2004), published at data.caltech.edu under CC BY 4.0.

    `root` is the folder `101_ObjectCategories` or holds it. Raises UsageError for any other layout.
    """
    inside = root / _CALTECH101
    folder = inside if is_folder(inside) else root
    if not is_file(folder / "accordion" / "image_0001.jpg"):
        raise UsageError(
            f"{folder}: Caltech-101 keeps its photos as {_CALTECH101}/accordion/image_0001.jpg, which is missing; "
            "get it at https://data.caltech.edu/records/mzrjq-6wc02 and name the unpacked folder"
        )
    return _read_classes("caltech101", folder, excluded=_CALTECH101_EXCLUDED)


def read_cifar10(root: Path) -> LabelledFiles:
    """Read CIFAR-10 (Krizhevsky 2009) as image files, in `train/<class>/` and `test/<class>/`.

    `root` is the folder of these two or holds it as `cifar10`. The official archives are pickles, which can run code
    and are never opened here. Raises UsageError for any other layout.
    """
    inside = root / "cifar10"
    folder = inside if is_folder(inside) else root
    for part in ("train", "test"):
        if not is_folder(folder / part / "airplane"):
            raise UsageError(
                f"{folder}: CIFAR-10 as image files keeps its photos in {part}/airplane/ and so on, which is missing; "
                "get it at https://www.cs.toronto.edu/~kriz/cifar.html and save each picture as a file"
            )
    test = _read_classes("cifar10", folder / "test")
    train = _read_classes("cifar10", folder / "train")
    if test.classes != train.classes:
        missing = sorted(set(test.classes) ^ set(train.classes))[0]
        raise UsageError(f"{folder}: the class {missing} is in one of train/ and test/ only; unpack it again")
    return replace(
        test,
        root=folder,
        paths=(*(f"test/{p}" for p in test.paths), *(f"train/{p}" for p in train.paths)),
        labels=np.concatenate((test.labels, train.labels)),
        official_test=np.arange(len(test.paths)),
    )


def _read_classes(name: str, root: Path, *, excluded: frozenset[str] = frozenset()) -> LabelledFiles:
    """Read `root` as the dataset `name`, without the sub-folders named in `excluded`."""
    paths: list[str] = []
    targets: list[int] = []
    classes: list[str] = []
    for folder in sorted(p for p in _listed(root) if is_folder(p) and p.name not in excluded):
        photos = sorted(p for p in _listed(folder) if p.suffix.lower() in _SUFFIXES and is_file(p))
        if photos:
            paths += [f"{folder.name}/{p.name}" for p in photos]
            targets += [len(classes)] * len(photos)
            classes.append(folder.name)
    if len(classes) < 2:
        raise UsageError(
            f"{root}: expected one folder per class with .jpg, .png or .webp files, found {len(classes)} such folders"
        )
    return LabelledFiles(name, root, tuple(paths), np.eye(len(classes), dtype=bool)[targets], tuple(classes))


def _listed(folder: Path) -> list[Path]:
    """Return the paths in a folder. Raises UsageError."""
    try:
        return list(folder.iterdir())
    except OSError as error:
        raise UsageError(f"{folder}: cannot be listed ({error.strerror}); make it readable, or name another") from error


def read_flickr25k(root: Path) -> LabelledFiles:
    """Read MIRFLICKR-25K (Huiskes and Lew 2008): `im1.jpg` to `im25000.jpg`, and a file of photo numbers per label.

    `root` holds the photos or has them in `mirflickr/`. The label files lie beside them or in the folder of the
    archive they came in. Raises UsageError naming the first file that is missing or contradicts the others.
    """
    photos = root / "mirflickr" if is_folder(root / "mirflickr") else root
    if not is_file(photos / "im1.jpg"):
        raise UsageError(
            f"{photos}: MIRFLICKR-25K keeps its photos as im1.jpg and so on, which is missing; {_FLICKR_SOURCE}"
        )
    folders = (photos / _FLICKR_ANNOTATIONS, root / _FLICKR_ANNOTATIONS, photos)
    notes = next((folder for folder in folders if is_folder(folder)), photos)
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
    concepts = _lines(packed if is_file(packed) else root / "Concepts81.txt")
    if len(concepts) != _NUS_CONCEPTS or len(set(concepts)) != _NUS_CONCEPTS:
        raise UsageError(
            f"{root}: Concepts81.txt names {len(set(concepts))} concepts, not {_NUS_CONCEPTS}; {_NUS_SOURCE}"
        )
    listed = tuple(line.replace("\\", "/") for line in _lines(root / "ImageList" / "Imagelist.txt"))
    outside = next((path for path in listed if PurePosixPath(path).is_absolute() or ".." in path.split("/")), None)
    if outside is not None or not listed:
        raise UsageError(f"{root}: Imagelist.txt names {outside or 'no photo'!r}, which is in no folder of the dataset")
    folder = next((root / name for name in _NUS_PHOTOS if is_file(root / name / listed[0])), root / _NUS_PHOTOS[0])
    missing = [path for path in listed if not is_file(folder / path)]
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


def read_table(path: Path) -> LabelledFiles:
    """Read the table; paths are relative to its folder, and a photo may have no label.

    Raises UsageError naming the first line that is wrong or whose photo is missing.
    """
    if not is_file(path):
        raise UsageError(f"{path}: no such table; name a CSV file with the columns {' and '.join(_HEADER)}")
    rows: dict[str, tuple[int, frozenset[str]]] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as handle:
            lines = csv.reader(handle, strict=True)
            header = [cell.strip() for cell in next(lines, [])]
            if header != _HEADER:
                raise UsageError(f"{path}, line 1: begins with {','.join(header)!r}; a table begins with path,labels")
            for cells in lines:
                if any(cell.strip() for cell in cells):
                    name, labels = _row(cells, path, lines.line_num)
                    if name in rows:
                        raise UsageError(f"{path}, line {lines.line_num}: {name} is in line {rows[name][0]} already")
                    rows[name] = (lines.line_num, labels)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{path}: cannot be read as CSV in UTF-8 ({error}); save it as such") from error
    missing = [(line, name) for name, (line, _) in rows.items() if not is_file(path.parent / name)]
    if missing:
        line, name = missing[0]
        raise UsageError(
            f"{path}, line {line}: no photo {path.parent / name}; paths are relative to the table "
            f"({len(missing)} of {len(rows)} are missing)"
        )
    classes = sorted(frozenset().union(*(labels for _, labels in rows.values())))
    if len(classes) < 2:
        raise UsageError(f"{path}: {len(classes)} labels in {len(rows)} photos; at least two are needed")
    matrix = np.array([[name in found for name in classes] for _, found in rows.values()], dtype=bool)
    return LabelledFiles("table", path.parent, tuple(rows), matrix, tuple(classes))


def _row(cells: list[str], path: Path, line: int) -> tuple[str, frozenset[str]]:
    """Return a photo's path, with forward slashes, and its labels. Raises UsageError."""
    if len(cells) != len(_HEADER):
        raise UsageError(f"{path}, line {line}: {len(cells)} cells; two are expected, and labels are separated by ';'")
    name = cells[0].strip().replace("\\", "/")
    inside = PurePosixPath(name)
    if not inside.parts or inside.is_absolute() or ".." in inside.parts or PureWindowsPath(name).drive:
        raise UsageError(f"{path}, line {line}: {name!r} is not a path inside the table's folder")
    return str(inside), frozenset(label.strip() for label in cells[1].split(";") if label.strip())


def _read_own(root: Path) -> LabelledFiles:
    """Read the user's own photos: a table if `root` is a file, else a folder of classes. Raises UsageError."""
    return read_table(root) if is_file(root) else read_folder(root)


DATASETS: dict[str, Callable[[Path], LabelledFiles]] = {
    "caltech101": read_caltech101,
    "cifar10": read_cifar10,
    "flickr25k": read_flickr25k,
    "folder": read_folder,
    "nuswide": read_nuswide,
    "own": _read_own,
    "table": read_table,
}
"""Dataset name -> its reader, which raises UsageError naming the first thing that is missing in the root."""

_UNPUBLISHED = ("folder", "own", "table")
"""The user's own datasets. The readers of published ones say where to get them if the root is missing."""


def open_dataset(name: str, root: Path, *, split: str | None = None) -> LabelledFiles:
    """Open a dataset by name; `split` names the scheme to split it by; None: the dataset's default.

    `root` is a folder, or the CSV file of a `table`; for `own` it may be either. Raises UnknownNameError for an unknown
    dataset or scheme, UsageError naming the first thing that is missing.
    """
    if name not in DATASETS:
        raise UnknownNameError(f"unknown dataset {name!r}; known are {', '.join(sorted(DATASETS))}")
    if name in _UNPUBLISHED and not is_folder(root) and not (is_file(root) and name != "folder"):
        raise UsageError(f"{root}: no such folder; unpack the dataset there or name another one")
    files = DATASETS[name](root)
    return files if split is None else files.with_scheme(split)
