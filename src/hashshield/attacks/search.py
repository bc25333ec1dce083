"""Minimum-norm search: find, for each photo, the smallest change that meets its goal on every network.

`search` is the loop over a batch; `state.move` is the rule that moves each photo's change. The other methods of the
field run in the same loop, with another loss, step or stopping rule (`attacks.methods`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor, wait
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, replace
from itertools import groupby, islice
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from hashshield.attacks.batching import MICRO_BATCH, AdaptiveBatcher, cpu_workers
from hashshield.attacks.features import FeatureMove, Surrogate, feature_losses, remember_clean
from hashshield.attacks.methods import Method
from hashshield.attacks.objectives import BatchObjective, Observation, batch_objectives, observed
from hashshield.attacks.state import SearchResult, SearchState, SearchTask, move, pending
from hashshield.boundary import boundary, reach
from hashshield.errors import InternalError
from hashshield.models.device import exact_float32, memory_errors, search_dtype, search_precision
from hashshield.types import Codes

__all__ = ["Execution", "HashView", "search"]


class HashView(Protocol):
    """A network and the view through which it sees photos."""

    @property
    def side(self) -> int:
        """Short side, in pixels, to which the view resizes a photo."""
        ...

    def __call__(self, images: Sequence[Tensor], /) -> Codes:
        """Hash N images, each (1, 3, h, w) in [0, 1] and of any size, with gradients; return codes (N, K)."""
        ...


@dataclass(frozen=True, slots=True)
class Execution:
    """How the search uses the machine."""

    batch_size: int = 8
    """Photos searched at once."""
    cpu_workers: int = 1
    """Threads that share a batch on the CPU, one core each."""
    micro_batch: int = MICRO_BATCH
    """Photos per task of a CPU thread."""
    encoders: int = 1
    """Threads that encode the photos of a step in parallel while the networks run on a GPU; unused on the CPU."""


def search(
    tasks: Iterable[SearchTask],
    networks: Sequence[HashView],
    method: Method,
    tau: float,
    execution: Execution = Execution(),
    surrogates: Sequence[Surrogate] = (),
) -> Iterator[SearchResult]:
    """Yield the result of each task, in the order in which they finish.

    A finished photo leaves the batch and the next one enters, so `tasks` is consumed only as slots become free. `tau`
    bounds the change of every pixel, in [0, 1] units. A method with `features` first moves the features of
    `surrogates`; without surrogates it is replaced by its `plain` method. An error in one photo is stored in its
    result; torch.OutOfMemoryError is raised if not even one photo fits on the device.
    """
    waiting = iter(tasks)
    # The network with the largest input decides the length of the steps.
    side = max(network.side for network in networks)

    def suited(task: SearchTask) -> Method:
        goes_on = task.start is not None
        return method.suited(enlarged=task.grid.enlarged, surrogates=bool(surrogates), goes_on=goes_on)

    moving: list[FeatureMove] = []
    states: list[SearchState] = []
    with cpu_workers(execution.cpu_workers) as pool, cpu_workers(execution.encoders) as encoders:
        step = _BatchStep(networks, encoders)
        batcher = AdaptiveBatcher(execution.batch_size, execution.cpu_workers, pool, execution.micro_batch)
        while True:
            free = max(batcher.size - len(moving) - len(states), 0)
            for task in islice(waiting, free):
                moves = suited(task).features
                if moves is None or task.feature_seed is None or not surrogates:
                    states.append(SearchState(task, suited(task), tau, side))
                else:
                    moving.append(FeatureMove(task, moves, tau, len(surrogates)))
            if not (moving or states):
                return
            for number, alike in _by_view(moving):
                batcher.map(alike, _FeatureStep(surrogates[number]))
            states += [_search_from(each, suited(each.task), side) for each in moving if each.finished]
            moving = [each for each in moving if not each.finished]
            # Photos with the same method and precision take a step together.
            going_on = sorted((state for state in states if not state.finished), key=_step_kind)
            for _, group in groupby(going_on, key=_step_kind):
                batcher.map(list(group), step)
            yield from (state.result() for state in states if state.finished)
            states = [state for state in states if not state.finished]


def _search_from(moved: FeatureMove, method: Method, side: int) -> SearchState:
    """Return the code search that starts from the change the feature move ended with."""
    task = replace(moved.task, start=moved.delta)
    state = SearchState(task, method, moved.tau, side)
    state.feature_steps, state.evaluations = moved.steps_taken, moved.evaluations
    if moved.error is not None:
        state.fail(moved.error)
    return state


def _by_view(moving: Sequence[FeatureMove]) -> Iterator[tuple[int, Sequence[FeatureMove]]]:
    """Group photos by their next feature view; yield each group with the index of its surrogate."""
    views = {each: each.next_view for each in moving}
    for view in dict.fromkeys(views.values()):
        yield view.surrogate, [each for each in moving if views[each] == view]


def _step_kind(state: SearchState) -> tuple[str, bool]:
    """Return the name of the state's method, and whether its next step needs float32 on a device that could use less.

    Far from the goal low precision is enough. Near it a step must measure as the receipt will.
    """
    lowers = search_dtype(state.delta.device) != torch.float32
    return state.method.name, lowers and not state.coarse


class _Steppable(Protocol):
    """A photo that takes steps in a batch: a `SearchState` or a `FeatureMove`."""

    @property
    def task(self) -> SearchTask: ...

    def fail(self, error: InternalError, /) -> None: ...


S = TypeVar("S", bound=_Steppable)


@contextmanager
def _one_step(states: Sequence[_Steppable]) -> Iterator[None]:
    """Run one step of several photos. HashshieldError and torch.OutOfMemoryError pass; others become InternalError."""
    name, device = states[0].task.name, states[0].task.grid.image.device
    with boundary("search", name, passes=(torch.OutOfMemoryError,)), memory_errors(), exact_float32(device):
        for state in states[1:]:
            reach("search", state.task.name)
        yield


def _each_alone(states: Sequence[S], error: InternalError) -> Sequence[Sequence[S]]:
    """Return the photos of a failed step one by one, to be tried alone; a photo that already was alone fails."""
    if len(states) > 1:
        return [(state,) for state in states]
    states[0].fail(error)
    return ()


@dataclass(frozen=True, slots=True)
class _FeatureStep:
    """One step of several photos away from their own features on one surrogate."""

    surrogate: Surrogate

    def __call__(self, moves: Sequence[FeatureMove]) -> Sequence[FeatureMove]:
        """Take the step for all; if it raises, each photo takes it alone, and only those that raise again fail."""
        try:
            with _one_step(moves):
                remember_clean(moves, self.surrogate)
                deltas = [each.delta.detach().requires_grad_() for each in moves]
                with search_precision(deltas[0].device, coarse=True):
                    losses = feature_losses(moves, deltas, self.surrogate)
                gradients = torch.autograd.grad(losses.sum(), deltas)
                for go in [each.moved(gradient) for each, gradient in zip(moves, gradients, strict=True)]:
                    go()
                for each in moves:
                    if each.task.watch is not None:
                        each.task.watch(each.steps_taken, ())
        except InternalError as error:
            for alone in _each_alone(moves, error):
                self(alone)
        return moves


@dataclass(frozen=True, slots=True)
class _BatchStep:
    """One step of several photos: one forward and backward pass together, then each photo's own move."""

    networks: Sequence[HashView]
    encoders: Executor | None

    def __call__(self, states: Sequence[SearchState]) -> Sequence[SearchState]:
        """Take the step for all; if it raises, each photo takes it alone, and only those that raise again fail."""
        try:
            with _one_step(states):
                deltas = [state.delta.detach().requires_grad_() for state in states]
                written = self._written(states, deltas)
                shown = [
                    state.task.transformed(delta, state.steps_taken, as_file)
                    for state, delta, as_file in zip(states, deltas, written, strict=True)
                ]
                images = [image for image, _ in shown]
                with search_precision(deltas[0].device, coarse=states[0].coarse):
                    codes = [network(images) for network in self.networks]
                losses, observations = self._observe(states, codes, [as_it_is for _, as_it_is in shown])
                after = [copy(state) for state in states]
                for state, observation in zip(after, observations, strict=True):
                    state.observe(observation)
                # Photos that entered together finish together, and the last evaluation needs no gradient.
                if not all(state.finished for state in after):
                    gradients = torch.autograd.grad(losses.sum(), deltas)
                    going_on = [index for index, state in enumerate(after) if not state.finished]
                    move([after[index] for index in going_on], [gradients[index] for index in going_on])
                for row, (state, new) in enumerate(zip(states, after, strict=True)):
                    if state.task.watch is not None:
                        state.task.watch(state.steps_taken, [code.code[row].detach() for code in codes])
                    state.become(new)
                    state.evaluations += len(self.networks)
        except InternalError as error:
            for alone in _each_alone(states, error):
                self(alone)
        return states

    def _written(self, states: Sequence[SearchState], deltas: Sequence[Tensor]) -> Sequence[Tensor | None]:
        """Return each photo as its encoded file will show it, (3, h, w).

        None if the grid has no `written`, or on the CPU, where `Grid.changed` encodes it in the photo's own thread.
        """
        device = deltas[0].device
        if self.encoders is None or device.type == "cpu":
            return [None] * len(states)
        futures = {
            row: self.encoders.submit(state.task.grid.written, delta.detach().cpu())
            for row, (state, delta) in enumerate(zip(states, deltas, strict=True))
            if state.task.grid.written is not None
        }
        wait(futures.values())  # after a failure the photos are tried alone: no encoder may still work on them
        return [
            futures[row].result().to(device, non_blocking=True) if row in futures else None
            for row in range(len(states))
        ]

    def _observe(
        self, states: Sequence[SearchState], codes: Sequence[Codes], as_it_is: Sequence[bool]
    ) -> tuple[Tensor, list[Observation]]:
        """Return the (N,) losses, summed over network views, and each photo's observation."""
        seen = [self._batch_objective(states, index, code).observe(code) for index, code in enumerate(codes)]
        exact = not states[0].coarse or search_dtype(states[0].delta.device) == torch.float32
        return observed(seen, as_it_is, pending(states), exact=exact)

    def _batch_objective(self, states: Sequence[SearchState], index: int, codes: Codes) -> BatchObjective:
        method = states[0].method
        return batch_objectives(
            [state.task.objectives[index] for state in states],
            method.term,
            torch.tensor([state.steps_taken for state in states]).to(codes.code.device, non_blocking=True),
            feature_weight=method.feature_weight,
            certainty_weight=method.certainty_weight,
            margin_slack=method.margin_slack,
        )
