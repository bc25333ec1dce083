"""`bench retrieval`: the three queries of the paper's figure 1, and retrieval as its section 3 defines it.

The queries are a private photo; the same photo protected; and a carrier, a photo of another kind that was given the
private photo's code, so that its kind is found without the photo being uploaded. Judged by MAP, by retrieval of all
that lies within a threshold, by precision within radius 2, and shown as lists of what comes first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hashshield import imaging
from hashshield.bench.draw import Line, Panel, line_chart, sheet
from hashshield.bench.judge import Judge
from hashshield.bench.measure import codes_of, quality
from hashshield.bench.protecting import run_goal
from hashshield.bench.results import result
from hashshield.bench.stage import Asked, Stage, set_stage
from hashshield.bench.targets import own_anchors
from hashshield.bench.trials import attacks_of, run_searches, units
from hashshield.errors import UsageError
from hashshield.metrics.hamming import bits_of, hamming
from hashshield.metrics.retrieval import by_threshold, within_radius
from hashshield.models.hash_files import displayed_rgb
from hashshield.types import Progress

__all__ = ["run"]

_RADIUS = 2
_FIRST = 8
"""Entries of a list that the picture shows."""

Codes = NDArray[np.float32]
Pixels = NDArray[np.uint8]


def run(asked: Asked, *, progress: Progress) -> list[dict[str, Any]]:
    """One row per length and query. Raises UsageError, CheckpointError."""
    stage = set_stage(asked, progress)
    private = _private(stage)
    count = len(stage.picked)
    (rnm,) = attacks_of(("rnm",), asked)
    progress.start((units([rnm], count) + count) * len(stage.lengths))
    with result("retrieval", stage, asked.output, tau=asked.tau, radius=_RADIUS) as to:
        to.more["by_threshold"] = []
        panels = []
        for length in stage.lengths:
            ceiling = own_anchors(stage, length, count).astype(np.float32)
            wanted = stage.queries.bits(length)[private]
            carriers = run_searches(stage, length, rnm, wanted, tau=asked.tau, progress=progress)
            changed = run_goal(stage, length, "away", tau=asked.tau, count=count, progress=progress)
            lines = []
            for name, rows, photos in (
                ("original", stage.picked, [stage.pixels[int(row)] for row in stage.picked]),
                ("protected, away", stage.picked, [trial.pixels for trial in changed]),
                ("carrier", private, [trial.pixels for trial in carriers]),
            ):
                codes = codes_of(stage, length, photos)
                judge = Judge(stage, length, stage.queries.labels[rows])
                distances = hamming(bits_of(codes), judge.database)
                table = by_threshold(distances, judge.relevant, length)
                to.more["by_threshold"].append({"bits": length, "query": name, "table": table})
                lines.append(_curve(name, table))
                original_bits = judge.map(ceiling) if name != "carrier" else judge.map(wanted.astype(np.float32))
                to.rows.append(
                    {
                        "bits": length,
                        "query": name,
                        "photos": count,
                        **judge.scores(codes),
                        "map_ceiling": original_bits,
                        **_near(distances, judge.relevant),
                    }
                )
            to.rows[-2] |= quality(stage, changed)
            to.rows[-1] |= quality(stage, carriers)
            panels.append(Panel(f"{length} bits", lines))
        line_chart(panels, to.picture, x_label="recall", y_label="precision")
        lists = to.picture.with_name(to.picture.name.replace("retrieval-", "retrieval-lists-"))
        displayed = [stage.pixels[int(stage.picked[0])], changed[0].pixels, carriers[_carrier(private, stage)].pixels]
        sheet(_lists(stage, stage.lengths[-1], displayed), lists, across=_FIRST + 1, side=110)
    return to.rows


def _private(stage: Stage) -> NDArray[np.int64]:
    """For each picked query as a carrier, the row of a picked one of another kind whose code it gets; each in turn."""
    labels = stage.queries.labels[stage.picked]
    found = []
    for place, original_bits in enumerate(labels):
        order = np.roll(np.arange(len(labels)), -place - 1)
        other_view_bits = [int(i) for i in order if not (labels[i] & original_bits).any()]
        if not other_view_bits:
            raise UsageError(
                f"{stage.query_path(int(stage.picked[place]))}: no other query of another kind was drawn that it could "
                "carry; take more --queries"
            )
        found.append(other_view_bits[0])
    return np.asarray(stage.picked[found])


def _carrier(private: NDArray[np.int64], stage: Stage) -> int:
    """Place of a carrier of the first picked photo, or the first there is."""
    places = np.flatnonzero(private == stage.picked[0])
    return int(places[0]) if len(places) else 0


def _near(distances: NDArray[np.int64], relevant: NDArray[np.bool_]) -> dict[str, Any]:
    precision, recall, found = within_radius(distances, relevant, _RADIUS)
    return {
        "precision_radius_2": round(float(precision.mean()), 4),
        "recall_radius_2": round(float(recall.mean()), 4),
        "found_radius_2": round(float(found.mean()), 2),
        "queries_that_find_nothing": int((found == 0).sum()),
    }


def _curve(name: str, table: Sequence[dict[str, float | None]]) -> Line:
    points = [(row["recall"], row["precision"]) for row in table]
    known = [(float(recall), float(p)) for recall, p in points if p is not None and recall is not None]
    return Line(name, [recall for recall, _ in known], [p for _, p in known])


def _lists(stage: Stage, length: int, queries: Sequence[Pixels]) -> list[tuple[Pixels, str]]:
    """Each query and the first entries it finds, with their kind and distance."""
    database, cells = stage.database.bits(length), []
    names = ("original", "protected, away", "carrier")
    for name, pixels in zip(names, queries, strict=True):
        (distances,) = hamming(bits_of(codes_of(stage, length, [pixels])), database)
        cells.append((pixels, f"{name}\n"))
        for place in np.argsort(distances, kind="stable")[:_FIRST]:
            path = stage.files.root / stage.files.paths[int(stage.split.database[place])]
            kinds = np.flatnonzero(stage.database.labels[place])
            kind = stage.files.classes[int(kinds[0])] if len(kinds) else "no label"
            found = displayed_rgb(imaging.read(path.read_bytes(), name=str(path)))
            cells.append((found, f"{kind[:16]}\nD = {distances[place]}"))
    return cells
