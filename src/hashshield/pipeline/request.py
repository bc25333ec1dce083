"""The request of resolved settings and a target, the same for the command line and for Python."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any, cast

from hashshield.config import SETTINGS, Settings
from hashshield.errors import UsageError
from hashshield.pipeline.networks import models_to_search
from hashshield.types import FileOptions, GoalKind, GoalSpec, Request

__all__ = ["goal_of", "request_of"]

_SETTINGS = {item.name for item in fields(Request)} & (SETTINGS.keys() - {"goal"})
_FILE_SETTINGS = {item.name for item in fields(FileOptions)} & SETTINGS.keys()
"""Settings that are a field of the same name; `model` and `goal` are resolved further."""


def goal_of(
    target: Path | None,
    target_set: Path | None,
    target_class: str | None,
    goal: str | None,
    *,
    spelled: Callable[[str], str] = str,
) -> GoalSpec | None:
    """Return the goal that the arguments name, or None; `goal` is a word that `config.resolve` has checked.

    `spelled` returns what a message calls an argument. Raises UsageError if more than one goal is named.
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


def request_of(
    settings: Settings,
    goal: GoalSpec | None,
    *,
    break_links: bool = False,
    allow_root: bool = False,
    **rest: Any,
) -> Request:
    """Return the request of these settings; `goal` replaces theirs, and `rest` are fields that no setting has.

    A setting reaches the field of its name in `Request` or `FileOptions`. Raises UsageError, UnknownNameError.
    """
    value = {key: found.value for key, found in settings.items()}
    return Request(
        models=models_to_search(settings),
        goal=goal or _named(value["goal"]),
        file_options=FileOptions(
            **{key: value[key] for key in _FILE_SETTINGS}, break_links=break_links, allow_root=allow_root
        ),
        **{key: value[key] for key in _SETTINGS},
        **rest,
    )


def _named(name: str) -> GoalSpec:
    """Return a goal without a value; `name` is a word that `config.resolve` has checked."""
    return GoalSpec(cast(GoalKind, name))
