"""The common form of all datasets: paths, a label matrix, and ways to split them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from hashshield.arrays import Indices, Labels
from hashshield.errors import UnknownNameError, UsageError

__all__ = ["LabelledFiles", "Scheme", "Split"]


@dataclass(frozen=True, slots=True)
class Scheme:
    """A published way of splitting a dataset; callers may override its numbers."""

    queries: int
    training: int | None = None
    """Number of photos of the database to train on; None for all."""
    labels: int | None = None
    """Number of labels to keep, the most frequent ones; photos with none of them are dropped. None for all."""
    per_label: bool = False
    """True if queries and training photos are drawn in equal numbers for each label."""


@dataclass(frozen=True, slots=True)
class LabelledFiles:
    """Files with their label sets, in a fixed order."""

    name: str
    root: Path
    paths: tuple[str, ...]
    """Relative to `root`, with forward slashes, so that a split is the same on every system."""
    labels: Labels
    classes: tuple[str, ...]
    official_test: Indices | None = None
    """Row indices of the authors' test part; None if there is none."""
    schemes: Mapping[str, Scheme] = field(default_factory=dict)
    """The published splits, by name."""
    scheme: Scheme = Scheme(500)
    """The split in use."""

    def with_scheme(self, name: str) -> LabelledFiles:
        """Return the files and labels that the scheme `name` uses, to be split by it. Raises UnknownNameError."""
        if name not in self.schemes:
            known = f"known are {', '.join(self.schemes)}" if self.schemes else "it has no named ones"
            raise UnknownNameError(f"{self.name} has no split {name!r}; {known}")
        scheme = self.schemes[name]
        if scheme.labels is None:
            return replace(self, scheme=scheme)
        # Stable, so that equally frequent labels keep the official order.
        columns = np.sort(np.argsort(-self.labels.sum(0), kind="stable")[: scheme.labels])
        labels = self.labels[:, columns]
        rows = np.flatnonzero(labels.any(1))
        return replace(
            self,
            scheme=scheme,
            paths=tuple(self.paths[i] for i in rows),
            labels=labels[rows],
            classes=tuple(self.classes[i] for i in columns),
        )

    def split(self, *, seed: int, queries: int | None = None, training: int | None = None) -> Split:
        """Draw queries without replacement; the rest is the database, and the training set unless `training` limits it.

        `queries` and `training` are numbers of photos; None means the scheme's own. If the dataset has an official test
        part, queries are drawn from it and the rest of it is unused. A photo without a label is relevant to no query
        and teaches nothing: it is neither query nor training photo, but stays in the database, as in the field's
        protocols. The draw depends only on names, labels and seed. Raises UsageError if there are too few files.
        """
        wanted = self.scheme.queries if queries is None else queries
        everything = np.arange(len(self.paths))
        labelled = np.flatnonzero(self.labels.any(1))
        pool = labelled if self.official_test is None else np.intersect1d(self.official_test, labelled)
        if not 0 < wanted <= len(pool) or wanted == len(self.paths):
            raise UsageError(f"{self.root}: {wanted} queries asked of {len(pool)} files; ask for fewer")
        chosen = self._draw(pool, wanted, np.random.default_rng(seed))
        database = np.setdiff1d(everything, chosen if self.official_test is None else self.official_test)
        learnt = np.intersect1d(database, labelled)
        some = self.scheme.training if training is None else training
        if not 0 < (len(learnt) if some is None else some) <= len(learnt):
            raise UsageError(
                f"{self.root}: {some or 'all'} training photos asked of {len(learnt)} files; ask for fewer"
            )
        if some is not None:
            learnt = self._draw(learnt, some, np.random.default_rng([seed, 1]))
        return Split(chosen, database, learnt, self._protocol(some, len(labelled) < len(everything)))

    def _draw(self, pool: Indices, count: int, random: np.random.Generator) -> Indices:
        """Return `count` of the indices in `pool`, ascending. Raises UsageError if a label has too few photos."""
        if not self.scheme.per_label:
            return np.sort(random.permutation(pool)[:count])
        each, left = divmod(count, len(self.classes))
        if left or not each:
            raise UsageError(f"{self.root}: {count} photos cannot be drawn equally from {len(self.classes)} labels")
        free = np.zeros(len(self.paths), dtype=bool)
        free[pool] = True
        # Rare labels first: frequent ones can spare the photos that these take.
        for label in np.argsort(self.labels[pool].sum(0), kind="stable"):
            members = np.flatnonzero(free & self.labels[:, label])
            if len(members) < each:
                name = self.classes[label]
                raise UsageError(
                    f"{self.root}: {each} photos asked of label {name}, which has only {len(members)} left"
                )
            free[random.permutation(members)[:each]] = False
        return pool[~free[pool]]

    def _protocol(self, training: int | None, unlabelled: bool) -> str:
        """Describe the split in one line, for the card."""
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

    queries: Indices
    database: Indices
    training: Indices
    """A part of the database."""
    protocol: str
    """A description of how it was drawn, for the card."""

    def sample(self, count: int, *, seed: int) -> Indices:
        """Return at most `count` queries in random order, because the first ones are all of the first classes."""
        return np.random.default_rng(seed).permutation(self.queries)[:count]
