"""The datasets that can be opened by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from hashshield.datasets.base import LabelledFiles
from hashshield.datasets.folders import read_caltech101, read_cifar10, read_folder
from hashshield.datasets.label_files import read_flickr25k, read_nuswide
from hashshield.datasets.table import read_table
from hashshield.errors import UnknownNameError, UsageError

__all__ = ["DATASETS", "open_dataset"]


def _read_own(root: Path) -> LabelledFiles:
    """Read the user's own photos: a table if `root` is a file, else a folder of classes. Raises UsageError."""
    return read_table(root) if root.is_file() else read_folder(root)


DATASETS: dict[str, Callable[[Path], LabelledFiles]] = {
    "caltech101": read_caltech101,
    "cifar10": read_cifar10,
    "flickr25k": read_flickr25k,
    "folder": read_folder,
    "nuswide": read_nuswide,
    "own": _read_own,
    "table": read_table,
}
"""The function that reads each dataset from its root. It raises UsageError naming the first thing that is missing."""

_UNPUBLISHED = ("folder", "own", "table")
"""Datasets without a known layout. The readers of published ones say themselves where to get them."""


def open_dataset(name: str, root: Path, *, split: str | None = None) -> LabelledFiles:
    """Open a dataset by name; `split` names the scheme it is to be split by, None its default.

    `root` is a folder, or the CSV file of a `table`; for `own` it may be either. Raises UnknownNameError for an unknown
    dataset or scheme, UsageError naming the first thing that is missing.
    """
    if name not in DATASETS:
        raise UnknownNameError(f"unknown dataset {name!r}; known are {', '.join(sorted(DATASETS))}")
    if name in _UNPUBLISHED and not root.is_dir() and not (root.is_file() and name != "folder"):
        raise UsageError(f"{root}: no such folder; unpack the dataset there or name another one")
    files = DATASETS[name](root)
    return files if split is None else files.with_scheme(split)
