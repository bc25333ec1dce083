"""`bench methods`: every method on the same photos, targets and network.

Each method runs by its own published rule with the network's true gradients; its steps until every bit is right are
counted, up to its limit. Its loss runs once more with the step rule, gradients and minimum-norm search of `rnm`, to
separate a better loss from a better search. All see pixels rounded at every step, as they will be written. Targets are
the codes of random photos of other classes. Distances, PSNR and SSIM are of the written 8-bit pixels: for the smallest
change that reached the target, and for the change at the last step.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from hashshield import imaging
from hashshield.arrays import Indices, Pixels
from hashshield.attacks.grid import Grid
from hashshield.attacks.methods import METHODS, Method, shortened
from hashshield.attacks.objectives import Objective
from hashshield.attacks.search import Execution, search
from hashshield.attacks.state import SearchResult, SearchTask
from hashshield.bench.config import MethodsConfig
from hashshield.bench.experiment import GIVEN_CODES, open_protocol
from hashshield.bench.results import environment
from hashshield.bench.searches import rounding_grid, seeded_generator, written_pixels
from hashshield.datasets import LabelledFiles
from hashshield.errors import UnknownNameError
from hashshield.metrics.image import psnr_db, ssim
from hashshield.metrics.retrieval import bits_of
from hashshield.models.device import choose_device, keep_freed_memory
from hashshield.models.hashing import displayed_rgb, feature_files, true_gradients
from hashshield.models.load import NetworkView, OpenModel, open_models
from hashshield.pipeline.targets import refuse_foreign
from hashshield.types import Progress

__all__ = ["BASELINES", "COLUMNS", "run_methods"]

COLUMNS: dict[str, tuple[str, ...]] = {
    "methods": (
        *("method", "photos", "distance_0_written", "steps_to_goal_50", "steps_to_goal_95", "median_psnr_db"),
        *("median_psnr_db_at_end", "median_ssim", "seconds"),
    ),
}

BASELINES = ("rnm-paper", "rnm-greedyhash", "tanh", "tanh-adam", "hag")
"""Published methods."""
_BATCH = 8


def run_methods(config: MethodsConfig, progress: Progress) -> list[dict[str, Any]]:
    """Return a row per method and way of running it. Raise UsageError, CheckpointError, UnknownNameError, GoalError."""
    unknown = set(config.only) - {"rnm", *BASELINES}
    if unknown:
        raise UnknownNameError(f"unknown method {min(unknown)!r}; known are {', '.join(('rnm', *BASELINES))}")
    keep_freed_memory()
    (opened,) = open_models([config.model], device=choose_device(config.device))
    refuse_foreign([opened], GIVEN_CODES)
    files, split = open_protocol(opened, config.data)
    pairs = _pairs(files, split.queries, split.sample(config.photos, seed=config.seed), config.seed)
    trials = _MethodTrials(opened, files, pairs, config.tau, config.seed, progress)
    variants = [
        variant
        for variant in _variants(config.photos, min(config.baseline_photos, config.photos), config.limit)
        if not config.only or variant.name.split(",")[0] in config.only
    ]
    progress.start(sum(variant.photos for variant in variants))
    settings = {"tau": config.tau, "seed": config.seed, "limit": config.limit, "batch_size": _BATCH}
    known = environment(searches=["rnm", *BASELINES], model=opened.name, **settings)
    rows = []
    for variant in variants:
        progress.photo(variant.name)
        rows.append({"method": variant.name, **trials.measure(variant), "environment": known})
    return rows


@dataclass(frozen=True, slots=True)
class _Variant:
    """One way of running a method."""

    name: str
    method: Method
    photos: int
    steps: int
    min_margin: float = 0.0
    leaks: bool = True
    """True if gradients pass through dead units, as they do in `protect`; False for true ones."""


def _variants(photos: int, baseline_photos: int, limit: int) -> Iterator[_Variant]:
    rnm, first = replace(METHODS["rnm"], further=None), METHODS["rnm-first"]
    yield _Variant("rnm, stop first", first, photos, first.steps, first.min_margin)
    yield _Variant("rnm, 40 steps", rnm, photos, 40, rnm.min_margin)
    yield _Variant("rnm, 80 steps", rnm, photos, 80, rnm.min_margin)
    for name in BASELINES:
        steps = min(limit, METHODS[name].steps)
        yield _Variant(f"{name}, own rule", shortened(METHODS[name], steps), baseline_photos, steps, leaks=False)
    for name in BASELINES:
        wrapped = replace(METHODS[name], step=rnm.step, shrink=rnm.shrink, stop="budget")
        yield _Variant(f"{name}, minimum norm, 40 steps", wrapped, baseline_photos, 40, rnm.min_margin)


def _pairs(files: LabelledFiles, queries: Indices, photos: Indices, seed: int) -> list[tuple[int, int]]:
    """Return (photo, target) indices: a random query of another class for each of `photos`."""
    generator = np.random.default_rng(seed)
    pairs = []
    for photo in photos:
        candidates = queries[~(files.labels[queries] & files.labels[photo]).any(axis=1)]
        pairs.append((int(photo), int(generator.choice(candidates))))
    return pairs


class _WrittenFigures(NamedTuple):
    """Measurements of a written photo, compared with its target and its original."""

    distance: int
    """Bits from the target."""
    psnr_db: float
    ssim: float


class _MethodTrials:
    """The photos and their target bits."""

    def __init__(
        self,
        opened: OpenModel,
        files: LabelledFiles,
        pairs: Sequence[tuple[int, int]],
        tau: float,
        seed: int,
        progress: Progress,
    ) -> None:
        self.opened, self.tau, self.seed, self.progress = opened, tau, seed, progress
        self.device = opened.device
        self.execution = Execution(_BATCH, torch.get_num_threads() if self.device.type == "cpu" else 1)
        paths = [files.root / files.paths[photo] for photo, _ in pairs]
        self.photos: list[Pixels] = [displayed_rgb(imaging.read(path.read_bytes(), name=str(path))) for path in paths]
        targets = [files.root / files.paths[target] for _, target in pairs]
        features = torch.from_numpy(feature_files(opened.model, opened.card.input, targets)).to(self.device)
        with torch.inference_mode():
            code = opened.model.codes(features).code.cpu().numpy()
        self.wanted = bits_of(code)

    def measure(self, variant: _Variant) -> dict[str, Any]:
        """Run one variant over its share of the photos and return its figures."""
        steps = variant.steps
        found, seconds = self._search(variant)
        smallest = [self._written(item.key, item.delta) for item in found]
        ended = [self._written(item.key, item.last) for item in found]
        distances = np.array([photo.distance for photo in smallest])
        taken = np.array([steps + 1 if f.first_reached is None else f.first_reached for f in found], dtype=float)
        return {
            "photos": variant.photos,
            "limit": steps,
            "reached_in_search": round(float(np.mean([f.reached for f in found])), 4),
            "distance_0_written": round(float((distances == 0).mean()), 4),
            "mean_distance_written": round(float(distances.mean()), 3),
            "steps_to_goal_50": _percentile(taken, 50, steps),
            "steps_to_goal_95": _percentile(taken, 95, steps),
            "median_psnr_db": round(float(np.median([photo.psnr_db for photo in smallest])), 2),
            "lowest_psnr_db": round(float(np.min([photo.psnr_db for photo in smallest])), 2),
            "median_ssim": round(float(np.median([photo.ssim for photo in smallest])), 5),
            "distance_0_at_end": round(float(np.mean([photo.distance == 0 for photo in ended])), 4),
            "median_psnr_db_at_end": round(float(np.median([photo.psnr_db for photo in ended])), 2),
            "median_ssim_at_end": round(float(np.median([photo.ssim for photo in ended])), 5),
            "mean_steps": round(float(np.mean([f.steps for f in found])), 1),
            "seconds": round(seconds, 2),
            "seconds_per_step_and_photo": round(seconds / max(1, sum(f.steps + 1 for f in found)), 5),
        }

    def _search(self, variant: _Variant) -> tuple[list[SearchResult], float]:
        """Search every photo; return the results and the total seconds. Raise InternalError if one photo fails."""
        tasks = (
            SearchTask(
                self._grid(i),
                [Objective(torch.from_numpy(self.wanted[i]).float().to(self.device), min_margin=variant.min_margin)],
                key=i,
            )
            for i in range(variant.photos)
        )
        method = replace(variant.method, steps=variant.steps)
        results: list[SearchResult] = []
        began = time.monotonic()
        with nullcontext() if variant.leaks else true_gradients(self.opened.model):
            for result in search(tasks, [NetworkView(self.opened)], method, self.tau, self.execution):
                if result.error is not None:
                    raise result.error
                results.append(result)
                self.progress.done(None)
        return results, time.monotonic() - began

    def _grid(self, index: int) -> Grid:
        generator = seeded_generator(self.seed, index)
        return rounding_grid(self.photos[index], tau=self.tau, generator=generator).to(self.device)

    def _written(self, index: object, delta: torch.Tensor) -> _WrittenFigures:
        """Measure the pixels as a PNG would hold them."""
        assert isinstance(index, int)
        before = self.photos[index]
        after = written_pixels(before, delta, tau=self.tau, generator=seeded_generator(self.seed, index))
        bits = self.opened.hash(after).bits
        return _WrittenFigures(
            int(np.count_nonzero(bits != self.wanted[index])), psnr_db(after, before), ssim(after, before)
        )


def _percentile(steps: NDArray[np.float64], share: float, limit: int) -> float | str:
    """Return the steps after which that share of the photos had reached the target; a text if the limit came first."""
    value = float(np.percentile(steps, share, method="higher"))
    return f"> {limit}" if value > limit else value
