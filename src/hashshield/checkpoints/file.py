"""Checkpoint files: safetensors only, float16 on disk, the card in the metadata."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from hashshield.checkpoints.card import Card, read_card
from hashshield.errors import CheckpointError

__all__ = ["Checkpoint", "read_checkpoint", "write_checkpoint"]

ANCHOR = "anchor."


class Checkpoint:
    """A card with its tensors, float32 in memory.

    `anchors` maps a code length to (C, K) int8 bits, one row per class of the card.
    """

    def __init__(self, card: Card, weights: dict[str, Tensor], anchors: dict[int, Tensor]) -> None:
        self.card, self.weights, self.anchors = card, weights, anchors


def read_checkpoint(path: Path) -> Checkpoint:
    """Read card and tensors; every value must be finite. Raises CheckpointError."""
    card = read_card(path)
    weights: dict[str, Tensor] = {}
    anchors: dict[int, Tensor] = {}
    try:
        with safe_open(path, framework="pt") as handle:
            for key in handle.keys():  # noqa: SIM118 - a safetensors handle is no mapping
                tensor = handle.get_tensor(key)
                if key.startswith(ANCHOR):
                    anchors[int(key.removeprefix(ANCHOR))] = tensor
                else:
                    weights[key] = tensor.float() if tensor.is_floating_point() else tensor
    except (SafetensorError, OSError, ValueError, TypeError, KeyError, AttributeError, RuntimeError) as error:
        raise CheckpointError(f"{path}: not a readable safetensors file ({error}); fetch it again") from error
    for key, tensor in weights.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise CheckpointError(f"{path}: tensor {key} holds NaN or infinite values; fetch or train it again")
    for bits, anchor in anchors.items():
        if anchor.dtype != torch.int8:
            raise CheckpointError(f"{path}: anchors of {bits} bits are {anchor.dtype}, not int8; fetch it again")
        if anchor.shape != (len(card.classes), bits):
            raise CheckpointError(
                f"{path}: anchors of {bits} bits have shape {tuple(anchor.shape)}, "
                f"expected ({len(card.classes)}, {bits}); fetch it again"
            )
        if not bool((anchor.abs() == 1).all()):
            raise CheckpointError(f"{path}: anchors of {bits} bits hold other values than -1 and 1; fetch it again")
    return Checkpoint(card, weights, anchors)


def write_checkpoint(
    path: Path, card: Card, weights: Mapping[str, Tensor], anchors: Mapping[int, Tensor], *, exact: bool = False
) -> None:
    """Write atomically; floating tensors become float16, or stay as they are where they must be `exact`.

    Raises CheckpointError when one does not fit float16.
    """
    tensors: dict[str, Tensor] = {}
    for key, tensor in weights.items():
        small = tensor.detach().cpu()
        if small.is_floating_point() and not exact:
            small = small.half()
        if small.is_floating_point() and not exact and not bool(torch.isfinite(small).all()):
            raise CheckpointError(f"{path}: tensor {key} does not fit float16; it was not written")
        tensors[key] = small.contiguous()
    for bits, anchor in anchors.items():
        tensors[f"{ANCHOR}{bits}"] = anchor.to(torch.int8).contiguous()
    # One entry only: safetensors writes several in no fixed order, and equal checkpoints shall be equal files.
    data = save(tensors, metadata={"card": card.to_json()})
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with partial.open("wb") as handle:
        handle.write(data)
        handle.flush()
        os.fsync(handle.fileno())
    partial.replace(path)


def with_map(path: Path, measured: Mapping[int, float], unseen: Mapping[int, float]) -> None:
    """Write measured MAPs into the card of a stored file without touching its tensors."""
    with safe_open(path, framework="pt") as handle:
        tensors = {key: handle.get_tensor(key) for key in handle.keys()}  # noqa: SIM118 - no mapping
    card = replace(
        read_card(path),
        map={str(k): round(v, 4) for k, v in measured.items()},
        map_unseen={str(k): round(v, 4) for k, v in unseen.items()},
    )
    anchors = {int(k.removeprefix(ANCHOR)): v for k, v in tensors.items() if k.startswith(ANCHOR)}
    write_checkpoint(path, card, {k: v for k, v in tensors.items() if not k.startswith(ANCHOR)}, anchors)
