"""Protecting the picked queries of a stage as `protect` does, goal by goal; what is in the pool is not made again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from hashshield import imaging
from hashshield.bench.photos import protect_each
from hashshield.bench.pool import Trial
from hashshield.bench.stage import Stage
from hashshield.bench.trials import execution_for
from hashshield.checkpoints.cache import digest_of
from hashshield.checkpoints.catalog import resolve
from hashshield.errors import UsageError
from hashshield.models.hash_files import displayed_rgb
from hashshield.models.load import OpenModel
from hashshield.pipeline.execute import make_context
from hashshield.types import GoalKind, GoalSpec, Progress, Request

__all__ = ["run_goal"]

_SECRET = b"bench"


def run_goal(
    stage: Stage,
    length: int,
    goal: GoalKind,
    *,
    tau: float,
    count: int,
    searched: Sequence[OpenModel] = (),
    preset: str = "invisible",
    progress: Progress,
) -> list[Trial]:
    """One trial for each of the first `count` picked queries, as PNG, receipts and later tries included.

    The search uses `searched`, and where none are given the stage's own network of that length.
    """
    models = tuple(searched) or (stage.model(length),)
    request = Request(
        models=tuple(opened.name for opened in models),
        goal=GoalSpec(goal),
        preset=preset,
        steps=stage.asked.steps,
        tau=tau,
        seed=stage.seed,
        device=models[0].model.mean.device.type,
        witness="none",
    )
    digests = [[digest_of(resolve(opened.name).path), opened.bits] for opened in models]
    paths = [stage.query_path(int(row)) for row in stage.picked[:count]]
    known: list[dict[str, Any]] = [
        {
            "searched": digests,
            "photo": [stage.files.name, path.relative_to(stage.files.root).as_posix(), path.stat().st_size],
            "goal": goal,
            "preset": preset,
            "steps": stage.asked.steps,
            "tau": tau,
            "seed": stage.seed,
            "device": request.device,
        }
        for path in paths
    ]
    trials = {i: trial for i, settings in enumerate(known) if (trial := stage.pool.trial(settings)) is not None}
    for _ in trials:
        progress.done(None)
    missing = [i for i in range(len(paths)) if i not in trials]
    if missing:
        progress.photo(f"{goal}, {preset}, {', '.join(request.models)}")
        context = make_context(request, _SECRET)
        context = replace(context, models=models, execution=execution_for(models[0]))
        for place, result in protect_each([paths[i] for i in missing], context, progress):
            i = missing[place]
            if result.data is None or result.receipt is None:
                raise UsageError(f"{paths[i]}: cannot be protected ({result.reason}); leave the goal {goal} out")
            record = {"steps": result.steps, "passed": result.receipt.passed}
            pixels = displayed_rgb(imaging.read(result.data, name=str(paths[i])))
            trials[i] = stage.pool.keep(known[i], pixels, record)
    return [trials[i] for i in range(len(paths))]
