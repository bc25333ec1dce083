"""Set the code targets of one photo, by network and view, and build its search task.

Photos that wait for the search are hashed together, because a GPU takes as long for one small image as for several.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import replace
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from hashshield.attacks.goals import photo_generator
from hashshield.attacks.state import SearchTask
from hashshield.errors import HashshieldError
from hashshield.models.load import Hashed, OpenModel
from hashshield.pipeline.targets import CodeTarget, make_target, target_for_view, tolerance_for
from hashshield.pipeline.task import ProtectContext, Source, Task
from hashshield.transforms.differentiable import Transforms
from hashshield.types import View

__all__ = [
    "HashedAhead",
    "StepTransforms",
    "search_task",
    "set_objectives",
    "waiting_tasks",
]


_SPARE_SHARE = 20 / 256
"""Share of the bits that the search flips beyond a copy detector's threshold, as a reserve for encoding."""


def set_objectives(task: Task, context: ProtectContext, hash_view: Callable[[OpenModel, Tensor], Hashed]) -> None:
    """Hash the original with `hash_view`, and set the task's targets, objectives and reference values.

    Raises GoalError if the goal has no target for this photo. The views are dropped afterwards.
    """
    pairs = []
    views = iter(task.views)
    for model in context.models:
        hashed = [hash_view(model, next(views)) for _ in context.preset.views]
        target, objective = make_target(
            context.goal,
            model,
            hashed[0].code,
            hashed[0].features,
            key=context.secret,
            sha256=task.source.sha256,
            other_view_bits=[elsewhere.bits for elsewhere in hashed[1:]],
            place_codes=task.source.place_codes,
        )
        pairs.append((target, objective))
        for name, elsewhere in zip(context.preset.views[1:], hashed[1:], strict=True):
            pairs.append(target_for_view(target, name, elsewhere.code, elsewhere.features))
    task.targets = tuple(target for target, _ in pairs)
    task.objectives = tuple(objective.to("cpu") for _, objective in pairs)
    task.witness_bits = tuple(
        hash_view(model, view).bits for model, view in zip(context.witnesses, task.witness_views, strict=True)
    )
    task.surrogate_features = tuple(
        hash_view(each.opened, view).features.cpu()
        for each, view in zip(context.surrogates, task.surrogate_views, strict=True)
    )
    task.views = task.surrogate_views = task.witness_views = ()


def search_task(task: Task, context: ProtectContext, device: torch.device) -> SearchTask:
    """Return the search task for the next try of a photo, on that device."""
    preset = context.preset
    min_margin = preset.margins.of(
        task.tries,
        sees_writing=task.grid.written is not None,
        lossless=task.lossless,
        method_margin=context.method.min_margin,
    )
    objectives = [
        replace(objective.to(device), min_margin=min_margin, allowed_misses=_allowed_misses(target, task, context))
        for objective, target in zip(task.objectives, task.targets, strict=True)
    ]
    return SearchTask(
        task.grid.to(device),
        objectives,
        None if task.delta is None else task.delta.to(device),
        key=task,
        name=task.source.name,
        watch=_counted(task, context),
        transform=_transform(task, context),
        cycle=1 if preset.transforms is None else preset.transforms.cycle,
        prepared=_prepared(task, context),
        masking=None if task.masking is None else task.masking.to(device),
        scale=task.scale,
        feature_seed=_feature_seed(task, context),
        code_looks={
            (number, seen.view): place
            for place, seen in enumerate(context.promised_views)
            for number, surrogate in enumerate(context.surrogates)
            if surrogate.opened is seen.model
        },
    )


def _feature_seed(task: Task, context: ProtectContext) -> int | None:
    """Return the random seed of the feature move; None for a later try, which starts from moved features."""
    if task.delta is not None or not context.surrogates:
        return None
    return int(photo_generator(context.secret, task.source.sha256, "features").integers(2**62))


def _allowed_misses(target: CodeTarget, task: Task, context: ProtectContext) -> int:
    """Return how many bits may miss their margin: at most as many as the receipt tolerates."""
    preset = context.preset
    tolerance = tolerance_for(context.tolerance, len(target.original_bits), lossless=task.lossless)
    if target.within is not None:
        # To stop being a copy takes far fewer flipped bits than all; more would only change the photo further.
        return max(0, target.forgives(tolerance) - round(_SPARE_SHARE * len(target.wanted)))
    most = preset.allowed_misses_in_band if target.band else preset.allowed_misses
    return min(most, target.forgives(tolerance))


def _counted(task: Task, context: ProtectContext) -> Callable[[int, Sequence[Tensor]], None] | None:
    """Return the search's callback that reports each step to `context.stepped`, if that is set."""
    stepped, name = context.stepped, task.source.name
    return None if stepped is None else lambda taken, codes: stepped(name)


def _transform(task: Task, context: ProtectContext) -> Callable[[int], View | None] | None:
    """Return the preset's transform of each step, drawn at random for each try; None without transforms."""
    transforms = context.preset.transforms
    if transforms is None:
        return None
    generator = photo_generator(context.secret, task.source.sha256, f"transforms of try {task.tries}")
    return StepTransforms(transforms, generator, task.scale, _prepared(task, context))


def _prepared(task: Task, context: ProtectContext) -> int | None:
    """Return the number of steps that prepare for the preset's transforms; None if the search does not settle."""
    method = context.method.suited(
        enlarged=task.grid.enlarged, surrogates=bool(context.surrogates), goes_on=task.delta is not None
    )
    if context.preset.transforms is None or method.prepares == 1:
        return None
    return round(method.prepares * method.steps)


class StepTransforms:
    """A preset's random transform for each step. A step that is repeated gets the same transform.

    A step is repeated if the device had no memory for it.
    """

    def __init__(
        self, transforms: Transforms, generator: np.random.Generator, scale: float, prepared: int | None
    ) -> None:
        """Set the randomness. `prepared`: number of steps after which there are no transforms; None: always some."""
        self._transforms, self._generator, self._scale, self._prepared = transforms, generator, scale, prepared
        self._step: int | None = None
        self._state = generator.bit_generator.state

    def __call__(self, step: int) -> View | None:
        """Return the transform of a step; None: untransformed."""
        if self._prepared is not None and step >= self._prepared:
            return None
        if step == self._step:
            self._generator.bit_generator.state = self._state
        else:
            self._step, self._state = step, self._generator.bit_generator.state
        return self._transforms.draw(step, self._generator, self._scale)


_TOGETHER = 8
"""Originals hashed at once. Which ones depends only on their order, so that results are reproducible."""


class HashedAhead:
    """Codes of originals that were hashed before their turn, in a batch with others."""

    def __init__(self) -> None:
        self._found: dict[tuple[int, int], tuple[Tensor, Hashed]] = {}
        """By id of network and view; the view is kept so that its id is not reused."""

    def hash_together(self, tasks: Sequence[Task], context: ProtectContext) -> None:
        """Hash every view of the tasks with the networks of the context, each network once."""
        views: dict[int, tuple[OpenModel, list[Tensor]]] = {}
        for task in tasks:
            for model, view in _pairs(task, context):
                if (id(model), id(view)) not in self._found:
                    views.setdefault(id(model), (model, []))[1].append(view)
        for model, images in views.values():
            for view, hashed in zip(images, model.hash_views(images), strict=True):
                self._found[id(model), id(view)] = view, hashed

    def hash_view(self, model: OpenModel, view: Tensor) -> Hashed:
        """Return and forget the result for the view, or hash it now."""
        found = self._found.pop((id(model), id(view)), None)
        return model.hash_view(view) if found is None else found[1]

    def clear(self) -> None:
        """Forget all results; needed when networks move to another device."""
        self._found.clear()


def _pairs(task: Task, context: ProtectContext) -> Iterator[tuple[OpenModel, Tensor]]:
    searched = (model for model in context.models for _ in context.preset.views)
    yield from zip(searched, task.views, strict=True)
    yield from zip((each.opened for each in context.surrogates), task.surrogate_views, strict=True)
    yield from zip(context.witnesses, task.witness_views, strict=True)


def waiting_tasks(first: Task, prepared: Sequence[tuple[Source, Future[Task]]]) -> list[Task]:
    """Return `first` and the tasks of the next photos that still have to be hashed; waits until they are decoded."""
    found = [first]
    for _, future in islice(prepared, _TOGETHER - 1):
        try:
            task = future.result()
        except HashshieldError:
            continue  # reported in its own turn
        if task.earlier is None and not task.objectives:
            found.append(task)
    return found
