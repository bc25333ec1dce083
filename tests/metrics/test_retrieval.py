from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from hashshield.metrics.retrieval import (
    average_precision,
    bits_of,
    bootstrap_interval,
    by_threshold,
    class_balanced,
    floor_within,
    from_hex,
    hamming,
    hamming_map,
    map_floor,
    mean_average_precision,
    rank_among,
    relevance,
    to_hex,
    unseen_map,
    within_radius,
)

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


def oracle(ranking: list[bool]) -> float:
    """Average precision by its definition, one rank at a time."""
    hits, total = 0, 0.0
    for rank, hit in enumerate(ranking, 1):
        if hit:
            hits += 1
            total += hits / rank
    return total / hits if hits else 0.0


@st.composite
def rankings(draw: st.DrawFn) -> tuple[list[int], list[bool]]:
    size = draw(st.integers(1, 6))
    distances = draw(st.lists(st.integers(0, 3), min_size=size, max_size=size))
    return distances, draw(st.lists(st.booleans(), min_size=size, max_size=size))


@given(rankings(), st.booleans())
def test_average_precision_is_the_mean_of_its_definition_over_all_orders_of_ties(
    case: tuple[list[int], list[bool]], real: bool
) -> None:
    distances, relevant = case
    orders = [sorted(order, key=lambda i: distances[i]) for order in permutations(range(len(distances)))]
    expected = np.mean([oracle([relevant[i] for i in order]) for order in orders])
    found = average_precision(np.array([distances], float if real else int), np.array([relevant]))
    assert found.tolist() == pytest.approx([expected])


def test_no_class_gains_by_its_place_in_the_database() -> None:
    distances = np.zeros((2, 40), int)
    relevant = np.repeat(np.eye(2, dtype=bool), 20, axis=1)
    first, last = average_precision(distances, relevant)
    assert first == last == pytest.approx(map_floor(relevant).random)


def test_average_precision_is_scikit_learns_where_nothing_ties() -> None:
    generator = np.random.default_rng(0)
    distances = np.stack([generator.permutation(200) for _ in range(20)])
    relevant = generator.random((20, 200)) < 0.1
    assert relevant.any(axis=1).all()
    expected = [average_precision_score(r, -d) for r, d in zip(relevant, distances, strict=True)]
    assert average_precision(distances, relevant).tolist() == pytest.approx(expected)


def test_class_balanced_gives_every_label_the_same_weight() -> None:
    scores = np.array([1.0, 0.0, 0.0, 0.5])
    labels = np.array([[1, 0, 0], [0, 1, 0], [0, 1, 0], [1, 1, 0]], bool)
    assert class_balanced(scores, labels) == pytest.approx((0.75 + 0.5 / 3) / 2)


def test_the_bootstrap_covers_the_mean_about_as_often_as_it_says() -> None:
    generator = np.random.default_rng(0)
    inside = 0
    for _ in range(200):
        low, high = bootstrap_interval(generator.normal(3, 1, 40), generator, rounds=300)
        assert low < high
        inside += low <= 3 <= high
    assert 178 <= inside <= 198


def test_the_floor_within_a_gallery_is_that_of_the_gallery_alone() -> None:
    generator = np.random.default_rng(0)
    counted = generator.random((6, 30)) < 0.6
    relevant = (generator.random((6, 30)) < 0.3) & counted
    apart = [map_floor(r[c][None]) for r, c in zip(relevant, counted, strict=True)]
    found = floor_within(relevant, counted)
    assert found.random == pytest.approx(np.mean([floor.random for floor in apart]))
    assert found.lowest == pytest.approx(np.mean([floor.lowest for floor in apart]))


def test_mean_average_precision_counts_queries_without_a_partner_as_zero() -> None:
    distances = np.array([[0, 1], [0, 1]])
    relevant = np.array([[True, False], [False, False]])
    assert mean_average_precision(distances, relevant) == 0.5


def test_relevance_is_one_shared_label() -> None:
    queries = np.array([[1, 0, 1], [0, 0, 0]], bool)
    database = np.array([[0, 1, 0], [0, 0, 1], [1, 1, 1]], bool)
    assert relevance(queries, database).tolist() == [[False, True, True], [False, False, False]]


def test_many_shared_labels_are_still_one_relevance() -> None:
    assert relevance(np.ones((1, 300), bool), np.ones((1, 300), bool)).tolist() == [[True]]


@given(st.integers(1, 6).flatmap(lambda n: st.tuples(st.just(n), st.integers(1, n))))
def test_the_floors_are_the_mean_and_the_least_of_all_rankings(case: tuple[int, int]) -> None:
    size, count = case
    relevant = np.arange(size) < count
    scores = [oracle([bool(relevant[i]) for i in order]) for order in permutations(range(size))]
    floor = map_floor(relevant[None])
    assert floor.random == pytest.approx(np.mean(scores))
    assert floor.lowest == pytest.approx(min(scores))


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 1000))
def test_the_random_floor_is_what_random_rankings_score(seed: int) -> None:
    generator = np.random.default_rng(seed)
    relevant = generator.random((40, 30)) < generator.random((40, 1)) * 0.5
    floor = map_floor(relevant)
    scores = [mean_average_precision(generator.random((40, 30)), relevant) for _ in range(200)]
    assert np.mean(scores) == pytest.approx(floor.random, abs=5 * np.std(scores) / np.sqrt(200))
    assert floor.lowest == pytest.approx(mean_average_precision(relevant.astype(int), relevant))


def test_nothing_relevant_has_no_floor() -> None:
    floor = map_floor(np.zeros((2, 3), bool))
    assert (floor.random, floor.lowest) == (0.0, 0.0)


def test_unseen_map_leaves_each_query_out_of_its_own_gallery() -> None:
    bits: NDArray[np.int8] = np.array([[1, 1, 1, 1], [1, 1, 1, -1], [-1, -1, -1, 1], [1, -1, -1, -1]], np.int8)
    labels = np.array([[1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], bool)
    assert unseen_map(bits, labels) == 1.0, "the two without a partner do not count"
    labels[[1, 2]] = labels[[2, 1]]
    # First query: distances 1, 3, 3 with the partner at rank 2 or 3; third: 3, 4, 2 with the partner at rank 2.
    assert unseen_map(bits, labels) == pytest.approx(((1 / 2 + 1 / 3) / 2 + 1 / 2) / 2)


@pytest.mark.parametrize("queries", [1, 99, 100, 101, 250])
def test_blocks_of_queries_give_the_same_map(queries: int) -> None:
    draw = np.random.default_rng(queries)
    bits = np.where(draw.random((queries + 60, 8)) < 0.5, -1, 1).astype(np.int8)
    labels = draw.random((queries + 60, 5)) < 0.2
    at_once = mean_average_precision(
        hamming(bits[:queries], bits[queries:]), relevance(labels[:queries], labels[queries:])
    )
    assert hamming_map(bits[:queries], bits[queries:], labels[:queries], labels[queries:]) == at_once


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 9), max_size=12), st.lists(st.integers(0, 9), max_size=4))
def test_a_rank_counts_what_is_nearer(distances: list[int], values: list[int]) -> None:
    ranks = rank_among(np.array(values, np.int64), np.array(distances, np.int64))
    assert ranks.tolist() == [1 + sum(distance < value for distance in distances) for value in values]


def test_retrieval_within_a_threshold_counts_what_lies_there() -> None:
    distances = np.array([[0, 1, 2, 3, 4], [3, 3, 4, 4, 4]])
    relevant = np.array([[1, 0, 1, 0, 1], [1, 0, 0, 0, 0]], bool)
    precision, recall, found = within_radius(distances, relevant, 2)
    assert precision.tolist() == pytest.approx([2 / 3, 0])
    assert recall.tolist() == pytest.approx([2 / 3, 0])
    assert found.tolist() == [3, 0]
    table = by_threshold(distances, relevant, 4)
    assert [row["threshold"] for row in table] == [0, 1, 2, 3, 4]
    assert [row["precision"] for row in table] == [1, 0.5, 0.6667, 0.5, 0.4]
    assert [row["recall"] for row in table] == [0.25, 0.25, 0.5, 0.75, 1]
    assert [row["found_per_query"] for row in table] == [0.5, 1, 1.5, 3, 5]
    assert by_threshold(np.array([[2]]), np.array([[True]]), 2)[0]["precision"] is None
