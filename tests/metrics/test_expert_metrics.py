"""Metrics of the outputs of experts against loops, and the test of the dispatch entropy."""

from functools import partial

import numpy as np
import pytest
from helpers import draw_routes, raises
from scipy.stats import entropy, kstest

from sklearn_moe.metrics import (
    ablation_accuracy,
    cross_evaluation_accuracy,
    dispatch_entropy,
    dispatch_entropy_test,
    expert_error_matrix,
    own_other_error,
)

N_CLUSTERS, N_EXPERTS = 4, 6
CLUSTERS = np.arange(60) % N_CLUSTERS


def draw_outputs():
    """Draw labels, gates, outputs of all experts, and integer weights."""
    rng = np.random.RandomState(0)
    y, gate_proba = rng.randint(3, size=60), rng.dirichlet(np.ones(N_EXPERTS), size=60)
    expert_proba = rng.dirichlet(np.ones(3), size=(60, N_EXPERTS))
    return y, gate_proba, expert_proba, rng.randint(3, size=60)


@pytest.mark.parametrize("kind", ["classes", "labels"])
def test_match_loops(kind):
    y, gate_proba, expert_proba, _ = draw_outputs()
    right = expert_proba.argmax(axis=2) == y[:, np.newaxis]
    if kind == "labels":
        rng = np.random.RandomState(0)
        y, expert_proba = rng.randint(2, size=(60, 3)), rng.uniform(size=(60, N_EXPERTS, 3))
        right = ((expert_proba > 0.5) == y[:, np.newaxis]).mean(axis=2)
    experts = gate_proba.argmax(axis=1).clip(max=N_EXPERTS - 2)  # the last one is dead
    errors = expert_error_matrix(y, CLUSTERS, expert_proba)
    crossed = cross_evaluation_accuracy(y, experts, expert_proba)
    ablated = ablation_accuracy(y, gate_proba, expert_proba)
    assert errors.shape == (N_EXPERTS, N_CLUSTERS)
    assert np.isnan(crossed[-1]).all()
    for expert in range(N_EXPERTS):
        expected = [1 - right[CLUSTERS == cluster, expert].mean() for cluster in range(N_CLUSTERS)]
        np.testing.assert_allclose(errors[expert], expected)
        expected = [right[experts == own, expert].mean() for own in range(N_EXPERTS - 1)]
        np.testing.assert_allclose(crossed[:-1, expert], expected)
        without = gate_proba.copy()
        without[:, expert] = -1
        expected = right[np.arange(60), without.argmax(axis=1)].mean()
        assert ablated[expert] == pytest.approx(expected)


def test_ablation_and_the_experts_that_count():
    y, gate_proba, expert_proba, _ = draw_outputs()
    rest = ablation_accuracy(y, gate_proba, expert_proba, experts=np.zeros_like(y))
    np.testing.assert_allclose(rest[1:], np.mean(expert_proba[:, 0].argmax(axis=1) == y))
    alone = ablation_accuracy(y, np.ones((60, 1)), expert_proba[:, :1])
    np.testing.assert_array_equal(alone, [np.nan])
    # The first of several experts counts.
    first_two = np.argsort(-gate_proba, axis=1)[:, :2]
    crossed = [cross_evaluation_accuracy(y, e, expert_proba) for e in (first_two, first_two[:, 0])]
    np.testing.assert_array_equal(*crossed)
    ablated = ablation_accuracy(y, gate_proba, expert_proba, experts=first_two)
    np.testing.assert_allclose(ablated, ablation_accuracy(y, gate_proba, expert_proba))


def test_integer_weights_repeat_samples():
    y, gate_proba, expert_proba, weight = draw_outputs()
    experts = gate_proba.argmax(axis=1)
    metrics = expert_error_matrix, cross_evaluation_accuracy, ablation_accuracy
    for metric, given in zip(metrics, (CLUSTERS, experts, gate_proba), strict=True):
        arrays = y, given, expert_proba
        weighted = metric(*arrays, classes=[0, 1, 2], sample_weight=weight)
        repeated = metric(*(np.repeat(a, weight, axis=0) for a in arrays), classes=[0, 1, 2])
        np.testing.assert_allclose(weighted, repeated)


def test_labels_may_be_of_any_type():
    y, _, expert_proba, _ = draw_outputs()
    names = np.array(["no", "perhaps", "yes"])
    given = expert_error_matrix(names[y].tolist(), CLUSTERS, expert_proba, names)
    np.testing.assert_array_equal(given, expert_error_matrix(y, CLUSTERS, expert_proba))
    # A label that is not among the classes is an error of all experts.
    assert (expert_error_matrix([0, 9], [0, 1], np.ones((2, 3, 2)), [0, 1])[:, 1] == 1).all()


def test_wrong_outputs_are_explained():
    classes, three = {"classes": [0, 1]}, {"sample_weight": [1] * 3}
    two, gate = [0, 1], np.ones((2, 3))
    for y, shape, params, message in (
        *((two, (2, 3), {}, "expert_proba"), (two, (2, 3, 4), {}, "4 classes, got 2")),
        *((two, (3, 3, 2), {}, "y and expert_proba"), (two, (2, 3, 2), three, "sample_weight")),
        *((y, (2, 3, 2), classes, rf"y .* got .*{y[0]}") for y in ([5, 6], ["a", "b"])),
        ([[0, 1], [1, 0]], (2, 3, 3), {}, r"3 labels: y .* \(2, 2\)"),
        ([[0, 2], [2, 0]], (2, 3, 2), {}, r"y .* entries \[0, 2\]"),
    ):
        metrics = expert_error_matrix, cross_evaluation_accuracy, ablation_accuracy
        for metric, given in zip(metrics, (two, two, gate), strict=True):
            raises(ValueError, message, metric, y, given, np.ones(shape), **params)
    for metric, given, message in (
        (ablation_accuracy, np.ones((2, 4)), r"gate_proba .* \(2, 3\), .* got \(2, 4"),
        (cross_evaluation_accuracy, [0, 3], "experts .* n_experts=3, got 3"),
        (cross_evaluation_accuracy, [0, 1, 1], "experts and expert_proba"),
    ):
        raises(ValueError, message, metric, two, given, np.ones((2, 3, 2)))


def test_own_and_other_errors_by_hand():
    errors = [[0.1, 0.4, 0.6], [0.2, 0.0, 0.4], [0.5, 0.5, 0.5]]
    routing = [[5, 0, 0], [1, 0, 0], [0, 9, 0]]  # expert 2 is dead
    own, other = own_other_error(errors, routing)
    np.testing.assert_allclose(own, [0.1, 0.4, np.nan])
    np.testing.assert_allclose(other, [0.5, 0.1, np.nan])
    errors[0][1] = errors[1][1] = np.nan  # of a cluster whose samples all have weight 0
    own, other = own_other_error(errors, routing)
    np.testing.assert_allclose(own, [0.1, 0.4, np.nan])
    np.testing.assert_allclose(other, [0.6, 0.2, np.nan])
    own, other = own_other_error([[0.25]], [[3]])
    np.testing.assert_array_equal([own[0], other[0]], [0.25, np.nan])
    with pytest.raises(ValueError, match=r"routing_matrix .* got \(3, 3\) and \(3, 2\)"):
        own_other_error(errors, np.ones((3, 2)))


# -- test of the dispatch entropy ---------------------------------------------------------


def test_independence_has_uniform_p_values():
    rng = np.random.RandomState(0)
    options = {"n_permutations": 199, "n_bootstraps": 1, "random_state": rng}
    p_values = []
    for _ in range(300):
        experts = rng.choice(4, p=[0.5, 0.3, 0.2, 0.0], size=80)  # one expert is dead
        p_values.append(dispatch_entropy_test(rng.randint(3, size=80), experts, **options).p_value)
    assert kstest(p_values, "uniform").pvalue > 0.01


@pytest.mark.parametrize("n_selected", [None, 2])
def test_match_and_null(n_selected):
    clusters, experts = draw_routes(n_selected)
    test = dispatch_entropy_test(clusters, experts, random_state=0)
    assert test.entropy == pytest.approx(dispatch_entropy(clusters, experts))
    assert test.p_value == 1 / 1001
    assert test.low < test.entropy < test.high < test.null_low < test.null_mean < test.null_high
    clusters, experts = draw_routes(n_selected, n_samples=40)
    rng = np.random.RandomState(0)
    null = [dispatch_entropy(rng.permutation(clusters), experts) for _ in range(1000)]
    test = dispatch_entropy_test(clusters, experts, n_permutations=4000, random_state=0)
    assert test.null_mean == pytest.approx(np.mean(null), abs=4 * np.std(null) / 1000**0.5)
    assert test.null_low == pytest.approx(np.quantile(null, 0.025), abs=0.03)
    assert test.null_high == pytest.approx(np.quantile(null, 0.975), abs=0.03)


def test_one_expert_or_one_cluster_is_no_specialization():
    """With one expert the entropy of uneven clusters is small, but so is the null."""
    test = dispatch_entropy_test(np.repeat([0, 1], [190, 10]), np.zeros(200), random_state=0)
    assert test.entropy < 0.2
    assert test.p_value == 1
    assert test.null_low == pytest.approx(test.null_high)
    test = dispatch_entropy_test(np.zeros(9), np.arange(9) % 2, random_state=0)
    assert (test.entropy, test.p_value, test.low, test.high) == (0, 1, 0, 0)


def test_interval_covers_the_truth():
    """The entropy of a sample is too small on average; the interval corrects this."""
    joint = np.kron(np.eye(4), [0.5, 0.5]) * 0.5 / 4 + 0.5 / 32
    truth = entropy(joint.ravel()) - entropy(joint.sum(axis=0))
    rng, covered, plug_in = np.random.RandomState(0), [], []
    options = {"n_permutations": 1, "n_bootstraps": 200, "random_state": rng}
    for _ in range(200):
        cells = rng.choice(32, p=joint.ravel(), size=500)
        test = dispatch_entropy_test(cells // 8, cells % 8, **options)
        covered.append(test.low <= truth <= test.high)
        plug_in.append(test.entropy)
    assert np.mean(covered) > 0.88
    assert np.mean(plug_in) - truth == pytest.approx(-8 * 3 / (2 * 500), rel=0.3)


def test_seeds_and_batches(monkeypatch):
    clusters, experts = draw_routes(2)
    params = {"n_permutations": 50, "n_bootstraps": 50}
    test = partial(dispatch_entropy_test, clusters, experts)
    first, same, other = (test(random_state=seed, **params) for seed in (0, 0, 1))
    assert first == same
    assert (first.entropy, first.p_value) == (other.entropy, other.p_value)
    assert (first.null_mean, first.low) != (other.null_mean, other.low)
    whole = test(random_state=0)
    monkeypatch.setattr("sklearn_moe.metrics._significance._CELLS_AT_ONCE", 1000)
    parts = test(random_state=0)
    assert parts.null_mean == pytest.approx(whole.null_mean, abs=0.01)
    assert parts.p_value == whole.p_value
