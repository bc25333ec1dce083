from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from hashshield.metrics.hamming import bits_of, from_hex, hamming, to_hex

lengths = st.integers(1, 130)


def random_bits(rows: int, length: int, seed: int) -> NDArray[np.int8]:
    return np.where(np.random.default_rng(seed).random((rows, length)) < 0.5, -1, 1).astype(np.int8)


def test_the_sign_of_zero_is_minus_one() -> None:
    assert bits_of(np.array([-2.0, -0.0, 0.0, 1e-30, 3.0])).tolist() == [-1, -1, -1, 1, 1]


@given(lengths, st.integers(0, 5), st.integers(1, 5), st.integers(0, 1000))
def test_distances_count_unequal_bits(length: int, rows: int, others: int, seed: int) -> None:
    a, b = random_bits(rows, length, seed), random_bits(others, length, seed + 1)
    expected = [[sum(x != y for x, y in zip(one, other, strict=True)) for other in b] for one in a]
    assert hamming(a, b).tolist() == expected


@given(lengths, st.integers(0, 1000))
def test_distance_is_a_metric(length: int, seed: int) -> None:
    bits = random_bits(6, length, seed)
    distances = hamming(bits, bits)
    assert (np.diag(distances) == 0).all()
    assert (distances == distances.T).all()
    assert (distances[:, :, None] + distances[None] >= distances[:, None, :]).all(), "triangle inequality"
    assert (hamming(bits, -bits) == length - distances).all()


@given(lengths, st.integers(0, 1000))
def test_hexadecimal_comes_back(length: int, seed: int) -> None:
    bits = random_bits(1, length, seed)[0]
    text = to_hex(bits)
    assert len(text) == 2 * -(-length // 8)
    assert from_hex(text, length).tolist() == bits.tolist()


def test_the_first_bit_is_the_most_significant() -> None:
    assert to_hex(np.array([1] + [-1] * 7, np.int8)) == "80"
    assert to_hex(np.array([-1] * 7 + [1, 1], np.int8)) == "0180"


def test_too_short_a_text_is_refused() -> None:
    with pytest.raises(ValueError, match="expected 17 bits, found 16"):
        from_hex("ffff", 17)
