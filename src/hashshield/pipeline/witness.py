"""A witness: a network that the search never used, and what it says of the result."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hashshield.attacks.goals import away_band, nearest_class
from hashshield.checkpoints import catalog
from hashshield.errors import UsageError
from hashshield.metrics.hamming import bits_of
from hashshield.models.hash_files import shared_codes
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
    """(K,) bits that the witness gives the original, of which `view` is what it sees."""
    return bits_of(_code(model, view))


def witness_row(original_bits: NDArray[np.int8], model: OpenModel, view: Tensor, name: str) -> WitnessRow:
    """What the witness says of the written photo; `own` are the original's bits and `name` is the view's."""
    bits = bits_of(_code(model, view))
    distance = int(np.count_nonzero(bits != original_bits))
    rank = None
    if model.anchors is not None:
        anchors = model.anchors.cpu().numpy()
        distances = np.count_nonzero(anchors != bits, axis=1)
        rank = int(np.count_nonzero(distances < distances[nearest_class(original_bits, anchors)]))
    return WitnessRow(model.name, len(bits), name, distance, distance >= away_band(len(bits))[0], rank)


@torch.inference_mode()
def _code(model: OpenModel, view: Tensor) -> NDArray[np.float32]:
    image = view[None].to(model.model.mean.device)
    (codes,) = shared_codes([model.model], image)
    found: NDArray[np.float32] = codes.code[0].float().cpu().numpy()
    return found
