"""Checkpoint files: safetensors only, float16 on disk, the card in the metadata."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from hashshield.checkpoints.card import REFERENCE, Card, read_card
from hashshield.errors import CheckpointError

__all__ = ["REFERENCES", "Checkpoint", "read_checkpoint", "with_references", "write_checkpoint"]

ANCHOR = "anchor."
REFERENCES = 1000
"""Photos whose codes a checkpoint carries: enough to tell how near a stranger's photo comes by chance."""


class Checkpoint:
    """A card with its tensors, float32 in memory.

    `anchors` maps a code length to (C, K) int8 bits, one row per class of the card; `references` to the (N, K) int8
    bits of photos that have nothing to do with the user's.
    """

    def __init__(
        self,
        card: Card,
        weights: dict[str, Tensor],
        anchors: dict[int, Tensor],
        references: dict[int, NDArray[np.int8]] | None = None,
    ) -> None:
        self.card, self.weights, self.anchors, self.references = card, weights, anchors, references or {}


def read_checkpoint(path: Path) -> Checkpoint:
    """Read card and tensors; every value must be finite. Raises CheckpointError."""
    card = read_card(path)
    weights: dict[str, Tensor] = {}
    anchors: dict[int, Tensor] = {}
    packed: dict[int, Tensor] = {}
    try:
        with safe_open(path, framework="pt") as handle:
            for key in handle.keys():  # noqa: SIM118 - a safetensors handle is no mapping
                tensor = handle.get_tensor(key)
                if key.startswith(ANCHOR):
                    anchors[int(key.removeprefix(ANCHOR))] = tensor
                elif key.startswith(REFERENCE):
                    packed[int(key.removeprefix(REFERENCE))] = tensor
                else:
                    # Copied, because kernels round otherwise where the file's header puts tensors at odd places.
                    weights[key] = (tensor.float() if tensor.is_floating_point() else tensor).clone()
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
    return Checkpoint(card, weights, anchors, {k: _unpacked(found, k, path) for k, found in packed.items()})


def _unpacked(packed: Tensor, bits: int, path: Path) -> NDArray[np.int8]:
    """Return the (N, K) bits in {-1, +1} of packed reference codes. Raises CheckpointError."""
    if packed.dtype != torch.uint8 or packed.ndim != 2 or packed.shape[1] != -(-bits // 8) or len(packed) < 1:
        raise CheckpointError(
            f"{path}: reference codes of {bits} bits are {packed.dtype} of shape {tuple(packed.shape)}, "
            f"not packed bits of shape (N, {-(-bits // 8)}); fetch it again"
        )
    found = np.unpackbits(packed.numpy(), axis=1)[:, :bits]
    return np.where(found > 0, 1, -1).astype(np.int8)


def write_checkpoint(
    path: Path,
    card: Card,
    weights: Mapping[str, Tensor],
    anchors: Mapping[int, Tensor],
    *,
    exact: bool = False,
    references: Mapping[int, NDArray[np.int8]] | None = None,
) -> None:
    """Write atomically; floating tensors become float16, or stay as they are where they must be `exact`.

    `references` are (N, K) bits by code length. Raises CheckpointError when a tensor does not fit float16.
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
    for bits, codes in (references or {}).items():
        tensors[f"{REFERENCE}{bits}"] = torch.from_numpy(np.packbits(np.asarray(codes) > 0, axis=1))
    # One entry only: safetensors writes several in no fixed order, and equal checkpoints shall be equal files.
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    # Straight from the tensors: bytes in between would be one more copy of a large network.
    save_file(tensors, partial, metadata={"card": card.to_json()})
    with partial.open("rb+") as handle:
        os.fsync(handle.fileno())
    partial.replace(path)


def with_map(path: Path, measured: Mapping[int, float], unseen: Mapping[int, float]) -> None:
    """Write measured MAPs into the card of a stored file without touching its tensors."""
    card = replace(
        read_card(path),
        map={str(k): round(v, 4) for k, v in measured.items()},
        map_unseen={str(k): round(v, 4) for k, v in unseen.items()},
    )
    _rewrite(path, card, read_checkpoint(path).references)


def with_references(path: Path, references: Mapping[int, NDArray[np.int8]]) -> None:
    """Write (N, K) reference codes into a stored file without touching its card or its other tensors."""
    _rewrite(path, read_card(path), references)


def _rewrite(path: Path, card: Card, references: Mapping[int, NDArray[np.int8]]) -> None:
    with safe_open(path, framework="pt") as handle:
        tensors = {key: handle.get_tensor(key) for key in handle.keys()}  # noqa: SIM118 - no mapping
    anchors = {int(k.removeprefix(ANCHOR)): v for k, v in tensors.items() if k.startswith(ANCHOR)}
    weights = {k: v for k, v in tensors.items() if not k.startswith((ANCHOR, REFERENCE))}
    # As they are: a stored float16 stays what it is, and so does what was written exactly.
    write_checkpoint(path, card, weights, anchors, exact=True, references=references)
