"""`bench visible`: how visible presets are and how much survives services, compared with JPEG and masked noise.

Photos are protected in memory, in their own format or as PNG. Of a photo above four megapixels the middle is measured.
butteraugli and SSIMULACRA2 are used if installed; no search uses them. The table is written as JSON and as Markdown,
and the frontier as a chart: the share of photos that keep their goal, by visibility.
"""

from __future__ import annotations

import io
import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.nn.functional import avg_pool2d, pad

from hashshield import imaging
from hashshield.arrays import Pixels
from hashshield.attacks.presets import PRESETS
from hashshield.bench.config import VisibleConfig
from hashshield.bench.judges import butteraugli_norm, has_butteraugli, has_ssimulacra2, ssimulacra2_score
from hashshield.bench.protecting import SECRET, as_png, photos_below
from hashshield.bench.results import (
    BenchResult,
    Curve,
    Panel,
    environment,
    line_chart,
    recording,
    replacing,
    require_matplotlib,
)
from hashshield.errors import UsageError
from hashshield.metrics.image import psnr_db
from hashshield.metrics.visibility import visibility
from hashshield.models.hashing import displayed_rgb
from hashshield.models.load import distinct_models
from hashshield.pipeline.execute import make_context
from hashshield.pipeline.receipt import serve, survival_rows
from hashshield.pipeline.work import ProtectContext, Result, Source, work
from hashshield.storage import digest
from hashshield.transforms.pillow import SERVICES
from hashshield.types import Progress, Request
from hashshield.visible import word

__all__ = ["COLUMNS", "run_visible"]

COLUMNS: dict[str, tuple[str, ...]] = {
    "visible": (
        *("change", "protected", "visibility", "worst_visibility", "butteraugli", "worst_butteraugli", "ssimulacra2"),
        *("psnr_db", "survived", "evaluations", "seconds"),
    ),
}

_QUALITIES = (95, 90, 85, 75, 60)
_NOISES = (2, 4, 8)
"""Standard deviations of noise in full texture, in 8-bit levels."""
_SERVICES = tuple(
    service for service in SERVICES if service.name in ("jpeg q90", "jpeg q75", "half size", "half + jpeg q75")
)
_JUDGED_SIDE = 2000
"""Side, in pixels, of the middle part that is measured of a larger photo."""
_MISSING = "not available"


@dataclass(frozen=True, slots=True)
class _Judged:
    """The measurements of one photo after one change."""

    photo: str
    change: str
    visibility: float
    psnr_db: float
    butteraugli: float | None
    ssimulacra2: float | None
    protected: bool | None = None
    """None for a change that is not a protection."""
    survived: dict[str, bool] | None = None
    """Service -> whether the goal is kept; without services that do not apply to the photo."""
    evaluations: int | None = None


def run_visible(config: VisibleConfig, progress: Progress) -> list[dict[str, Any]]:
    """Return a row per preset, JPEG quality and strength of noise; write table, photos and chart.

    Raise UsageError, CheckpointError, GoalError.
    """
    require_matplotlib()
    files = _chosen(config)
    sources = [_source(path, config) for path in files]
    presets = config.presets or tuple(PRESETS)
    progress.start(len(files) * (len(presets) + len(_QUALITIES) + len(_NOISES)))
    settings = {"model": config.model, "png": config.png, "seed": config.seed, "tau": config.tau, "photos": len(files)}
    name = (config.names or config.photos).stem + ("-png" if config.png else "")
    with recording("visible", name, config.output, environment(searches=presets, **settings)) as result:
        judged: list[_Judged] = []
        for preset in presets:
            progress.photo(f"preset {preset}")
            found, seconds = _protected(sources, _request(config, preset), progress)
            judged += found
            result.rows.append({**_row(preset, found, len(files)), "seconds": round(seconds / len(files), 3)})
        for change, made in _plain_changes(config.seed):
            progress.photo(change)
            found = list(_changed(sources, change, made, progress))
            judged += found
            result.rows.append(_row(change, found, len(files)))
        result.extra["photos"] = [_entry(row) for row in judged]
        _draw(result, judged, presets)
        with replacing(result.path.with_suffix(".md")) as partial:
            partial.write_text(_markdown(result.rows), encoding="utf-8")
        return result.rows


def _chosen(config: VisibleConfig) -> list[Path]:
    """Return the photos to measure. Raise UsageError for names that do not exist."""
    files = photos_below(config.photos)
    if config.names is not None:
        try:
            names = config.names.read_text(encoding="utf-8").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{config.names}: cannot be read ({error}); give a text file, one name a line") from error
        wanted = [name.strip() for name in names if name.strip()]
        there = {path.name: path for path in files} | {
            path.relative_to(config.photos).as_posix(): path for path in files
        }
        missing = [name for name in wanted if name not in there]
        if missing or not wanted:
            raise UsageError(
                f"{config.names}: {len(missing)} of {len(wanted)} names are no photos below {config.photos} "
                f"({', '.join(missing[:3])}); give the folder that the list was made for"
            )
        files = [there[name] for name in wanted]
    if config.count is not None and config.count < len(files):
        files = [files[i * len(files) // config.count] for i in range(config.count)]
    return files


def _source(path: Path, config: VisibleConfig) -> Source:
    data = as_png(path) if config.png else path.read_bytes()
    return Source(path.relative_to(config.photos).as_posix(), data, digest(data), key=data)


def _request(config: VisibleConfig, preset: str) -> Request:
    return Request(
        models=(config.model,),
        goal=config.goal,
        preset=preset,
        tau=config.tau,
        steps=config.steps,
        seed=config.seed,
        device=config.device,
        witness="none",
    )


def _protected(sources: Sequence[Source], request: Request, progress: Progress) -> tuple[list[_Judged], float]:
    """Protect all photos, then measure them; return measurements and the CPU seconds of protecting alone."""
    context = make_context(request, SECRET)
    began = time.process_time()
    results = []
    for result in work(sources, context):
        results.append(result)
        progress.done(None)
    seconds = time.process_time() - began
    order = {source.name: place for place, source in enumerate(sources)}
    results.sort(key=lambda result: order[result.source.name])
    return [_judged_result(result, context, request.preset) for result in results if result.data is not None], seconds


def _judged_result(result: Result, context: ProtectContext, preset: str) -> _Judged:
    assert isinstance(result.source.key, bytes)
    assert result.data is not None
    assert result.receipt is not None
    name = result.source.name
    before, after = (displayed_rgb(imaging.read(data, name=name)) for data in (result.source.key, result.data))
    models = distinct_models(context.promised_views)
    with torch.inference_mode():
        served = serve(Image.fromarray(after), models, _SERVICES)
        rows = survival_rows(served, result.targets, models, tolerance=context.tolerance)
    survived: dict[str, bool] = {}
    for row in rows:
        if row.passed is not None:
            survived[row.transform] = survived.get(row.transform, True) and row.passed and result.receipt.passed
    return _judged(name, preset, before, after, result.receipt.passed, survived, result.evaluations)


def _judged(
    photo: str,
    change: str,
    before: Pixels,
    after: Pixels,
    protected: bool | None = None,
    survived: dict[str, bool] | None = None,
    evaluations: int | None = None,
) -> _Judged:
    part = _middle(before.shape[0], before.shape[1])
    one, other = np.ascontiguousarray(before[part]), np.ascontiguousarray(after[part])
    return _Judged(
        photo,
        change,
        visibility(one, other),
        psnr_db(one, other),
        butteraugli_norm(one, other) if has_butteraugli() else None,
        ssimulacra2_score(one, other) if has_ssimulacra2() else None,
        protected,
        survived,
        evaluations,
    )


def _middle(height: int, width: int) -> tuple[slice, slice]:
    """Return the rows and columns to measure: all, or the middle of a photo above four megapixels."""
    if height * width <= _JUDGED_SIDE**2:
        return slice(None), slice(None)
    tops = [max(0, (size - _JUDGED_SIDE) // 2) for size in (height, width)]
    return slice(tops[0], tops[0] + _JUDGED_SIDE), slice(tops[1], tops[1] + _JUDGED_SIDE)


def _plain_changes(seed: int) -> Iterator[tuple[str, Callable[[Pixels], Pixels]]]:
    """Yield name and function of the changes to compare with: JPEG, and noise masked by texture."""
    for quality in _QUALITIES:
        yield f"jpeg q{quality}", lambda pixels, quality=quality: _coded(pixels, quality)  # type: ignore[misc]
    for size in _NOISES:
        yield f"masked noise {size}", lambda pixels, size=size: _masked_noise(pixels, size, seed)  # type: ignore[misc]


def _changed(
    sources: Sequence[Source], change: str, made: Callable[[Pixels], Pixels], progress: Progress
) -> Iterator[_Judged]:
    for source in sources:
        before = displayed_rgb(imaging.read(source.data, name=source.name))
        yield _judged(source.name, change, before, made(before))
        progress.done(None)


def _coded(pixels: Pixels, quality: int) -> Pixels:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=quality)
    return np.asarray(Image.open(out, formats=["JPEG"]).convert("RGB"))


def _masked_noise(pixels: Pixels, size: float, seed: int) -> Pixels:
    """Return pixels with Gaussian noise, a tenth as strong in flat areas as in texture (5 x 5 deviation of luma)."""
    luma = torch.from_numpy(pixels @ np.array([0.299, 0.587, 0.114], np.float32))[None, None].float()
    mean, square = (
        avg_pool2d(pad(plane, (2, 2, 2, 2), mode="replicate"), 5, stride=1) for plane in (luma, luma.square())
    )
    deviation = (square - mean.square()).clamp_min(0).sqrt()[0, 0, ..., None].numpy()
    share = 0.1 + 0.9 * deviation / (deviation + 6)
    noise = np.random.default_rng(seed).normal(0, size, pixels.shape) * share
    changed: Pixels = np.clip(np.rint(pixels + noise), 0, 255).astype(np.uint8)
    return changed


def _row(change: str, found: Sequence[_Judged], photos: int) -> dict[str, Any]:
    """Summarise one change: medians, and the worst photo."""
    protects = any(row.protected is not None for row in found)
    return {
        "change": change,
        "photos": photos,
        "protected": sum(bool(row.protected) for row in found) if protects else None,
        **_spread("visibility", [row.visibility for row in found], max),
        **_spread("butteraugli", [row.butteraugli for row in found], max),
        **_spread("ssimulacra2", [row.ssimulacra2 for row in found], min),
        **_spread("psnr_db", [row.psnr_db for row in found], min),
        "survived": {
            service.name: sum((row.survived or {}).get(service.name, False) for row in found) for service in _SERVICES
        }
        if protects
        else None,
        "evaluations": statistics.median([row.evaluations or 0 for row in found]) if protects else None,
        "seconds": None,
    }


def _spread(
    name: str, values: Sequence[float | None], worst: Callable[[Sequence[float]], float]
) -> dict[str, float | str | None]:
    there = [value for value in values if value is not None and math.isfinite(value)]
    if not there:
        return {name: _MISSING if values and None in values else None, f"worst_{name}": None}
    return {name: round(statistics.median(there), 3), f"worst_{name}": round(worst(there), 3)}


def _entry(row: _Judged) -> dict[str, Any]:
    """Return the values of one photo for the result file."""
    return {
        "photo": row.photo,
        "change": row.change,
        "visibility": round(row.visibility, 3),
        "visibility_word": word(row.visibility),
        "butteraugli": row.butteraugli,
        "ssimulacra2": row.ssimulacra2,
        "psnr_db": round(row.psnr_db, 2) if math.isfinite(row.psnr_db) else None,
        "protected": row.protected,
        "survived": row.survived,
        "evaluations": row.evaluations,
    }


def _draw(result: BenchResult, judged: Sequence[_Judged], presets: Sequence[str]) -> None:
    """Draw the share of photos at or below each visibility, and for each service of those that keep their goal."""
    asked = all(row.butteraugli is not None for row in judged)

    def number(row: _Judged) -> float:
        return row.visibility if row.butteraugli is None or not asked else row.butteraugli

    def curve(name: str, counts: Callable[[_Judged], bool]) -> Curve:
        rows = sorted((row for row in judged if row.change == name), key=number)
        shares = np.cumsum([counts(row) for row in rows]) / max(len(rows), 1)
        return Curve(name, [0.0, *map(number, rows)], [0.0, *shares.tolist()])

    changes = list(dict.fromkeys(row.change for row in judged))
    panels = [Panel("photos at or below", [curve(name, lambda row: True) for name in changes])]
    for service in _SERVICES:
        lines = [curve(name, lambda row, of=service.name: bool((row.survived or {}).get(of))) for name in presets]  # type: ignore[misc]
        panels.append(Panel(f"goal kept after {service.name}", lines))
    label = "butteraugli, 3-norm" if asked else "visibility"
    line_chart(panels, result.plot, x_label=label, y_label="share of photos")


def _markdown(rows: Sequence[dict[str, Any]]) -> str:
    """Return the table for people: median / worst of each number."""
    services = [service.name for service in _SERVICES]
    heads = ["change", "protected", "visibility", "butteraugli", "SSIMULACRA2", "PSNR dB"]
    heads += [f"after {name}" for name in services] + ["evaluations", "processor s"]
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    for row in rows:
        cells = [row["change"], "" if row["protected"] is None else f"{row['protected']} of {row['photos']}"]
        for name in ("visibility", "butteraugli", "ssimulacra2", "psnr_db"):
            value, worst = row[name], row[f"worst_{name}"]
            cells.append(f"{value:.2f} / {worst:.2f}" if worst is not None else str(value or ""))
        cells += ["" if row["survived"] is None else str(row["survived"][name]) for name in services]
        cells += ["" if row[key] is None else f"{row[key]:g}" for key in ("evaluations", "seconds")]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
