"""Read and write checkpoint files: safetensors only, float16 on disk, with the card in the metadata."""

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
"""Number of reference codes in a checkpoint: enough to tell how near an unrelated photo comes by chance."""


class Checkpoint:
    """A card with its tensors, float32 in memory.

    `anchors` maps a code length K to (C, K) int8 bits in {-1, +1}, one row per class of the card; `references` maps it
    to (N, K) int8 reference codes.
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
    """Return card and tensors of a checkpoint file. Raises CheckpointError, also for values that are not finite."""
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
                    # Copied, because kernels round differently if the file's header leaves tensors unaligned.
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
    """Write a checkpoint atomically; floating tensors become float16, unless `exact` keeps their dtype.

    `anchors` are (C, K) and `references` (N, K) bits by code length K. Raises CheckpointError if a tensor does not fit
    float16.
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
    # A single metadata entry: safetensors writes several in random order, and equal checkpoints must be equal files.
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    # Written directly from the tensors, because serialising to bytes first would copy a large network.
    save_file(tensors, partial, metadata={"card": card.to_json()})
    with partial.open("rb+") as handle:
        os.fsync(handle.fileno())
    partial.replace(path)


def with_map(path: Path, measured: Mapping[int, float], unseen: Mapping[int, float]) -> None:
    """Write measured MAPs, by code length, into the card of a checkpoint file; its tensors stay the same."""
    card = replace(
        read_card(path),
        map={str(k): round(v, 4) for k, v in measured.items()},
        map_unseen={str(k): round(v, 4) for k, v in unseen.items()},
    )
    _rewrite(path, card, read_checkpoint(path).references)


def with_references(path: Path, references: Mapping[int, NDArray[np.int8]]) -> None:
    """Write (N, K) reference codes, by code length, into a checkpoint file; card and other tensors stay the same."""
    _rewrite(path, read_card(path), references)


def _rewrite(path: Path, card: Card, references: Mapping[int, NDArray[np.int8]]) -> None:
    with safe_open(path, framework="pt") as handle:
        tensors = {key: handle.get_tensor(key) for key in handle.keys()}  # noqa: SIM118 - no mapping
    anchors = {int(k.removeprefix(ANCHOR)): v for k, v in tensors.items() if k.startswith(ANCHOR)}
    weights = {k: v for k, v in tensors.items() if not k.startswith((ANCHOR, REFERENCE))}
    # `exact` keeps every stored dtype, float16 or not.
    write_checkpoint(path, card, weights, anchors, exact=True, references=references)
