"""Metrics of routes and of the router, against slow references."""

from collections import Counter
from math import log

import numpy as np
import pytest
from helpers import draw_routes, raises

from sklearn_moe.metrics import dispatch_entropy, routing_matrix

N_CLUSTERS, N_EXPERTS = 4, 6


def reference_matrix(clusters, experts):
    """Count the samples of every (cluster, expert) pair, one after the other."""
    pairs = Counter()
    for cluster, selected in zip(clusters, experts, strict=True):
        selected = np.atleast_1d(selected)
        for expert in selected:
            pairs[cluster, expert] += 1 / len(selected)
    return np.array([[pairs[k, m] for m in range(N_EXPERTS)] for k in range(N_CLUSTERS)])


def reference_entropy(matrix):
    """Follow H = -sum_m n_m / n sum_k p_km log p_km term by term."""
    total = 0.0
    for column in matrix.T:
        for weight in column[column > 0]:
            total -= weight / matrix.sum() * log(weight / column.sum())
    return total


@pytest.mark.parametrize("n_selected", [None, 1, 3])
def test_match_the_references(n_selected):
    clusters, experts = draw_routes(n_selected)
    expected = reference_matrix(clusters, experts)
    assert dispatch_entropy(clusters, experts) == pytest.approx(reference_entropy(expected))
    assert type(dispatch_entropy(clusters, experts)) is float
    np.testing.assert_allclose(routing_matrix(clusters, experts), expected)


def test_entropy_at_its_ends():
    clusters = np.repeat(np.arange(3), 7)
    # Several experts may share one cluster.
    shared = 10 * clusters + np.arange(21) % 2
    for experts in (clusters, shared, np.column_stack([clusters, clusters + 3])):
        assert dispatch_entropy(clusters, experts) == 0
        assert not np.signbit(dispatch_entropy(clusters, experts))
    for n_clusters in (1, 2, 7):
        clusters, experts = np.tile(np.arange(n_clusters), 5), np.repeat(np.arange(5), n_clusters)
        for routes in (experts, np.zeros_like(clusters)):
            assert dispatch_entropy(clusters, routes) == pytest.approx(log(n_clusters))


def test_labels_may_be_of_any_type_and_numbering():
    clusters, experts = draw_routes(2)
    expected, letters = dispatch_entropy(clusters, experts), np.array(list("abcdefgh"))
    assert type(expected) is float
    assert dispatch_entropy(letters[clusters].tolist(), experts.tolist()) == expected
    assert dispatch_entropy(letters[clusters].astype(object), letters[experts]) == expected
    shifted = dispatch_entropy(clusters - 0.5, 1_000_000_000 - 7 * experts)
    assert shifted == pytest.approx(expected)


def test_rows_are_sorted_clusters_and_columns_are_experts():
    matrix = routing_matrix(["dog", "ant", "dog"], [3, 0, 1])
    np.testing.assert_array_equal(matrix, [[1, 0, 0, 0], [0, 1, 0, 1]])
    assert routing_matrix(["dog", "ant"], [0, 1], n_experts=5).shape == (2, 5)
    assert routing_matrix(["dog", "ant"], [0, 0], n_experts=1).tolist() == [[1], [1]]
    clusters, experts = [0, 1, 1], [0, 1, 0]
    for given in (experts, np.array(experts, np.uint64)):
        assert routing_matrix(clusters, given).dtype.kind == "i"
    assert routing_matrix(clusters, [[0, 1], [0, 1], [1, 2]]).dtype == np.float64


def test_wrong_expert_indices_are_explained():
    for experts, n_experts, message in (
        *(([0, -1], None, "experts .* got -1"), ([0, 1], 0, "'n_experts' .* Got 0")),
        *((wrong, None, "experts .* got dtype") for wrong in ([0.0, 1.0], ["a", "b"])),
        ([0, 4], 4, "n_experts=4, got 4. Use n_experts >= 5"),
    ):
        raises(ValueError, message, routing_matrix, [0, 1], experts, n_experts=n_experts)
    for gate in ([0.25, 0.75], [[0.25, 0.75], [1, 0]]):
        for metric in (dispatch_entropy, routing_matrix):
            raises(ValueError, "labels, got the number 0.25", metric, [0, 1], gate)
