"""What every dataset becomes: paths, a label matrix, and a split."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hashshield.errors import UnknownNameError, UsageError

__all__ = ["LabelledFiles", "Split", "open_dataset"]


@dataclass(frozen=True, slots=True)
class LabelledFiles:
    """Files with their label sets, in a fixed order."""

    name: str
    root: Path
    paths: tuple[str, ...]
    """Relative to `root`, with forward slashes, so that a split means the same everywhere."""
    labels: NDArray[np.bool_]
    """(N, L)"""
    classes: tuple[str, ...]
    official_test: NDArray[np.int64] | None = None
    """Indices of the part the dataset's authors keep apart for testing; None where they keep none."""

    def split(self, *, queries: int, seed: int) -> Split:
        """Draw `queries` files without replacement; the rest is training set and database (the paper's protocol).

        Where the dataset has an official test part, queries are drawn from it and the rest of it is left out. The draw
        depends on the names and the seed only. Raises UsageError when too few files are there.
        """
        everything = np.arange(len(self.paths))
        pool = everything if self.official_test is None else self.official_test
        if not 0 < queries <= len(pool) or queries == len(self.paths):
            raise UsageError(f"{self.root}: {queries} queries asked of {len(pool)} files; ask for fewer")
        drawn = np.sort(np.random.default_rng(seed).permutation(pool)[:queries])
        return Split(drawn, np.setdiff1d(everything, drawn if self.official_test is None else pool))

    @property
    def protocol(self) -> str:
        """How `split` splits, in words for the card."""
        if self.official_test is None:
            return "queries drawn without replacement, the rest is training set and database"
        return "queries drawn without replacement from the official test part, the training part is the database"


@dataclass(frozen=True, slots=True)
class Split:
    """Indices into `LabelledFiles.paths`, ascending."""

    queries: NDArray[np.int64]
    database: NDArray[np.int64]

    def sample(self, count: int, *, seed: int) -> NDArray[np.int64]:
        """Random queries for a bench, at most `count`: the first ones would all be of the first classes."""
        return np.random.default_rng(seed).permutation(self.queries)[:count]


def open_dataset(name: str, root: Path) -> LabelledFiles:
    """Open a dataset by name. Raises UnknownNameError, UsageError naming the first thing that is missing."""
    from hashshield.datasets import caltech101, cifar10, folder

    known: dict[str, Callable[[Path], LabelledFiles]] = {
        "caltech101": caltech101.read,
        "cifar10": cifar10.read,
        "folder": folder.read,
    }
    if name not in known:
        raise UnknownNameError(f"unknown dataset {name!r}; known are {', '.join(sorted(known))}")
    if not root.is_dir():
        raise UsageError(f"{root}: no such folder; unpack the dataset there or name another one")
    return known[name](root)
