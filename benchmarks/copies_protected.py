"""Measure how similar photos protected against `copies` still are: in the file, after JPEG q75, to a foreign detector.

    python benchmarks/copies_protected.py ORIGINALS PROTECTED RECEIPTS.json RESULT.json [DETECTOR.onnx]

ORIGINALS and PROTECTED are folders with the same file names, RECEIPTS the output of `hashshield protect --json`. The
foreign detector only judges; no search uses it.
"""

from __future__ import annotations

import json
import statistics
import sys
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from hashshield.bench.copy_judges import foreign_judge
from hashshield.bench.results import environment
from hashshield.models.load import Hashed, open_models


def _displayed(path: Path) -> Image.Image:
    with Image.open(path, formats=["JPEG"]) as image:
        return image.convert("RGB")


def _q75(image: Image.Image) -> Image.Image:
    buffer = BytesIO()
    image.save(buffer, "JPEG", quality=75)
    with Image.open(buffer, formats=["JPEG"]) as decoded:
        return decoded.convert("RGB")


def _apart(one: Hashed, other: Hashed) -> tuple[float, int]:
    cosine = torch.nn.functional.cosine_similarity(one.features, other.features, dim=0)
    return round(float(cosine), 4), int(np.count_nonzero(one.bits != other.bits))


def main(originals: Path, protected: Path, receipts: Path, result: Path, detector: Path | None = None) -> None:
    """Measure every photo of the receipts, print a summary, and write the result."""
    (model,) = open_models(["copies"])
    foreign = None if detector is None else foreign_judge(detector)
    rows: list[dict[str, Any]] = []
    for receipt in json.loads(receipts.read_text(encoding="utf-8"))["results"]:
        name = Path(receipt["path"]).name
        row = {"photo": name, "status": receipt["status"], "visibility": round(receipt["visibility"], 3)}
        if (protected / name).is_file():
            before, after = _displayed(originals / name), _displayed(protected / name)
            own, now, later = (model.hash(np.asarray(image)) for image in (before, after, _q75(after)))
            row["cosine"], row["distance"] = _apart(own, now)
            row["cosine_q75"], row["distance_q75"] = _apart(own, later)
            if foreign is not None:
                one, two = foreign.describe([before, after])
                row["cosine_foreign"] = round(float(one @ two), 4)
        rows.append(row)
    cosine, within = model.card.cosine or 1.0, model.card.within or 0
    written = [row for row in rows if "cosine" in row]
    summary = {
        "photos": len(rows),
        "no_copy_in_file": sum(row["cosine"] < cosine and row["distance"] > within for row in written),
        "no_copy_after_q75": sum(row["cosine_q75"] < cosine and row["distance_q75"] > within for row in written),
        "median_visibility": statistics.median(row["visibility"] for row in written),
        "highest_visibility": max(row["visibility"] for row in written),
    }
    if foreign is not None:
        cosines = [row["cosine_foreign"] for row in written]
        summary |= {"median_cosine_foreign": statistics.median(cosines), "least_cosine_foreign": min(cosines)}
    settings = environment(model=model.name, cosine=cosine, within=within, foreign=detector and detector.name)
    document = {"bench": "copies-protected", "environment": settings, "summary": summary, "rows": rows}
    result.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(json.dumps(summary, indent=1) + "\n")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
