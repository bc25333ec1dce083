"""Which networks a run uses that were not named: those to search on, and the witness to ask about the result.

A witness is a network that the search never used. Nothing here needs torch before it is asked.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from hashshield.attacks.goals import away_band, nearest_class
from hashshield.checkpoints import catalog
from hashshield.checkpoints.card import read_card
from hashshield.config import Settings
from hashshield.errors import UsageError
from hashshield.types import Request, WitnessRow

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from hashshield.models.load import OpenModel

__all__ = ["installed_models", "models_to_search", "witness_bits", "witness_name", "witness_row"]

_ON_ALL = ("strong",)
"""Presets that are searched on every network that is here where none is named. Not with the presets themselves, which
bring torch: a request that leaves nothing to do is answered without."""
_LEAST = 64
"""Pixels of input from which on a network looks at photos; smaller ones know thumbnails."""
_LEAST_SEARCHED = 96
"""The same for networks that are searched on unasked: one of 64 pixels kept most photos from their goal (ADR 007)."""
AUTO, NONE = "auto", "none"


def installed_models(least: int = _LEAST) -> Iterator[catalog.CatalogEntry]:
    """Networks that are here and see at least so many pixels, in the catalogue's order, imported ones last.

    Raises CheckpointError.
    """
    for entry in catalog.known():
        if catalog.state(entry) != "available" and read_card(catalog.file_of(entry)).input.crop >= least:
            yield entry


def models_to_search(settings: Settings) -> tuple[str, ...]:
    """The networks to search on; for some presets, where none is named, all for photos but a named witness.

    Raises UnknownNameError, CheckpointError.
    """
    named, witness = settings["model"], settings["witness"].value
    models: tuple[str, ...] = named.value
    if named.source != "default" or settings["preset"].value not in _ON_ALL:
        return models
    left = {catalog.reference(model).name for model in models}
    if witness not in ("auto", "none"):
        left.add(catalog.reference(witness).name)
    return models + tuple(entry.name for entry in installed_models(_LEAST_SEARCHED) if entry.name not in left)


def witness_name(request: Request) -> str | None:
    """The network to ask about results, `checkpoint:bits`: the named one, or one that is here and not searched on.

    That is the first for photos in the catalogue's order. None for `none`, and for `auto` where nothing else is here.
    Raises UsageError for one that the search uses, UnknownNameError, CheckpointError.
    """
    used = {catalog.full_name(model).rpartition(":")[0] for model in request.models}
    if request.witness == NONE:
        return None
    if request.witness != AUTO:
        name = catalog.full_name(request.witness)
        if name.rpartition(":")[0] in used:
            raise UsageError(f"--witness {request.witness}: is searched on; a witness is a network that is not")
        return name
    for entry in installed_models():
        if entry.name not in used:
            return catalog.full_name(entry.name)
    return None


def witness_bits(model: OpenModel, view: Tensor) -> NDArray[np.int8]:
    """Return the (K,) bits that the witness gives the original; `view` is the (3, s, s) image it sees."""
    return model.hash_view(view).bits


def witness_row(original_bits: NDArray[np.int8], model: OpenModel, view: Tensor, name: str) -> WitnessRow:
    """Return what the witness says of the written photo; `original_bits` are the original's, `name` is the view's."""
    bits = model.hash_view(view).bits
    distance = int(np.count_nonzero(bits != original_bits))
    rank = None
    if model.anchors is not None:
        rank = model.class_rank(bits, nearest_class(original_bits, model.anchors.cpu().numpy()))
    return WitnessRow(model.name, len(bits), name, distance, distance >= away_band(len(bits))[0], rank)
