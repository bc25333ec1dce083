"""Bits and their distances; arrays, not tensors, so that nothing here needs torch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["bits_of", "from_hex", "hamming", "to_hex"]

Bits = NDArray[np.int8]


def bits_of(code: NDArray[np.floating]) -> Bits:
    """Sign of a relaxed code in {-1, +1}, any shape; the sign of 0 is -1."""
    return np.where(code > 0, 1, -1).astype(np.int8)


def hamming(a: Bits, b: Bits) -> NDArray[np.int64]:
    """(N, K) and (M, K) bits in {-1, +1} -> (N, M) distances, D = (K - <a, b>) / 2 (paper section 3.1)."""
    inner = a.astype(np.float32) @ b.astype(np.float32).T
    distances: NDArray[np.int64] = np.rint((a.shape[-1] - inner) / 2).astype(np.int64)
    return distances


def to_hex(bits: Bits) -> str:
    """(K,) bits -> hexadecimal, +1 as a set bit, first bit first, zero-filled to whole bytes."""
    return np.packbits(bits > 0).tobytes().hex()


def from_hex(text: str, length: int) -> Bits:
    """Read what `to_hex` wrote. Raises ValueError when `text` holds fewer than `length` bits."""
    packed = np.frombuffer(bytes.fromhex(text), np.uint8)
    bits = np.unpackbits(packed)[:length]
    if len(bits) < length:
        raise ValueError(f"expected {length} bits, found {len(bits)}")
    return np.where(bits > 0, 1, -1).astype(np.int8)
