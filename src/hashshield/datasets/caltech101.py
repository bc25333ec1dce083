"""Caltech-101 (Fei-Fei et al. 2004), published at data.caltech.edu under CC BY 4.0."""

from __future__ import annotations

from pathlib import Path

from hashshield.datasets.base import LabelledFiles
from hashshield.datasets.folder import read_classes
from hashshield.errors import UsageError

__all__ = ["read"]

_OFFICIAL = "101_ObjectCategories"
_LEFT_OUT = frozenset({"BACKGROUND_Google", "Faces_easy"})
"""Clutter, and a second copy of `Faces`."""


def read(root: Path) -> LabelledFiles:
    """Read `root`, which is the folder `101_ObjectCategories` or holds it. Raises UsageError on another layout."""
    inside = root / _OFFICIAL
    folder = inside if inside.is_dir() else root
    if not (folder / "accordion" / "image_0001.jpg").is_file():
        raise UsageError(
            f"{folder}: Caltech-101 keeps its photos as {_OFFICIAL}/accordion/image_0001.jpg, which is missing; "
            "get it at https://data.caltech.edu/records/mzrjq-6wc02 and name the unpacked folder"
        )
    return read_classes("caltech101", folder, _LEFT_OUT)
