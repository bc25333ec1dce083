"""`bench methods`: every method on the same photos, targets and network.

Each runs by its own published rule (steps until every bit is right, censored at its limit), and its loss once more
under the step rule and minimum-norm search of `rnm`, so that a better loss is not confused with a better search.
Ours see the pixels rounded at every step, as `protect` lets them; what follows a published rule does not.
Targets are the codes of random photos of other classes. Distances, PSNR and SSIM are of the 8-bit pixels as written:
of the smallest change that reached the target, and of the change the method ended with.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hashshield import imaging
from hashshield.attacks.grid import Grid, make_grid
from hashshield.attacks.methods import METHODS, Method
from hashshield.attacks.objectives import Objective
from hashshield.attacks.search import Execution, SearchConfig, SearchResult, SearchTask, search
from hashshield.bench.environment import environment
from hashshield.bench.map import open_protocol
from hashshield.bench.trials import rounding_grid, written_pixels
from hashshield.datasets import LabelledFiles
from hashshield.errors import UnknownNameError
from hashshield.metrics.hamming import bits_of
from hashshield.metrics.image import psnr_db, ssim
from hashshield.models.device import choose_device, keep_freed_memory
from hashshield.models.hash_files import displayed_rgb, feature_files
from hashshield.models.load import OpenModel, open_models
from hashshield.models.network_views import NetworkView
from hashshield.transforms import pillow_view
from hashshield.types import Progress

__all__ = ["RIVALS", "run"]

RIVALS = ("rnm-paper", "rnm-paper-free", "tanh", "tanh-adam", "hag")
_BATCH = 8


def run(
    *,
    model: str,
    data: Path,
    photos: int = 100,
    rival_photos: int = 20,
    limit: int = 2000,
    only: Sequence[str] = (),
    tau: float = 0.032,
    seed: int = 0,
    device: str = "auto",
    progress: Progress,
) -> list[dict[str, Any]]:
    """One row per method and way of running it; of the methods in `only`, where it names some.

    Raises UsageError, CheckpointError, UnknownNameError.
    """
    unknown = set(only) - {"rnm", *RIVALS}
    if unknown:
        raise UnknownNameError(f"unknown method {min(unknown)!r}; known are {', '.join(('rnm', *RIVALS))}")
    keep_freed_memory()
    (opened,) = open_models([model], device=choose_device(device))
    files, split = open_protocol(opened, data)
    pairs = _targets(files, split.queries, split.sample(photos, seed=seed), seed)
    tests = _Tests(opened, files, pairs, tau, seed, progress)
    plans = [p for p in _plans(photos, min(rival_photos, photos), limit) if not only or p.name.split(",")[0] in only]
    progress.start(sum(plan.photos for plan in plans))
    known = environment(model=opened.name, tau=tau, seed=seed, limit=limit, batch_size=_BATCH)
    rows = []
    for plan in plans:
        progress.photo(plan.name)
        rows.append({"method": plan.name, **tests.measure(plan), "environment": known})
    return rows


@dataclass(frozen=True, slots=True)
class _Plan:
    """One way of running a method."""

    name: str
    method: Method
    photos: int
    steps: int
    min_margin: float = 0.0
    rounds: bool = True
    """Whether the search sees the pixels rounded as they will be written, as `protect` does for small photos."""


def _plans(photos: int, rivals: int, limit: int) -> Iterator[_Plan]:
    ours, first = METHODS["rnm"], METHODS["rnm-first"]
    yield _Plan("rnm, stop first", first, photos, first.steps, first.min_margin)
    yield _Plan("rnm, 40 steps", ours, photos, 40, ours.min_margin)
    yield _Plan("rnm, 80 steps", ours, photos, 80, ours.min_margin)
    for name in RIVALS:
        yield _Plan(f"{name}, own rule", METHODS[name], rivals, min(limit, METHODS[name].steps), rounds=False)
    for name in RIVALS:
        wrapped = replace(METHODS[name], step=ours.step, shrink=ours.shrink, stop="budget")
        yield _Plan(f"{name}, minimum norm, 40 steps", wrapped, rivals, 40, ours.min_margin)


def _targets(
    files: LabelledFiles, queries: NDArray[np.int64], photos: NDArray[np.int64], seed: int
) -> list[tuple[int, int]]:
    """(photo, target) indices: a random query of another class for each of `photos`."""
    generator = np.random.default_rng(seed)
    pairs = []
    for photo in photos:
        other_view_bits = queries[~(files.labels[queries] & files.labels[photo]).any(axis=1)]
        pairs.append((int(photo), int(generator.choice(other_view_bits))))
    return pairs


class _Tests:
    """The photos and what each should become."""

    def __init__(
        self,
        model: OpenModel,
        files: LabelledFiles,
        pairs: Sequence[tuple[int, int]],
        tau: float,
        seed: int,
        progress: Progress,
    ) -> None:
        self.model, self.tau, self.seed, self.progress = model, tau, seed, progress
        self.device = model.model.mean.device
        self.cpu_workers = torch.get_num_threads() if self.device.type == "cpu" else 1
        paths = [files.root / files.paths[photo] for photo, _ in pairs]
        self.pixels = [displayed_rgb(imaging.read(path.read_bytes(), name=str(path))) for path in paths]
        targets = [files.root / files.paths[target] for _, target in pairs]
        features = torch.from_numpy(feature_files(model.model, model.card.input, targets)).to(self.device)
        with torch.inference_mode():
            code = model.model.codes(features).code.cpu().numpy()
        self.wanted = bits_of(code)

    def measure(self, plan: _Plan) -> dict[str, Any]:
        """Run one method over its share of the photos."""
        count, steps = plan.photos, plan.steps
        network = NetworkView(self.model)
        searches = (
            SearchTask(
                self._grid(i, rounds=plan.rounds),
                [Objective(torch.from_numpy(self.wanted[i]).float().to(self.device), min_margin=plan.min_margin)],
                key=i,
            )
            for i in range(count)
        )
        found: list[SearchResult] = []
        began = time.monotonic()
        for item in search(
            searches, [network], plan.method, SearchConfig(self.tau, steps), Execution(_BATCH, self.cpu_workers)
        ):
            found.append(item)
            self.progress.done(None)
        seconds = time.monotonic() - began
        written = [self._write(item.key, item.delta) for item in found]
        ended = [self._write(item.key, item.last) for item in found]
        distances = np.array([row[0] for row in written])
        zero = distances == 0
        taken = np.array([steps + 1 if f.first_reached is None else f.first_reached for f in found], dtype=float)
        return {
            "photos": count,
            "limit": steps,
            "reached_in_search": round(float(np.mean([f.reached for f in found])), 4),
            "distance_0_written": round(float(zero.mean()), 4),
            "mean_distance_written": round(float(distances.mean()), 3),
            "steps_to_goal_50": _percentile(taken, 50, steps),
            "steps_to_goal_95": _percentile(taken, 95, steps),
            "median_psnr_db": round(float(np.median([row[1] for row in written])), 2),
            "lowest_psnr_db": round(float(np.min([row[1] for row in written])), 2),
            "median_ssim": round(float(np.median([row[2] for row in written])), 5),
            "distance_0_at_end": round(float(np.mean([row[0] == 0 for row in ended])), 4),
            "median_psnr_db_at_end": round(float(np.median([row[1] for row in ended])), 2),
            "median_ssim_at_end": round(float(np.median([row[2] for row in ended])), 5),
            "mean_steps": round(float(np.mean([f.steps for f in found])), 1),
            "seconds": round(seconds, 2),
            "seconds_per_step_and_photo": round(seconds / max(1, sum(f.steps + 1 for f in found)), 5),
        }

    def _grid(self, index: int, *, rounds: bool) -> Grid:
        if not rounds:
            return make_grid(self.pixels[index]).to(self.device)
        return rounding_grid(self.pixels[index], tau=self.tau, generator=self._generator(index)).to(self.device)

    def _generator(self, index: int) -> torch.Generator:
        return torch.Generator().manual_seed(self.seed * 100_003 + index)

    @torch.inference_mode()
    def _write(self, index: object, delta: torch.Tensor) -> tuple[int, float, float]:
        """Distance to the goal, PSNR and SSIM of the pixels as a PNG would hold them."""
        assert isinstance(index, int)
        before = self.pixels[index]
        after = written_pixels(before, delta, tau=self.tau, generator=self._generator(index))
        image = pillow_view(after, self.model.card.input)[None].to(self.device)
        bits = bits_of(self.model.model(image).code[0].float().cpu().numpy())
        return int(np.count_nonzero(bits != self.wanted[index])), psnr_db(after, before), ssim(after, before)


def _percentile(steps: NDArray[np.float64], share: float, limit: int) -> float | str:
    """Steps until that share of the photos had reached the goal; text when it was not within the limit."""
    value = float(np.percentile(steps, share, method="higher"))
    return f"> {limit}" if value > limit else value
