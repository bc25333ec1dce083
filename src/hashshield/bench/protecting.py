"""Protect lossless copies of photos in memory, as `protect` does, and return the written pixels."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from hashshield import imaging
from hashshield.arrays import Bits
from hashshield.attacks import version_of
from hashshield.attacks.features import surrogates_among
from hashshield.attacks.goals import HashedPhoto
from hashshield.bench.experiment import Experiment
from hashshield.bench.results import Trial
from hashshield.bench.searches import execution_for
from hashshield.checkpoints.cache import digest_of
from hashshield.checkpoints.catalog import resolve
from hashshield.errors import UsageError
from hashshield.metrics.retrieval import to_hex
from hashshield.models.hashing import displayed_rgb
from hashshield.models.load import OpenModel
from hashshield.pipeline.execute import make_context
from hashshield.pipeline.request import MOVE_FEATURES
from hashshield.pipeline.targets import refuse_foreign
from hashshield.pipeline.work import ProtectContext, Result, Source, work
from hashshield.storage import digest, walk
from hashshield.storage.calls import explain
from hashshield.types import GoalKind, GoalSpec, Progress, Request

__all__ = ["SECRET", "as_png", "photos_below", "protect_copies", "protect_queries"]

SECRET = b"bench"
"""Key of the per-photo randomness of a bench; requests with a seed do not use it."""


def photos_below(folder: Path, purpose: str = "") -> list[Path]:
    """Return the photos of supported formats in a folder, in the order of `storage.walk`.

    Raise UsageError if there are none, or one cannot be read; `purpose` continues the phrase "holds no photos".
    """

    def head(path: Path) -> bytes:
        with path.open("rb") as handle:
            return handle.read(64)

    try:
        found = [path for path in walk(folder) if imaging.sniff(head(path)) in imaging.SUPPORTED]
    except OSError as error:
        raise UsageError(f"{error.filename}: {explain(error)}; name a folder of photos that can be read") from error
    if not found:
        raise UsageError(f"{folder}: holds no photos{purpose}; name a folder with some")
    return found


def as_png(path: Path) -> bytes:
    """Return the photo's pixels, upright and in RGB, as a PNG file. Raise PhotoError."""
    buffer = io.BytesIO()
    pixels = displayed_rgb(imaging.read(path.read_bytes(), name=str(path)))
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def protect_copies(paths: Iterable[Path], context: ProtectContext, progress: Progress) -> Iterator[tuple[int, Result]]:
    """Protect PNG copies of `paths`; yield each path's index and its result, in the order they finish."""
    sources = (
        Source(str(path), data, digest(data), key=index) for index, path in enumerate(paths) if (data := as_png(path))
    )
    for result in work(sources, context):
        assert isinstance(result.source.key, int)
        progress.done(None)
        yield result.source.key, result


def protect_queries(
    experiment: Experiment,
    length: int,
    goal: GoalKind,
    *,
    tau: float,
    search_models: Sequence[OpenModel] = (),
    surrogates: Sequence[OpenModel] = (),
    preset: str = "invisible",
    wanted: Bits | None = None,
    progress: Progress,
) -> list[Trial]:
    """Protect each picked query as a PNG file, with receipts and later tries; return a trial for each.

    The search uses `search_models`, or the experiment's own network of that length; a preset that moves features of
    surrogates moves those of `surrogates` as well. With (times * n, K) target bits `wanted` the photos are protected
    `times` over, each towards its row, as with `--target` and `--target-set`; `goal` is then "image". Cached trials are
    reused. Raise UsageError for a photo that cannot be protected, GoalError for a network that may not serve the goal.
    """
    models = tuple(search_models) or (experiment.model(length),)
    refuse_foreign(models, goal)
    moved = tuple(surrogates) if preset in MOVE_FEATURES else ()
    request = Request(
        models=tuple(opened.name for opened in models),
        surrogates=tuple(opened.name for opened in moved),
        goal=GoalSpec(goal if wanted is None else "away"),
        preset=preset,
        steps=experiment.config.steps,
        tau=tau,
        seed=experiment.seed,
        device=models[0].device.type,
        witness="none",
    )
    paths = [experiment.query_path(int(row)) for row in experiment.picked]
    if wanted is not None:
        paths = paths * (len(wanted) // len(paths))
    digests = [[digest_of(resolve(opened.name).path), opened.bits] for opened in models]
    settings = [{"searched": digests, **_settings(experiment, request, path, goal)} for path in paths]
    if moved:
        others = [digest_of(resolve(opened.name).path) for opened in moved]
        settings = [{**each, "surrogates": others} for each in settings]
    if wanted is not None:
        settings = [{**each, "wanted": to_hex(bits)} for each, bits in zip(settings, wanted, strict=True)]
    trials = {i: trial for i, s in enumerate(settings) if (trial := experiment.cache.trial(s)) is not None}
    if wanted is not None:
        trials |= _already_there(experiment, length, wanted)
    for _ in trials:
        progress.done(None)
    missing = [i for i in range(len(paths)) if i not in trials]
    if missing:
        progress.photo(f"{goal}, {preset}, {', '.join(request.models)}")
        context = make_context(request, SECRET)
        among = surrogates_among((*models, *moved)) if context.surrogates else ()
        context = replace(context, models=models, surrogates=among, execution=execution_for(models[0]))
        rows = None if wanted is None else wanted[missing]
        for place, result in _protected([paths[i] for i in missing], context, progress, rows):
            i = missing[place]
            if result.data is None or result.receipt is None:
                raise UsageError(f"{paths[i]}: cannot be protected ({result.reason}); leave the goal {goal} out")
            record = {"steps": result.steps, "passed": result.receipt.passed}
            pixels = displayed_rgb(imaging.read(result.data, name=str(paths[i])))
            trials[i] = experiment.cache.keep(settings[i], pixels, record)
    return [trials[i] for i in range(len(paths))]


def _already_there(experiment: Experiment, length: int, wanted: Bits) -> dict[int, Trial]:
    """Return trials, by row of (times * n, K) `wanted`, of photos that already have their target bits."""
    count = len(experiment.picked)
    same = (np.tile(experiment.original_bits(length), (len(wanted) // count, 1)) == wanted).all(axis=1)
    return {int(i): Trial(experiment.photos[i % count], {"steps": 0, "passed": True}) for i in np.flatnonzero(same)}


@dataclass(frozen=True, slots=True, eq=False)
class _OwnTargets:
    """A goal with target bits for each photo, by the SHA-256 of its file."""

    bits_of_photo: Mapping[str, Bits]
    label: str = "image"
    needs_anchors: bool = False
    is_band: bool = False

    def target_bits(self, photo: HashedPhoto) -> Bits:
        """Return the photo's target bits."""
        return self.bits_of_photo[photo.sha256]


def _protected(
    paths: Sequence[Path], context: ProtectContext, progress: Progress, wanted: Bits | None
) -> Iterator[tuple[int, Result]]:
    """Protect copies of photos, towards their rows of `wanted` if given; yield each path's index and its result."""
    if wanted is None:
        yield from protect_copies(paths, context, progress)
        return
    for places in _rounds([digest(as_png(path)) for path in paths]):
        goal = _OwnTargets({sha256: wanted[place] for sha256, place in places.items()})
        order = list(places.values())
        for index, result in protect_copies([paths[i] for i in order], replace(context, goal=goal), progress):
            yield order[index], result


def _rounds(digests: Iterable[str]) -> list[dict[str, int]]:
    """Share out digests, each with its index, over rounds in which none comes twice."""
    rounds: list[dict[str, int]] = []
    for index, sha256 in enumerate(digests):
        free = next((each for each in rounds if sha256 not in each), None)
        if free is None:
            rounds.append(free := {})
        free[sha256] = index
    return rounds


def _settings(experiment: Experiment, request: Request, path: Path, goal: str) -> dict[str, Any]:
    """Return all settings that determine the trial of a photo, except the networks."""
    files = experiment.files
    return {
        "photo": [files.name, path.relative_to(files.root).as_posix(), path.stat().st_size],
        "goal": goal,
        "preset": request.preset,
        "search": version_of(request.preset),
        "steps": request.steps,
        "tau": request.tau,
        "seed": request.seed,
        "device": request.device,
    }
