"""Metrics of routing against slow, obvious references."""

from collections import Counter
from math import log

import numpy as np
import pytest

from sklearn_moe.metrics import (
    dispatch_entropy,
    expert_load,
    mutual_information,
    purity,
    routing_matrix,
)

N_CLUSTERS, N_EXPERTS = 4, 6


def pair_weights(clusters, experts, sample_weight):
    """Weight of every (cluster, expert) pair, one sample after the other."""
    pairs = Counter()
    for cluster, answers, weight in zip(clusters, experts, sample_weight, strict=True):
        answers = np.atleast_1d(answers)
        for expert in answers:
            pairs[cluster, expert] += weight / len(answers)
    return pairs


def reference_entropy(clusters, experts, sample_weight):
    """Follow H = -sum_m n_m / n sum_k p_km log p_km term by term."""
    pairs = pair_weights(clusters, experts, sample_weight)
    entropy = 0.0
    for m in {expert for _, expert in pairs}:
        n_m = sum(weight for (_, expert), weight in pairs.items() if expert == m)
        for (_, expert), weight in pairs.items():
            if expert == m and weight > 0:
                p_km = weight / n_m
                entropy -= n_m / sum(sample_weight) * p_km * log(p_km)
    return entropy


def reference_matrix(clusters, experts, sample_weight):
    matrix = np.zeros((N_CLUSTERS, N_EXPERTS))
    for (cluster, expert), weight in pair_weights(clusters, experts, sample_weight).items():
        matrix[cluster, expert] = weight
    return matrix


def random_routing(n_answers, seed=0, n_samples=200):
    rng = np.random.RandomState(seed)
    shape = n_samples if n_answers is None else (n_samples, n_answers)
    clusters = rng.randint(N_CLUSTERS, size=n_samples)
    experts = rng.randint(N_EXPERTS, size=shape)
    return clusters, experts, rng.uniform(0.1, 2, size=n_samples)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("n_answers", [None, 1, 2, 3])
def test_match_the_references(n_answers, weighted):
    clusters, experts, weight = random_routing(n_answers)
    if not weighted:
        weight = np.ones(len(clusters))
    sample_weight = weight if weighted else None
    expected = reference_matrix(clusters, experts, weight)

    entropy = dispatch_entropy(clusters, experts, sample_weight=sample_weight)
    assert entropy == pytest.approx(reference_entropy(clusters, experts, weight))
    matrix = routing_matrix(clusters, experts, sample_weight=sample_weight)
    np.testing.assert_allclose(matrix, expected)
    load = expert_load(experts, sample_weight=sample_weight)
    np.testing.assert_allclose(load, expected.sum(axis=0) / expected.sum())


def test_perfect_routing_has_entropy_zero():
    clusters = np.repeat(np.arange(3), 7)
    assert dispatch_entropy(clusters, clusters) == 0
    # Several experts may share one cluster.
    experts = 10 * clusters + np.arange(21) % 2
    assert dispatch_entropy(clusters, experts) == 0
    assert dispatch_entropy(clusters, np.column_stack([clusters, clusters + 3])) == 0


@pytest.mark.parametrize("n_clusters", [1, 2, 4, 7])
def test_independent_routing_has_entropy_log_k(n_clusters):
    clusters = np.tile(np.arange(n_clusters), 5)
    experts = np.repeat(np.arange(5), n_clusters)
    assert dispatch_entropy(clusters, experts) == pytest.approx(log(n_clusters))
    assert dispatch_entropy(clusters, np.zeros_like(clusters)) == pytest.approx(log(n_clusters))


def test_entropy_does_not_depend_on_label_types():
    clusters, experts, _ = random_routing(2)
    expected = dispatch_entropy(clusters, experts)
    letters = np.array(list("abcdefgh"))
    assert type(expected) is float
    assert dispatch_entropy(letters[clusters].tolist(), experts.tolist()) == expected
    assert dispatch_entropy(letters[clusters].astype(object), letters[experts]) == expected
    assert dispatch_entropy(clusters - 0.5, 1_000_000_000 - 7 * experts) == pytest.approx(expected)


def test_rows_are_sorted_clusters_and_columns_are_experts():
    matrix = routing_matrix(["dog", "ant", "dog"], [3, 0, 1])
    np.testing.assert_array_equal(matrix, [[1, 0, 0, 0], [0, 1, 0, 1]])
    assert routing_matrix(["dog", "ant"], [0, 1], n_experts=5).shape == (2, 5)
    np.testing.assert_array_equal(expert_load([2, 2], n_experts=4), [0, 0, 1, 0])


def test_matrix_of_counts_is_int():
    clusters, experts = [0, 1, 1], [0, 1, 0]
    assert routing_matrix(clusters, experts).dtype.kind == "i"
    assert routing_matrix(clusters, np.array(experts, np.uint64)).dtype.kind == "i"
    assert routing_matrix(clusters, experts, sample_weight=[1, 1, 1]).dtype == np.float64
    assert routing_matrix(clusters, [[0, 1], [0, 1], [1, 2]]).dtype == np.float64


@pytest.mark.parametrize(
    ("normalize", "expected"),
    [
        (None, [[2, 0, 2], [0, 0, 4]]),
        ("true", [[1 / 2, 0, 1 / 2], [0, 0, 1]]),
        ("pred", [[1, 0, 1 / 3], [0, 0, 2 / 3]]),
        ("all", [[1 / 4, 0, 1 / 4], [0, 0, 1 / 2]]),
    ],
)
def test_normalize(normalize, expected):
    clusters = [0, 0, 0, 0, 1, 1, 1, 1]
    experts = [0, 0, 2, 2, 2, 2, 2, 2]
    np.testing.assert_allclose(routing_matrix(clusters, experts, normalize=normalize), expected)


@pytest.mark.parametrize("n_answers", [None, 2])
def test_normalized_entropy_is_in_units_of_the_clusters(n_answers):
    clusters, experts, weight = random_routing(n_answers)
    entropy = dispatch_entropy(clusters, experts, sample_weight=weight)
    of_clusters = dispatch_entropy(clusters, np.zeros_like(clusters), sample_weight=weight)
    normalized = dispatch_entropy(clusters, experts, normalize=True, sample_weight=weight)
    assert type(normalized) is float
    assert normalized == pytest.approx(entropy / of_clusters)


def test_normalized_entropy_at_its_ends():
    clusters = np.tile(np.arange(3), 5)
    assert dispatch_entropy(clusters, clusters, normalize=True) == 0
    assert dispatch_entropy(clusters, np.repeat(np.arange(5), 3), normalize=True) == 1
    assert dispatch_entropy([2, 2, 2], [0, 1, 1], normalize=True) == 0  # nothing to tell apart
    weight = [0.1, 0.7, 0.0]
    assert dispatch_entropy([2, 2, 1], [0, 1, 1], normalize=True, sample_weight=weight) == 0


def test_perfect_entropy_is_not_minus_zero():
    assert not np.signbit(dispatch_entropy([0, 1], [0, 1]))


@pytest.mark.parametrize("n_answers", [None, 2])
@pytest.mark.parametrize(
    "metric",
    [
        dispatch_entropy,
        mutual_information,
        purity,
        routing_matrix,
        lambda _, experts, sample_weight: expert_load(experts, sample_weight=sample_weight),
    ],
    ids=["dispatch_entropy", "mutual_information", "purity", "routing_matrix", "expert_load"],
)
def test_integer_weights_repeat_samples(metric, n_answers):
    clusters, experts, _ = random_routing(n_answers)
    weight = np.arange(len(clusters)) % 3  # 0 removes a sample, 2 doubles it
    repeated = np.repeat(np.arange(len(clusters)), weight)
    expected = metric(clusters[repeated], experts[repeated], sample_weight=None)
    np.testing.assert_allclose(metric(clusters, experts, sample_weight=weight), expected)


def test_a_cluster_of_weight_zero_keeps_its_row():
    params = {"n_experts": 2, "sample_weight": [1, 0]}
    np.testing.assert_array_equal(routing_matrix([0, 1], [0, 1], **params), [[1, 0], [0, 0]])
    matrix = routing_matrix([0, 1], [0, 1], normalize="true", **params)
    np.testing.assert_array_equal(matrix, [[1, 0], [0, 0]])


@pytest.mark.parametrize("n_answers", [None, 3])
def test_load_sums_to_one(n_answers):
    _, experts, weight = random_routing(n_answers)
    load = expert_load(experts, n_experts=9, sample_weight=weight)
    assert load.shape == (9,)
    assert load.sum() == pytest.approx(1)


@pytest.mark.parametrize("metric", [dispatch_entropy, mutual_information, purity, routing_matrix])
@pytest.mark.parametrize(
    ("clusters", "experts", "sample_weight", "message"),
    [
        ([0, 1], [0, 1, 1], None, r"inconsistent numbers of samples: \[2, 3\]"),
        ([0, 1], [0, 1], [1], r"inconsistent numbers of samples: \[2, 2, 1\]"),
        ([], [], None, r"0 sample\(s\)"),
        ([[0, 1], [0, 1]], [0, 1], None, r"should be a 1d array, got an array of shape \(2, 2\)"),
        ([0, 1], [[[0]], [[1]]], None, r"dim 3"),
        ([0, 1], [0, np.nan], None, r"Input experts contains NaN"),
        ([0, 1], [0, 1], [1, np.nan], r"Input sample_weight contains NaN"),
        ([0, 1], [0, 1], [1, -1], r"non-negative .* got values from -1 to 1"),
        ([0, 1], [0, 1], [0, 0], r"at least one positive entry, got values from 0 to 0"),
        ("ab", [0, 1], None, r"'clusters' .* Got 'ab'"),
        ([0, 1], 1, None, r"'experts' .* Got 1"),
    ],
)
def test_wrong_samples_are_explained(metric, clusters, experts, sample_weight, message):
    with pytest.raises(ValueError, match=message):
        metric(clusters, experts, sample_weight=sample_weight)


@pytest.mark.parametrize(
    ("experts", "n_experts", "message"),
    [
        ([0, -1], None, r"indices from 0 on, got -1"),
        ([0, 4], 4, r"smaller than n_experts=4, got 4. Use n_experts >= 5 or None"),
        ([0.0, 1.0], None, r"integer indices, got dtype float64. Pass the indices"),
        (["a", "b"], None, r"integer indices, got dtype <U1"),
        ([0, 1], 0, r"'n_experts' .* in the range \[1, inf\) or None. Got 0"),
    ],
)
def test_wrong_expert_indices_are_explained(experts, n_experts, message):
    with pytest.raises(ValueError, match=message):
        routing_matrix([0, 1], experts, n_experts=n_experts)
    with pytest.raises(ValueError, match=message):
        expert_load(experts, n_experts=n_experts)


def test_unknown_normalization_is_explained():
    with pytest.raises(ValueError, match=r"'normalize' .* Got 'rows'"):
        routing_matrix([0], [0], normalize="rows")
