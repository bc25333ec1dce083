"""Changing the picked queries of a stage, each way of doing so once: what is in the pool is not made again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from threading import Lock
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hashshield.attacks.grid import Grid, make_grid
from hashshield.attacks.methods import METHODS, Method
from hashshield.attacks.objectives import Objective
from hashshield.attacks.perturbation import apply_perturbation, uniform_noise
from hashshield.attacks.search import Execution, SearchConfig, SearchTask, search
from hashshield.bench.pool import Trial
from hashshield.bench.stage import Asked, Stage
from hashshield.metrics.hamming import to_hex
from hashshield.models.load import OpenModel
from hashshield.models.network_views import NetworkView
from hashshield.transforms import resized, to_image
from hashshield.types import Progress

__all__ = [
    "PAPER_STEPS",
    "Attack",
    "attacks_of",
    "execution_for",
    "rounding_grid",
    "run_searches",
    "units",
    "written_pixels",
]

PAPER_STEPS = 2000
_OURS = ("rnm", "rnm-first")
_BATCH, _SMALL_SIDE, _SMALL_PIECE = 8, 64, 16
"""Networks of small pictures spend their time between operations: 16 at once take a third of the time of two (measured:
3.5 in place of 10.3 ms a step and photo, VGG-11 at 32 pixels on two cores)."""
_UNIT = 40
"""Steps that count as one in the progress shown."""

Bits = NDArray[np.int8]
Pixels = NDArray[np.uint8]
_Made = tuple[int, Pixels, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Attack:
    """One way of searching towards given bits."""

    name: str
    method: Method
    steps: int
    min_margin: float = 0.0
    rounds: bool = False
    """Whether the search sees the pixels rounded as they will be written, as `protect` lets it for small photos."""
    ends: bool = True
    """Whether the change the walk ended with counts, as a published rule returns it, or the smallest that reached."""


def attacks_of(names: Iterable[str], asked: Asked, limit: int = PAPER_STEPS) -> list[Attack]:
    """Methods by name: `rnm` as `protect` runs it, in the steps that are asked; others by their published rules.

    None takes more than `limit` steps.
    """
    return [_attack(METHODS[name], asked.steps, limit) for name in names]


def _attack(method: Method, steps: int | None, limit: int) -> Attack:
    if method.name in _OURS:
        original_bits = method.steps if steps is None else steps
        return Attack(method.name, method, min(limit, original_bits), method.min_margin, rounds=True, ends=False)
    return Attack(method.name, method, min(limit, method.steps))


def units(attacks: Sequence[Attack], photos: int) -> int:
    """How much of a progress bar these attacks on so many photos are."""
    return photos * sum(_units(attack) for attack in attacks)


def _units(attack: Attack) -> int:
    return max(1, -(-attack.steps // _UNIT))


def run_searches(
    stage: Stage, length: int, attack: Attack, wanted: Bits, *, tau: float, times: int = 1, progress: Progress
) -> list[Trial]:
    """One trial for each row of (times * n, K) `wanted`, in order, on the first n picked queries, again and again.

    Several aims for the same photos are searched together, because larger batches take less time a photo.
    """
    rows = [int(row) for row in stage.picked[: len(wanted) // times]] * times
    run = _Run(stage, stage.model(length), attack, wanted, rows, tau, progress)
    known = [run.settings(i) for i in range(len(rows))]
    trials = {i: trial for i, settings in enumerate(known) if (trial := stage.pool.trial(settings)) is not None}
    for _ in range(len(trials) * _units(attack)):
        progress.done(None)
    missing = [i for i in range(len(rows)) if i not in trials]
    if missing:
        progress.photo(f"{attack.name}, {length} bits, tau {tau}")
    for i, pixels, record in run.noise(missing) if attack.method.noise else run.search(missing):
        trials[i] = stage.pool.keep(known[i], pixels, record)
    return [trials[i] for i in range(len(rows))]


@dataclass(frozen=True, slots=True, eq=False)
class _Run:
    """One method on some photos; what it makes comes as (place, pixels, record)."""

    stage: Stage
    opened: OpenModel
    attack: Attack
    wanted: Bits
    rows: Sequence[int]
    """Of the stage's queries."""
    tau: float
    progress: Progress

    def settings(self, i: int) -> dict[str, Any]:
        """All that decides the trial of the photo at place i."""
        path, attack = self.stage.query_path(self.rows[i]), self.attack
        return {
            "checkpoint": self.stage.digest,
            "bits": self.opened.bits,
            "photo": [self.stage.files.name, path.relative_to(self.stage.files.root).as_posix(), path.stat().st_size],
            "method": [attack.method.name, attack.steps, attack.min_margin, attack.rounds, attack.ends],
            "wanted": "" if attack.method.noise else to_hex(self.wanted[i]),
            "tau": self.tau,
            "seed": self.stage.seed,
            "device": self.opened.model.mean.device.type,
        }

    def noise(self, missing: Sequence[int]) -> Iterator[_Made]:
        """No search: uniform noise."""
        for i in missing:
            pixels = uniform_noise(self._pixels(i), tau=self.tau, generator=self._generator(i))
            yield i, pixels, {"steps": 0, "first_reached": None, "distances": []}
            self.progress.done(None)

    def search(self, missing: Sequence[int]) -> Iterator[_Made]:
        """The method's search, all photos together."""
        lock = Lock()

        def tick(count: int) -> None:
            with lock:
                for _ in range(count):
                    self.progress.done(None)

        ways = {i: _Way(self.wanted[i], tick) for i in missing}
        network = NetworkView(self.opened)
        config, execution = SearchConfig(self.tau, self.attack.steps), execution_for(self.opened)
        photos = (self._photo(i, ways[i]) for i in missing)
        for found in search(photos, [network], self.attack.method, config, execution):
            i = found.key
            assert isinstance(i, int)
            ways[i].finish(_units(self.attack))
            change = found.last if self.attack.ends else found.delta
            pixels = written_pixels(self._pixels(i), change, tau=self.tau, generator=self._generator(i))
            record = {"steps": found.steps, "first_reached": found.first_reached, "distances": ways[i].distances}
            yield i, pixels, record

    def _photo(self, i: int, way: _Way) -> SearchTask:
        pixels, device = self._pixels(i), self.opened.model.mean.device
        if self.attack.rounds:
            grid = rounding_grid(pixels, tau=self.tau, generator=self._generator(i))
        else:
            grid = make_grid(pixels)
        objective = Objective(torch.from_numpy(self.wanted[i]).float().to(device), min_margin=self.attack.min_margin)
        return SearchTask(grid.to(device), [objective], key=i, watch=way)

    def _pixels(self, i: int) -> Pixels:
        return self.stage.pixels[self.rows[i]]

    def _generator(self, i: int) -> torch.Generator:
        return torch.Generator().manual_seed(self.stage.seed * 100_003 + self.rows[i])


def execution_for(opened: OpenModel) -> Execution:
    """How a search is shared out that suits the size of the network's input."""
    cpu_workers = torch.get_num_threads() if opened.model.mean.device.type == "cpu" else 1
    if opened.card.input.crop > _SMALL_SIDE:
        return Execution(_BATCH, cpu_workers=cpu_workers)
    return Execution(cpu_workers * _SMALL_PIECE, cpu_workers=cpu_workers, micro_batch=_SMALL_PIECE)


class _Way:
    """Hears of one photo's code at every step, in whichever lane: keeps the distances, ticks the progress."""

    def __init__(self, wanted: Bits, tick: Callable[[int], None]) -> None:
        self.wanted = torch.from_numpy(wanted) > 0
        self.tick = tick
        self.distances: list[list[int]] = []
        """[step, distance] where the distance changed."""
        self.ticked = 0

    def __call__(self, step: int, codes: Sequence[Tensor]) -> None:
        distance = int(((codes[0].cpu() > 0) != self.wanted).sum())
        if not self.distances or self.distances[-1][1] != distance:
            self.distances.append([step, distance])
        if step and step % _UNIT == 0:
            self.ticked += 1
            self.tick(1)

    def finish(self, count: int) -> None:
        """Tick what a search that ended early left out."""
        self.tick(count - self.ticked)


def rounding_grid(pixels: Pixels, *, tau: float, generator: torch.Generator) -> Grid:
    """The grid of upright (H, W, 3) `pixels` whose changes are seen rounded to 8 bits, as they will be written."""
    grid = make_grid(pixels)
    noise_cache: dict[int, Tensor] = {}

    def written(change: Tensor) -> Tensor:
        after = written_pixels(pixels, change, tau=tau, generator=generator, noise_cache=noise_cache)
        return to_image(resized(after, *grid.image.shape[1:])).to(change.device)

    return replace(grid, written=written)


def written_pixels(
    pixels: Pixels,
    delta: Tensor,
    *,
    tau: float,
    generator: torch.Generator,
    noise_cache: dict[int, Tensor] | None = None,
) -> Pixels:
    """Upright `pixels` with a change of their grid, as a lossless file will hold them."""
    return apply_perturbation(pixels, delta, tau=tau, orientation=1, generator=generator, noise_cache=noise_cache)
