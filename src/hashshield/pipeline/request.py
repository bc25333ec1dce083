"""From resolved settings and a target to the request: one way for the command line and for Python."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

from hashshield.config import Settings
from hashshield.errors import UsageError
from hashshield.pipeline.networks import models_to_search
from hashshield.types import GoalKind, GoalSpec, Request

__all__ = ["goal_of", "request_of"]

_OPTIONS = ("strip_copies", "strip_gps", "strip_metadata", "keep_mtime", "lossy_formats")
"""Settings that travel in `Request.options`."""


def goal_of(
    target: Path | None,
    target_set: Path | None,
    target_class: str | None,
    goal: str | None,
    *,
    spelled: Callable[[str], str] = str,
) -> GoalSpec | None:
    """The goal that was given, or None when none was; `goal` is a word that `config.resolve` has checked.

    `spelled` turns a name into what a message calls it. Raises UsageError when several exclude each other.
    """
    given = {
        "target": None if target is None else GoalSpec("image", str(target)),
        "target_set": None if target_set is None else GoalSpec("set", str(target_set)),
        "target_class": None if target_class is None else GoalSpec("class", target_class),
        "goal": None if goal is None else _named(goal),
    }
    found = {spelled(name): spec for name, spec in given.items() if spec is not None}
    if len(found) > 1:
        raise UsageError(f"{' and '.join(found)} exclude each other; a photo gets one code, so keep one of them")
    return next(iter(found.values()), None)


def request_of(settings: Settings, goal: GoalSpec | None, *, options: Mapping[str, bool], **rest: Any) -> Request:
    """The request: resolved settings, the goal asked for, and what has no setting (`output`, `force`, ...)."""
    value = {key: found.value for key, found in settings.items()}
    return Request(
        models=models_to_search(settings),
        goal=goal or _named(value["goal"]),
        method=value["method"],
        preset=value["preset"],
        tau=value["tau"],
        steps=value["steps"],
        stop=value["stop"],
        tolerance=value["tolerance"],
        accept_best=value["accept_best"],
        vault=value["vault"],
        device=value["device"],
        batch_size=value["batch_size"],
        jobs=value["jobs"],
        exclude=value["exclude"],
        witness=value["witness"],
        survival=value["survival"],
        options={**{key: value[key] for key in _OPTIONS}, **options},
        **rest,
    )


def _named(name: str) -> GoalSpec:
    """A goal without a value, by a word that `config.resolve` has checked."""
    return GoalSpec(cast(GoalKind, name))
