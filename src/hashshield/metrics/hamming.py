"""Bits of hash codes and Hamming distances between them, on arrays, so that torch is not needed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hashshield.arrays import Bits, Distances

__all__ = ["bits_of", "from_hex", "hamming", "to_hex"]


def bits_of(code: NDArray[np.floating]) -> Bits:
    """Return the sign of a relaxed code, -1 or +1, in the same shape; the sign of 0 is -1."""
    return np.where(code > 0, 1, -1).astype(np.int8)


def hamming(a: Bits, b: Bits) -> Distances:
    """Return the (N, M) Hamming distances of (N, K) and (M, K) bits: D = (K - <a, b>) / 2 (paper, section 3.1)."""
    inner = a.astype(np.float32) @ b.astype(np.float32).T
    distances: Distances = np.rint((a.shape[-1] - inner) / 2).astype(np.int64)
    return distances


def to_hex(bits: Bits) -> str:
    """Return (K,) bits in hexadecimal: +1 is a set bit, the first bit is the highest, zeros fill the last byte."""
    return np.packbits(bits > 0).tobytes().hex()


def from_hex(text: str, length: int) -> Bits:
    """Return the (length,) bits that `to_hex` wrote. Raises ValueError if `text` holds fewer than `length` bits."""
    packed = np.frombuffer(bytes.fromhex(text), np.uint8)
    bits = np.unpackbits(packed)[:length]
    if len(bits) < length:
        raise ValueError(f"expected {length} bits, found {len(bits)}")
    return np.where(bits > 0, 1, -1).astype(np.int8)
