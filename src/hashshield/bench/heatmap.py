"""`bench heatmap`: figure 4 of the paper, Grad-CAM of the original, of what people did before, and of `away`.

Beside the picture stand two figures: how the heat of a changed photo correlates with that of the original, and how
evenly it is spread, as the paper says that adversarial changes disperse what a network attends to.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hashshield.bench.draw import sheet
from hashshield.bench.gradcam import heat, overlaid, spread
from hashshield.bench.measure import quality
from hashshield.bench.protecting import run_goal
from hashshield.bench.results import result
from hashshield.bench.stage import Asked, set_stage
from hashshield.bench.traditional import veil_trials
from hashshield.bench.veils import VEILS
from hashshield.types import Progress

__all__ = ["run"]

_SHOWN = 3
"""Photos in the picture."""


def run(asked: Asked, *, progress: Progress) -> list[dict[str, Any]]:
    """One row per length and change. Raises UsageError, CheckpointError."""
    stage = set_stage(asked, progress)
    count = len(stage.picked)
    progress.start(count * (len(VEILS) + 2 * len(stage.lengths)))
    photos = [stage.pixels[int(row)] for row in stage.picked]
    veils = veil_trials(stage, progress)
    with result("heatmap", stage, asked.output, tau=asked.tau) as to:
        for length in stage.lengths:
            opened = stage.model(length)
            trials = {**veils, "away": run_goal(stage, length, "away", tau=asked.tau, count=count, progress=progress)}
            original_bits = []
            for pixels in photos:
                original_bits.append(heat(opened, pixels))
                progress.done(None)
            even = round(float(np.mean([spread(h) for h in original_bits])), 4)
            to.rows.append({"bits": length, "change": "original", "photos": count, "spread": even})
            cells = [
                [(overlaid(opened, p, h), "original") for p, h in zip(photos[:_SHOWN], original_bits, strict=False)]
            ]
            for name, made in trials.items():
                heats = [heat(opened, trial.pixels) for trial in made]
                alike = [_correlation(a, b) for a, b in zip(original_bits, heats, strict=True)]
                to.rows.append(
                    {
                        "bits": length,
                        "change": name,
                        "correlation_with_original": round(float(np.mean(alike)), 4),
                        "spread": round(float(np.mean([spread(h) for h in heats])), 4),
                        **quality(stage, made),
                    }
                )
                cells.append(
                    [(overlaid(opened, trial.pixels, h), name) for trial, h in zip(made[:_SHOWN], heats, strict=False)]
                )
        # The last length's: one photo a row.
        sheet([column[row] for row in range(len(cells[0])) for column in cells], to.picture, across=len(cells))
    return to.rows


def _correlation(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """Pearson's, of two heats of one shape; 0 where one is the same everywhere."""
    one, other = a.ravel() - a.mean(), b.ravel() - b.mean()
    length = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float(one @ other) / length if length else 0.0
