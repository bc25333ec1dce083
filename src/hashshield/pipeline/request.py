"""Build a request from resolved settings and a goal, and choose the networks it uses without naming them.

These are the surrogates, whose features are moved, and the witnesses, which are asked about the result. A witness is a
network that the search did not use, nor a twin of it. Importing this module does not import torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from hashshield.attacks.goals import GOALS, away_band, nearest_class
from hashshield.checkpoints import catalog
from hashshield.checkpoints.card import Card, has_references, read_card, twin_among
from hashshield.config import SETTINGS, Settings, Source
from hashshield.errors import UsageError
from hashshield.types import FileOptions, GoalKind, GoalSpec, Request, WitnessRow

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from hashshield.models.load import OpenModel

__all__ = [
    "MOVE_FEATURES",
    "Witnesses",
    "goal_of",
    "installed_models",
    "request_of",
    "surrogate_names",
    "witness_row",
    "witnesses",
]


MOVE_FEATURES = ("strong",)
"""Presets that need surrogates besides the searched networks. A copy, because `attacks.presets` imports torch."""
_SURROGATES = ("efficientnet_lite0", "efficientnet_lite2")
_LEAST = 64
"""Least input size, in pixels, of a network for photos; smaller ones are for thumbnails."""
_LEAST_SEARCHED = 96
"""The same for networks chosen as surrogates: one of 64 pixels kept most photos from their goal (ADR 007)."""
_LEAST_MAP = 0.5
"""Least MAP on unseen photos of a witness: a network that finds little anyway proves nothing."""
AUTO, NONE = "auto", "none"


def installed_models(least: int = _LEAST) -> Iterator[catalog.CatalogEntry]:
    """Yield the installed networks with an input of at least `least` pixels, in catalogue order, imported ones last.

    Raises CheckpointError.
    """
    for entry in catalog.known():
        if catalog.state(entry) != "available" and read_card(catalog.file_of(entry)).input.crop >= least:
            yield entry


def surrogate_names(settings: Settings) -> tuple[str, ...]:
    """Return the names of further surrogates besides the searched networks; empty for presets that use none.

    They are the installed EfficientNet-Lites that are not imported, without the named models and witness. Raises
    UnknownNameError, CheckpointError.
    """
    if settings["preset"].value not in MOVE_FEATURES:
        return ()
    witness = settings["witness"].value
    left = {catalog.reference(model).name for model in settings["model"].value}
    if witness not in (AUTO, NONE):
        left.add(catalog.reference(witness).name)
    return tuple(
        catalog.full_name(entry.name)
        for entry in installed_models(_LEAST_SEARCHED)
        if not entry.imported and entry.name not in left and read_card(catalog.file_of(entry)).arch in _SURROGATES
    )


@dataclass(frozen=True, slots=True)
class Witnesses:
    """The witnesses, or why there are none."""

    names: tuple[str, ...] = ()
    """Each as `checkpoint:bits`."""
    none_because: str | None = None
    """Why no installed network can be a witness; None if there is one, or none is wanted."""


def witnesses(request: Request) -> Witnesses:
    """Return the witnesses of a request: the named one, or every installed network that can be one.

    A witness must not be searched on, be a twin of a searched network (it sees the same), have a low MAP (it finds
    nothing anyway) or lack reference codes (it cannot tell how far is far). A named witness may lack reference codes.
    Raises UsageError for a named network that cannot be one, UnknownNameError, CheckpointError.
    """
    if request.witness == NONE:
        return Witnesses()
    search_models = (*request.models, *request.surrogates)
    search_cards = _cards(search_models)
    if request.witness != AUTO:
        name = catalog.full_name(request.witness)
        used = {catalog.full_name(model).rpartition(":")[0] for model in search_models}
        if name.rpartition(":")[0] in used:
            raise UsageError(f"--witness {request.witness}: is searched on; a witness is a network that is not")
        card = read_card(catalog.resolve(request.witness).path)
        fault = _unfit(card, search_cards)
        if fault is not None:
            raise UsageError(f"--witness {request.witness}: {fault}; name another network, or none")
        return Witnesses((name,))
    found, left_out = [], []
    for entry in installed_models():
        card = read_card(catalog.file_of(entry))
        if any(card.name == one.name for one in search_cards):
            continue
        name = catalog.full_name(entry.name)
        fault = _unfit(card, search_cards)
        if fault is None and not has_references(catalog.file_of(entry), int(name.rpartition(":")[2])):
            fault = "carries no reference codes"
        if fault is None:
            found.append(name)
        else:
            left_out.append(f"{entry.name} {fault}")
    if found:
        return Witnesses(tuple(found))
    return Witnesses((), "; ".join(left_out) or "the search used every installed network")


def _cards(models: Iterable[str]) -> list[Card]:
    return [read_card(catalog.resolve(model).path) for model in models]


def _unfit(card: Card, search_cards: Iterable[Card]) -> str | None:
    """Return why a network cannot be a witness of these searched networks; None if it can."""
    twin = twin_among(card, search_cards)
    if twin is not None:
        return f"has the trunk of {twin.name}, which is searched on"
    best = max(card.map_unseen.values(), default=None)
    if best is not None and best < _LEAST_MAP:
        return f"finds too little itself (MAP {best:.2f} among photos it never saw)"
    return None


def witness_row(original_bits: NDArray[np.int8], model: OpenModel, view: Tensor, name: str) -> WitnessRow:
    """Return a witness's row for the written photo.

    `original_bits` are the original's (K,) bits, `view` the written photo, (3, s, s), in the view called `name`. The
    witness still finds the photo if no reference code is nearer to the original's code than the photo's own code.
    Reference codes equal to the original's do not count. Without reference codes there is no verdict.
    """
    bits = model.hash_view(view).bits
    distance = int(np.count_nonzero(bits != original_bits))
    rank = nearest = None
    if model.anchors is not None:
        rank = model.class_rank(bits, nearest_class(original_bits, model.anchors.cpu().numpy()))
    if model.references is not None:
        apart = np.count_nonzero(model.references != original_bits, axis=1)
        # An equal code may be the photo itself, which says nothing about unrelated photos.
        nearest = int(apart[apart > 0].min(initial=len(bits)))
    return WitnessRow(
        model.name,
        len(bits),
        name,
        distance,
        distance >= away_band(len(bits))[0],
        rank,
        nearest,
        None if nearest is None else distance <= nearest,
    )


_SETTINGS = {item.name for item in fields(Request)} & (SETTINGS.keys() - {"goal"})
_FILE_SETTINGS = {item.name for item in fields(FileOptions)} & SETTINGS.keys()
"""Settings with a field of the same name in `Request` or `FileOptions`; `request_of` resolves `model` and `goal`."""


def goal_of(
    target: Path | None,
    target_set: Path | None,
    target_class: str | None,
    goal: str | None,
    *,
    spelled: Callable[[str], str] = str,
) -> GoalSpec | None:
    """Return the goal that the arguments name, or None; `goal` is a goal's name, validated by `config.resolve`.

    `spelled` returns an argument's name for messages. Raises UsageError if more than one goal is named.
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
    """Return the request for these settings; `goal` overrides theirs, `rest` sets fields without a setting.

    Each setting becomes the field of the same name in `Request` or `FileOptions`. Raises UnknownNameError, and
    UsageError for an option or argument that would have no effect.
    """
    value = {key: found.value for key, found in settings.items()}
    goal = goal or _named(value["goal"])
    _require_effect(settings, goal)
    if value["preset"] in _OWN_SEARCH:
        # A configured `stop` must not replace the search that this preset stands for.
        value["stop"] = SETTINGS["stop"].default
    return Request(
        models=value["model"],
        surrogates=surrogate_names(settings),
        goal=goal,
        file_options=FileOptions(
            **{key: value[key] for key in _FILE_SETTINGS}, break_links=break_links, allow_root=allow_root
        ),
        **{key: value[key] for key in _SETTINGS},
        **rest,
    )


_OWN_SEARCH = ("strong",)
"""Presets that are nothing without their own search, which `stop` would replace."""


def _require_effect(settings: Settings, goal: GoalSpec) -> None:
    """Raise UsageError if `stop` or `tolerance` is given with this call and has no effect.

    Values from the environment or the configuration file are defaults, for the calls that they suit.
    """
    stop, tolerance, method, preset = (settings[key] for key in ("stop", "tolerance", "method", "preset"))
    if stop.source in _GIVEN and stop.value == "first":
        if method.value != "rnm":
            raise UsageError(
                f"{stop.where} first: is for the method rnm, and the method is {method.value}; leave one of the two out"
            )
        if preset.value in _OWN_SEARCH:
            raise UsageError(
                f"{stop.where} first: would replace the search that the preset {preset.value} is made of; leave one of "
                "the two out"
            )
    if tolerance.source in _GIVEN and goal.kind in GOALS and GOALS[goal.kind].is_band:
        raise UsageError(
            f"{tolerance.where} {tolerance.value}: says by how many bits a code may miss its target, and the goal "
            f"{goal.label} has none; leave it out, or name a target"
        )


_GIVEN: tuple[Source, ...] = ("flag", "argument")


def _named(name: str) -> GoalSpec:
    """Return a goal without a target; `name` is validated by `config.resolve`."""
    return GoalSpec(cast(GoalKind, name))
