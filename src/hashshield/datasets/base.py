"""What every dataset becomes: paths, a label matrix, and a split."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hashshield.errors import UnknownNameError, UsageError

__all__ = ["LabelledFiles", "Scheme", "Split", "open_dataset"]


@dataclass(frozen=True, slots=True)
class Scheme:
    """A way of splitting a dataset that papers use, by name; its numbers can be replaced."""

    queries: int
    training: int | None = None
    """Photos of the database to learn from; None for all."""
    labels: int | None = None
    """Only so many labels are kept, the most frequent; photos with none of them are left out."""
    per_label: bool = False
    """Queries and training photos are drawn in equal numbers for each label."""


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
    schemes: Mapping[str, Scheme] = field(default_factory=dict)
    """The named ways to split it."""
    scheme: Scheme = Scheme(500)
    """The one in use."""

    def under(self, name: str) -> LabelledFiles:
        """The files as the scheme `name` takes them. Raises UnknownNameError, UsageError."""
        if name not in self.schemes:
            known = f"known are {', '.join(self.schemes)}" if self.schemes else "it has no named ones"
            raise UnknownNameError(f"{self.name} has no split {name!r}; {known}")
        scheme = self.schemes[name]
        if scheme.labels is None:
            return replace(self, scheme=scheme)
        # Stable, so that equally frequent labels keep the official order.
        kept = np.sort(np.argsort(-self.labels.sum(0), kind="stable")[: scheme.labels])
        labels = self.labels[:, kept]
        rows = np.flatnonzero(labels.any(1))
        return replace(
            self,
            scheme=scheme,
            paths=tuple(self.paths[i] for i in rows),
            labels=labels[rows],
            classes=tuple(self.classes[i] for i in kept),
        )

    def split(self, *, seed: int, queries: int | None = None, training: int | None = None) -> Split:
        """Draw queries without replacement; the rest is the database, and training set unless `training` says less.

        Numbers that are not given are the scheme's. Where the dataset has an official test part, queries are drawn from
        it and the rest of it is left out. A photo without any label has nothing it could find or be taught by: it is
        neither query nor training photo, and stays in the database as in the field's protocols. The draw depends on
        the names, the labels and the seed only. Raises UsageError when too few files are there.
        """
        wanted = self.scheme.queries if queries is None else queries
        everything = np.arange(len(self.paths))
        labelled = np.flatnonzero(self.labels.any(1))
        pool = labelled if self.official_test is None else np.intersect1d(self.official_test, labelled)
        if not 0 < wanted <= len(pool) or wanted == len(self.paths):
            raise UsageError(f"{self.root}: {wanted} queries asked of {len(pool)} files; ask for fewer")
        drawn = self._drawn(pool, wanted, np.random.default_rng(seed))
        database = np.setdiff1d(everything, drawn if self.official_test is None else self.official_test)
        learnt = np.intersect1d(database, labelled)
        some = self.scheme.training if training is None else training
        if not 0 < (len(learnt) if some is None else some) <= len(learnt):
            raise UsageError(
                f"{self.root}: {some or 'all'} training photos asked of {len(learnt)} files; ask for fewer"
            )
        if some is not None:
            learnt = self._drawn(learnt, some, np.random.default_rng([seed, 1]))
        return Split(drawn, database, learnt, self._protocol(some, len(labelled) < len(everything)))

    def _drawn(self, pool: NDArray[np.int64], count: int, random: np.random.Generator) -> NDArray[np.int64]:
        if not self.scheme.per_label:
            return np.sort(random.permutation(pool)[:count])
        each, left = divmod(count, len(self.classes))
        if left or not each:
            raise UsageError(f"{self.root}: {count} photos cannot be drawn equally from {len(self.classes)} labels")
        free = np.zeros(len(self.paths), dtype=bool)
        free[pool] = True
        # Rare labels first: frequent ones find others.
        for label in np.argsort(self.labels[pool].sum(0), kind="stable"):
            members = np.flatnonzero(free & self.labels[:, label])
            if len(members) < each:
                name = self.classes[label]
                raise UsageError(f"{self.root}: {each} photos asked of label {name}, which has {len(members)} to give")
            free[random.permutation(members)[:each]] = False
        return pool[~free[pool]]

    def _protocol(self, training: int | None, unlabelled: bool) -> str:
        equally = ", equally for each label" if self.scheme.per_label else ""
        part = " from the official test part" if self.official_test is not None else ""
        rest = "the rest" if self.official_test is None else "the training part"
        if training is not None:
            use = f"{rest} is the database, of which {training} photos are learnt from"
        elif self.official_test is not None:
            use = f"{rest} is the database"
        else:
            use = f"{rest} is training set and database"
        unseen = "; photos without a label are in the database only" if unlabelled else ""
        return f"queries drawn without replacement{part}{equally}, {use}{unseen}"


@dataclass(frozen=True, slots=True)
class Split:
    """Indices into `LabelledFiles.paths`, ascending."""

    queries: NDArray[np.int64]
    database: NDArray[np.int64]
    training: NDArray[np.int64]
    """Part of the database."""
    protocol: str
    """How it was made, in words for the card."""

    def sample(self, count: int, *, seed: int) -> NDArray[np.int64]:
        """Random queries for a bench, at most `count`: the first ones would all be of the first classes."""
        return np.random.default_rng(seed).permutation(self.queries)[:count]


def open_dataset(name: str, root: Path, *, split: str | None = None) -> LabelledFiles:
    """Open a dataset by name, to be split by its scheme `split` where one is named.

    `root` is a folder, or the CSV file of a `table`; `own` is either a folder of classes or a table.
    Raises UnknownNameError, UsageError naming the first thing that is missing.
    """
    from hashshield.datasets import caltech101, cifar10, flickr25k, folder, nuswide, table

    known: dict[str, Callable[[Path], LabelledFiles]] = {
        "caltech101": caltech101.read,
        "cifar10": cifar10.read,
        "flickr25k": flickr25k.read,
        "folder": folder.read,
        "nuswide": nuswide.read,
        "own": lambda path: (table if path.is_file() else folder).read(path),
        "table": table.read,
    }
    if name not in known:
        raise UnknownNameError(f"unknown dataset {name!r}; known are {', '.join(sorted(known))}")
    # Published ones say themselves where that is, and what they look like.
    if name in ("folder", "own", "table") and not root.is_dir() and not (root.is_file() and name != "folder"):
        raise UsageError(f"{root}: no such folder; unpack the dataset there or name another one")
    files = known[name](root)
    return files if split is None else files.under(split)
