"""Datasets kept as one folder per class: a plain folder, Caltech-101 and CIFAR-10."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from hashshield.datasets.base import LabelledFiles
from hashshield.errors import UsageError

__all__ = ["read_caltech101", "read_cifar10", "read_folder"]

_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}
_CALTECH101 = "101_ObjectCategories"
_CALTECH101_EXCLUDED = frozenset({"BACKGROUND_Google", "Faces_easy"})
"""Clutter, and a second copy of `Faces`."""


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
    folder = inside if inside.is_dir() else root
    if not (folder / "accordion" / "image_0001.jpg").is_file():
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
    folder = inside if inside.is_dir() else root
    for part in ("train", "test"):
        if not (folder / part / "airplane").is_dir():
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
    for folder in sorted(p for p in root.iterdir() if p.is_dir() and p.name not in excluded):
        photos = sorted(p for p in folder.iterdir() if p.suffix.lower() in _SUFFIXES and p.is_file())
        if photos:
            paths += [f"{folder.name}/{p.name}" for p in photos]
            targets += [len(classes)] * len(photos)
            classes.append(folder.name)
    if len(classes) < 2:
        raise UsageError(
            f"{root}: expected one folder per class with .jpg, .png or .webp files, found {len(classes)} such folders"
        )
    return LabelledFiles(name, root, tuple(paths), np.eye(len(classes), dtype=bool)[targets], tuple(classes))
