"""The MAP of a checkpoint, and the three queries of the paper's figure 1.

`bench map` measures the MAP of a checkpoint file, by the protocol of its card.

`bench retrieval` queries with a private photo, with the same photo protected, and with a carrier: a photo of another
class that was given the private photo's code, so that similar photos are found without uploading it. It reports MAP,
retrieval of everything within a threshold (section 3 of the paper), precision within radius 2, and the first results.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hashshield import imaging
from hashshield.arrays import Bits, Distances, Indices, Pixels, Relevance
from hashshield.bench.config import BenchConfig, MapConfig
from hashshield.bench.evaluation import RetrievalEvaluator, codes_of, image_quality, pixels_of
from hashshield.bench.experiment import Experiment, anchor_codes, open_experiment, open_protocol
from hashshield.bench.protecting import protect_queries
from hashshield.bench.results import Curve, Panel, Trial, line_chart, photo_sheet, require_matplotlib
from hashshield.bench.searches import attacks_of, progress_units, run_searches
from hashshield.errors import UsageError
from hashshield.metrics.retrieval import (
    bits_of,
    by_threshold,
    hamming,
    hamming_map,
    map_floor,
    relevance,
    unseen_map,
    within_radius,
)
from hashshield.models.device import choose_device
from hashshield.models.hashing import displayed_rgb, hash_files
from hashshield.models.load import OpenModel, open_models
from hashshield.types import Progress

__all__ = ["COLUMNS", "carried_rows", "run_map", "run_retrieval"]

COLUMNS: dict[str, tuple[str, ...]] = {
    "map": ("model", "bits", "split", "queries", "database", "map"),
    "retrieval": (
        *("bits", "query", "photos", "map", "map_random", "map_reference", "map_unseen", "precision_radius_2"),
        *("recall_radius_2", "found_radius_2", "median_psnr_db"),
    ),
}

_BATCH = 32
_RADIUS = 2
_LISTED = 8
"""Number of entries of each list in the picture."""
_QUERIES = ("original", "protected, away", "carrier")


def run_map(config: MapConfig, progress: Progress) -> list[dict[str, Any]]:
    """Return a row per network: the MAP over the whole database, and over the other queries, which are not trained on.

    Raise UsageError, CheckpointError.
    """
    opened = open_models(config.models, device=choose_device(config.device))
    rows = []
    for group in _by_checkpoint(opened):
        files, split = open_protocol(group[0], config.data)
        progress.start(-(-len(files.paths) // _BATCH))
        codes = hash_files(
            [m.model for m in group],
            group[0].card.input,
            [files.root / p for p in files.paths],
            batch_size=_BATCH,
            tick=lambda _done: progress.done(None),
        )
        labels = files.labels[split.queries], files.labels[split.database]
        floor = map_floor(relevance(*labels))
        for model, code in zip(group, codes, strict=True):
            bits = bits_of(code)
            rows.append(
                {
                    "model": model.name,
                    "bits": model.bits,
                    "split": f"{files.name}, seed {model.card.split['seed']}",
                    "queries": len(split.queries),
                    "database": len(split.database),
                    "map": round(hamming_map(bits[split.queries], bits[split.database], *labels), 4),
                    "map_unseen_gallery": round(unseen_map(bits[split.queries], files.labels[split.queries]), 4),
                    "map_random": round(floor.random, 4),
                    "map_lowest": round(floor.lowest, 4),
                }
            )
    return rows


def _by_checkpoint(models: Sequence[OpenModel]) -> list[list[OpenModel]]:
    groups: dict[str, list[OpenModel]] = {}
    for model in models:
        groups.setdefault(model.name.rpartition(":")[0], []).append(model)
    return list(groups.values())


def run_retrieval(config: BenchConfig, progress: Progress) -> list[dict[str, Any]]:
    """Return a row per code length and query. Raise UsageError, CheckpointError."""
    require_matplotlib()
    experiment = open_experiment(config, progress)
    carried = carried_rows(experiment)
    count = len(experiment.picked)
    (rnm,) = attacks_of(("rnm",), config.steps)
    progress.start((progress_units([rnm], count) + count) * len(experiment.lengths))
    settings: dict[str, Any] = {"searches": ["rnm", "invisible"], "tau": config.tau, "radius": _RADIUS}
    with experiment.recording("retrieval", **settings) as result:
        result.extra["by_threshold"] = []
        panels = []
        for length in experiment.lengths:
            wanted = experiment.queries.bits(length)[carried]
            carriers = run_searches(experiment, length, rnm, wanted, tau=config.tau, progress=progress)
            protected = protect_queries(experiment, length, "away", tau=config.tau, progress=progress)
            table = _QueryTable(experiment, length)
            anchors = anchor_codes(experiment, length)
            original, away, carrier = _QUERIES
            table.add(original, experiment.picked, experiment.photos, anchors)
            table.add(away, experiment.picked, pixels_of(protected), anchors)
            table.add(carrier, carried, pixels_of(carriers), wanted)
            table.rows[-2] |= image_quality(experiment, protected)
            table.rows[-1] |= image_quality(experiment, carriers)
            result.rows += table.rows
            result.extra["by_threshold"] += table.by_threshold
            panels.append(Panel(f"{length} bits", table.lines))
        line_chart(panels, result.plot, x_label="recall", y_label="precision")
        lists = result.plot.with_name(result.plot.name.replace("retrieval-", "retrieval-lists-"))
        queries = [experiment.photos[0], protected[0].pixels, _carrier_of_first(experiment, carried, carriers).pixels]
        photo_sheet(_lists(experiment, experiment.lengths[-1], queries), lists, across=_LISTED + 1, side=110)
    return result.rows


class _QueryTable:
    """Rows, threshold tables and curves of one code length."""

    def __init__(self, experiment: Experiment, length: int) -> None:
        self.experiment, self.length = experiment, length
        self.rows: list[dict[str, Any]] = []
        self.by_threshold: list[dict[str, Any]] = []
        self.lines: list[Curve] = []

    def add(self, name: str, rows: Indices, photos: Sequence[Pixels], ceiling: Bits) -> None:
        """Add rows for photos that should find what the queries `rows` find; `ceiling` has the best codes for that."""
        codes = codes_of(self.experiment.model(self.length), photos)
        evaluator = RetrievalEvaluator(self.experiment, self.length, self.experiment.queries.labels[rows])
        distances = hamming(bits_of(codes), evaluator.database)
        table = by_threshold(distances, evaluator.relevant, self.length)
        key = {"bits": self.length, "query": name}
        self.by_threshold.append({**key, "table": table})
        self.lines.append(_curve(name, table))
        self.rows.append(
            {
                **key,
                "photos": len(photos),
                **evaluator.scores(codes),
                "map_reference": evaluator.map_of_bits(ceiling),
                **_within_radius(distances, evaluator.relevant),
            }
        )


def carried_rows(experiment: Experiment) -> Indices:
    """Return, for each picked query as a carrier, the row of a picked query of another class whose code it gets.

    All picked queries take turns. Raise UsageError if all are of the same class.
    """
    labels = experiment.labels
    found = []
    for place, own_labels in enumerate(labels):
        order = np.roll(np.arange(len(labels)), -place - 1)
        candidates = [int(i) for i in order if not (labels[i] & own_labels).any()]
        if not candidates:
            raise UsageError(
                f"{experiment.query_path(int(experiment.picked[place]))}: no query of another kind was drawn "
                "whose code it could carry; take more --queries"
            )
        found.append(candidates[0])
    return np.asarray(experiment.picked[found])


def _carrier_of_first(experiment: Experiment, carried: Indices, carriers: Sequence[Trial]) -> Trial:
    """Return a carrier of the first picked photo, or the first carrier if it has none."""
    places = np.flatnonzero(carried == experiment.picked[0])
    return carriers[int(places[0]) if len(places) else 0]


def _within_radius(distances: Distances, relevant: Relevance) -> dict[str, Any]:
    precision, recall, found = within_radius(distances, relevant, _RADIUS)
    return {
        "precision_radius_2": round(float(precision.mean()), 4),
        "recall_radius_2": round(float(recall.mean()), 4),
        "found_radius_2": round(float(found.mean()), 2),
        "queries_that_find_nothing": int((found == 0).sum()),
    }


def _curve(name: str, table: Sequence[dict[str, float | None]]) -> Curve:
    points = [(row["recall"], row["precision"]) for row in table]
    known = [(float(recall), float(p)) for recall, p in points if p is not None and recall is not None]
    return Curve(name, [recall for recall, _ in known], [p for _, p in known])


def _lists(experiment: Experiment, length: int, queries: Sequence[Pixels]) -> list[tuple[Pixels, str]]:
    """Return each query and the first entries it finds, with their labels and distances as captions."""
    database, cells = experiment.database.bits(length), []
    for name, pixels in zip(_QUERIES, queries, strict=True):
        (distances,) = hamming(bits_of(codes_of(experiment.model(length), [pixels])), database)
        cells.append((pixels, f"{name}\n"))
        for place in np.argsort(distances, kind="stable")[:_LISTED]:
            path = experiment.files.root / experiment.files.paths[int(experiment.split.database[place])]
            kinds = np.flatnonzero(experiment.database.labels[place])
            kind = experiment.files.classes[int(kinds[0])] if len(kinds) else "no label"
            entry = displayed_rgb(imaging.read(path.read_bytes(), name=str(path)))
            cells.append((entry, f"{kind[:16]}\nD = {distances[place]}"))
    return cells
