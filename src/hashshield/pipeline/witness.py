"""A witness: a network that the search never used, and what it says of the result."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from hashshield.attacks.goals import away_band, nearest_class
from hashshield.checkpoints import catalog
from hashshield.errors import UsageError
from hashshield.models.load import OpenModel
from hashshield.pipeline.networks import installed_models
from hashshield.types import Request, WitnessRow

__all__ = ["witness_bits", "witness_name", "witness_row"]

AUTO, NONE = "auto", "none"


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
