"""Trials of methods: the picked queries of an experiment, searched towards given target bits.

Published methods run by their own rules with the network's true gradients, and `rnm` as `protect` runs it. All see
pixels rounded as they will be written. Each trial is cached and made only once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from threading import Lock
from typing import Any

import torch
from torch import Tensor

from hashshield.arrays import Bits, Pixels
from hashshield.attacks import version_of
from hashshield.attacks.grid import Grid, apply_perturbation, make_grid, uniform_noise
from hashshield.attacks.methods import METHODS, Method, shortened
from hashshield.attacks.objectives import Objective
from hashshield.attacks.search import Execution, search
from hashshield.attacks.state import SearchResult, SearchTask
from hashshield.bench.config import PAPER_STEPS
from hashshield.bench.experiment import GIVEN_CODES, Experiment
from hashshield.bench.results import Trial
from hashshield.metrics.retrieval import to_hex
from hashshield.models.hashing import true_gradients
from hashshield.models.load import NetworkView, OpenModel
from hashshield.pipeline.targets import refuse_foreign
from hashshield.transforms import resized, to_image
from hashshield.types import Progress

__all__ = [
    "LEAKY",
    "Attack",
    "attacks_of",
    "execution_for",
    "progress_units",
    "rounding_grid",
    "run_searches",
    "seeded_generator",
    "written_pixels",
]

LEAKY = ", leaky"
"""Suffix of a published method's name if it runs with the gradients of `rnm`."""
_OWN_METHODS = ("rnm", "rnm-first")
_BATCH, _SMALL_SIDE, _SMALL_BATCH = 8, 64, 50
"""Batch size; input side up to which a network counts as small; its batch size. Small networks are bound by overhead
and by reading their weights: 50 photos at once take 11.3 ms per step and photo, 16 take 16.4 (measured in one run,
VGG-11 at 32 pixels on one of two busy cores)."""
_UNIT = 40
"""Gradient steps per unit of progress."""

_Made = tuple[int, Pixels, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Attack:
    """A method and how it runs."""

    name: str
    method: Method
    min_margin: float = 0.0
    leaks: bool = False
    """True if gradients pass through dead units, as they do in `protect` (`models.hashing`); False for true ones."""
    returns_last: bool = True
    """True to use the change at the last step, as published rules do; False for the smallest that reached the goal."""

    @property
    def units(self) -> int:
        """Units of progress per photo."""
        further = self.method.further
        most = self.method.steps + (0 if further is None else further.steps)
        return max(1, -(-most // _UNIT))


def attacks_of(names: Iterable[str], steps: int | None, limit: int = PAPER_STEPS) -> list[Attack]:
    """Return attacks by name of their methods; none takes more than `limit` steps.

    `steps` is for `rnm` and `rnm-first`; None: their own number, and further steps for photos that miss their target.
    The others run by their published rules; with fewer steps than published, schedules are compressed. "tanh, leaky" is
    Tanh with the gradients that `rnm` gets.
    """
    return [_attack(name, steps, limit) for name in names]


def _attack(name: str, steps: int | None, limit: int) -> Attack:
    method = METHODS[name.removesuffix(LEAKY)]
    if method.name in _OWN_METHODS:
        most = min(limit, method.steps if steps is None else steps)
        further = None if steps is not None or method.further is None else method.further.at_most(limit - most)
        method = replace(method, steps=most, further=further)
        return Attack(name, method, method.min_margin, leaks=True, returns_last=False)
    return Attack(name, shortened(method, limit), leaks=name.endswith(LEAKY))


def progress_units(attacks: Sequence[Attack], photos: int) -> int:
    """Return the units of progress of these attacks on that many photos."""
    return photos * sum(attack.units for attack in attacks)


def run_searches(
    experiment: Experiment,
    length: int,
    attack: Attack,
    wanted: Bits,
    *,
    tau: float,
    times: int = 1,
    progress: Progress,
) -> list[Trial]:
    """Return one trial for each row of (times * n, K) target bits `wanted`; row i is for picked query i modulo n.

    All targets are searched together, because larger batches take less time per photo. Raise GoalError for a network
    that may only serve `away`.
    """
    if not attack.method.noise:
        refuse_foreign([experiment.model(length)], GIVEN_CODES)
    count = len(wanted) // times
    run = _Run(experiment, experiment.model(length), attack, wanted, count, tau, progress)
    settings = [run.settings(i) for i in range(len(wanted))]
    trials = {i: trial for i, s in enumerate(settings) if (trial := experiment.cache.trial(s)) is not None}
    for _ in range(len(trials) * attack.units):
        progress.done(None)
    missing = [i for i in range(len(wanted)) if i not in trials]
    if missing:
        progress.photo(f"{attack.name}, {length} bits, tau {tau}")
    for i, pixels, record in run.noise(missing) if attack.method.noise else run.search(missing):
        trials[i] = experiment.cache.keep(settings[i], pixels, record)
    return [trials[i] for i in range(len(wanted))]


@dataclass(frozen=True, slots=True, eq=False)
class _Run:
    """One attack on some photos; its methods yield (row of `wanted`, pixels, record)."""

    experiment: Experiment
    opened: OpenModel
    attack: Attack
    wanted: Bits
    count: int
    """Number of photos; row i of `wanted` belongs to photo i modulo `count`."""
    tau: float
    progress: Progress

    def settings(self, i: int) -> dict[str, Any]:
        """Return the settings that determine the trial of row i."""
        path, files, attack = self.experiment.query_path(self._row(i)), self.experiment.files, self.attack
        further = attack.method.further
        return {
            "checkpoint": self.experiment.digest,
            "bits": self.opened.bits,
            "photo": [files.name, path.relative_to(files.root).as_posix(), path.stat().st_size],
            "method": [attack.method.name, attack.method.steps, attack.min_margin, attack.leaks, attack.returns_last],
            **({} if further is None else {"further": further.steps}),
            "search": version_of(attack.method.name),
            "wanted": "" if attack.method.noise else to_hex(self.wanted[i]),
            "tau": self.tau,
            "seed": self.experiment.seed,
            "device": self.opened.device.type,
        }

    def noise(self, missing: Sequence[int]) -> Iterator[_Made]:
        """Yield photos with uniform noise instead of a searched change."""
        for i in missing:
            pixels = uniform_noise(self._pixels(i), tau=self.tau, generator=self._generator(i))
            yield i, pixels, {"steps": 0, "first_reached": None, "distances": []}
            self.progress.done(None)

    def search(self, missing: Sequence[int]) -> Iterator[_Made]:
        """Search all missing rows together and yield their trials. Raise InternalError if one photo fails."""
        lock = Lock()

        def tick(count: int) -> None:
            with lock:
                for _ in range(count):
                    self.progress.done(None)

        watchers = {i: _Watcher(self.wanted[i], tick) for i in missing}
        method, execution = self.attack.method, execution_for(self.opened)
        tasks = (self._task(i, watchers[i]) for i in missing)
        gradients = nullcontext() if self.attack.leaks else true_gradients(self.opened.model)
        with gradients:
            yield from self._found(search(tasks, [NetworkView(self.opened)], method, self.tau, execution), watchers)

    def _found(self, results: Iterable[SearchResult], watchers: dict[int, _Watcher]) -> Iterator[_Made]:
        for found in results:
            if found.error is not None:
                raise found.error
            i = found.key
            assert isinstance(i, int)
            watchers[i].finish(self.attack.units)
            change = found.last if self.attack.returns_last else found.delta
            pixels = written_pixels(self._pixels(i), change, tau=self.tau, generator=self._generator(i))
            record = {"steps": found.steps, "first_reached": found.first_reached, "distances": watchers[i].distances}
            yield i, pixels, record

    def _task(self, i: int, watcher: _Watcher) -> SearchTask:
        pixels, device = self._pixels(i), self.opened.device
        grid = rounding_grid(pixels, tau=self.tau, generator=self._generator(i))
        objective = Objective(torch.from_numpy(self.wanted[i]).float().to(device), min_margin=self.attack.min_margin)
        return SearchTask(grid.to(device), [objective], key=i, watch=watcher)

    def _row(self, i: int) -> int:
        return int(self.experiment.picked[i % self.count])

    def _pixels(self, i: int) -> Pixels:
        return self.experiment.photos[i % self.count]

    def _generator(self, i: int) -> torch.Generator:
        return seeded_generator(self.experiment.seed, self._row(i))


def seeded_generator(seed: int, row: int) -> torch.Generator:
    """Return the generator for one photo's rounding and noise."""
    return torch.Generator().manual_seed(seed * 100_003 + row)


def execution_for(opened: OpenModel) -> Execution:
    """Return batch size and threads for the size of the network's input."""
    cpu_workers = torch.get_num_threads() if opened.device.type == "cpu" else 1
    if opened.card.input.crop > _SMALL_SIDE:
        return Execution(_BATCH, cpu_workers=cpu_workers)
    return Execution(cpu_workers * _SMALL_BATCH, cpu_workers=cpu_workers, micro_batch=_SMALL_BATCH)


class _Watcher:
    """Receive the code of one photo at every step, in any thread; record distances and report progress."""

    def __init__(self, wanted: Bits, tick: Callable[[int], None]) -> None:
        self.wanted = torch.from_numpy(wanted) > 0
        self.tick = tick
        self.distances: list[list[int]] = []
        """[step, distance] wherever the distance changed."""
        self.ticked = 0

    def __call__(self, step: int, codes: Sequence[Tensor]) -> None:
        distance = int(((codes[0].cpu() > 0) != self.wanted).sum())
        if not self.distances or self.distances[-1][1] != distance:
            self.distances.append([step, distance])
        if step and step % _UNIT == 0:
            self.ticked += 1
            self.tick(1)

    def finish(self, count: int) -> None:
        """Report the remaining units of progress of a search that ended early."""
        self.tick(count - self.ticked)


def rounding_grid(pixels: Pixels, *, tau: float, generator: torch.Generator) -> Grid:
    """Return the grid of upright (H, W, 3) `pixels` on which the search sees changes rounded to 8 bits, as written."""
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
    """Return upright `pixels` after a change `delta` on their grid, rounded as a lossless file will hold them."""
    return apply_perturbation(pixels, delta, tau=tau, orientation=1, generator=generator, noise_cache=noise_cache)
