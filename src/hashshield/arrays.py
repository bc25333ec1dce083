"""Names for the arrays that packages pass to each other: one alias per meaning, with its shape and range.

The type checker sees only the element type; shapes and ranges are conventions, repeated in docstrings.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Bits",
    "Distances",
    "Features",
    "Indices",
    "Labels",
    "Pixels",
    "RelaxedCodes",
    "Relevance",
    "Scores",
]

Pixels = NDArray[np.uint8]
"""(H, W) or (H, W, C) values of a photo, 0 to 255."""
Bits = NDArray[np.int8]
"""(K,) or (N, K) bits of hash codes, -1 or +1."""
RelaxedCodes = NDArray[np.float32]
"""(N, K) outputs of a hash network before the sign is taken, unbounded."""
Features = NDArray[np.float32]
"""(N, D) pooled features of a network's trunk, unbounded."""
Distances = NDArray[np.int64]
"""(N,) or (N, M) Hamming distances in bits, 0 to K."""
Labels = NDArray[np.bool_]
"""(N, L) label sets: whether photo n has label l."""
Relevance = NDArray[np.bool_]
"""(Q, N): whether database entry n is relevant to query q."""
Indices = NDArray[np.int64]
"""(N,) positions in a list of files, 0 or more."""
Scores = NDArray[np.float64]
"""(Q,) values of a retrieval metric for each query, 0 to 1."""
