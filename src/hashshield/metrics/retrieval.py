"""Bits of hash codes, Hamming distances between them, and metrics over rankings of a database by distance.

All functions work on numpy arrays and need no torch. Many Hamming distances are equal, and a database is often sorted
by class, which would favour some classes. So average precision is the expected value over all orders of entries at
equal distance (McSherry and Najork 2008).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hashshield.arrays import Bits, Distances, Labels, Relevance, Scores

__all__ = [
    "MapFloor",
    "average_precision",
    "bits_of",
    "bootstrap_interval",
    "by_threshold",
    "class_balanced",
    "floor_within",
    "from_hex",
    "hamming",
    "hamming_map",
    "map_floor",
    "mean_average_precision",
    "rank_among",
    "relevance",
    "to_hex",
    "unseen_map",
    "within_radius",
]

_BLOCK = 100
"""Queries ranked at a time: 2,100 rankings of 193,734 photos at once would take 3 GB several times over."""


def bits_of(code: NDArray[np.floating]) -> Bits:
    """Return the signs of a code, -1 or +1, in the same shape; the sign of 0 is -1."""
    return np.where(code > 0, 1, -1).astype(np.int8)


def hamming(a: Bits, b: Bits) -> Distances:
    """Return the (N, M) Hamming distances of (N, K) and (M, K) bits: D = (K - <a, b>) / 2 (paper, section 3.1)."""
    inner = a.astype(np.float32) @ b.astype(np.float32).T
    distances: Distances = np.rint((a.shape[-1] - inner) / 2).astype(np.int64)
    return distances


def to_hex(bits: Bits) -> str:
    """Return (K,) bits in hexadecimal: +1 is a set bit, the first bit is the highest, zeros fill the last byte."""
    return np.packbits(bits > 0).tobytes().hex()


def from_hex(text: str, length: int) -> Bits:
    """Return the (length,) bits that `to_hex` wrote. Raises ValueError if `text` holds fewer than `length` bits."""
    packed = np.frombuffer(bytes.fromhex(text), np.uint8)
    bits = np.unpackbits(packed)[:length]
    if len(bits) < length:
        raise ValueError(f"expected {length} bits, found {len(bits)}")
    return np.where(bits > 0, 1, -1).astype(np.int8)


def relevance(queries: Labels, database: Labels) -> Relevance:
    """Return (Q, N): whether a query and a database entry, (Q, L) and (N, L), share at least one label."""
    shared: Relevance = (queries.astype(np.float32) @ database.astype(np.float32).T) > 0
    return shared


def average_precision(distances: NDArray[np.generic], relevant: Relevance) -> Scores:
    """Return the (Q,) average precision of (Q, N) distances: sum_k P(k) rel_k / sum_k rel_k over the whole ranking.

    For equal distances it is the expected value over all their orders. A query without a relevant entry scores 0, as in
    the field's code.
    """
    harmonic = np.concatenate([[0.0], np.cumsum(1 / np.arange(1, distances.shape[1] + 1))])
    return np.array([_expected_precision(*row, harmonic) for row in zip(distances, relevant, strict=True)])


def _expected_precision(distances: NDArray[Any], relevant: NDArray[np.bool_], harmonic: Scores) -> float:
    """Return the expected average precision of one query; `harmonic` holds H_0 to H_N.

    Of n equal entries after N nearer ones, r and R of them relevant, the j-th is relevant with probability r / n, and
    the precision there is then (R + 1 + (j - 1)(r - 1)/(n - 1)) / (N + j) in expectation. The sum over j has a closed
    form in harmonic numbers.
    """
    if np.issubdtype(distances.dtype, np.integer):
        group = distances.astype(np.int64) - int(distances.min())
    else:
        group = np.unique(distances, return_inverse=True)[1].reshape(-1)
    sizes = np.bincount(group)
    hits = np.bincount(group[relevant], minlength=len(sizes))
    nearer, nearer_hits = np.cumsum(sizes) - sizes, np.cumsum(hits) - hits
    some = hits > 0
    n, r, before, hits_before = sizes[some], hits[some], nearer[some], nearer_hits[some]
    share = (r - 1) / np.maximum(n - 1, 1)
    span = harmonic[before + n] - harmonic[before]
    summed = (hits_before + 1 - share * (before + 1)) * span + share * n
    return float((r / n * summed).sum() / max(int(hits.sum()), 1))


def rank_among(values: NDArray[np.integer], distances: NDArray[np.integer]) -> NDArray[np.int64]:
    """Return the (M,) ranks, from 1, of (M,) distances among (N,) others: 1 plus the number of smaller ones.

    Ties count in the service's favour: an entry as near as the nearest has rank 1.
    """
    ranks: NDArray[np.int64] = np.searchsorted(np.sort(distances), values, side="left") + 1
    return ranks


def mean_average_precision(distances: NDArray[np.generic], relevant: Relevance) -> float:
    """Return the mean of `average_precision` over the queries, 0 to 1."""
    return float(average_precision(distances, relevant).mean())


def hamming_map(queries: Bits, database: Bits, query_labels: Labels, labels: Labels) -> float:
    """Return the MAP of (Q, K) queries over an (N, K) database ranked by Hamming distance, 0 to 1.

    An entry is relevant if it shares a label with the query.
    """
    scores = []
    for start in range(0, len(queries), _BLOCK):
        rows = slice(start, start + _BLOCK)
        scores.append(average_precision(hamming(queries[rows], database), relevance(query_labels[rows], labels)))
    return float(np.concatenate(scores).mean())


@dataclass(frozen=True, slots=True)
class MapFloor:
    """The bounds that a MAP must be compared with."""

    random: float
    """Expected MAP of a random ranking."""
    lowest: float
    """MAP if every relevant entry is ranked last."""


def map_floor(relevant: Relevance) -> MapFloor:
    """Return the random and the lowest possible MAP of full rankings, for a (Q, N) relevance matrix.

    The expected AP of a random ranking of n entries with r relevant is (r - 1)/(n - 1) * (1 - H_n/n) + H_n/n,
    with H_n the n-th harmonic number: P(k) given a hit at k is (1 + (k - 1)(r - 1)/(n - 1)) / k. A query without a
    relevant entry scores 0 here as it does in the MAP.
    """
    return floor_within(relevant, np.ones_like(relevant))


def floor_within(relevant: Relevance, counted: Relevance) -> MapFloor:
    """Return `map_floor` if each query's database is only its `counted` entries, (Q, N), which include the relevant."""
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
    """Return the distinct columns of a (2, Q) array, and how often each occurs."""
    pairs, counts = np.unique(sizes, axis=1, return_counts=True)
    return [(int(n), int(r)) for n, r in pairs.T], counts


def class_balanced(scores: Scores, labels: Labels) -> float:
    """Return the mean over labels of the mean score of the queries with that label; ignores labels without queries."""
    having = labels[:, labels.any(axis=0)].astype(np.float64)
    return float((scores @ having / having.sum(axis=0)).mean())


def bootstrap_interval(
    scores: Scores, generator: np.random.Generator, *, share: float = 0.95, rounds: int = 2000
) -> tuple[float, float]:
    """Return the percentile bootstrap interval of the mean: the middle `share` of the means of `rounds` resamples."""
    draws = generator.integers(0, len(scores), (rounds, len(scores)))
    low, high = np.quantile(scores[draws].mean(axis=1), [(1 - share) / 2, (1 + share) / 2])
    return float(low), float(high)


def unseen_map(bits: Bits, labels: Labels) -> float:
    """Return the MAP, 0 to 1, of (Q, K) queries that search all other queries.

    Queries are never trained on, so this database is unseen too. A query without a relevant other query is ignored.
    """
    relevant = relevance(labels, labels)
    distances = hamming(bits, bits).astype(np.float64)
    np.fill_diagonal(relevant, False)
    np.fill_diagonal(distances, np.inf)
    return float(average_precision(distances, relevant)[relevant.any(axis=1)].mean())


def within_radius(distances: Distances, relevant: Relevance, radius: int) -> tuple[Scores, Scores, NDArray[np.int64]]:
    """Return the (Q,) precision, recall and number of the entries at most `radius` bits away, for (Q, N) distances.

    A query that finds nothing has precision 0, as in the field's "precision within Hamming radius 2".
    """
    near = distances <= radius
    found = near.sum(axis=1)
    hits = (near & relevant).sum(axis=1)
    return hits / np.maximum(found, 1), hits / np.maximum(relevant.sum(axis=1), 1), found


def by_threshold(distances: Distances, relevant: Relevance, bits: int) -> list[dict[str, float | None]]:
    """Return one row per threshold T from 0 to `bits`, for the retrieval of all entries with D <= T, over all queries.

    See the paper, section 3.1. Precision is None where no entry is that near.
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
