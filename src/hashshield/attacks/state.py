"""One photo in the search: the rule that moves its change, and when the search ends.

The rule, once a step, for the change `delta`:

    goal met:   delta <- shrink * delta
    otherwise:  delta <- step(delta, gradient of the loss)
    always:     delta <- delta, clipped to [-tau, tau] and so that the photo stays in [0, 1]

The smallest change that met the goal is the result (Pintor et al. 2021, "Fast minimum-norm attacks", for hash codes).
A search that prepares for transforms evaluates most steps through one. Such a step moves the change, but only an
evaluation of the untransformed photo decides whether the goal is met. Of the changes that meet it, the one that lost
the fewest bits under the transforms is best, then the smallest.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor

from hashshield.attacks.grid import Grid
from hashshield.attacks.masking import PerceptualMask
from hashshield.attacks.methods import Method
from hashshield.attacks.objectives import Objective, Observation
from hashshield.attacks.steps import Stack, Step
from hashshield.errors import InternalError
from hashshield.types import View

__all__ = ["STALL_CHECKS", "SearchResult", "SearchState", "SearchTask", "move", "pending"]

_PATIENCE = 3
"""Cycles of transforms without a better change after which a search ends, once it took `Method.enough` steps."""
_PATIENT_LOOKS = 2
"""First steps of settling, during which the change may not grow."""

STALL_CHECKS = ((0.35, 1.0), (0.65, 0.25))
"""When a search that has not met its goal restarts: (share of the steps taken, least residual that counts as stalled).
A residual of 1 is the loss of a code whose bits are all undecided. A slow search that still makes progress goes on."""


@dataclass(frozen=True, slots=True)
class SearchTask:
    """One photo to search."""

    grid: Grid
    objectives: Sequence[Objective]
    """One per network view."""
    start: Tensor | None = None
    """(C, h, w) change to start from; None: zeros."""
    key: object = None
    """The caller's identifier, returned with the result."""
    name: str = ""
    """The photo, in messages about it."""
    watch: Callable[[int, Sequence[Tensor]], None] | None = None
    """Called at every step with the number of steps taken and the (K,) code of each network view."""
    transform: Callable[[int], View | None] | None = None
    """Map a step number to the transform of that step, or to None for the untransformed photo. None: no transforms.

    Step 0 must be untransformed."""
    cycle: int = 1
    """Period of `transform` in steps: the same kind of transform recurs after so many."""
    prepared: int | None = None
    """Number of steps that prepare for transforms. After them the search settles: it evaluates only the untransformed
    photo, and ends with the first change that meets the goal. None: the search never settles."""
    masking: PerceptualMask | None = None
    """Where and in which colours a change shows least; None: the same weight everywhere."""
    scale: float = 1.0
    """Photo pixels per grid pixel."""
    feature_seed: int | None = None
    """Random seed of the feature move; None: no feature move."""
    code_looks: Mapping[tuple[int, str], int] = field(default_factory=dict)
    """(surrogate number, view) -> index into `objectives`, for surrogates that are searched networks as well."""

    def transformed(self, delta: Tensor, step: int, written: Tensor | None = None) -> tuple[Tensor, bool]:
        """Return the (1, 3, h, w) photo after `delta` and the transform of `step`, and whether it is untransformed.

        `written` is the (3, h, w) photo decoded from its file, if already computed.
        """
        image = self.grid.changed(delta, written)
        transform = None if self.transform is None else self.transform(step)
        return (image, True) if transform is None else (transform(image), False)


@dataclass(frozen=True, slots=True, eq=False)
class SearchResult:
    """The result of one search."""

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
    """(C, h, w): the change at the last step. A method that never shrinks ends further out than `delta`."""
    error: InternalError | None = None
    """The error that ended this photo's search early; the other fields hold its state until then."""
    evaluations: int = 0
    """Images passed to networks; one view of one photo counts as one."""


class SearchState:
    """One photo in the search. Each counts its own steps, so photos of a batch may be at different step numbers."""

    task: SearchTask
    method: Method
    tau: float
    """L-infinity bound on the change, in [0, 1] units."""
    side: int
    """Short side of the largest network view, in pixels."""
    delta: Tensor
    """(C, h, w): the current change."""
    steps_taken: int = 0
    finished: bool = False
    first_reached: int | None = None
    """Steps taken when the goal was first met."""
    best: Tensor
    best_rank: tuple[int, float, float, float] = (1, 0, 0, float("inf"))
    """Rank of `best`: (0 if it met the goal else 1, leaked bits, bits lost under transforms, norm or loss); lower is
    better."""
    improved: int = 0
    """Steps taken when `best` was found."""
    last_observation: Observation | None = None
    by_kind: dict[int, Observation]
    """The last observation through each kind of transform, by position in the cycle; 0 is the untransformed photo."""
    residual: float = math.inf
    """Residual of the last untransformed observation; see `Observation`."""
    worse: bool = False
    """True if the last observation has a larger residual than the previous one of its kind."""
    length: float | None = None
    """Euclidean length of `delta`, weighted by the mask; None: not read from the device yet."""
    allowed_steps: int
    """Steps that it may take: those of its method, and more after `_end_round`."""
    restarting: bool = False
    """True from a restart until the goal is met."""
    error: InternalError | None = None
    evaluations: int = 0
    """See `SearchResult`."""
    feature_steps: int = 0
    """Steps of the feature move before this search."""
    _step: Step

    def __init__(self, task: SearchTask, method: Method, tau: float, side: int) -> None:
        self.task, self.method, self.tau, self.side = task, method, tau, side
        self.by_kind = {}
        self.allowed_steps = method.steps
        self.delta = self.best = self._start()
        self._step = self._new_step()

    @cached_property
    def _bounds(self) -> tuple[Tensor, Tensor]:
        """Least and largest change of each pixel; cached, because computing them costs more than the projection."""
        return self.task.grid.bounds(self.tau)

    @property
    def coarse(self) -> bool:
        """True while the goal is far enough away for low precision, whose error in a code is up to 0.1."""
        return self.residual > 1

    def observe(self, observation: Observation) -> None:
        """Record an observation of `delta`: keep the change if it is the best so far, and set `finished`."""
        self._receive(observation.pending)
        kind = 0 if observation.as_it_is else self.steps_taken % self.task.cycle
        before = self.by_kind.get(kind)
        self.worse = before is not None and observation.residual > before.residual
        self.last_observation, self.by_kind = observation, {**self.by_kind, kind: observation}
        if observation.as_it_is:
            self._judge(observation)
        if not self.finished and self.steps_taken >= self.allowed_steps:
            self._end_round()

    def become(self, other: SearchState) -> None:
        """Take over the state of a copy that has taken a step."""
        self.__dict__.update(other.__dict__)

    def _receive(self, pending: Sequence[float]) -> None:
        if not pending:
            return
        self.length = pending[0]
        if self._step.unread() is not None:
            self._step = self._step.read(pending[1])

    def fail(self, error: InternalError) -> None:
        """End the search of this photo."""
        self.error, self.finished = error, True

    def result(self) -> SearchResult:
        """Return the result of the search so far."""
        reached = self.first_reached is not None
        return SearchResult(
            self.task.key,
            self.best,
            reached,
            self.feature_steps + self.steps_taken,
            self.first_reached,
            self.delta,
            self.error,
            self.evaluations,
        )

    def _judge(self, observation: Observation) -> None:
        """Rank the change by an observation of the untransformed photo."""
        self.residual = observation.residual
        if not observation.missed_bits and self.first_reached is None:
            self.first_reached = self.steps_taken
        rank = self._rank(observation)
        if rank < self.best_rank:
            self.best, self.best_rank, self.improved = self.delta, rank, self.steps_taken
        met = not (observation.missed_bits or observation.leaked_bits)
        self.finished = (met and (self.method.stop == "first" or self._settling)) or self._stands_still()

    @property
    def _settling(self) -> bool:
        return self.task.prepared is not None and self.steps_taken >= self.task.prepared

    @property
    def _promised(self) -> bool:
        """Whether the change may grow for the last observation, because the goal must be met in it.

        Without a settling part these are the untransformed observations. With one they are those of settling, after
        the first `_PATIENT_LOOKS`, which try to meet the goal at the current size.
        """
        assert self.last_observation is not None
        if self.task.prepared is None:
            return self.last_observation.as_it_is
        return self.steps_taken >= self.task.prepared + _PATIENT_LOOKS

    def _lost_bits(self) -> int:
        """Number of bits missed by the last observation through each transform, summed."""
        return sum(look.missed_bits for look in self.by_kind.values() if not look.as_it_is)

    def _satisfied(self, observation: Observation) -> bool:
        """Whether the goal is met without leaked bits, untransformed and in the last observation of every transform."""
        return (
            not (observation.missed_bits or observation.leaked_bits or self._lost_bits())
            and len(self.by_kind) == self.task.cycle
        )

    def _without_step(self) -> Tensor | None:
        """Return the next change if it needs no gradient (restart or shrink), else prepare the step and return None."""
        assert self.last_observation is not None
        left = self.method.steps - self.steps_taken
        if self.restarting and self.first_reached is not None:
            self._step, self.restarting = self.method.step(max(left, 1), self._scale()), False
        elif self._stalled():
            # A few photos get stuck where all bits are undecided and the gradient vanishes.
            assert self.method.restart_step is not None
            self._step, self.restarting = self.method.restart_step(left, self._scale()), True
            return self._start()
        if self.last_observation.as_it_is and self.method.shrink is not None and self._satisfied(self.last_observation):
            self._step = self._step.met(self.method.shrink * self._length())
            return self.method.shrink * self.delta
        if self.last_observation.missed_bits or self.last_observation.leaked_bits:
            far = self.last_observation.residual > 1
            self._step = self._step.missed(far=far, promised=self._promised, overshot=self.worse)
        self._step = copy(self._step)  # a failed step returns to the previous state, whose momentum must not change
        return None

    def project(self, change: Tensor) -> None:
        """Set `delta` to the clipped `change` and count the step: the last line of the rule."""
        self.delta = self._clipped(change).detach()
        self.steps_taken += 1

    def _rank(self, observation: Observation) -> tuple[int, float, float, float]:
        if observation.missed_bits:
            return 1, 0, 0, observation.loss
        if self.method.keeps_last:
            return 0, observation.leaked_bits, 0, -self.steps_taken
        return 0, observation.leaked_bits, self._lost_bits(), self._length()

    def _length(self) -> float:
        return float(self._weighted(self.delta).norm()) if self.length is None else self.length

    def _weighted(self, delta: Tensor) -> Tensor:
        """Return the change weighted by visibility, if the task has a mask."""
        mask = self.task.masking
        return delta if mask is None else mask.weight(delta)

    def _stands_still(self) -> bool:
        """True if the goal was met, `Method.enough` steps were taken, and the last cycles brought no better change."""
        if self.method.enough is None or self.best_rank[:2] > (0, 0):
            return False
        patience = _PATIENCE * self.task.cycle
        return self.steps_taken >= self.method.enough and self.steps_taken - self.improved >= patience

    def _end_round(self) -> None:
        """Finish after all steps, or allow more, once: if no change met the goal, or the best one leaks bits.

        The first needs a method with `further` steps. The second takes all steps again; only for objectives with
        `original_bits` on a grid that encodes at every step.
        """
        further = self.method.further
        hides = any(objective.original_bits is not None for objective in self.task.objectives)
        if self.allowed_steps > self.method.steps:
            self.finished = True
        elif hides and self.best_rank[:2] > (0, 0) and self.task.grid.written is not None:
            self.allowed_steps += self.method.steps
            self._step = self._step.next_round(self._new_step())
        elif further is not None and self.first_reached is None:
            self.allowed_steps += further.steps
            self._step, self.restarting = further.step(further.steps, self._scale()), False
        else:
            self.finished = True

    def _stalled(self) -> bool:
        if self.method.restart_step is None or self.first_reached is not None or self.restarting:
            return False
        steps = self.method.steps
        return any(self.steps_taken == round(after * steps) and self.residual >= least for after, least in STALL_CHECKS)

    def _start(self) -> Tensor:
        return self.task.grid.start() if self.task.start is None else self._clipped(self.task.start)

    def _clipped(self, change: Tensor) -> Tensor:
        return change.clamp(*self._bounds)

    def _new_step(self) -> Step:
        step = self.method.step(self.method.steps, self._scale())
        length = 0.0 if self.task.start is None else self._length()
        return step.starting_from(length)

    def _scale(self) -> float:
        """Return the length of a step, relative to one on a grid of 256 pixels under a view of 256 pixels.

        A network with a small input needs a larger change of each pixel, because it sees fewer pixels. The scale is the
        geometric mean of two: the same change of each grid pixel, and the same Euclidean length in the network's own
        pixels. The latter alone is too long for the last bits (measured on VGG-11 at 32 pixels, ADR 008).
        """
        return min(self.task.grid.image.shape[1:]) / math.sqrt(256 * self.side)


def pending(states: Sequence[SearchState]) -> list[list[Tensor]]:
    """Return, per photo, the tensors to read with its observation: the change's length and its step's `unread` value.

    If the step has none, the length stands twice, so that every row has two.
    """
    lengths = torch._foreach_norm([state._weighted(state.delta) for state in states])
    left = [state._step.unread() for state in states]
    return [[length, length if unread is None else unread] for length, unread in zip(lengths, left, strict=True)]


def move(states: Sequence[SearchState], gradients: Sequence[Tensor]) -> None:
    """Apply the rule of this module once to each photo."""
    stepping: dict[Hashable, list[tuple[SearchState, Tensor]]] = {}
    for state, gradient in zip(states, gradients, strict=True):
        change = state._without_step()
        if change is not None:
            state.project(change)
        else:
            stepping.setdefault(_shared(state), []).append((state, gradient))
    for group in stepping.values():
        for (state, _), change in zip(group, _stepped(*zip(*group, strict=True)), strict=True):
            state.project(change)


def _shared(state: SearchState) -> Hashable:
    """Return the key of the photos that move as one stack; on the CPU each photo has a key of its own."""
    mask, kind = state.task.masking, state._step.kind
    if kind is None or state.delta.device.type == "cpu":
        return id(state)
    return kind, len(state.delta), None if mask is None else mask.spectrum


def _stepped(states: Sequence[SearchState], gradients: Sequence[Tensor]) -> Sequence[Tensor]:
    """Return the changes after one step, taken in units of visible change if the photos have masks."""
    steps, deltas = [state._step for state in states], [state.delta for state in states]
    masks = [state.task.masking for state in states if state.task.masking is not None]
    batch = Stack.of(deltas)
    if not masks:
        delta, gradient = (batch.within(each) for each in batch.put(deltas, gradients))
        return batch.take(steps[0].together(steps, batch, delta, gradient))
    delta, gradient, share = batch.put(deltas, gradients, [mask.share for mask in masks])
    mask = replace(masks[0], share=share)
    seen = batch.within(mask.weight(delta)), batch.within(mask.unweight(mask.condition(gradient)))
    return batch.take(mask.unweight(steps[0].together(steps, batch, *seen)))
