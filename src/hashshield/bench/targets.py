"""What the paper aims at: a kind of photo that is not the carrier's, its code (P2P) and its anchor (P2S)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hashshield.bench.stage import Shelf, Stage
from hashshield.errors import UsageError
from hashshield.metrics.hamming import bits_of
from hashshield.metrics.retrieval import relevance

__all__ = ["ANCHOR", "Targets", "draw_targets", "mainstay", "own_anchors"]

ANCHOR = 9
"""Photos of one label set whose component vote is an anchor code (paper section 5.2); odd, so that none ties."""

Bits = NDArray[np.int8]


@dataclass(frozen=True, slots=True, eq=False)
class Targets:
    """One target for each of n picked queries."""

    labels: NDArray[np.bool_]
    """(n, L) label set of the target."""
    members: NDArray[np.int64]
    """(n, ANCHOR) rows of the database with exactly that label set; the first is the target of P2P."""

    def point(self, database: Shelf, length: int) -> Bits:
        """(n, K): P2P, the code of one target photo."""
        return database.bits(length)[self.members[:, 0]]

    def anchor(self, database: Shelf, length: int) -> Bits:
        """(n, K): P2S, the component vote over the members (DHTA, Bai et al. 2020)."""
        return bits_of(database.bits(length)[self.members].astype(np.float32).sum(axis=1))


def draw_targets(stage: Stage, *, anchor: int = ANCHOR) -> Targets:
    """A random label set that shares no label with the photo, and members of it, without replacement.

    Where every photo has one label, every class must have `anchor` photos; of label sets, those that have take part.
    Raises UsageError when that is not so.
    """
    sets, which = np.unique(stage.database.labels, axis=0, return_inverse=True)
    which = which.reshape(-1)
    sizes = np.bincount(which, minlength=len(sets))
    single = bool((stage.database.labels.sum(axis=1) == 1).all())
    if single and int(sizes.min()) < anchor:
        name = stage.files.classes[int(sets[sizes.argmin()].argmax())]
        raise UsageError(
            f"{stage.files.root}: class {name} has {sizes.min()} photos in the database and an anchor takes {anchor}; "
            "add photos, leave the class out, or take a smaller --anchor"
        )
    # A photo without labels is nobody's target.
    usable = (sizes >= anchor) & sets.any(axis=1)
    generator = np.random.default_rng([stage.seed, 1])
    labels, members = [], []
    for row in stage.picked:
        original_bits = stage.queries.labels[row]
        other_view_bits = np.flatnonzero(usable & ~(sets & original_bits).any(axis=1))
        if not len(other_view_bits):
            raise UsageError(
                f"{stage.query_path(int(row))}: no label set without a label of this photo has the {anchor} photos "
                f"that an anchor takes (the largest has {int(sizes.max())}); take a smaller --anchor"
            )
        chosen = int(generator.choice(other_view_bits))
        labels.append(sets[chosen])
        members.append(generator.permutation(np.flatnonzero(which == chosen))[:anchor])
    return Targets(np.stack(labels), np.stack(members))


def own_anchors(stage: Stage, length: int, count: int) -> Bits:
    """(count, K): the vote over all database photos with the picked queries' own label set, or that share a label."""
    bits, found = stage.database.bits(length).astype(np.float32), []
    for original_bits in stage.queries.labels[stage.picked[:count]]:
        same = (stage.database.labels == original_bits).all(axis=1)
        rows = same if same.any() else (stage.database.labels & original_bits).any(axis=1)
        found.append(bits[rows].sum(axis=0))
    return bits_of(np.stack(found))


def mainstay(stage: Stage, length: int, count: int) -> Bits:
    """(count, K): SAAT's mainstay code of the picked queries (Yuan et al. 2023), whose opposite its attack aims at.

    The mean of the codes that share a label minus the mean of those that do not, and of that the sign.
    """
    bits = stage.database.bits(length).astype(np.float32)
    alike = relevance(stage.queries.labels[stage.picked[:count]], stage.database.labels).astype(np.float32)
    near = alike @ bits / np.maximum(alike.sum(axis=1, keepdims=True), 1)
    far = (1 - alike) @ bits / np.maximum((1 - alike).sum(axis=1, keepdims=True), 1)
    return bits_of(near - far)
