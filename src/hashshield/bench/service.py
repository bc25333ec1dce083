"""What a service may do: how it asks its database, and what it does to a picture before hashing it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from hashshield.attacks.objectives import predicted_flip
from hashshield.metrics.hamming import bits_of, hamming
from hashshield.transforms.pillow import JPEG_Q75, Transform

__all__ = ["ASKING", "SIMPLE", "Asking", "blurred", "cosine", "transformed"]

Codes = NDArray[np.float32]
Bits = NDArray[np.int8]
Pixels = NDArray[np.uint8]

Asking = Callable[[Codes, Bits], NDArray[Any]]
"""Relaxed (Q, K) codes and (N, K) database bits -> (Q, N) distances, smallest first."""


def _symmetric(codes: Codes, database: Bits) -> NDArray[Any]:
    return hamming(bits_of(codes), database)


def _complement(codes: Codes, database: Bits) -> NDArray[Any]:
    return hamming(-bits_of(codes), database)


def _flipped(codes: Codes, database: Bits) -> NDArray[Any]:
    guess = predicted_flip(torch.from_numpy(codes)).numpy().astype(np.int8)
    return hamming(guess, database)


def _weighted(codes: Codes, database: Bits) -> NDArray[Any]:
    """Each bit counts as much as the query is certain of it."""
    found: NDArray[Any] = -(codes @ database.astype(np.float32).T)
    return found


ASKING: dict[str, Asking] = {
    "symmetric": _symmetric,
    "complement": _complement,
    "predicted_flip": _flipped,
    "real_valued": _weighted,
}
"""By Hamming distance; of the complement; with the less certain half turned over; by real-valued codes."""


def cosine(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    """(Q, D) and (N, D) features -> (Q, N) cosines."""
    found: NDArray[np.float32] = (a / np.linalg.norm(a, axis=1, keepdims=True)) @ (
        b / np.linalg.norm(b, axis=1, keepdims=True)
    ).T
    return found


def transformed(service: Transform) -> Callable[[Pixels], Pixels]:
    """What a service of the survival table does, on upright pixels."""
    return lambda pixels: np.asarray(service.done(Image.fromarray(pixels)))


def blurred(pixels: Pixels) -> Pixels:
    """Gaussian of one pixel."""
    return np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(1)))


SIMPLE: dict[str, Callable[[Pixels], Pixels]] = {"jpeg_q75": transformed(JPEG_Q75), "blur": blurred}
"""What the untargeted table lets a service do to a picture."""
