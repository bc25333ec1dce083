"""Two searches of one gallery on one network: with the original, and with the protected photo."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hashshield.metrics.hamming import hamming
from hashshield.metrics.retrieval import rank_among
from hashshield.models.load import OpenModel
from hashshield.pipeline.sheet import Match, SheetRow
from hashshield.types import Audit, Neighbour

__all__ = ["GallerySearch"]

Bits = NDArray[np.int8]
Distances = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class GallerySearch:
    """Two searches of one gallery on one network: with the original, and with the protected photo."""

    model: OpenModel
    original_bits: Bits
    """(K,) of the original."""
    protected_bits: Bits
    """(K,) of the protected photo."""
    paths: Sequence[Path]
    gallery: Bits
    """(N, K), in the order of `paths`."""
    top: int
    """How many photos a search shows."""

    @property
    def between(self) -> int:
        """Bits between original and protected photo."""
        return int(np.count_nonzero(self.original_bits != self.protected_bits))

    def distances(self) -> tuple[Distances, Distances]:
        """(N,) bits from the original, and from the protected photo."""
        before, after = hamming(np.stack([self.original_bits, self.protected_bits]), self.gallery)
        return before, after

    def nearest(self, distances: Distances) -> list[int]:
        """Places in the gallery, nearest first, equals in its order."""
        return [int(place) for place in np.argsort(distances, kind="stable")[: self.top]]

    def row(self, path: Path, source: str, threshold: int) -> Audit:
        """What both searches find; `source` says where the original came from."""
        before, after = self.distances()
        ranks_before, ranks_after = rank_among(before, before), rank_among(after, after)

        def neighbours(distances: Distances) -> tuple[Neighbour, ...]:
            return tuple(
                Neighbour(str(self.paths[i]), int(before[i]), int(ranks_before[i]), int(after[i]), int(ranks_after[i]))
                for i in self.nearest(distances)
            )

        return Audit(
            str(path),
            "audited",
            original=source,
            model=self.model.name,
            bits=self.model.bits,
            gallery=len(self.paths),
            threshold=threshold,
            distance=self.between,
            original_rank=int(rank_among(np.array([self.between]), after)[0]),
            protected_rank=int(rank_among(np.array([self.between]), before)[0]),
            within_before=int(np.count_nonzero(before <= threshold)),
            within_after=int(np.count_nonzero(after <= threshold)),
            shared=len(set(self.nearest(before)) & set(self.nearest(after))),
            nearest_before=neighbours(before),
            nearest_after=neighbours(after),
        )

    def sheet_rows(self, row: Audit, shown: Sequence[Image.Image]) -> list[SheetRow]:
        """Both searches for the contact sheet, each with the other photo among what may be found."""
        before, after = self.distances()
        original, protected = shown
        return [
            SheetRow(
                f"{self.model.name}: search with the original; the protected photo is at rank {row.protected_rank} of "
                f"{len(self.paths) + 1}, {self.between} of {self.model.bits} bits",
                original,
                self._found(before, row.protected_rank, "protected", protected),
            ),
            SheetRow(
                f"{self.model.name}: search with the protected photo; the original is at rank {row.original_rank} of "
                f"{len(self.paths) + 1}, {self.between} of {self.model.bits} bits",
                protected,
                self._found(after, row.original_rank, "original", original),
            ),
        ]

    def _found(self, distances: Distances, rank: int | None, name: str, image: Image.Image) -> list[Match]:
        found = [Match(self.paths[i].name, int(distances[i]), self.paths[i]) for i in self.nearest(distances)]
        if rank is not None and rank <= self.top:
            found.insert(rank - 1, Match(name, self.between, image, is_query=True))
        return found[: self.top]
