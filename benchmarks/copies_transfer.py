"""Measure whether changes searched on `copies` transfer to a foreign copy detector, at given visibilities.

    python benchmarks/copies_transfer.py DETECTOR.onnx RESULT.json ORIGINALS NAME=PROTECTED=RECEIPTS.json ...

PROTECTED holds the protected photos of ORIGINALS under the same names (a JPEG may have become a PNG), RECEIPTS is the
output of `hashshield protect --json`. Each change is scaled until butteraugli's 3-norm is 1, 1.5 and 2.2, and compared
with uniform noise of the same visibility. The detector only judges; no search uses it.
"""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from hashshield import imaging
from hashshield.arrays import Pixels
from hashshield.bench.copy_judges import CopyJudge, foreign_judge, network_judges
from hashshield.bench.distortions import noise_of_visibility
from hashshield.bench.results import environment
from hashshield.bench.visible import butteraugli_norm
from hashshield.models.hashing import displayed_rgb
from hashshield.models.load import open_models

NORMS = (1.0, 1.5, 2.2)
COPY = 0.75
"""Cosine at and above which the authors of SSCD count two photos as copies."""
_BISECTIONS = 7
_LARGEST = 8.0


def _pixels(path: Path) -> Pixels:
    return displayed_rgb(imaging.read(path.read_bytes(), name=str(path)))


def scaled(before: Pixels, after: Pixels, wanted: float) -> tuple[Pixels, float, float]:
    """Return `before` with its change to `after` scaled to the 3-norm `wanted`, the factor, and the 3-norm reached."""
    change = after.astype(np.float32) - before
    dither = np.random.default_rng(0).random(change.shape, np.float32)

    def at(factor: float) -> tuple[Pixels, float, float]:
        pixels: Pixels = np.clip(before + np.floor(factor * change + dither), 0, 255).astype(np.uint8)
        return pixels, factor, butteraugli_norm(before, pixels)

    best = at(1.0)
    low, high = (0.0, 1.0) if best[2] > wanted else (1.0, _LARGEST)
    for _ in range(_BISECTIONS):
        found = at((low + high) / 2)
        if abs(found[2] - wanted) < abs(best[2] - wanted):
            best = found
        low, high = (found[1], high) if found[2] < wanted else (low, found[1])
    return best


def _cosines(judge: CopyJudge, before: Pixels, *others: Pixels) -> list[float]:
    described = judge.derive(judge.describe([Image.fromarray(pixels) for pixels in (before, *others)]))
    return [round(float(described[0] @ other), 4) for other in described[1:]]


def measured(name: str, before: Pixels, after: Pixels, judges: dict[str, CopyJudge]) -> list[dict[str, Any]]:
    """Return a row for the photo as written, and one for each 3-norm."""
    rows = []
    for wanted in (None, *NORMS):
        pixels, factor, norm = (after, 1.0, butteraugli_norm(before, after)) if wanted is None else (None, 1.0, 0.0)
        if pixels is None:
            assert wanted is not None
            pixels, factor, norm = scaled(before, after, wanted)
        noise = noise_of_visibility(before, pixels, seed=0)
        row: dict[str, Any] = {"photo": name, "asked": wanted, "factor": round(factor, 3), "norm": round(norm, 3)}
        for word, judge in judges.items():
            row[f"cosine_{word}"], row[f"cosine_{word}_noise"] = _cosines(judge, before, pixels, noise)
        rows.append(row)
    return rows


def summary(rows: list[dict[str, Any]], wanted: float | None) -> dict[str, Any]:
    """Return the summary of the photos at one 3-norm; None for the photos as written."""
    some = [row for row in rows if row["asked"] == wanted]

    def of(key: str) -> list[float]:
        return [row[key] for row in some]

    return {
        "asked": wanted,
        "photos": len(some),
        "median_norm": round(statistics.median(of("norm")), 3),
        "worst_norm": max(of("norm")),
        "median_cosine_sscd": round(statistics.median(of("cosine_sscd")), 4),
        "least_cosine_sscd": min(of("cosine_sscd")),
        "share_below_copy_sscd": round(statistics.mean(value < COPY for value in of("cosine_sscd")), 4),
        "median_cosine_sscd_noise": round(statistics.median(of("cosine_sscd_noise")), 4),
        "median_cosine_copies": round(statistics.median(of("cosine_copies")), 4),
        "median_cosine_copies_noise": round(statistics.median(of("cosine_copies_noise")), 4),
    }


def main(detector: Path, result: Path, originals: Path, *searches: str) -> None:
    """Measure all searches, print their summaries, and write the result."""
    torch.set_num_threads(1)
    (model,) = open_models(["copies"])
    judges = {"sscd": foreign_judge(detector), "copies": network_judges(model)[0]}
    before = {path.stem: _pixels(path) for path in sorted(originals.iterdir())}
    document: dict[str, Any] = {"bench": "copies-transfer", "searches": []}
    for asked in searches:
        name, folder, receipts = asked.split("=")
        found = json.loads(Path(receipts).read_text(encoding="utf-8"))["results"]
        rows = []
        for path in sorted(Path(folder).iterdir()):
            rows += measured(path.stem, before[path.stem], _pixels(path), judges)
            sys.stderr.write(f"{name}: {path.stem}\n")
        entry = {
            "searched": name,
            "preset": found[0]["preset"],
            "statuses": {word: sum(r["status"] == word for r in found) for word in {r["status"] for r in found}},
            "summary": [summary(rows, wanted) for wanted in (None, *NORMS)],
            "rows": rows,
        }
        document["searches"].append(entry)
        sys.stdout.write(json.dumps({key: entry[key] for key in ("searched", "statuses", "summary")}, indent=1) + "\n")
    document["environment"] = environment(
        model=model.name, foreign=detector.name, copy_from=COPY, norms=list(NORMS), originals=len(before)
    )
    result.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    paths = [Path(word) for word in sys.argv[1:4]]
    main(paths[0], paths[1], paths[2], *sys.argv[4:])
