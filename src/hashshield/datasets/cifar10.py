"""CIFAR-10 (Krizhevsky 2009) as image files: `train/` and `test/`, each with one folder per class.

The official archives are pickles, which are never opened here.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from hashshield.datasets.base import LabelledFiles
from hashshield.datasets.folder import read_classes
from hashshield.errors import UsageError

__all__ = ["read"]


def read(root: Path) -> LabelledFiles:
    """Read `root` with `train/<class>/` and `test/<class>/`, or its sub-folder `cifar10`. Raises UsageError."""
    inside = root / "cifar10"
    folder = inside if inside.is_dir() else root
    for part in ("train", "test"):
        if not (folder / part / "airplane").is_dir():
            raise UsageError(
                f"{folder}: CIFAR-10 as image files keeps its photos in {part}/airplane/ and so on, which is missing; "
                "get it at https://www.cs.toronto.edu/~kriz/cifar.html and save each picture as a file"
            )
    test = read_classes("cifar10", folder / "test", frozenset())
    train = read_classes("cifar10", folder / "train", frozenset())
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
