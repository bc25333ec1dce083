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

from hashshield.attacks.finish import apply, uniform_noise
from hashshield.attacks.goals import Aim
from hashshield.attacks.grid import Grid, make_grid
from hashshield.attacks.loop import Budget, Found, Search, Viewed, search
from hashshield.attacks.methods import METHODS, Method
from hashshield.bench.pool import Trial
from hashshield.bench.stage import Stage
from hashshield.metrics.hamming import to_hex
from hashshield.models.load import OpenModel
from hashshield.types import Progress
from hashshield.views import card_view, resized, to_image

__all__ = ["PAPER_STEPS", "Attack", "attacks_of", "rounding_grid", "run_searches", "units", "written_pixels"]

PAPER_STEPS = 2000
_OURS = ("rnm", "rnm-first")
_BATCH = 8
_UNIT = 40
"""Steps that count as one in the progress shown."""

Bits = NDArray[np.int8]
Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Attack:
    """One way of searching towards given bits."""

    name: str
    method: Method
    steps: int
    kept: float = 0.0
    rounds: bool = False
    """Whether the search sees the pixels rounded as they will be written, as `protect` lets it for small photos."""
    ends: bool = True
    """Whether the change the walk ended with counts, as a published rule returns it, or the smallest that reached."""


def attacks_of(names: Iterable[str], limit: int = PAPER_STEPS) -> list[Attack]:
    """Methods by name: `rnm` as `protect` runs it, the others by their published rules within `limit` steps."""
    return [_attack(METHODS[name], limit) for name in names]


def _attack(method: Method, limit: int) -> Attack:
    if method.name in _OURS:
        return Attack(method.name, method, min(limit, method.steps), method.kept, rounds=True, ends=False)
    return Attack(method.name, method, min(limit, method.steps))


def units(attacks: Sequence[Attack], photos: int) -> int:
    """How much of a progress bar these attacks on so many photos are."""
    return photos * sum(_units(attack) for attack in attacks)


def _units(attack: Attack) -> int:
    return max(1, -(-attack.steps // _UNIT))


def run_searches(
    stage: Stage,
    length: int,
    attack: Attack,
    wanted: Bits,
    *,
    tau: float,
    progress: Progress,
    batch_size: int = _BATCH,
) -> list[Trial]:
    """One trial for each row of (n, K) `wanted`, on the first n picked queries, in their order."""
    opened = stage.model(length)
    rows = [int(row) for row in stage.picked[: len(wanted)]]
    known = [_settings(stage, opened, attack, bits, row, tau) for row, bits in zip(rows, wanted, strict=True)]
    trials = {i: trial for i, settings in enumerate(known) if (trial := stage.pool.trial(settings)) is not None}
    for _ in range(len(trials) * _units(attack)):
        progress.done(None)
    missing = [i for i in range(len(rows)) if i not in trials]
    if missing:
        progress.photo(f"{attack.name}, {length} bits, tau {tau}")
    made = _noise if attack.method.noise else _searched
    for i, pixels, record in made(stage, opened, attack, wanted, rows, missing, tau, batch_size, progress):
        trials[i] = stage.pool.keep(known[i], pixels, record)
    return [trials[i] for i in range(len(rows))]


def _settings(stage: Stage, opened: OpenModel, attack: Attack, bits: Bits, row: int, tau: float) -> dict[str, Any]:
    path = stage.query_path(row)
    return {
        "checkpoint": stage.digest,
        "bits": opened.bits,
        "photo": [stage.files.name, stage.files.paths[stage.split.queries[row]], path.stat().st_size],
        "method": [attack.method.name, attack.steps, attack.kept, attack.rounds, attack.ends],
        "wanted": "" if attack.method.noise else to_hex(bits),
        "tau": tau,
        "seed": stage.seed,
        "device": opened.model.mean.device.type,
    }


_Made = Iterator[tuple[int, Pixels, dict[str, Any]]]


def _noise(
    stage: Stage,
    opened: OpenModel,
    attack: Attack,
    wanted: Bits,
    rows: Sequence[int],
    missing: Sequence[int],
    tau: float,
    batch_size: int,
    progress: Progress,
) -> _Made:
    for i in missing:
        pixels = uniform_noise(stage.pixels[rows[i]], tau=tau, generator=_generator(stage.seed, rows[i]))
        yield i, pixels, {"steps": 0, "first_reached": None, "distances": []}
        progress.done(None)


def _searched(
    stage: Stage,
    opened: OpenModel,
    attack: Attack,
    wanted: Bits,
    rows: Sequence[int],
    missing: Sequence[int],
    tau: float,
    batch_size: int,
    progress: Progress,
) -> _Made:
    device = opened.model.mean.device
    lanes = torch.get_num_threads() if device.type == "cpu" else 1
    lock = Lock()

    def tick(count: int) -> None:
        with lock:
            for _ in range(count):
                progress.done(None)

    ways = {i: _Way(wanted[i], tick) for i in missing}

    def photos() -> Iterator[Search]:
        for i in missing:
            pixels, generator = stage.pixels[rows[i]], _generator(stage.seed, rows[i])
            if attack.rounds:
                grid = rounding_grid(pixels, generator=generator, tau=tau).to(device)
            else:
                grid = make_grid(pixels).to(device)
            aim = Aim(torch.from_numpy(wanted[i]).float().to(device), kept=attack.kept)
            yield Search(grid, [aim], key=i, watch=ways[i])

    network = Viewed(opened.model, card_view(opened.card.input))
    budget = Budget(tau, attack.steps, batch_size, lanes=lanes)
    for found in search(photos(), [network], attack.method, budget):
        i = found.key
        assert isinstance(i, int)
        ways[i].finish(_units(attack))
        pixels = written_pixels(
            stage.pixels[rows[i]], _change(found, attack), tau=tau, generator=_generator(stage.seed, rows[i])
        )
        yield (
            i,
            pixels,
            {"steps": found.steps, "first_reached": found.first_reached, "distances": ways[i].distances},
        )


def _change(found: Found, attack: Attack) -> Tensor:
    return found.last if attack.ends else found.delta


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


def _generator(seed: int, row: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed * 100_003 + row)


def rounding_grid(pixels: Pixels, *, tau: float, generator: torch.Generator) -> Grid:
    """The grid of upright (H, W, 3) `pixels` whose changes are seen rounded to 8 bits, as they will be written."""
    grid = make_grid(pixels)
    drawn: dict[int, Tensor] = {}

    def written(change: Tensor) -> Tensor:
        after = written_pixels(pixels, change, tau=tau, generator=generator, drawn=drawn)
        return to_image(resized(after, *grid.image.shape[1:])).to(change.device)

    return replace(grid, written=written)


def written_pixels(
    pixels: Pixels, delta: Tensor, *, tau: float, generator: torch.Generator, drawn: dict[int, Tensor] | None = None
) -> Pixels:
    """Upright `pixels` with a change of their grid, as a lossless file will hold them."""
    return apply(pixels, delta, tau=tau, orientation=1, generator=generator, drawn=drawn)
