"""Minimum-norm search: from photos and networks to the smallest change found per photo.

The rule, once a step, for the change `delta` of each photo:

    goal met:   delta <- shrink * delta
    otherwise:  delta <- step(delta, gradient of the loss)
    always:     delta <- delta, clipped to [-tau, tau] and so that the photo stays in [0, 1]

The smallest change that met the goal is the result (Pintor et al. 2021, "Fast minimum-norm attacks", for hash codes).
`_SearchState.move` is this rule; the other methods of the field are the same loop with another loss, step or stopping
rule (`attacks.methods`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from hashshield.attacks.batching import MICRO_BATCH, AdaptiveBatcher, cpu_workers
from hashshield.attacks.grid import Grid
from hashshield.attacks.masking import PerceptualMask
from hashshield.attacks.methods import Method
from hashshield.attacks.objectives import BatchObjective, Objective, batch_objectives
from hashshield.attacks.steps import BallStep
from hashshield.boundary import boundary, reach
from hashshield.errors import InternalError
from hashshield.types import Codes, Step, View

__all__ = ["Execution", "HashView", "SearchResult", "SearchTask", "search"]

_PATIENCE = 3
"""Steps without a smaller change after which a search ends that has taken `Method.enough`."""
_MAX_ROUNDS = 2
"""How often a search may take all its steps, if its result still gives something away."""

STALL_CHECKS = ((0.35, 1.0), (0.65, 0.25))
"""When a search that has not met its goal starts again: (share of the steps taken, least residual that counts as
stalled). The residual is the loss as a share of that of a code whose bits are all undecided. A slow search that makes
progress goes on."""


class HashView(Protocol):
    """A network and the view through which it sees photos."""

    @property
    def side(self) -> int:
        """Pixels to which the view brings a photo's short side."""
        ...

    def __call__(self, images: Sequence[Tensor], /) -> Codes:
        """Hash (1, 3, h, w) images in [0, 1], which may differ in size, with gradients."""
        ...


@dataclass(frozen=True, slots=True)
class SearchTask:
    """One photo to search."""

    grid: Grid
    objectives: Sequence[Objective]
    """One per network view."""
    start: Tensor | None = None
    """(C, h, w) change to go on from; None: no change."""
    key: object = None
    """Handed back with the result."""
    name: str = ""
    """The photo, in messages about it."""
    watch: Callable[[int, Sequence[Tensor]], None] | None = None
    """Called at every step with the number of steps taken and the (K,) code of each network view."""
    transform: Callable[[int], View] | None = None
    """Gives the transform of a step by its number; None: the photo is hashed as it is."""
    required_hits: int = 1
    """How often in a row a change must be seen to meet the goal, each time through another transform."""
    masking: PerceptualMask | None = None
    """Where and in which colours a change is hidden; None: everywhere alike."""

    def transformed(self, delta: Tensor, step: int) -> Tensor:
        """Return the (1, 3, h, w) photo after `delta` and the transform of that step."""
        image = self.grid.changed(delta)
        return image if self.transform is None else self.transform(step)(image)


@dataclass(frozen=True, slots=True)
class Execution:
    """How the search uses the machine."""

    batch_size: int = 8
    """Photos searched at once."""
    cpu_workers: int = 1
    """Threads that share a batch on the CPU, one core each."""
    micro_batch: int = MICRO_BATCH
    """Photos a thread takes at once."""


@dataclass(frozen=True, slots=True, eq=False)
class SearchResult:
    """The end of one search."""

    key: object
    delta: Tensor
    """(C, h, w) on the grid: the smallest change that met the goal; if none did, the one of lowest loss."""
    reached: bool
    """True if a change met the goal."""
    steps: int
    """Gradient steps taken."""
    first_reached: int | None
    """Steps taken before the goal was first met."""
    last: Tensor
    """(C, h, w): the change at the last step, which methods that never shrink leave further out than `delta`."""
    error: InternalError | None = None
    """What ended the search of this photo alone; the rest says how far it came."""


def search(
    tasks: Iterable[SearchTask],
    networks: Sequence[HashView],
    method: Method,
    tau: float,
    execution: Execution = Execution(),
) -> Iterator[SearchResult]:
    """Yield the result of each task, in the order in which they finish.

    A finished photo leaves the batch and the next one enters; `tasks` is drawn from as places become free.
    `tau` bounds each change, in [0, 1] units.
    """
    waiting = iter(tasks)
    # Of several networks, the one that sees most decides how long steps are.
    side = max(network.side for network in networks)
    step = _BatchStep(networks, method)
    states: list[_SearchState] = []
    with cpu_workers(execution.cpu_workers) as pool:
        batcher = AdaptiveBatcher(execution.batch_size, execution.cpu_workers, pool, execution.micro_batch)
        while True:
            free = max(batcher.size - len(states), 0)
            states += [_SearchState(task, method, tau, side) for task in islice(waiting, free)]
            if not states:
                return
            batcher.map(states, step)
            yield from (state.result() for state in states if state.finished)
            states = [state for state in states if not state.finished]


class _Observation(NamedTuple):
    """What one step sees of one photo."""

    loss: float
    reached: bool
    """The goal is met in every network view."""
    leaked_bits: int
    """Bits by which the codes give the original away; see `BatchObjective.leaked_bits`."""
    residual: float
    """The loss as a share of that of undecided bits, in the view where it is largest."""


@dataclass(frozen=True, slots=True)
class _BatchStep:
    """One step of several photos: one forward and backward pass together, then each photo's own move."""

    networks: Sequence[HashView]
    method: Method

    def __call__(self, states: Sequence[_SearchState]) -> Sequence[_SearchState]:
        """Take the step. If it raises, each photo takes it once alone, and only those that raise again fail."""
        try:
            with boundary("search", states[0].task.name, passes=(torch.OutOfMemoryError,)):
                self._take(states)
        except InternalError as error:
            if len(states) == 1:
                states[0].fail(error)
            else:
                for state in states:
                    self((state,))
        return states

    def _take(self, states: Sequence[_SearchState]) -> None:
        """Take the step for all or, if anything raises, for none."""
        for state in states[1:]:
            reach("search", state.task.name)
        deltas = [state.delta.detach().requires_grad_() for state in states]
        images = [state.task.transformed(delta, state.steps_taken) for state, delta in zip(states, deltas, strict=True)]
        # Half precision where it pays, and for the search only: receipts are always float32.
        with torch.autocast("cuda", enabled=deltas[0].device.type == "cuda"):
            codes = [network(images) for network in self.networks]
        losses, observations = self._observe(states, codes)
        after = [copy(state) for state in states]
        for state, observation in zip(after, observations, strict=True):
            state.observe(observation)
        # Photos that enter together end together, and a last look needs no gradient.
        if not all(state.finished for state in after):
            gradients = torch.autograd.grad(losses.sum(), deltas)
            for state, gradient in zip(after, gradients, strict=True):
                if not state.finished:
                    state.move(gradient)
        for row, (state, new) in enumerate(zip(states, after, strict=True)):
            if state.task.watch is not None:
                state.task.watch(state.steps_taken, [code.code[row].detach() for code in codes])
            state.become(new)

    def _observe(self, states: Sequence[_SearchState], codes: Sequence[Codes]) -> tuple[Tensor, list[_Observation]]:
        """Return the (N,) losses, summed over network views, and what was seen of each photo."""
        goals = [self._batch_objective(states, index, code) for index, code in enumerate(codes)]
        losses = torch.stack([goal.loss(code) for goal, code in zip(goals, codes, strict=True)]).sum(0)
        reached = torch.stack([goal.reached(code) for goal, code in zip(goals, codes, strict=True)]).all(0)
        leaked = torch.stack([goal.leaked_bits(code) for goal, code in zip(goals, codes, strict=True)]).sum(0)
        residual = torch.stack([goal.residual(code) for goal, code in zip(goals, codes, strict=True)]).amax(0)
        rows = zip(losses.tolist(), reached.tolist(), leaked.tolist(), residual.tolist(), strict=True)
        return losses, [_Observation(*row) for row in rows]

    def _batch_objective(self, states: Sequence[_SearchState], index: int, codes: Codes) -> BatchObjective:
        return batch_objectives(
            [state.task.objectives[index] for state in states],
            self.method.term,
            torch.tensor([state.steps_taken for state in states], device=codes.code.device),
            feature_weight=self.method.feature_weight,
            certainty_weight=self.method.certainty_weight,
            margin_slack=self.method.margin_slack,
        )


@dataclass(eq=False)
class _SearchState:
    """One photo in the search. It counts its own steps, so photos of a batch may be at different ones."""

    task: SearchTask
    method: Method
    tau: float
    """L-infinity bound on the change, in [0, 1] units."""
    side: int
    """Pixels of the networks' view, short side."""
    delta: Tensor = field(init=False)
    """(C, h, w): the change as it is now."""
    steps_taken: int = 0
    finished: bool = False
    first_reached: int | None = None
    """Steps taken when the goal was first met."""
    best: Tensor = field(init=False)
    best_rank: tuple[int, float, float] = (1, 0, float("inf"))
    """Of `best`: 0 if it met the goal, bits leaked, norm or loss; lower is better."""
    improved: int = 0
    """Steps taken when `best` was found."""
    consecutive_hits: int = 0
    """Steps in a row that saw this change meet the goal."""
    satisfied: bool = False
    """The goal is met as often as required, and nothing leaks."""
    residual: float = math.inf
    """See `_Observation`."""
    worse: bool = False
    """The last look saw a larger residual than the one before."""
    rounds: int = 1
    """How often it may take all its steps."""
    restarting: bool = False
    """It started again and has not met the goal since."""
    error: InternalError | None = None
    _step: Step = field(init=False)
    _bounds: tuple[Tensor, Tensor] = field(init=False)
    """Kept, because computing them costs more than the projection itself."""

    def __post_init__(self) -> None:
        self._bounds = self.task.grid.bounds(self.tau)
        self.delta = self.best = self._start().clamp(*self._bounds)
        self._step = self.method.step(self.method.steps, self._scale())

    @property
    def confirmed(self) -> bool:
        """True if the change was seen to meet the goal as often as required."""
        return self.consecutive_hits >= self.task.required_hits

    def observe(self, observation: _Observation) -> None:
        """Take in what this step saw: keep the change if it is the best so far, and note whether the search is over."""
        self.worse = observation.residual > self.residual
        self.residual = observation.residual
        self.consecutive_hits = self.consecutive_hits + 1 if observation.reached else 0
        self.satisfied = self.confirmed and not observation.leaked_bits
        if self.confirmed and self.first_reached is None:
            self.first_reached = self.steps_taken
        rank = self._rank(observation)
        if rank < self.best_rank:
            self.best, self.best_rank, self.improved = self.delta, rank, self.steps_taken
        if (self.satisfied and self.method.stop == "first") or self._stands_still():
            self.finished = True
        elif self.steps_taken >= self.rounds * self.method.steps:
            self._end_round()

    def move(self, gradient: Tensor) -> None:
        """Apply the rule of this module once. A change that was seen to meet the goal, but not often enough, stays."""
        if self.confirmed or not self.consecutive_hits:
            self.delta = self._moved(gradient).clamp(*self._bounds).detach()
            self.consecutive_hits = 0
        self.steps_taken += 1

    def become(self, other: _SearchState) -> None:
        """Take over the state of a copy that has taken a step."""
        self.__dict__.update(other.__dict__)

    def fail(self, error: InternalError) -> None:
        """End the search of this photo."""
        self.error, self.finished = error, True

    def result(self) -> SearchResult:
        """Return the end of the search."""
        reached = self.first_reached is not None
        return SearchResult(
            self.task.key, self.best, reached, self.steps_taken, self.first_reached, self.delta, self.error
        )

    def _moved(self, gradient: Tensor) -> Tensor:
        """Return the change after one move, before it is clipped."""
        left = self.method.steps - self.steps_taken
        if self.restarting and self.first_reached is not None:
            self._step, self.restarting = self.method.step(max(left, 1), self._scale()), False
        elif self._stalled():
            # A few photos end where all bits are undecided and the gradient vanishes.
            assert self.method.restart_step is not None
            self._step, self.restarting = self.method.restart_step(left, self._scale()), True
            return self._start()
        if self.satisfied and self.method.shrink is not None:
            smaller: Tensor = self.method.shrink * self.delta
            if isinstance(self._step, BallStep):
                self._step = self._step.around(self._weighted(smaller))
            return smaller
        if isinstance(self._step, BallStep) and self.method.widen is not None:
            near, far = self.method.widen
            self._step = self._step.widened(far if self.residual > 1 else near, overshot=self.worse)
        return self._stepped(gradient)

    def _stepped(self, gradient: Tensor) -> Tensor:
        """Return the change after one step, which is taken in units of visible change if the task has a mask."""
        self._step = step = copy(self._step)  # it holds momentum, which the state before this step keeps
        mask = self.task.masking
        if mask is None:
            return step(self.delta, gradient)
        return mask.unweight(step(mask.weight(self.delta), mask.unweight(mask.condition(gradient))))

    def _rank(self, observation: _Observation) -> tuple[int, float, float]:
        if not self.confirmed:
            return 1, 0, observation.loss
        if self.method.keeps_last:
            return 0, observation.leaked_bits, -self.steps_taken
        return 0, observation.leaked_bits, float(self._weighted(self.delta).norm())

    def _weighted(self, delta: Tensor) -> Tensor:
        """Return the change as it is seen, if the task has a mask."""
        mask = self.task.masking
        return delta if mask is None else mask.weight(delta)

    def _stands_still(self) -> bool:
        """True if a search whose method knows how many steps are enough has met its goal and comes to no better."""
        if self.method.enough is None or self.best_rank[:2] > (0, 0):
            return False
        return self.steps_taken >= self.method.enough and self.steps_taken - self.improved >= _PATIENCE

    def _end_round(self) -> None:
        """Finish, or take all steps once more if a result that should hide something does not and sees the encoder."""
        hides = any(objective.original_bits is not None for objective in self.task.objectives)
        unfinished = hides and self.best_rank[:2] > (0, 0) and self.task.grid.written is not None
        if self.rounds == _MAX_ROUNDS or not unfinished:
            self.finished = True
            return
        self.rounds += 1
        self._step = self.method.step(self.method.steps, self._scale())

    def _stalled(self) -> bool:
        if self.method.restart_step is None or self.first_reached is not None or self.restarting:
            return False
        steps = self.method.steps
        return any(self.steps_taken == round(after * steps) and self.residual >= least for after, least in STALL_CHECKS)

    def _start(self) -> Tensor:
        return self.task.grid.start() if self.task.start is None else self.task.start

    def _scale(self) -> float:
        """Return how long a step is, as a multiple of one on a grid of 256 pixels under a view of 256 pixels.

        A network of small pictures needs a larger change of each pixel, because it has fewer of them. This is the
        geometric mean of a step that is alike in each grid pixel and one of the same length in the network's own
        pixels; the latter alone is too long for the last bits (measured on VGG-11 at 32 pixels, ADR 008).
        """
        return min(self.task.grid.image.shape[1:]) / math.sqrt(256 * self.side)
