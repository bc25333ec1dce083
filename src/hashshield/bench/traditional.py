"""`bench traditional`: figure 3 of the paper, what people did to photos before against adversarial changes.

Mosaic, brightness, transparency and noise are given the strengths, photo by photo, at which their PSNR is the one the
paper tells. The adversarial photos are those of `protect`, at four bounds on the change.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hashshield.bench.draw import sheet
from hashshield.bench.judge import Judge
from hashshield.bench.measure import codes_of, quality
from hashshield.bench.pool import Trial
from hashshield.bench.protecting import run_goal
from hashshield.bench.results import result
from hashshield.bench.stage import Asked, Stage, set_stage
from hashshield.bench.targets import own_anchors
from hashshield.bench.veils import VEILS, veiled
from hashshield.types import Progress

__all__ = ["TAUS", "run", "veil_trials"]

TAUS = (0.01, 0.02, 0.03, 0.04)


def run(asked: Asked, *, taus: Sequence[float] = (), progress: Progress) -> list[dict[str, Any]]:
    """One row per length and change; `away` at the paper's bounds unless others are given.

    Raises UsageError, CheckpointError.
    """
    taus = taus or TAUS
    stage = set_stage(asked, progress)
    count = len(stage.picked)
    progress.start(count * (len(VEILS) + len(taus) * len(stage.lengths)))
    photos = [stage.pixels[int(row)] for row in stage.picked]
    veils = veil_trials(stage, progress)
    with result(
        "traditional", stage, asked.output, taus=list(taus), psnr_db={k: v for k, (_, v) in VEILS.items()}
    ) as to:
        for length in stage.lengths:
            judge = Judge(stage, length, stage.queries.labels[stage.picked])
            base = {"map_ceiling": judge.map(own_anchors(stage, length, count).astype(np.float32))}
            to.rows.append(
                {
                    "bits": length,
                    "change": "original",
                    "photos": count,
                    **judge.scores(codes_of(stage, length, photos)),
                    **base,
                }
            )
            found = dict(veils)
            for tau in taus:
                found[f"away, tau {tau}"] = run_goal(stage, length, "away", tau=tau, count=count, progress=progress)
            for name, trials in found.items():
                scores = judge.scores(codes_of(stage, length, [trial.pixels for trial in trials]))
                to.rows.append({"bits": length, "change": name, **scores, **base, **quality(stage, trials)})
        cells = [(photos[0], "original")]
        for name, row in zip(found, to.rows[-len(found) :], strict=True):
            cells.append((found[name][0].pixels, f"{name}\n{row['median_psnr_db']:.1f} dB, MAP {row['map']:.2f}"))
        sheet(cells, to.picture, across=3)
    return to.rows


def veil_trials(stage: Stage, progress: Progress) -> dict[str, list[Trial]]:
    """The picked photos under each veil, at the strength of the paper's PSNR. Quick, and so not kept."""
    found: dict[str, list[Trial]] = {}
    for name, (veil, wanted) in VEILS.items():
        found[name] = []
        for row in stage.picked:
            after, strength = veiled(stage.pixels[int(row)], veil, wanted, seed=stage.seed * 100_003 + int(row))
            found[name].append(Trial(after, {"strength": strength}))
            progress.done(None)
    return found
