"""How well codes retrieve a kind: as queries, against a gallery nobody trained on, and when they lie in the index."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hashshield.bench.service import ASKING
from hashshield.bench.stage import Stage
from hashshield.metrics.hamming import bits_of, hamming
from hashshield.metrics.retrieval import (
    average_precision,
    bootstrap_interval,
    class_balanced,
    floor_within,
    map_floor,
    mean_average_precision,
    relevance,
)

__all__ = ["Judge"]

_INDEX_QUERIES = 300
_LAST = np.iinfo(np.int16).max
"""Distance of an entry that is left out of a query's gallery."""

Codes = NDArray[np.float32]
Labels = NDArray[np.bool_]


class Judge:
    """Judges (n, K) codes of the first n picked queries by what they find; `labels` (n, L) say which kind counts.

    Those are the photos' own labels for MAP, and those of their targets for t-MAP.
    """

    def __init__(self, stage: Stage, length: int, labels: Labels) -> None:
        self.stage, self.labels = stage, labels
        self.rows = stage.picked[: len(labels)]
        self.database = stage.database.bits(length)
        self.queries = stage.queries.bits(length)
        self.relevant = relevance(labels, stage.database.labels)

    def map(self, codes: Codes, *, asking: str = "symmetric") -> float:
        """MAP over the whole database, rounded to four places."""
        return round(mean_average_precision(ASKING[asking](codes, self.database), self.relevant), 4)

    def scores(self, codes: Codes) -> dict[str, Any]:
        """Every MAP of these codes, each beside that of a random ranking and the lowest possible one."""
        scores = average_precision(hamming(bits_of(codes), self.database), self.relevant)
        low, high = bootstrap_interval(scores, np.random.default_rng(self.stage.seed))
        floor = map_floor(self.relevant)
        return {
            "map": round(float(scores.mean()), 4),
            "map_low": round(low, 4),
            "map_high": round(high, 4),
            "map_random": round(floor.random, 4),
            "map_lowest": round(floor.lowest, 4),
            "map_balanced": round(class_balanced(scores, self.labels), 4),
            **self._unseen(codes),
            **self._index(codes),
        }

    def _unseen(self, codes: Codes) -> dict[str, Any]:
        relevant = relevance(self.labels, self.stage.queries.labels)
        counted = np.ones_like(relevant)
        counted[np.arange(len(codes)), self.rows] = False
        return self._within("unseen", hamming(bits_of(codes), self.queries), relevant & counted, counted)

    def _index(self, codes: Codes) -> dict[str, Any]:
        """The direction of a service that holds the changed photos: who looks for their kind, and for the original."""
        asked, counted = self._askers
        bits = bits_of(codes)
        relevant = relevance(self.stage.queries.labels[asked], self.labels)
        gallery = np.concatenate([self.database, bits])
        found = self._within(
            "index",
            hamming(self.queries[asked], gallery),
            np.concatenate([np.zeros_like(counted), relevant], axis=1),
            np.concatenate([counted, np.ones_like(relevant)], axis=1),
        )
        originals = self.queries[self.rows]
        to_own = (originals != bits).sum(axis=1)
        ranks = 1 + (hamming(originals, self.database) < to_own[:, None]).sum(axis=1)
        return {**found, "rank_by_original": int(np.median(ranks))}

    @cached_property
    def _askers(self) -> tuple[NDArray[np.int64], Labels]:
        """Rows of queries that share a label with some changed photo, and the database photos of no kind of theirs."""
        rows = np.flatnonzero(relevance(self.stage.queries.labels, self.labels).any(axis=1))
        asked = np.sort(np.random.default_rng(self.stage.seed).permutation(rows)[:_INDEX_QUERIES])
        return asked, ~relevance(self.stage.queries.labels[asked], self.stage.database.labels)

    @staticmethod
    def _within(name: str, distances: NDArray[np.int64], relevant: Labels, counted: Labels) -> dict[str, Any]:
        rows = relevant.any(axis=1)
        if not rows.any():
            return {f"map_{name}": None, f"map_{name}_random": None, f"map_{name}_lowest": None}
        # Left out is last: what is ranked behind every relevant entry does not count. Small integers sort fastest.
        held = np.where(counted, distances, _LAST).astype(np.int16)[rows]
        floor = floor_within(relevant[rows], counted[rows])
        return {
            f"map_{name}": round(mean_average_precision(held, relevant[rows]), 4),
            f"map_{name}_random": round(floor.random, 4),
            f"map_{name}_lowest": round(floor.lowest, 4),
        }
