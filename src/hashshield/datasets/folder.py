"""A plain folder of classes: one sub-folder per class, photos inside."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hashshield.datasets.base import LabelledFiles
from hashshield.errors import UsageError

__all__ = ["read", "read_classes"]

_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}


def read(root: Path) -> LabelledFiles:
    """Every sub-folder of `root` is a class; sorted by name. Raises UsageError when fewer than two hold photos."""
    return read_classes("folder", root, frozenset())


def read_classes(name: str, root: Path, without: frozenset[str]) -> LabelledFiles:
    """As `read`, leaving out the classes `without`."""
    paths: list[str] = []
    targets: list[int] = []
    classes: list[str] = []
    for folder in sorted(p for p in root.iterdir() if p.is_dir() and p.name not in without):
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
