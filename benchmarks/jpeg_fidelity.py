"""Measure the loss of writing a JPEG again: `python benchmarks/jpeg_fidelity.py FOLDER`, with hashshield installed.

Every JPEG below FOLDER is written in memory with its own pixels, and with seeded, smooth changes of two strengths. The
results are decoded again. Figures and required bounds go to `results/jpeg-fidelity.json` beside this file; those of
changed files are grouped by the quality that the photo was saved with. `--protected COPIES`, a copy of FOLDER after
`hashshield protect`, adds the sizes of the files that it wrote.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import statistics
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.nn.functional import interpolate

from hashshield import imaging
from hashshield.attacks.grid import apply_perturbation
from hashshield.bench.results import environment
from hashshield.errors import PhotoError
from hashshield.imaging.jpeg.codec import JpegEncoding
from hashshield.metrics.image import linf_levels, psnr_db

RESULT = Path(__file__).parent / "results" / "jpeg-fidelity.json"
TAU = 0.032
"""Largest change, 8 levels of 255."""
SHORT_SIDE = 256
COARSE = 4
"""Distance, in grid pixels, of independent values of the change."""
SPREADS = {"typical": 1.0, "strong": 3.0}
"""Standard deviation of the change in 8-bit levels: that of a typical search (48 dB), and about the most that tau
allows. Unlike a search's change, it is equally strong everywhere."""
IDENTICAL_DB = 120.0
"""PSNR recorded for equal pixels, in dB."""
BARS = {"unchanged_median_psnr_db": 60.0, "size_ratio_median": 1.05, "size_ratio_max": 1.25}
QUALITIES = ((1, 79), (80, 89), (90, 95), (96, 100))


def luminance_tables() -> dict[int, np.ndarray]:
    """Return libjpeg's luminance table of each quality from 1 to 100: 64 steps, as Pillow reports them."""
    tables = {}
    for quality in range(1, 101):
        out = io.BytesIO()
        Image.new("L", (8, 8)).save(out, "JPEG", quality=quality)
        with Image.open(out, formats=["JPEG"]) as image:
            tables[quality] = np.asarray(image.quantization[0], dtype=np.float64)
    return tables


def estimated_quality(table: Sequence[int], tables: dict[int, np.ndarray]) -> int:
    """Return libjpeg's quality whose luminance table has the nearest mean, since cameras use their own tables."""
    mean = float(np.mean(table))
    return min(tables, key=lambda quality: abs(float(tables[quality].mean()) - mean))


def smooth_change(photo: imaging.Photo, spread: float, generator: torch.Generator) -> torch.Tensor:
    """Return a smooth random change, (C, h, w) on the small grid in displayed orientation, in [-TAU, TAU]."""
    height, width, channels = imaging.to_display_orientation(photo.pixels, photo.orientation).shape
    scale = min(1.0, SHORT_SIDE / min(height, width))
    size = (round(height * scale), round(width * scale))
    coarse = torch.randn(1, channels, size[0] // COARSE + 1, size[1] // COARSE + 1, generator=generator)
    fine = interpolate(coarse, size, mode="bicubic", align_corners=False)[0]
    return (fine / fine.std() * spread / 255).clamp(-TAU, TAU)


def measure(path: Path, tables: dict[int, np.ndarray]) -> dict[str, Any]:
    """Return the figures of one photo. Raises PhotoError."""
    data = path.read_bytes()
    photo = imaging.read(data, name=path.name)
    assert isinstance(photo.encoding, JpegEncoding)
    row: dict[str, Any] = {
        "file": path.name,
        "bytes": len(data),
        "pixels": [photo.pixels.shape[1], photo.pixels.shape[0]],
        "quality": estimated_quality(photo.encoding.header.tables[0], tables),
    }
    row["unchanged"] = _written(photo, photo.pixels)
    for name, spread in SPREADS.items():
        seed = int.from_bytes(hashlib.sha256(data).digest()[:7], "big")
        generator = torch.Generator().manual_seed(seed)
        change = smooth_change(photo, spread, generator)
        wanted = apply_perturbation(photo.pixels, change, tau=TAU, orientation=photo.orientation, generator=generator)
        row[name] = _written(photo, wanted) | {
            "intended_psnr_db": round(psnr_db(photo.pixels, wanted), 2),
            "intended_levels": linf_levels(photo.pixels, wanted),
        }
    return row


def _written(photo: imaging.Photo, wanted: imaging.Pixels) -> dict[str, Any]:
    """Write the photo with the wanted pixels, decode it and return the differences."""
    written = imaging.write(photo, wanted)
    again = imaging.read(written, name="written").pixels
    return {
        "psnr_db": round(min(psnr_db(wanted, again), IDENTICAL_DB), 2),
        "levels_off": linf_levels(wanted, again),
        "size_ratio": round(len(written) / len(photo.source), 4),
    }


def of_protected(folder: Path, copies: Path) -> dict[str, Any]:
    """Return the ratios of protected JPEGs' sizes to those of their originals, for files that differ."""
    ratios = {}
    for original in jpegs(folder):
        copy = copies / original.relative_to(folder)
        if copy.read_bytes() != original.read_bytes():
            ratios[copy.name] = round(copy.stat().st_size / original.stat().st_size, 4)
    return {
        "photos": len(ratios),
        "size_ratio": spread_of(list(ratios.values())),
        "largest": max(ratios, key=lambda name: ratios[name]),
    }


def jpegs(folder: Path) -> list[Path]:
    """Return the JPEG files below a folder, recognised by their first bytes."""
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return [path for path in found if imaging.sniff(path.read_bytes()[:64]) == "jpeg"]


def spread_of(values: Sequence[float]) -> dict[str, float]:
    """Return median, minimum and maximum."""
    return {"median": round(statistics.median(values), 4), "min": min(values), "max": max(values)}


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the figures over all photos."""
    found: dict[str, Any] = {"photos": len(rows)}
    for kind in ("unchanged", *SPREADS):
        found[kind] = {
            figure: spread_of([row[kind][figure] for row in rows]) for figure in ("psnr_db", "levels_off", "size_ratio")
        }
    found["unchanged"]["identical_share"] = sum(r["unchanged"]["psnr_db"] == IDENTICAL_DB for r in rows) / len(rows)
    for kind in SPREADS:
        found[kind]["intended_psnr_db"] = spread_of([row[kind]["intended_psnr_db"] for row in rows])
        groups: dict[str, list[float]] = defaultdict(list)
        for row in sorted(rows, key=lambda row: row["quality"]):
            low, high = next(each for each in QUALITIES if each[0] <= row["quality"] <= each[1])
            groups[f"{low}-{high}"].append(row[kind]["psnr_db"])
        found[kind]["psnr_db_by_quality"] = {
            name: {"photos": len(values), **spread_of(values)} for name, values in groups.items()
        }
    return found


def bars_met(figures: dict[str, Any]) -> dict[str, bool]:
    """Return whether each required bound is met, for each kind of file that was measured."""
    met = {"unchanged_median_psnr_db": figures["unchanged"]["psnr_db"]["median"] >= BARS["unchanged_median_psnr_db"]}
    for kind in ("unchanged", *SPREADS, "protected"):
        for bar in ("median", "max"):
            if kind in figures:
                met[f"{kind}_size_ratio_{bar}"] = figures[kind]["size_ratio"][bar] <= BARS[f"size_ratio_{bar}"]
    return met


def main() -> None:
    """Measure the folder, write the result, print the summary."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--protected", type=Path, metavar="COPIES")
    given = parser.parse_args()
    folder: Path = given.folder
    tables, rows, refused = luminance_tables(), [], 0
    for path in jpegs(folder):
        try:
            rows.append(measure(path, tables))
        except PhotoError:
            refused += 1
    figures = summary(rows) | {"refused": refused}
    if given.protected:
        figures["protected"] = of_protected(folder, given.protected)
    figures |= {"bars": BARS, "bars_met": bars_met(figures)}
    settings = environment(tau=TAU, short_side=SHORT_SIDE, coarse=COARSE, spread_levels=SPREADS)
    command = "python benchmarks/jpeg_fidelity.py camera-files/"
    if given.protected:
        command += " --protected protected/"
    RESULT.write_text(
        json.dumps({"command": command, "environment": settings, "summary": figures, "photos": rows}, indent=1) + "\n"
    )
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
