"""The request of resolved settings and a target, and the networks it uses that were not named.

Those are networks to search on, and the witnesses to ask about the result. A witness is a network that the search never
used, nor a twin of it. Nothing here needs torch before it is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from hashshield.attacks.goals import away_band, nearest_class
from hashshield.checkpoints import catalog
from hashshield.checkpoints.card import Card, has_references, read_card, twin_among
from hashshield.config import SETTINGS, Settings
from hashshield.errors import UsageError
from hashshield.types import FileOptions, GoalKind, GoalSpec, Request, WitnessRow

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from hashshield.models.load import OpenModel

__all__ = [
    "Witnesses",
    "goal_of",
    "installed_models",
    "request_of",
    "surrogate_names",
    "witness_row",
    "witnesses",
]


_MOVE_FEATURES = ("strong",)
"""Presets whose method moves features. Not read from the presets themselves, which bring torch: a request that leaves
nothing to do is answered without."""
_SURROGATES = ("efficientnet_lite0", "efficientnet_lite2")
_LEAST = 64
"""Pixels of input from which on a network looks at photos; smaller ones know thumbnails."""
_LEAST_SEARCHED = 96
"""The same for networks that are searched on unasked: one of 64 pixels kept most photos from their goal (ADR 007)."""
_LEAST_MAP = 0.5
"""MAP among unseen photos from which on a network can be a witness: one that finds little itself proves nothing."""
AUTO, NONE = "auto", "none"


def installed_models(least: int = _LEAST) -> Iterator[catalog.CatalogEntry]:
    """Networks that are here and see at least so many pixels, in the catalogue's order, imported ones last.

    Raises CheckpointError.
    """
    for entry in catalog.known():
        if catalog.state(entry) != "available" and read_card(catalog.file_of(entry)).input.crop >= least:
            yield entry


def surrogate_names(settings: Settings) -> tuple[str, ...]:
    """Return the networks whose features are moved beside the code of the named ones, for presets that do that.

    They are the EfficientNet-Lites that are here, but for a named witness. No other network is taken unasked: nobody
    knows what an imported one is for. Raises UnknownNameError, CheckpointError.
    """
    if settings["preset"].value not in _MOVE_FEATURES:
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
    """The networks to ask about results, and why there are none."""

    names: tuple[str, ...] = ()
    """`checkpoint:bits`, each."""
    none_because: str | None = None
    """Why no network that is here can be asked; None where one can, and where none is wanted."""


def witnesses(request: Request) -> Witnesses:
    """The networks to ask about results: the named one, or all that are here, not searched on, and fit to judge.

    A twin of a network that was searched on sees what that one sees, a network of low quality finds nothing anyway, and
    one without reference codes cannot say what far is. A named network only has to be no twin and of some quality.
    Raises UsageError for one that is not, UnknownNameError, CheckpointError.
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
    return Witnesses((), "; ".join(left_out) or "the search used every network that is here")


def _cards(models: Iterable[str]) -> list[Card]:
    return [read_card(catalog.resolve(model).path) for model in models]


def _unfit(card: Card, search_cards: Iterable[Card]) -> str | None:
    """Why a network that is not searched on is no witness; None where it is one."""
    twin = twin_among(card, search_cards)
    if twin is not None:
        return f"has the trunk of {twin.name}, which is searched on"
    best = max(card.map_unseen.values(), default=None)
    if best is not None and best < _LEAST_MAP:
        return f"finds too little itself (MAP {best:.2f} among photos it never saw)"
    return None


def witness_row(original_bits: NDArray[np.int8], model: OpenModel, view: Tensor, name: str) -> WitnessRow:
    """Return what the witness says of the written photo; `original_bits` are the original's, `name` is the view's.

    It still finds the photo where none of its reference codes is nearer to the original's than the photo's code is; of
    those, codes that equal the original's do not count. A checkpoint without them gives no verdict.
    """
    bits = model.hash_view(view).bits
    distance = int(np.count_nonzero(bits != original_bits))
    rank = nearest = None
    if model.anchors is not None:
        rank = model.class_rank(bits, nearest_class(original_bits, model.anchors.cpu().numpy()))
    if model.references is not None:
        apart = np.count_nonzero(model.references != original_bits, axis=1)
        # One that is equal may be the photo itself, which says nothing of others.
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
        models=value["model"],
        surrogates=surrogate_names(settings),
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
