"""THE loop: from photos, networks, goals and a budget to the smallest change found per photo."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

import torch
from torch import Tensor

from hashshield.attacks.goals import BatchObjective, Objective, batch_objectives
from hashshield.attacks.grid import Grid
from hashshield.attacks.masking import PerceptualMask
from hashshield.attacks.methods import Method
from hashshield.attacks.room import MICRO_BATCH, AdaptiveBatcher, cpu_workers
from hashshield.models.load import OpenModel
from hashshield.types import Codes, HashModel, Step, View
from hashshield.views import CARD, tensor_view

__all__ = ["Budget", "NetworkView", "SearchResult", "SearchTask", "search"]

_ROUNDS = 2
"""How often a walk may take the budget's steps, which shrink to nothing, when the code still gives something away."""

STALL_CHECKS = ((0.35, 1.0), (0.65, 0.25))
"""When a walk that has not reached its goal tries another way: after which share of its steps, and when how much of the
way is left, as a share of the loss of a code whose bits are all undecided. A slow walk that gets on is let alone."""


@dataclass(frozen=True, slots=True)
class NetworkView:
    """A network and the view through which it sees a photo."""

    model: HashModel
    view: View
    side: int = 256
    """Pixels to which the view brings a photo's short side."""

    @classmethod
    def of(cls, opened: OpenModel, view: str = CARD) -> NetworkView:
        """An opened network through one of the views that its card's geometry has."""
        size = opened.card.input
        return cls(opened.model, tensor_view(size, view), size.resize)


@dataclass(frozen=True, slots=True)
class SearchTask:
    """One photo to search, with one aim per network; `start` continues an earlier search."""

    grid: Grid
    objectives: Sequence[Objective]
    start: Tensor | None = None
    key: object = None
    """Handed back with what was found."""
    watch: Callable[[int, Sequence[Tensor]], None] | None = None
    """Told of every step: how many were taken before, and the (K,) code of each network there."""
    transform: Callable[[int], View] | None = None
    """Gives what is done to the photo before the look of that number; None where nothing is."""
    required_hits: int = 1
    """How often in a row a change must be seen to reach the goal, each time after another transform."""
    masking: PerceptualMask | None = None
    """Where and in which colours a change goes unseen; None: alike everywhere."""

    def transformed(self, delta: Tensor, look: int) -> Tensor:
        """(1, 3, h, w): the photo after `delta` and what a service may have done to it."""
        image = self.grid.changed(delta)
        return image if self.transform is None else self.transform(look)(image)


@dataclass(frozen=True, slots=True)
class Budget:
    """How far and how long."""

    tau: float
    """L-infinity bound in [0, 1] units."""
    steps: int
    batch_size: int = 8
    cpu_workers: int = 1
    """Threads that share a batch out on the CPU, one core each."""
    micro_batch: int = MICRO_BATCH
    """Photos a lane takes at once."""


@dataclass(frozen=True, slots=True, eq=False)
class SearchResult:
    """The end of one search."""

    key: object
    delta: Tensor
    """(C, h, w) on the grid: the smallest that reaches the goal, else the one nearest to it by loss."""
    reached: bool
    steps: int
    """Gradient steps taken."""
    first_reached: int | None
    """Steps before the goal was first reached."""
    last: Tensor
    """(C, h, w): where the walk ended, which for methods that never shrink is further out than `delta`."""


def search(
    photos: Iterable[SearchTask], networks: Sequence[NetworkView], method: Method, budget: Budget
) -> Iterator[SearchResult]:
    """Yield what was found for each photo, in the order in which they finish.

    Walks down the goal's loss until every margin is kept, then shrinks the change while they stay kept and walks
    again when they do not (minimum-norm search; Pintor et al. 2021, for hash codes). A finished photo leaves the
    batch and the next one enters. `photos` is drawn from as places become free, so it may grow meanwhile.
    """
    waiting = iter(photos)
    states: list[_SearchState] = []
    advance = _BatchStep(networks, method)
    with cpu_workers(budget.cpu_workers) as pool:
        batcher = AdaptiveBatcher(budget.batch_size, budget.cpu_workers, pool, budget.micro_batch)
        # Of several networks, the one that sees most decides how long steps are.
        side = max(network.side for network in networks)
        while states := states + [
            _SearchState(p, method, budget, side) for p in islice(waiting, batcher.size - len(states))
        ]:
            batcher.share(states, advance)
            yield from (state.found() for state in states if state.finished)
            states = [state for state in states if not state.finished]


@dataclass(frozen=True, slots=True)
class _BatchStep:
    """One step of some photos together: forward and backward pass, then each walk's own move."""

    networks: Sequence[NetworkView]
    method: Method

    def __call__(self, states: Sequence[_SearchState]) -> Sequence[_SearchState]:
        deltas = [state.delta.detach().requires_grad_() for state in states]
        images = [state.photo.transformed(delta, state.taken) for state, delta in zip(states, deltas, strict=True)]
        # Half precision where it pays, and for the search only: receipts are always float32.
        with torch.autocast("cuda", enabled=deltas[0].device.type == "cuda"):
            codes = [n.model(torch.cat([n.view(image) for image in images])) for n in self.networks]
        goals = [self._goal(states, index, code) for index, code in enumerate(codes)]
        losses = torch.stack([goal.loss(code) for goal, code in zip(goals, codes, strict=True)]).sum(0)
        reached = torch.stack([goal.reached(code) for goal, code in zip(goals, codes, strict=True)]).all(0)
        leaked_bits = torch.stack([goal.leaked_bits(code) for goal, code in zip(goals, codes, strict=True)]).sum(0)
        residual = torch.stack([goal.residual(code) for goal, code in zip(goals, codes, strict=True)]).amax(0)
        satisfied = []
        for row, (state, loss, reach, bits, left) in enumerate(
            zip(states, losses.tolist(), reached.tolist(), leaked_bits.tolist(), residual.tolist(), strict=True)
        ):
            if state.photo.watch is not None:
                state.photo.watch(state.taken, [code.code[row].detach() for code in codes])
            state.residual = left
            state.see(reach)
            state.remember(loss, state.confirmed, bits)
            satisfied.append(state.confirmed and not bits)
            state.end(satisfied[-1])
        # Photos that enter together end together, and a last look needs no way back.
        if not all(state.finished for state in states):
            gradients = torch.autograd.grad(losses.sum(), deltas)
            for state, gradient, rest in zip(states, gradients, satisfied, strict=True):
                if not state.finished:
                    state.move(gradient, rest)
        return states

    def _goal(self, states: Sequence[_SearchState], index: int, codes: Codes) -> BatchObjective:
        steps = torch.tensor([state.taken for state in states], device=codes.code.device)
        objectives = [state.photo.objectives[index] for state in states]
        return batch_objectives(
            objectives,
            self.method.term,
            steps,
            feature_weight=self.method.feature_weight,
            certainty_weight=self.method.certainty_weight,
            margin_slack=self.method.margin_slack,
        )


@dataclass(eq=False)
class _SearchState:
    """One photo on its way; it counts its own steps, so photos in a batch may be at different ones."""

    photo: SearchTask
    method: Method
    budget: Budget
    side: int
    """Pixels of the network's view, short side."""
    delta: Tensor = field(init=False)
    best: Tensor = field(init=False)
    best_rank: tuple[int, float, float] = (1, 0, float("inf"))
    """Not reached, bits exposed, norm or loss: lower is better."""
    taken: int = 0
    first_reached: int | None = None
    finished: bool = False
    consecutive_hits: int = 0
    """Looks in a row at this change in which it reached the goal."""
    rounds: int = 1
    """How often it may take the budget's steps."""
    residual: float = 0.0
    """The loss as a share of that of a code whose bits are all undecided, at the network where it is largest."""
    restarting: bool = False
    """Whether it has left a place where the loss is lowest and the goal is not reached, and is not there yet."""
    _step: Step = field(init=False)
    _bounds: tuple[Tensor, Tensor] = field(init=False)
    """Kept, because making them anew costs more than the projection itself."""

    def __post_init__(self) -> None:
        self._bounds = self.photo.grid.bounds(self.budget.tau)
        self.delta = self.best = self._start().clamp(*self._bounds)
        self._step = self._first_step()

    def see(self, reached: bool) -> None:
        """Count the looks in a row at this change in which it reached the goal."""
        self.consecutive_hits = self.consecutive_hits + 1 if reached else 0

    @property
    def confirmed(self) -> bool:
        """Whether the change was seen to reach the goal as often as is asked for."""
        return self.consecutive_hits >= self.photo.required_hits

    def remember(self, loss: float, reached: bool, leaked_bits: int) -> None:
        """Keep the smallest change that reaches the goal and exposes least; until one does, that of lowest loss.

        The last one that does in place of the smallest, where the method has it so.
        """
        if reached and self.first_reached is None:
            self.first_reached = self.taken
        cost = -self.taken if self.method.keeps_last else float(self._weighed(self.delta).norm())
        rank = (0, leaked_bits, cost) if reached else (1, 0, loss)
        if rank < self.best_rank:
            self.best, self.best_rank = self.delta, rank

    def end(self, satisfied: bool) -> None:
        """Note when the walk is over, or begin the next round."""
        if satisfied and self.method.stop == "first":
            self.finished = True
        elif self.taken >= self.rounds * self.budget.steps:
            if self.rounds == _ROUNDS or not self._unfinished():
                self.finished = True
            else:
                self.rounds += 1
                self._step = self._first_step()

    def move(self, gradient: Tensor, satisfied: bool) -> None:
        """Shrink or step, and stay within bounds.

        A change that may be good but is not yet sure is looked at again.
        """
        if self.confirmed or not self.consecutive_hits:
            self.delta = self._moved(gradient, satisfied).clamp(*self._bounds).detach()
            self.consecutive_hits = 0
        self.taken += 1

    def _moved(self, gradient: Tensor, satisfied: bool) -> Tensor:
        """One move, unprojected: shrink, step, or begin again another way when the steps led nowhere.

        Where the gradient alone leads, a few photos end where all bits hang at nothing and it vanishes.
        """
        left = self.budget.steps - self.taken
        if self.restarting and self.first_reached is not None:
            self._step, self.restarting = self.method.step(max(left, 1), self._scale()), False
        elif self._stalled():
            assert self.method.restart_step is not None
            self._step, self.restarting = self.method.restart_step(left, self._scale()), True
            return self._start()
        if satisfied and self.method.shrink is not None:
            return self.delta * self.method.shrink
        masking = self.photo.masking
        if masking is None:
            return self._step(self.delta, gradient)
        return masking.unweight(self._step(masking.weight(self.delta), masking.unweight(masking.damp_chroma(gradient))))

    def _weighed(self, delta: Tensor) -> Tensor:
        return delta if self.photo.masking is None else self.photo.masking.weight(delta)

    def _stalled(self) -> bool:
        if self.method.restart_step is None or self.first_reached is not None or self.restarting:
            return False
        steps = self.budget.steps
        return any(self.taken == round(after * steps) and self.residual >= left for after, left in STALL_CHECKS)

    def _start(self) -> Tensor:
        return self.photo.grid.start() if self.photo.start is None else self.photo.start

    def _first_step(self) -> Step:
        return self.method.step(self.budget.steps, self._scale())

    def _scale(self) -> float:
        """How long a step is over one on 256 pixels that the network sees as 256.

        A network of small pictures needs a larger change of each pixel, because it has fewer of them: the geometric
        mean of a step alike in each pixel and one of the same length in the network's own pixels. The latter alone is
        too long for the last bits (measured: VGG-11 at 32 pixels, ADR 008).
        """
        return min(self.photo.grid.image.shape[1:]) / math.sqrt(256 * self.side)

    def _unfinished(self) -> bool:
        """Whether a code that should hide something misses the goal, or exposes bits, where that is seen as written."""
        hides = any(objective.original_bits is not None for objective in self.photo.objectives)
        return hides and self.best_rank[:2] > (0, 0) and self.photo.grid.written is not None

    def found(self) -> SearchResult:
        """What to hand back."""
        reached = self.first_reached is not None
        return SearchResult(self.photo.key, self.best, reached, self.taken, self.first_reached, self.delta)
