"""Scores of changed photos: retrieval by their codes, whether their originals are still found, and image quality."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hashshield.arrays import Bits, Distances, Features, Indices, Labels, Pixels, RelaxedCodes, Relevance, Scores
from hashshield.attacks.objectives import predicted_flip
from hashshield.bench.experiment import Experiment
from hashshield.bench.results import Trial
from hashshield.metrics.image import linf_levels, psnr_db, ssim
from hashshield.metrics.retrieval import (
    average_precision,
    bits_of,
    bootstrap_interval,
    class_balanced,
    floor_within,
    hamming,
    map_floor,
    mean_average_precision,
    relevance,
)
from hashshield.models.load import OpenModel
from hashshield.transforms import pillow_view

__all__ = [
    "QUERY_MODES",
    "QueryMode",
    "RetrievalEvaluator",
    "codes_of",
    "cosine",
    "features_of",
    "found_scores",
    "image_quality",
    "pixels_of",
    "target_distances",
    "unrelated_threshold",
    "with_interval",
]

_BATCH = 32
_INDEX_QUERIES = 300
_LAST = np.iinfo(np.int16).max
"""Distance given to an entry that is excluded from a query's database."""

QueryMode = Callable[[RelaxedCodes, Bits], NDArray[Any]]
"""Relaxed (Q, K) codes and (N, K) database bits -> (Q, N) distances, smallest first."""


def _symmetric(codes: RelaxedCodes, database: Bits) -> NDArray[Any]:
    return hamming(bits_of(codes), database)


def _complement(codes: RelaxedCodes, database: Bits) -> NDArray[Any]:
    return hamming(-bits_of(codes), database)


def _predicted_flip(codes: RelaxedCodes, database: Bits) -> NDArray[Any]:
    guess = predicted_flip(torch.from_numpy(codes)).numpy().astype(np.int8)
    return hamming(guess, database)


def _real_valued(codes: RelaxedCodes, database: Bits) -> NDArray[Any]:
    """Return distances in which each bit is weighted by the query's certainty."""
    found: NDArray[Any] = -(codes @ database.astype(np.float32).T)
    return found


QUERY_MODES: dict[str, QueryMode] = {
    "symmetric": _symmetric,
    "complement": _complement,
    "predicted_flip": _predicted_flip,
    "real_valued": _real_valued,
}
"""Ways in which a service may rank its database: by Hamming distance of the query's bits, of their complement, of the
bits with the less certain half flipped, and by the query's real-valued code."""


class RetrievalEvaluator:
    """Score (n, K) codes of the first n picked queries by the database photos they find.

    `labels` (n, L) say which photos are relevant: the queries' own labels for MAP, those of their targets for t-MAP.
    """

    def __init__(self, experiment: Experiment, length: int, labels: Labels) -> None:
        self.experiment, self.labels = experiment, labels
        self.rows = experiment.picked[: len(labels)]
        self.database = experiment.database.bits(length)
        self.queries = experiment.queries.bits(length)
        self.relevant = relevance(labels, experiment.database.labels)

    def map(self, codes: RelaxedCodes, *, mode: str = "symmetric") -> float:
        """Return the MAP over the whole database in one of QUERY_MODES, rounded to four places."""
        return round(mean_average_precision(QUERY_MODES[mode](codes, self.database), self.relevant), 4)

    def interval(self, codes: RelaxedCodes, *, mode: str = "symmetric") -> dict[str, float]:
        """Return `map`, in one of QUERY_MODES, with `map_low` and `map_high`; see `with_interval`."""
        scores = average_precision(QUERY_MODES[mode](codes, self.database), self.relevant)
        return with_interval("map", scores, seed=self.experiment.seed)

    def map_of_bits(self, bits: Bits) -> float:
        """Return the MAP of (n, K) bits in {-1, +1}."""
        return self.map(bits.astype(np.float32))

    def modes(self, codes: RelaxedCodes) -> dict[str, float]:
        """Return the MAP in every query mode except the symmetric one, as `map_<mode>`."""
        return {f"map_{mode}": self.map(codes, mode=mode) for mode in QUERY_MODES if mode != "symmetric"}

    def scores(self, codes: RelaxedCodes) -> dict[str, Any]:
        """Return every MAP of these codes, each with that of a random ranking and the lowest possible one.

        `map` is over the database, `map_unseen` over the other queries, and `map_index` that of unchanged queries that
        search a database with the changed photos.
        """
        scores = average_precision(hamming(bits_of(codes), self.database), self.relevant)
        floor = map_floor(self.relevant)
        return {
            **with_interval("map", scores, seed=self.experiment.seed),
            "map_random": round(floor.random, 4),
            "map_lowest": round(floor.lowest, 4),
            "map_balanced": round(class_balanced(scores, self.labels), 4),
            **self._unseen(codes),
            **self._index(codes),
        }

    def found(self, codes: RelaxedCodes) -> dict[str, Any]:
        """Return what searches with (n, K) codes find, and how often the original; see `found_scores`."""
        bits = bits_of(codes)
        to_original = (bits != self.queries[self.rows]).sum(axis=1).astype(np.float64)
        distances = hamming(bits, self.database).astype(np.float64)
        return found_scores(distances, to_original, self.relevant, self._threshold, seed=self.experiment.seed)

    @cached_property
    def _threshold(self) -> float:
        """Distance within which 0.1% of unrelated pairs of unchanged photos are."""
        clean = hamming(self.queries[self.rows], self.database).astype(np.float64)
        return unrelated_threshold(clean, self.relevant)

    def _unseen(self, codes: RelaxedCodes) -> dict[str, Any]:
        relevant = relevance(self.labels, self.experiment.queries.labels)
        counted = np.ones_like(relevant)
        counted[np.arange(len(codes)), self.rows] = False
        return self._within("unseen", hamming(bits_of(codes), self.queries), relevant & counted, counted)

    def _index(self, codes: RelaxedCodes) -> dict[str, Any]:
        """Score a service whose database has the changed photos: unchanged queries search for relevant ones, and for
        the photo itself.
        """
        rows, counted = self._index_queries
        bits = bits_of(codes)
        relevant = relevance(self.experiment.queries.labels[rows], self.labels)
        gallery = np.concatenate([self.database, bits])
        scores = self._within(
            "index",
            hamming(self.queries[rows], gallery),
            np.concatenate([np.zeros_like(counted), relevant], axis=1),
            np.concatenate([counted, np.ones_like(relevant)], axis=1),
        )
        originals = self.queries[self.rows]
        to_changed = (originals != bits).sum(axis=1)
        ranks = 1 + (hamming(originals, self.database) < to_changed[:, None]).sum(axis=1)
        return {**scores, "rank_by_original": int(np.median(ranks))}

    @cached_property
    def _index_queries(self) -> tuple[Indices, Relevance]:
        """Return rows of queries that share a label with a changed photo, and, for each, database photos with none."""
        rows = np.flatnonzero(relevance(self.experiment.queries.labels, self.labels).any(axis=1))
        rows = np.sort(np.random.default_rng(self.experiment.seed).permutation(rows)[:_INDEX_QUERIES])
        return rows, ~relevance(self.experiment.queries.labels[rows], self.experiment.database.labels)

    @staticmethod
    def _within(name: str, distances: Distances, relevant: Relevance, counted: Relevance) -> dict[str, Any]:
        """Return the MAP within each query's counted entries; None if no query has a relevant one."""
        rows = relevant.any(axis=1)
        if not rows.any():
            return {f"map_{name}": None, f"map_{name}_random": None, f"map_{name}_lowest": None}
        # Excluded entries are put last, where they do not count. Small integers sort fastest.
        ranked = np.where(counted, distances, _LAST).astype(np.int16)[rows]
        floor = floor_within(relevant[rows], counted[rows])
        return {
            f"map_{name}": round(mean_average_precision(ranked, relevant[rows]), 4),
            f"map_{name}_random": round(floor.random, 4),
            f"map_{name}_lowest": round(floor.lowest, 4),
        }


def with_interval(name: str, values: Scores, *, seed: int) -> dict[str, float]:
    """Return the mean of (n,) values of as many photos as `name`, with the 95% interval of a bootstrap over the photos
    as `name_low` and `name_high`, all rounded to four places.
    """
    low, high = bootstrap_interval(values, np.random.default_rng(seed))
    return {
        name: round(float(values.mean()), 4),
        f"{name}_low": round(low, 4),
        f"{name}_high": round(high, 4),
    }


def codes_of(
    opened: OpenModel, photos: Sequence[Pixels], change: Callable[[Pixels], Pixels] | None = None
) -> RelaxedCodes:
    """Return the (n, K) codes of upright pixels, after `change` if given."""
    return _batched(opened, photos, change, lambda images: opened.model(images).code)


def features_of(opened: OpenModel, photos: Sequence[Pixels]) -> Features:
    """Return the (n, D) features of upright pixels."""
    return _batched(opened, photos, None, opened.model.features)


@torch.inference_mode()
def _batched(
    opened: OpenModel,
    photos: Sequence[Pixels],
    change: Callable[[Pixels], Pixels] | None,
    output: Callable[[Tensor], Tensor],
) -> NDArray[np.float32]:
    rows = []
    for first in range(0, len(photos), _BATCH):
        batch = photos[first : first + _BATCH]
        changed = batch if change is None else map(change, batch)
        images = torch.stack([pillow_view(pixels, opened.card.input) for pixels in changed])
        rows.append(output(images.to(opened.device)).float().cpu().numpy())
    return np.concatenate(rows)


def cosine(a: Features, b: Features) -> NDArray[np.float32]:
    """Return the (Q, N) cosines of (Q, D) and (N, D) features."""
    found: NDArray[np.float32] = (a / np.linalg.norm(a, axis=1, keepdims=True)) @ (
        b / np.linalg.norm(b, axis=1, keepdims=True)
    ).T
    return found


def pixels_of(trials: Iterable[Trial]) -> list[Pixels]:
    """Return the upright pixels of trials."""
    return [trial.pixels for trial in trials]


def image_quality(experiment: Experiment, trials: Sequence[Trial]) -> dict[str, Any]:
    """Return PSNR in dB, SSIM and the largest change in 8-bit levels of trials against the picked queries."""
    pairs = [(trial.pixels, photo) for trial, photo in zip(trials, experiment.photos, strict=False)]
    noise = [psnr_db(after, before) for after, before in pairs]
    return {
        "photos": len(trials),
        "median_psnr_db": round(float(np.median(noise)), 2),
        "lowest_psnr_db": round(min(noise), 2),
        "median_ssim": round(float(np.median([ssim(after, before) for after, before in pairs])), 5),
        "largest_levels": max(linf_levels(after, before) for after, before in pairs),
    }


def target_distances(codes: RelaxedCodes, wanted: Bits) -> dict[str, Any]:
    """Return figures of the distance of (n, K) codes to their target bits."""
    distances = (bits_of(codes) != wanted).sum(axis=1)
    return {
        "mean_distance_to_target": round(float(distances.mean()), 3),
        "share_at_target": round(float((distances == 0).mean()), 4),
    }


_UNRELATED = 0.001
"""Share of unrelated pairs within a threshold."""


def unrelated_threshold(distances: NDArray[np.float64], relevant: Relevance) -> float:
    """Return the largest distance within which at most 0.1% of unrelated pairs are.

    Minus infinity if more pairs than that have the smallest distance. `distances` are (n, N) from originals to the
    database, `relevant` says which pairs share a label.
    """
    values, counts = np.unique(distances[~relevant], return_counts=True)
    passed = np.cumsum(counts) <= _UNRELATED * counts.sum()
    return float(values[passed][-1]) if passed.any() else -np.inf


def found_scores(
    distances: NDArray[np.float64],
    to_original: NDArray[np.float64],
    relevant: Relevance,
    threshold: float,
    *,
    seed: int,
) -> dict[str, Any]:
    """Return what searches with n changed photos find, with 95% intervals by bootstrap over the photos.

    `distances` are (n, N) to the database, `to_original` (n,) to their originals. `map` is over the database. `first`
    is the share of photos whose original, if it were in the database, would be found first, ties included.
    `above_threshold` is the share of changed photos at most `threshold` away from their original.
    """
    scores = {
        "map": average_precision(distances, relevant),
        "first": (to_original <= distances.min(axis=1)).astype(np.float64),
        "above_threshold": (to_original <= threshold).astype(np.float64),
    }
    row: dict[str, Any] = {}
    for name, values in scores.items():
        row |= with_interval(name, values, seed=seed)
    return row
