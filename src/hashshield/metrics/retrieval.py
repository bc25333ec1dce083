"""Retrieval metrics over a ranking.

Hamming distances tie massively, so every ranking here is stable: equal distances keep the order of the database.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hashshield.metrics.hamming import hamming

__all__ = [
    "MapFloor",
    "average_precision",
    "bootstrap_interval",
    "by_threshold",
    "class_balanced",
    "floor_within",
    "hamming_map",
    "map_floor",
    "mean_average_precision",
    "rank_among",
    "relevance",
    "unseen_map",
    "within_radius",
]

_BLOCK = 100


def relevance(queries: NDArray[np.bool_], database: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(Q, L) and (N, L) label sets -> (Q, N): do they share at least one label."""
    shared: NDArray[np.bool_] = (queries.astype(np.float32) @ database.astype(np.float32).T) > 0
    return shared


def average_precision(
    distances: NDArray[np.generic], relevant: NDArray[np.bool_], *, top: int | None = None
) -> NDArray[np.float64]:
    """(Q, N) distances and relevance -> (Q,) AP@top = sum_k P(k) rel_k / sum rel_k over the ranking's first `top`.

    A query without a relevant entry there scores 0, as in the field's code.
    """
    order = np.argsort(distances, axis=1, kind="stable")[:, :top]
    hits = np.take_along_axis(relevant, order, axis=1)
    found = np.cumsum(hits, axis=1)
    precision = found / np.arange(1, hits.shape[1] + 1)
    total = found[:, -1]
    scores: NDArray[np.float64] = (precision * hits).sum(axis=1) / np.maximum(total, 1)
    return scores


def rank_among(values: NDArray[np.integer], distances: NDArray[np.integer]) -> NDArray[np.int64]:
    """(M,) distances -> (M,) ranks, from 1, in a result of (N,) distances: one more than how many are nearer.

    A tie is the service's luck: what is as near as the nearest counts as found first.
    """
    ranks: NDArray[np.int64] = np.searchsorted(np.sort(distances), values, side="left") + 1
    return ranks


def mean_average_precision(
    distances: NDArray[np.generic], relevant: NDArray[np.bool_], *, top: int | None = None
) -> float:
    """Mean of `average_precision` over the queries, 0 to 1."""
    return float(average_precision(distances, relevant, top=top).mean())


def hamming_map(
    queries: NDArray[np.int8], database: NDArray[np.int8], query_labels: NDArray[np.bool_], labels: NDArray[np.bool_]
) -> float:
    """MAP of (Q, K) query bits over (N, K) bits ranked by Hamming distance; a shared label is relevant.

    By blocks of queries: the rankings of 2,100 over 193,734 photos at once are 3 GB several times over.
    """
    scores = []
    for start in range(0, len(queries), _BLOCK):
        rows = slice(start, start + _BLOCK)
        scores.append(average_precision(hamming(queries[rows], database), relevance(query_labels[rows], labels)))
    return float(np.concatenate(scores).mean())


@dataclass(frozen=True, slots=True)
class MapFloor:
    """What a MAP must be read against."""

    random: float
    """Expected MAP of a random ranking."""
    lowest: float
    """MAP when every relevant entry is ranked last."""


def map_floor(relevant: NDArray[np.bool_]) -> MapFloor:
    """Random and lowest possible full-ranking MAP for a (Q, N) relevance matrix.

    The expected AP of a random ranking of n entries with r relevant is (r - 1)/(n - 1) * (1 - H_n/n) + H_n/n,
    H_n the n-th harmonic number: P(k) given a hit at k is (1 + (k - 1)(r - 1)/(n - 1)) / k. A query without a
    relevant entry scores 0 here as it does in the MAP.
    """
    return floor_within(relevant, np.ones_like(relevant))


def floor_within(relevant: NDArray[np.bool_], counted: NDArray[np.bool_]) -> MapFloor:
    """`map_floor` where each query's gallery is only what is `counted` (Q, N) for it; relevant entries are."""
    sizes = np.stack([counted.sum(axis=1), relevant.sum(axis=1)])
    random = lowest = 0.0
    for (n, r), share in zip(*_columns(sizes), strict=True):
        if r > 0:
            weight = float(share) / len(relevant)
            harmonic = float(np.sum(1 / np.arange(1, n + 1))) / n
            random += weight * float((r - 1) / max(n - 1, 1) * (1 - harmonic) + harmonic)
            lowest += weight * float(np.mean(np.arange(1, r + 1) / np.arange(n - r + 1, n + 1)))
    return MapFloor(random, lowest)


def _columns(sizes: NDArray[np.int64]) -> tuple[list[tuple[int, int]], NDArray[np.int64]]:
    pairs, counts = np.unique(sizes, axis=1, return_counts=True)
    return [(int(n), int(r)) for n, r in pairs.T], counts


def class_balanced(scores: NDArray[np.float64], labels: NDArray[np.bool_]) -> float:
    """Mean over the labels of the mean (Q,) score of the queries with that label; labels nobody has do not count."""
    having = labels[:, labels.any(axis=0)].astype(np.float64)
    return float((scores @ having / having.sum(axis=0)).mean())


def bootstrap_interval(
    scores: NDArray[np.float64], generator: np.random.Generator, *, share: float = 0.95, rounds: int = 2000
) -> tuple[float, float]:
    """Percentile bootstrap of the mean of (Q,) scores: the middle `share` of the means of `rounds` resamples."""
    draws = generator.integers(0, len(scores), (rounds, len(scores)))
    low, high = np.quantile(scores[draws].mean(axis=1), [(1 - share) / 2, (1 + share) / 2])
    return float(low), float(high)


def unseen_map(bits: NDArray[np.int8], labels: NDArray[np.bool_]) -> float:
    """MAP of (Q, K) query codes among themselves, each left out of its own gallery of queries.

    Queries were not trained on, so neither was this gallery. A query without a partner does not count.
    """
    relevant = relevance(labels, labels)
    distances = hamming(bits, bits).astype(np.float64)
    np.fill_diagonal(relevant, False)
    np.fill_diagonal(distances, np.inf)
    return float(average_precision(distances, relevant)[relevant.any(axis=1)].mean())


def within_radius(
    distances: NDArray[np.int64], relevant: NDArray[np.bool_], radius: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """(Q, N) -> (Q,) precision and recall of what lies at most `radius` away, and how much that is.

    A query that finds nothing has precision 0, as in the field's "precision within Hamming radius 2".
    """
    near = distances <= radius
    found = near.sum(axis=1)
    hits = (near & relevant).sum(axis=1)
    return hits / np.maximum(found, 1), hits / np.maximum(relevant.sum(axis=1), 1), found


def by_threshold(distances: NDArray[np.int64], relevant: NDArray[np.bool_], bits: int) -> list[dict[str, float | None]]:
    """Retrieval of all entries with D <= T (paper section 3.1), for each T from 0 to `bits`, over all queries together.

    Precision is None where nothing lies that near.
    """
    found = np.cumsum(np.bincount(distances.ravel(), minlength=bits + 1)[: bits + 1])
    hits = np.cumsum(np.bincount(distances[relevant], minlength=bits + 1)[: bits + 1])
    total = max(int(relevant.sum()), 1)
    return [
        {
            "threshold": threshold,
            "found_per_query": round(float(found[threshold]) / len(distances), 3),
            "precision": round(float(hits[threshold] / found[threshold]), 4) if found[threshold] else None,
            "recall": round(float(hits[threshold]) / total, 4),
        }
        for threshold in range(bits + 1)
    ]
