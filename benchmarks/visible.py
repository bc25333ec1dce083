"""How visible protected photos are, judged by butteraugli, which takes no part in any search.

    hashshield protect COPIES/ --preset invisible --witness none --seed 5 --json > receipts.json
    python benchmarks/visible.py PHOTOS/ COPIES/ receipts.json

COPIES are the photos that were protected in place, PHOTOS the same files as they were. Needs `butteraugli_main` of
libjxl on the path (Debian: libjxl-devtools). Prints JSON: how many photos there were, were protected, and kept their
goal after JPEG q75; for the protected ones the 3-norm and the largest value of butteraugli, PSNR in decibels and steps,
each as median and worst; and the 3-norm of the same photos as JPEG at qualities 90, 85 and 60.
"""

from __future__ import annotations

import json
import re
import statistics
import subprocess
import sys
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from PIL import Image

QUALITIES = (90, 85, 60)


def visibility(before: Image.Image, after: Image.Image) -> tuple[float, float]:
    """Return the 3-norm of butteraugli's difference map, and its largest value."""
    with TemporaryDirectory() as folder:
        names = [str(Path(folder) / name) for name in ("before.png", "after.png")]
        for image, name in zip((before, after), names, strict=True):
            image.save(name, compress_level=1)
        said = subprocess.run(["butteraugli_main", *names], capture_output=True, text=True, check=True).stdout
    largest, norm = re.findall(r"[0-9.]+$", said, re.MULTILINE)[:2]
    return float(norm), float(largest)


def spread(values: Sequence[float], *, worst: str = "highest") -> dict[str, float]:
    """Return median and worst, the latter the lowest or the highest of the values."""
    return {
        "median": round(statistics.median(values), 3),
        "worst": round(max(values) if worst == "highest" else min(values), 3),
    }


def coded(image: Image.Image, quality: int) -> Image.Image:
    """Return the photo as JPEG of that quality, with Pillow's other defaults."""
    out = BytesIO()
    image.save(out, "JPEG", quality=quality)
    return Image.open(out).convert("RGB")


def compare(before: Path, after: Path, receipts: Path) -> dict[str, Any]:
    """Score each file of `before` that `receipts`, a document of `protect --json`, calls protected."""
    rows = {Path(row["path"]).name: row for row in json.loads(receipts.read_text())["results"]}
    files = sorted(path for path in before.iterdir() if path.name in rows)
    ours, jpeg = [], {quality: [] for quality in QUALITIES}
    for path in files:
        photo = Image.open(path).convert("RGB")
        for quality in QUALITIES:
            jpeg[quality].append(visibility(photo, coded(photo, quality))[0])
        row = rows[path.name]
        if row["status"] == "protected":
            norm, largest = visibility(photo, Image.open(after / path.name).convert("RGB"))
            kept = all(again["passed"] for again in row["survival"])
            ours.append((norm, largest, row["psnr_db"], row["steps"], kept))
    norms, largest, decibels, steps, kept = zip(*ours, strict=True)
    return {
        "photos": len(files),
        "protected": len(ours),
        "after_jpeg_q75": sum(kept),
        "butteraugli_3_norm": spread(norms),
        "butteraugli_max": spread(largest),
        "psnr_db": spread(decibels, worst="lowest"),
        "steps": spread(steps),
        "jpeg_3_norm": {str(quality): spread(values) for quality, values in jpeg.items()},
    }


if __name__ == "__main__":
    print(json.dumps(compare(*map(Path, sys.argv[1:4])), indent=2))
