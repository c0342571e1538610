"""Have the experts specialized? Metrics by hand and by reference, and the report of them all."""

import sys
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from helpers import TABLES, make_table
from scipy.stats import entropy, kstest
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.metrics import (
    adjusted_mutual_info_score,
    adjusted_rand_score,
    mutual_info_score,
    normalized_mutual_info_score,
    pairwise_distances_argmin,
    r2_score,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from sklearn_moe import MoEClassifier, MoERegressor
from sklearn_moe._data.statistics import find_centers
from sklearn_moe._data.validation import check_samples
from sklearn_moe._linear_view import linear_view
from sklearn_moe.metrics import (
    dead_experts,
    dispatch_entropy,
    dispatch_entropy_test,
    expert_error_matrix,
    expert_load,
    expert_swap_accuracy,
    knock_out_accuracy,
    last_fluctuation,
    load_cv,
    mutual_information,
    own_other_error,
    purity,
    router_margin,
    routing_agreement,
    routing_matrix,
    specialization_report,
    split_information,
    usage_entropy,
)
from sklearn_moe.metrics._report_lines import format_figure
from sklearn_moe.metrics._specialization import _kmeans_routes
from sklearn_moe.nn.routers.scores import pool

N_CLUSTERS, N_EXPERTS = 4, 6


def half_random_routing(n_answers=None, seed=0, n_samples=300):
    """Draw routes that follow the cluster half of the time, and weights."""
    rng = np.random.RandomState(seed)
    shape = n_samples if n_answers is None else (n_samples, n_answers)
    clusters = rng.randint(N_CLUSTERS, size=n_samples)
    experts = np.where(
        rng.uniform(size=shape) < 0.5,
        clusters if n_answers is None else clusters[:, np.newaxis],
        rng.randint(N_EXPERTS, size=shape),
    )
    return clusters, experts, rng.randint(3, size=n_samples)


def random_answers(seed=0, n_samples=60, n_classes=3):
    """Draw labels, gates, what all experts say, and integer weights."""
    rng = np.random.RandomState(seed)
    y = rng.randint(n_classes, size=n_samples)
    gate_proba = rng.dirichlet(np.ones(N_EXPERTS), size=n_samples)
    expert_proba = rng.dirichlet(np.ones(n_classes), size=(n_samples, N_EXPERTS))
    return y, gate_proba, expert_proba, rng.randint(3, size=n_samples)


# -- agreement ----------------------------------------------------------------------------


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("n_answers", [None, 3])
def test_information_is_what_the_entropy_leaves(n_answers, weighted):
    clusters, experts, weight = half_random_routing(n_answers)
    weight = weight if weighted else None
    of_clusters = entropy(np.bincount(clusters, weight))
    expected = of_clusters - dispatch_entropy(clusters, experts, sample_weight=weight)
    assert mutual_information(clusters, experts, sample_weight=weight) == pytest.approx(expected)


def test_information_matches_scikit_learn():
    clusters, experts, _ = half_random_routing()
    assert mutual_information(clusters, experts) == pytest.approx(
        mutual_info_score(clusters, experts)
    )


def test_information_is_never_negative():
    for seed in range(50):
        experts = np.random.RandomState(seed).randint(3, size=7)
        assert mutual_information(np.zeros(7), experts) >= 0


def test_purity_by_hand():
    clusters = ["a", "a", "a", "b", "b", "c"]
    assert purity(clusters, [0, 0, 1, 1, 1, 1]) == pytest.approx(4 / 6)
    assert purity(clusters, [0, 0, 0, 0, 0, 0]) == pytest.approx(3 / 6)
    assert purity(clusters, range(6)) == 1
    assert purity(["a", "b"], [[0, 1], [0, 2]]) == pytest.approx(3 / 4)


@pytest.mark.parametrize("metric", [dispatch_entropy, mutual_information, purity])
def test_numbers_of_experts_mean_nothing(metric):
    clusters, experts, _ = half_random_routing(2)
    others = np.random.RandomState(0).permutation(N_EXPERTS)[experts]
    assert metric(clusters, others) == pytest.approx(metric(clusters, experts))


def test_routings_agree_up_to_the_numbers_of_experts():
    _, experts, _ = half_random_routing()
    names = np.array(list("zyxwvu"))
    assert routing_agreement(experts, names[experts]) == 1
    assert routing_agreement(names[experts], experts) == 1


def test_routing_agreement_by_hand():
    # The greedy choice, 0 -> a with 3 samples, would leave 1 -> b without any.
    first, second = [0, 0, 0, 0, 0, 1, 1], ["a", "a", "a", "b", "b", "a", "a"]
    assert routing_agreement(first, second) == pytest.approx(4 / 7)
    assert routing_agreement([0, 0, 0, 0], [0, 1, 2, 3]) == 1 / 4
    assert routing_agreement([0, 1, 2, 3], [0, 0, 0, 0]) == 1 / 4
    assert routing_agreement([[0, 5], [1, 5]], [[7, 1], [8, 0]]) == 1  # first experts only
    assert routing_agreement([0, 0, 1], [0, 1, 0], sample_weight=[5, 1, 1]) == pytest.approx(5 / 7)


def test_routing_agreement_wants_the_same_samples():
    with pytest.raises(ValueError, match=r"inconsistent numbers of samples: \[2, 3\]"):
        routing_agreement([0, 1], [0, 1, 1])


# -- load ---------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1, 16_000])
def test_load_by_hand(scale):
    even, lopsided = np.full(4, 0.25) * scale, np.array([1.0, 0, 0, 0]) * scale
    assert load_cv(even) == 0
    assert load_cv(lopsided) == pytest.approx(np.sqrt(3))
    assert usage_entropy(even) == 1
    assert usage_entropy(lopsided) == 0
    assert usage_entropy(even, normalize=False) == pytest.approx(np.log(4))
    np.testing.assert_array_equal(dead_experts(even), [])
    np.testing.assert_array_equal(dead_experts(lopsided), [1, 2, 3])
    np.testing.assert_array_equal(dead_experts(even, threshold=0.25), range(4))


def test_a_single_expert_is_used_evenly():
    assert load_cv([1.0]) == 0
    assert usage_entropy([1.0]) == 1
    assert usage_entropy([1.0], normalize=False) == 0
    assert dead_experts([1.0]).size == 0


def test_load_cv_of_routes_drawn_by_lot():
    rng = np.random.RandomState(0)
    squares = [load_cv(rng.multinomial(500, np.full(8, 1 / 8))) ** 2 for _ in range(2000)]
    assert np.mean(squares) == pytest.approx(7 / 500, rel=0.05)


@pytest.mark.parametrize("metric", [load_cv, usage_entropy, dead_experts])
@pytest.mark.parametrize(
    ("load", "message"),
    [
        ([], r"0 sample\(s\)"),
        ([0.0, 0.0], r"at least one positive entry, got values from 0 to 0. Pass the shares"),
        ([1.5, -0.5], r"non-negative .* got values from -0.5 to 1.5"),
        ([[0.5, 0.5], [0.5, 0.5]], r"1d array"),
        ([0.5, np.nan], r"Input load contains NaN"),
    ],
)
def test_wrong_loads_are_explained(metric, load, message):
    with pytest.raises(ValueError, match=message):
        metric(load)


# -- router -------------------------------------------------------------------------------


def test_margin_is_first_minus_second():
    gate_proba = random_answers()[1]
    ordered = np.sort(gate_proba, axis=1)
    np.testing.assert_allclose(router_margin(gate_proba), ordered[:, -1] - ordered[:, -2])
    np.testing.assert_array_equal(router_margin(np.ones((3, 1))), [1, 1, 1])
    assert router_margin(gate_proba.astype(np.float32)).dtype == np.float32


def test_last_fluctuation_matches_a_loop():
    rng = np.random.RandomState(0)
    routes, steps = rng.randint(2, size=(7, 50)), np.cumsum(rng.randint(1, 9, size=7))
    expected = np.full(50, steps[0])
    for record in range(1, 7):
        changed = routes[record] != routes[record - 1]
        expected[changed] = steps[record]
    np.testing.assert_array_equal(last_fluctuation(routes, steps), expected)
    assert (last_fluctuation(routes) == np.searchsorted(steps, expected)).all()


def test_last_fluctuation_of_one_record():
    np.testing.assert_array_equal(last_fluctuation([["a", "b"]], [3.5]), [3.5, 3.5])


@pytest.mark.parametrize("steps", [[0], [1, 0], [1, 1], [[0, 1]]])
def test_wrong_steps_are_explained(steps):
    with pytest.raises(ValueError, match=r"steps must be 2 increasing numbers, one per record"):
        last_fluctuation([[0, 1], [0, 0]], steps)


# -- experts ------------------------------------------------------------------------------


def test_errors_match_a_loop():
    y, _, expert_proba, _ = random_answers()
    clusters = np.arange(len(y)) % N_CLUSTERS
    errors = expert_error_matrix(y, clusters, expert_proba)
    assert errors.shape == (N_EXPERTS, N_CLUSTERS)
    for expert, cluster in np.ndindex(errors.shape):
        said = expert_proba[clusters == cluster, expert].argmax(axis=1)
        expected = np.mean(said != y[clusters == cluster])
        assert errors[expert, cluster] == pytest.approx(expected)


def test_swap_matches_a_loop():
    y, gate_proba, expert_proba, _ = random_answers()
    experts = gate_proba.argmax(axis=1).clip(max=N_EXPERTS - 2)  # the last one is dead
    swapped = expert_swap_accuracy(y, experts, expert_proba)
    assert np.isnan(swapped[-1]).all()
    assert not np.isnan(swapped[:-1]).any()
    for i, j in np.ndindex(N_EXPERTS - 1, N_EXPERTS):
        said = expert_proba[experts == i, j].argmax(axis=1)
        assert swapped[i, j] == pytest.approx(np.mean(said == y[experts == i]))


def test_knock_out_matches_a_loop():
    y, gate_proba, expert_proba, _ = random_answers()
    rest = knock_out_accuracy(y, gate_proba, expert_proba)
    for expert in range(N_EXPERTS):
        without = gate_proba.copy()
        without[:, expert] = -1
        said = expert_proba[np.arange(len(y)), without.argmax(axis=1)].argmax(axis=1)
        assert rest[expert] == pytest.approx(np.mean(said == y))


def test_knock_out_of_a_dead_expert_changes_nothing():
    y, gate_proba, expert_proba, _ = random_answers()
    experts = np.zeros_like(y)
    rest = knock_out_accuracy(y, gate_proba, expert_proba, experts=experts)
    accuracy = np.mean(expert_proba[:, 0].argmax(axis=1) == y)
    np.testing.assert_allclose(rest[1:], accuracy)


def test_nobody_replaces_a_single_expert():
    y, _, expert_proba, _ = random_answers()
    one = np.ones((len(y), 1))
    np.testing.assert_array_equal(knock_out_accuracy(y, one, expert_proba[:, :1]), [np.nan])


def test_the_first_expert_is_judged():
    y, gate_proba, expert_proba, _ = random_answers()
    first_two = np.argsort(-gate_proba, axis=1)[:, :2]
    np.testing.assert_array_equal(
        expert_swap_accuracy(y, first_two, expert_proba),
        expert_swap_accuracy(y, first_two[:, 0], expert_proba),
    )
    np.testing.assert_allclose(
        knock_out_accuracy(y, gate_proba, expert_proba, experts=first_two),
        knock_out_accuracy(y, gate_proba, expert_proba),
    )


@pytest.mark.parametrize("kind", ["errors", "swap", "knock out"])
def test_integer_weights_repeat_samples(kind):
    y, gate_proba, expert_proba, weight = random_answers()
    experts, clusters = gate_proba.argmax(axis=1), np.arange(len(y)) % N_CLUSTERS

    def metric(rows, sample_weight):
        params = {"classes": [0, 1, 2], "sample_weight": sample_weight}
        if kind == "errors":
            return expert_error_matrix(y[rows], clusters[rows], expert_proba[rows], **params)
        if kind == "swap":
            return expert_swap_accuracy(y[rows], experts[rows], expert_proba[rows], **params)
        return knock_out_accuracy(y[rows], gate_proba[rows], expert_proba[rows], **params)

    rows = np.arange(len(y))
    np.testing.assert_allclose(metric(rows, weight), metric(np.repeat(rows, weight), None))


def test_labels_may_be_anything():
    y, _, expert_proba, _ = random_answers()
    clusters = np.arange(len(y)) % N_CLUSTERS
    names = np.array(["no", "perhaps", "yes"])
    expected = expert_error_matrix(y, clusters, expert_proba)
    given = expert_error_matrix(names[y].tolist(), clusters, expert_proba, names)
    np.testing.assert_array_equal(given, expected)
    # A label that no expert knows is an error of all.
    assert (expert_error_matrix([0, 9], [0, 1], np.ones((2, 3, 2)), [0, 1])[:, 1] == 1).all()


@pytest.mark.parametrize(
    ("y", "proba_shape", "params", "message"),
    [
        ([0, 1], (2, 3), {}, r"must have shape \(n_samples, n_experts, n_classes\), got \(2, 3\)"),
        ([0, 1], (2, 3, 4), {}, r"about 4 classes, got 2: \[0, 1\]. Pass classes=clf.classes_"),
        ([0, 1], (3, 3, 2), {}, r"inconsistent numbers of samples: \[2, 3\]"),
        ([5, 6], (2, 3, 2), {"classes": [0, 1]}, r"no label in common .* \[0, 1\], got \[5, 6\]"),
        (["a", "b"], (2, 3, 2), {"classes": [0, 1]}, r"no label in common .* got \['a', 'b'\]"),
        ([0, 1], (2, 3, 2), {"sample_weight": [1, 1, 1]}, r"must have 2 entries, got 3"),
    ],
)
def test_wrong_answers_are_explained(y, proba_shape, params, message):
    proba = np.ones(proba_shape)
    for metric in (expert_error_matrix, expert_swap_accuracy):
        with pytest.raises(ValueError, match=message):
            metric(y, [0, 1], expert_proba=proba, **params)
    with pytest.raises(ValueError, match=message):
        knock_out_accuracy(y, np.ones((2, 3)), proba, **params)


def test_wrong_gates_and_experts_are_explained():
    y, proba = [0, 1], np.ones((2, 3, 2))
    with pytest.raises(ValueError, match=r"gate_proba must have shape .* \(2, 3\), .* got \(2, 4"):
        knock_out_accuracy(y, np.ones((2, 4)), proba)
    with pytest.raises(ValueError, match=r"experts must be smaller than n_experts=3, got 3"):
        expert_swap_accuracy(y, [0, 3], proba)


def test_own_and_other_errors_by_hand():
    errors = [[0.1, 0.4, 0.6], [0.2, 0.0, 0.4], [0.5, 0.5, 0.5]]
    routing = [[5, 0, 0], [1, 0, 0], [0, 9, 0]]  # expert 2 is dead
    own, other = own_other_error(errors, routing)
    np.testing.assert_allclose(own, [0.1, 0.4, np.nan])
    np.testing.assert_allclose(other, [0.5, 0.1, np.nan])
    own, other = own_other_error([[0.25]], [[3]])
    np.testing.assert_array_equal([own[0], other[0]], [0.25, np.nan])
    with pytest.raises(ValueError, match=r"got \(3, 3\) and \(3, 2\). Pass n_experts"):
        own_other_error(errors, np.ones((3, 2)))


# -- significance -------------------------------------------------------------------------


def test_independence_has_uniform_p_values():
    rng = np.random.RandomState(0)
    p_values = [
        dispatch_entropy_test(
            rng.randint(3, size=80),
            rng.choice(4, p=[0.5, 0.3, 0.2, 0.0], size=80),  # one expert is dead
            n_permutations=199,
            n_bootstraps=1,
            random_state=rng,
        ).p_value
        for _ in range(300)
    ]
    assert kstest(p_values, "uniform").pvalue > 0.01


@pytest.mark.parametrize("n_answers", [None, 2])
def test_a_real_match_is_found(n_answers):
    clusters, experts, _ = half_random_routing(n_answers)
    test = dispatch_entropy_test(clusters, experts, random_state=0)
    assert test.entropy == pytest.approx(dispatch_entropy(clusters, experts))
    assert test.p_value == 1 / 1001
    assert test.low < test.entropy < test.high < test.null_low < test.null_mean < test.null_high


@pytest.mark.parametrize("n_answers", [None, 2])
def test_null_is_that_of_shuffled_clusters(n_answers):
    clusters, experts, _ = half_random_routing(n_answers, n_samples=40)
    rng = np.random.RandomState(0)
    null = [dispatch_entropy(rng.permutation(clusters), experts) for _ in range(1000)]
    test = dispatch_entropy_test(clusters, experts, n_permutations=4000, random_state=0)
    assert test.null_mean == pytest.approx(np.mean(null), abs=4 * np.std(null) / 1000**0.5)
    assert test.null_low == pytest.approx(np.quantile(null, 0.025), abs=0.03)
    assert test.null_high == pytest.approx(np.quantile(null, 0.975), abs=0.03)


def test_dead_experts_cannot_fake_specialization():
    """One expert answers all: the entropy is that of the clusters, but so is the null."""
    clusters = np.repeat([0, 1], [190, 10])
    test = dispatch_entropy_test(clusters, np.zeros(200), random_state=0)
    assert test.entropy < 0.2  # looks small
    assert test.p_value == 1
    assert test.null_low == pytest.approx(test.null_high)


@pytest.mark.parametrize("level", [-0.5, 0, 1])
def test_a_level_that_is_none(level):
    with pytest.raises(ValueError, match=r"confidence_level.* in the range \(0.0, 1.0\)"):
        dispatch_entropy_test([0, 1], [0, 1], confidence_level=level)


def test_interval_covers_the_truth():
    """The plug-in entropy is too small; the interval is not."""
    joint = np.kron(np.eye(4), [0.5, 0.5]) * 0.5 / 4 + 0.5 / 32
    truth = entropy(joint.ravel()) - entropy(joint.sum(axis=0))
    rng, covered, plug_in = np.random.RandomState(0), [], []
    for _ in range(200):
        cells = rng.choice(32, p=joint.ravel(), size=500)
        test = dispatch_entropy_test(
            cells // 8, cells % 8, n_permutations=1, n_bootstraps=200, random_state=rng
        )
        covered.append(test.low <= truth <= test.high)
        plug_in.append(test.entropy)
    assert np.mean(covered) > 0.88
    assert np.mean(plug_in) - truth == pytest.approx(-8 * 3 / (2 * 500), rel=0.3)


def test_the_seed_decides():
    clusters, experts, _ = half_random_routing()
    params = {"n_permutations": 50, "n_bootstraps": 50}
    first, same, other = (
        dispatch_entropy_test(clusters, experts, random_state=seed, **params) for seed in (0, 0, 1)
    )
    assert first == same
    assert (first.entropy, first.p_value) == (other.entropy, other.p_value)
    assert (first.null_mean, first.low) != (other.null_mean, other.low)


def test_drawing_in_small_portions(monkeypatch):
    clusters, experts, _ = half_random_routing(2)
    whole = dispatch_entropy_test(clusters, experts, random_state=0)
    monkeypatch.setattr("sklearn_moe.metrics._significance._CELLS_AT_ONCE", 1000)
    parts = dispatch_entropy_test(clusters, experts, random_state=0)
    assert parts.null_mean == pytest.approx(whole.null_mean, abs=0.01)
    assert parts.p_value == whole.p_value


def test_one_cluster_shows_nothing():
    test = dispatch_entropy_test(np.zeros(9), np.arange(9) % 2, random_state=0)
    assert (test.entropy, test.p_value, test.low, test.high) == (0, 1, 0, 0)


# -- report -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fitted(patches):
    (X, y, _), _ = patches
    return MoEClassifier(random_state=0).fit(X, y)


@pytest.fixture(scope="module")
def report(fitted, patches):
    _, (X, y, clusters) = patches
    return specialization_report(fitted, X, y, clusters, random_state=0)


def test_report_repeats_the_metrics(report, fitted, patches):
    _, (X, y, clusters) = patches
    experts, gate_proba = fitted.apply(X), fitted.gate_proba(X)
    expert_proba, classes = fitted.expert_proba(X), fitted.classes_
    load = expert_load(experts, n_experts=8)
    matrix = routing_matrix(clusters, experts, n_experts=8)
    errors = expert_error_matrix(y, clusters, expert_proba, classes)

    assert (report.n_samples, report.n_experts) == (1000, 8)
    assert report.score == fitted.score(X, y)
    assert report.blind_score == max(np.mean(y), 1 - np.mean(y))
    assert report.load_cv == load_cv(load)
    assert report.usage_entropy == usage_entropy(load)
    assert report.router_margin == pytest.approx(router_margin(gate_proba).mean())
    np.testing.assert_array_equal(report.dead_experts, dead_experts(load))
    np.testing.assert_array_equal(report.load, load)
    np.testing.assert_array_equal(report.routing_matrix, matrix)
    np.testing.assert_array_equal(report.error_matrix, errors)
    np.testing.assert_array_equal(
        (report.own_error, report.other_error), own_other_error(errors, matrix)
    )
    np.testing.assert_array_equal(
        report.knock_out_score, knock_out_accuracy(y, gate_proba, expert_proba)
    )
    np.testing.assert_array_equal(report.swap_score, expert_swap_accuracy(y, experts, expert_proba))
    said = expert_proba.argmax(axis=2) == np.searchsorted(classes, y)[:, np.newaxis]
    assert report.first_score == pytest.approx(report.score)  # one expert answers
    assert report.swapped_score == pytest.approx(
        (said.sum() - report.first_score * 1000) / 7 / 1000
    )
    agreement = report.agreement
    assert agreement.entropy == report.entropy_test.entropy == dispatch_entropy(clusters, experts)
    assert agreement.mutual_information == mutual_information(clusters, experts)
    assert agreement.purity == purity(clusters, experts)
    assert agreement.nmi == normalized_mutual_info_score(clusters, experts)
    assert agreement.ari == adjusted_rand_score(clusters, experts)
    assert agreement.ami == adjusted_mutual_info_score(clusters, experts)


def test_report_finds_specialization_where_it_is(report):
    assert report.score > 0.97
    assert report.entropy_test.p_value < 0.01
    assert report.agreement.entropy < 0.2 < report.kmeans_agreement.entropy
    assert report.agreement.nmi > report.kmeans_agreement.nmi
    assert report.agreement.purity > report.null_agreement.purity + 0.5
    alive = report.load > 0.05
    assert (report.own_error[alive] + 0.2 < report.other_error[alive]).all()


def test_report_finds_none_where_none_is(fitted, patches):
    """Clusters that say nothing about the routes: value and null are the same."""
    _, (X, y, clusters) = patches
    shuffled = np.random.RandomState(0).permutation(clusters)
    report = specialization_report(fitted, X, y, shuffled, random_state=0)
    assert report.entropy_test.p_value > 0.05
    for name, null in vars(report.null_agreement).items():
        assert getattr(report.agreement, name) == pytest.approx(null, abs=0.03), name


@pytest.mark.parametrize("n_merged", [1, 2])
def test_null_is_the_mean_over_shuffles(n_merged, fitted, patches):
    _, (X, y, clusters) = patches
    clusters = clusters // n_merged
    report = specialization_report(fitted, X, y, clusters, random_state=0)
    experts, rng = fitted.apply(X), np.random.RandomState(0)
    shuffled = [rng.permutation(clusters) for _ in range(200)]
    for name, metric in {
        "mutual_information": mutual_information,
        "nmi": normalized_mutual_info_score,
        "purity": purity,
        "ari": adjusted_rand_score,
    }.items():
        expected = np.mean([metric(labels, experts) for labels in shuffled])
        close = {"purity": 0.003, "ari": 0.001}.get(name, 0.15 * expected)
        assert getattr(report.null_agreement, name) == pytest.approx(expected, abs=close), name
    assert report.null_agreement.normalized_entropy == pytest.approx(
        report.entropy_test.null_mean / entropy(np.bincount(clusters))
    )


@pytest.mark.parametrize("name", ["n_permutations", "n_bootstraps"])
def test_the_test_of_the_entropy_draws_at_least_once(name):
    with pytest.raises(ValueError, match=f"'{name}' parameter .* must be an int"):
        dispatch_entropy_test([0, 1], [0, 1], **{name: 0})


def test_report_is_readable(report):
    text = str(report)
    lines = text.splitlines()
    assert lines[0] == "Specialization: 8 experts, 1000 samples, 4 clusters"
    assert max(map(len, lines)) <= 100
    assert "null: clusters shuffled" in text
    assert f"p = {report.entropy_test.p_value:.2g}" in text
    values = [line for line in lines if line.startswith("  dispatch entropy ")]
    assert values[0].split()[2:5] == [
        f"{agreement.entropy:.3f}"
        for agreement in (report.agreement, report.null_agreement, report.kmeans_agreement)
    ]
    matrix = [[int(cell) for cell in line.split()[1:]] for line in lines[-4:]]
    np.testing.assert_array_equal(matrix, report.routing_matrix)
    assert repr(report).startswith("SpecializationReport(n_samples=1000, n_experts=8, score=")


def test_report_names_experts_that_answer_nothing(report):
    reading = {dead: str(replace(report, dead_experts=np.arange(dead))) for dead in (0, 2, 9)}
    assert "answer no sample\n" in reading[0]
    assert "answer no sample: 0, 1\n" in reading[2]
    assert "answer no sample: 0, 1, 2, 3, 4, 5, 6, 7, ...\n" in reading[9]


def test_report_as_a_frame(report, monkeypatch):
    frame = report.to_frame()
    assert list(frame.columns) == ["group", "value", "null", "reading", "kmeans"]
    assert frame.loc["purity", "value"] == report.agreement.purity
    assert frame.loc["purity", "kmeans"] == report.kmeans_agreement.purity
    assert frame.loc["accuracy", "null"] == report.blind_score
    # Of even loads, or of samples that are routed by lot.
    nulls = frame.loc[["usage entropy", "dead experts", "load CV"], "null"]
    assert nulls.tolist() == [1, 0, pytest.approx((7 / 1000) ** 0.5)]
    assert frame.loc["accuracy, one expert less", "value"] == report.knock_out_score.min()
    worst = report.knock_out_score.argmin()
    assert f"without expert {worst}," in frame.loc["accuracy, one expert less", "reading"]
    assert all(name in str(report) for name in frame.index)
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match=r"to_frame needs pandas. Install it with `pip install"):
        report.to_frame()


def test_report_is_frozen_and_seeded(report, fitted, patches):
    _, (X, y, clusters) = patches
    again = specialization_report(fitted, X, y, clusters, random_state=0)
    assert again.null_agreement == report.null_agreement
    assert again.entropy_test == report.entropy_test
    assert str(again) == str(report)
    with pytest.raises(AttributeError):
        report.score = 1.0
    with pytest.raises(AttributeError):
        report.entropy_test.p_value = 0.0


def test_report_without_clusters(fitted, report, patches):
    _, (X, y, _) = patches
    without = specialization_report(fitted, X, y)
    assert without.score == report.score
    assert without.agreement is without.routing_matrix is without.entropy_test is None
    assert set(without.to_frame()["group"]) == {"All samples", "Load", "Exchange"}
    assert "clusters" not in str(without).lower()
    assert "k-means" not in str(without)
    assert "entropy" not in repr(without)


def test_report_leaves_out_a_huge_matrix(fitted, patches):
    _, (X, y, _) = patches
    report = specialization_report(fitted, X, y, np.arange(1000) // 40, random_state=0)
    assert report.routing_matrix.shape == (25, 8)
    assert "Routing matrix" not in str(report)


@pytest.mark.parametrize("with_clusters", [True, False])
def test_report_of_a_single_expert(patches, with_clusters):
    (X, y, clusters), _ = patches
    clf = MoEClassifier(n_experts=1, max_iter=2, tol=None, random_state=0).fit(X, y)
    report = specialization_report(
        clf, X, y, clusters if with_clusters else None, n_permutations=10, random_state=0
    )
    assert (report.load_cv, report.usage_entropy, report.router_margin) == (0, 1, 1)
    assert "there is no other expert" in str(report)
    if with_clusters:
        assert report.entropy_test.p_value == 1
        assert report.agreement == report.null_agreement == report.kmeans_agreement


def test_report_of_one_cluster(fitted, patches):
    _, (X, y, _) = patches
    report = specialization_report(fitted, X, y, np.zeros(1000), n_permutations=10, random_state=0)
    assert report.agreement == report.null_agreement
    assert np.isnan(report.other_error).all()
    assert "-" in str(report)


def test_report_of_several_answers_and_names(patches):
    (X, y, clusters), _ = patches
    y, clusters = np.array(["no", "yes"])[y], np.array(["ant", "bee", "cat", "dog"])[clusters]
    clf = MoEClassifier(
        n_experts=4, router="topk", top_k=2, max_iter=2, tol=None, random_state=0
    ).fit(X, y)
    report = specialization_report(clf, X, y, clusters, random_state=0)
    assert report.agreement.entropy == dispatch_entropy(clusters, clf.apply(X))
    assert report.score == clf.score(X, y)
    first, expert_proba = clf.apply(X)[:, 0], clf.expert_proba(X)
    said = clf.classes_[expert_proba[np.arange(len(X)), first].argmax(axis=1)]
    assert report.first_score == pytest.approx(np.mean(said == y))
    assert "  bee" in str(report)
    assert report.agreement.nmi == normalized_mutual_info_score(clusters, first)
    assert report.routing_matrix.sum() == len(X)


def test_report_of_a_pipeline_and_a_table():
    X, y = load_iris(return_X_y=True, as_frame=True)
    names = load_iris().target_names[y]
    clf = MoEClassifier(n_experts=3, max_iter=5, tol=None, random_state=0)
    pipeline = make_pipeline(StandardScaler(), clf).fit(X, names)
    report = specialization_report(pipeline, X, names, names, random_state=0)
    alone = specialization_report(
        pipeline[-1], pipeline[0].transform(X), names, names, random_state=0
    )
    assert str(report) == str(alone)
    assert report.score == pipeline.score(X, names)


def test_k_means_sees_what_a_linear_router_sees(patches):
    """A table of patches and the bags of patches themselves have the same null."""
    (X, y, clusters), _ = patches
    params = {"n_experts": 4, "max_iter": 1, "tol": None, "random_state": 0}
    bags = MoEClassifier(**params).fit(X, y)
    rows = X.reshape(len(X), -1)
    table = MoEClassifier(sample_shape=X.shape[1:], **params).fit(rows, y)
    reports = [
        specialization_report(clf, Z, y, clusters, n_permutations=10, random_state=0)
        for clf, Z in ((bags, X), (table, rows))
    ]
    assert reports[0].kmeans_agreement == reports[1].kmeans_agreement


@pytest.mark.parametrize(
    "shape", [(5,), (3, 4), (12, 4), (3, 8, 8), (1, 4, 4), (3, 9, 14), (2, 3, 7), (1, 1, 1)]
)
def test_the_linear_view_is_what_routers_pool(shape):
    X = np.random.RandomState(0).normal(size=(7, *shape))
    view = linear_view(X)
    np.testing.assert_allclose(view, pool(torch.from_numpy(X), torch.float64), rtol=1e-12)
    assert view.dtype == np.float64
    assert np.shares_memory(view, X) == (X.ndim == 2)
    whole = X.round().astype(np.float32)  # whole numbers: equal in any order of summation
    expected = pool(torch.from_numpy(whole), torch.float32)
    np.testing.assert_array_equal(linear_view(whole), expected)
    assert linear_view(whole).dtype == np.float32


def test_the_linear_view_of_bytes_is_that_of_their_scaled_floats():
    X = np.random.RandomState(0).randint(256, size=(7, 3, 65, 64)).astype(np.uint8)
    expected = pool(torch.from_numpy(X / 255), torch.float64)
    np.testing.assert_allclose(linear_view(X), expected, rtol=1e-12)
    with pytest.raises(ValueError, match=r"height, width\), got \(7,\)"):
        linear_view(X[:, 0, 0, 0])


def make_pictures(centers, dtype, n_samples=240):
    """Return noisy copies of some pictures in [0, 1], classes and the number of the original."""
    rng = np.random.RandomState(0)
    clusters = np.arange(n_samples) % len(centers)
    X = np.asarray(centers)[clusters] + rng.normal(0, 0.1, (n_samples, *np.shape(centers)[1:]))
    y = rng.randint(2, size=n_samples)
    if dtype == np.uint8:
        return (255 * X.clip(0, 1)).round().astype(dtype), y, clusters
    return X.astype(dtype), y, clusters


TEXTURES = np.tile(np.random.RandomState(0).uniform(0.3, 0.7, (4, 3, 4, 4)), (2, 2))
PLACES = np.zeros((4, 3, 8, 8))  # a bright square in one of four places: the sums are the same
for place, (row, column) in enumerate(np.ndindex(2, 2)):
    PLACES[place, :, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4] = 0.8


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8])
@pytest.mark.parametrize(("centers", "is_seen"), [(TEXTURES, True), (PLACES, False)])
@pytest.mark.parametrize("standardize", [False, True])
def test_k_means_of_the_report_is_the_k_means_router(centers, is_seen, dtype, standardize):
    """Both see sums of squares, where textures differ and places do not."""
    X, y, clusters = make_pictures(centers, dtype)
    options = {"standardize": standardize, "max_iter": 1, "random_state": 0}
    clf = MoEClassifier(n_experts=4, router="kmeans", expert_width=2, **options).fit(X, y)
    options = {"n_permutations": 10, "random_state": 0}
    report = specialization_report(clf, X, y, clusters, **options)
    assert report.agreement.ari == pytest.approx(float(is_seen), abs=0.1)
    assert report.kmeans_agreement.ari == pytest.approx(float(is_seen), abs=0.1)
    if is_seen:
        assert report.kmeans_agreement == report.agreement
        again = specialization_report(clf, X, y, clf.apply(X), **options)
        assert again.kmeans_agreement.ari == 1


@pytest.mark.parametrize("kind", TABLES)
@pytest.mark.parametrize("estimator", [MoEClassifier, MoERegressor])
@pytest.mark.parametrize("piped", [False, True])
def test_report_and_k_means_of_any_table(kind, estimator, piped):
    """k-means clusters what the router sees, the encoded columns."""
    X, y, options = make_table(kind)
    target = y if estimator is MoEClassifier else y + 0.5
    moe = estimator(n_experts=3, max_iter=2, random_state=0, **options)
    model = make_pipeline(FunctionTransformer(), moe) if piped else moe
    report = specialization_report(model.fit(X, target), X, target, y, random_state=0)
    assert report.n_samples == len(y)
    seen = moe.net_.map_batches(moe.module_.encode, check_samples(moe, X))
    centers, _ = find_centers(seen, np.ones(len(y)), 3, 0)
    expected = pairwise_distances_argmin(seen, centers)
    np.testing.assert_array_equal(_kmeans_routes(moe, X, 3, 0), expected)


def test_the_router_input_of_any_samples_is_pooled_and_encoded(patches, images):
    (bags, classes, _), _ = patches
    for X, y in ((bags[:50], classes[:50]), images):
        moe = MoEClassifier(2, expert_width=2, max_iter=1, tol=None, trunk=None, random_state=0)
        moe.fit(X, y)
        seen = moe.net_.map_batches(moe.module_.encode, X)
        np.testing.assert_allclose(moe._router_input(X), linear_view(seen), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", TABLES)
def test_k_means_of_many_rows_goes_part_by_part(monkeypatch, kind):
    X, y, options = make_table(kind)
    moe = MoEClassifier(n_experts=3, max_iter=2, random_state=0, **options).fit(X, y)
    at_once = _kmeans_routes(moe, X, 3, 0)
    monkeypatch.setattr("sklearn_moe.metrics._specialization._AT_ONCE", 7)  # numbers: of one row
    np.testing.assert_array_equal(_kmeans_routes(moe, X, 3, 0), at_once)


def test_k_means_counts_weights_and_the_order_of_rows_does_not_matter():
    rng = np.random.RandomState(0)
    Z, weight = rng.normal(size=(40, 3)), rng.randint(1, 4, size=40)
    order = rng.permutation(weight.sum())
    repeated = np.repeat(Z, weight, axis=0)[order]
    centers, spread = find_centers(Z, weight, 5, 0)
    again, spread_again = find_centers(repeated, np.ones(len(repeated)), 5, 0)
    np.testing.assert_array_equal(centers, again)
    assert spread == spread_again


def test_k_means_does_not_depend_on_one_start():
    """Of nine clear clusters a single start sometimes misses one, and the spread is 1.45 times."""
    centers = np.repeat(list(np.ndindex(3, 3)), 20, axis=0)
    Z = centers + np.random.RandomState(0).normal(0, 0.2, size=(180, 2))
    spreads = [find_centers(Z, np.ones(180), 9, seed)[1] for seed in range(10)]
    assert max(spreads) < 1.001 * min(spreads)


@pytest.mark.parametrize("other", [1, np.nextafter(1, 2)])
def test_k_means_of_rows_that_are_all_but_equal(other):
    Z = np.array([[1], [1], [other], [other]])
    centers, spread = find_centers(Z, np.ones(4), 3, 0)
    np.testing.assert_allclose(centers, np.ones((3, 1)))
    assert spread > 0


def test_report_of_few_distinct_images(images):
    X, y = images
    clf = MoEClassifier(n_experts=4, expert_width=2, max_iter=1, tol=None, random_state=0)
    clf.fit(X, y)
    report = specialization_report(
        clf, np.repeat(X[:2], 3, axis=0), np.repeat(y[:2], 3), range(6), random_state=0
    )
    assert report.n_samples == 6


# -- report of labels and of numbers ------------------------------------------------------

KINDS = ["classes", "labels", "numbers", "several numbers"]


def piecewise(kind, n_samples=400):
    """Return samples in four regions, each with a rule of its own, y and the regions."""
    rng = np.random.RandomState(0)
    X = rng.uniform(-1, 1, size=(n_samples, 2))
    regions = 2 * (X[:, 0] > 0) + (X[:, 1] > 0)
    slopes = rng.normal(size=(4, 2, 3))
    Y = 1000 + np.einsum("ni,nio->no", X, slopes[regions]) * [1, 10, 100]
    if kind == "classes":
        return X, np.array(["no", "yes"])[(Y[:, 0] > 1000).astype(int)], regions
    if kind == "multilabel":
        return X, (Y > 1000).astype(int), regions
    return X, Y[:, 0] if kind == "regression" else Y, regions


def fit_kind(kind, X, y, **params):
    estimator = MoEClassifier if kind in ("classes", "labels") else MoERegressor
    params = {"n_experts": 5, "max_iter": 10, "tol": None, "random_state": 0} | params
    return estimator(**params).fit(X, y)


def worth_of(kind, y, answer, variance=None):
    """Judge one answer to one sample."""
    if kind == "classes":
        return float(y == answer)
    if kind == "multilabel":
        return np.mean([true == said for true, said in zip(y, answer, strict=True)])
    return np.mean(1 - (np.atleast_1d(y) - np.atleast_1d(answer)) ** 2 / variance)


@pytest.mark.parametrize("router", ["top1", "topk", "soft"])
@pytest.mark.parametrize("kind", KINDS)
def test_report_of_any_target_matches_loops(kind, router):
    X, y, regions = piecewise(kind)
    moe = fit_kind(kind, X, y, router=router)
    report = specialization_report(moe, X, y, regions, n_permutations=10, random_state=0)
    first, gates = moe.apply(X).reshape(len(X), -1)[:, 0], moe.gate_proba(X)
    variance = None
    if kind == "classes":
        said = moe.classes_[moe.expert_proba(X).argmax(axis=2)]
    elif kind == "multilabel":
        said = (moe.expert_proba(X) > 0.5).astype(int)
    else:
        said, variance = moe.expert_predict(X), np.var(y, axis=0)
    worth = np.array(
        [[worth_of(kind, y[i], said[i, j], variance) for j in range(5)] for i in range(len(X))]
    )
    predicted = moe.predict(X)
    score = np.mean([worth_of(kind, y[i], predicted[i], variance) for i in range(len(X))])
    assert report.score == pytest.approx(score)
    assert report.first_score == pytest.approx(np.mean(worth[np.arange(len(X)), first]))
    for expert in range(5):
        without = gates.copy()
        without[:, expert] = -1
        answering = np.where(first == expert, without.argmax(axis=1), first)
        rest = worth[np.arange(len(X)), answering].mean()
        assert report.knock_out_score[expert] == pytest.approx(rest)
        for cluster in range(4):
            error = 1 - worth[regions == cluster, expert].mean()
            assert report.error_matrix[expert, cluster] == pytest.approx(error)
        if (first == expert).any():
            for other in range(5):
                swapped = worth[first == expert, other].mean()
                assert report.swap_score[expert, other] == pytest.approx(swapped)
    others = [worth[i, j] for i in range(len(X)) for j in range(5) if j != first[i]]
    assert report.swapped_score == pytest.approx(np.mean(others))


@pytest.mark.parametrize("kind", KINDS)
def test_scores_are_called_by_their_names(kind):
    X, y, regions = piecewise(kind)
    moe = fit_kind(kind, X, y)
    report = specialization_report(moe, X, y, regions, n_permutations=10, random_state=0)
    name, blind = {
        "classes": ("accuracy", "the most frequent class"),
        "labels": ("right labels", "each label as most samples have it"),
    }.get(kind, ("R2", "the mean of y"))
    assert report.score_name == name
    text, frame = str(report), report.to_frame()
    assert f"null: {blind}" in text
    assert ("accuracy" in text) == (kind == "classes")
    assert ("in variances of y" in text) == (name == "R2")
    for row in (name, f"{name}, one expert less", f"{name}, experts swapped"):
        assert row in frame.index
        assert f"  {row} " in text
    assert frame.loc[name, "value"] == report.score
    assert frame.loc[name, "null"] == report.blind_score
    without = specialization_report(moe, X, y)
    assert without.score == report.score
    assert without.error_matrix is None


def test_nulls_are_scores_of_blind_answers():
    for kind in KINDS:
        X, y, _ = piecewise(kind)
        report = specialization_report(fit_kind(kind, X, y, max_iter=1), X, y)
        if kind == "classes":
            assert report.blind_score == max(np.mean(y == "yes"), np.mean(y == "no"))
        elif kind == "multilabel":
            blind = np.median(y, axis=0)
            assert report.blind_score == pytest.approx(np.mean(y == blind))
        else:
            blind = np.broadcast_to(np.mean(y, axis=0), y.shape)
            assert report.blind_score == pytest.approx(r2_score(y, blind))


@pytest.mark.parametrize("kind", ["numbers", "several numbers"])
def test_score_of_numbers_is_that_of_scikit_learn(kind):
    X, y, regions = piecewise(kind)
    scaler = StandardScaler()
    moe = MoERegressor(4, max_iter=10, random_state=0)
    pipeline = make_pipeline(scaler, moe).fit(X[:300], y[:300])
    report = specialization_report(pipeline, X[300:], y[300:], regions[300:], random_state=0)
    assert report.score == pytest.approx(pipeline.score(X[300:], y[300:]))
    other_units = specialization_report(
        make_pipeline(scaler, clone(moe)).fit(X[:300], 8 * y[:300]), X[300:], 8 * y[300:]
    )
    assert other_units.score == pytest.approx(report.score, abs=1e-4)
    np.testing.assert_allclose(other_units.swap_score, report.swap_score, atol=1e-3)


def test_report_finds_the_regions_of_numbers():
    X, y, regions = piecewise("numbers", 2000)
    planes = {"activation": "linear", "loss": "gaussian", "n_experts": 6, "max_iter": 60}
    moe = fit_kind("numbers", X[:1500], y[:1500], **planes)
    report = specialization_report(moe, X[1500:], y[1500:], regions[1500:], random_state=0)
    assert report.score > 0.6
    assert report.swapped_score < 0 < 0.7 < report.first_score
    alive = report.load > 0.05
    assert (report.own_error[alive] < report.other_error[alive]).all()


def test_a_constant_output_has_no_unit():
    X, y, _ = piecewise("several numbers")
    y[:, 2] = 7
    moe = fit_kind("several numbers", X, y)
    report = specialization_report(moe, X, y)
    predicted = moe.predict(X)
    assert report.score == pytest.approx(r2_score(y[:, :2], predicted[:, :2]))
    with pytest.raises(ValueError, match=r"variance of y, and y is constant"):
        specialization_report(moe, X, np.ones((len(X), 3)))
    with pytest.raises(ValueError, match=r"as many outputs as .* fitted on, 3, got 1"):
        specialization_report(moe, X, y[:, 0])


@pytest.mark.parametrize("kind", ["numbers", "classes"])
def test_a_column_of_targets_is_as_good_as_a_list(kind):
    X, y, _ = piecewise("numbers")
    y = y if kind == "regression" else (y > np.median(y)).astype(int)
    moe = fit_kind(kind, X, y)
    column, plain = (specialization_report(moe, X, given) for given in (y[:, None], y.tolist()))
    assert str(column) == str(plain)


@pytest.mark.parametrize("kind", ["numbers", "labels"])
def test_report_of_a_single_expert_of_any_target(kind):
    X, y, regions = piecewise(kind)
    moe = fit_kind(kind, X, y, n_experts=1)
    report = specialization_report(moe, X, y, regions, n_permutations=10, random_state=0)
    assert np.isnan(report.knock_out_score).all()
    assert report.first_score == pytest.approx(report.score)
    assert "there is no other expert" in str(report)


def test_scores_far_below_zero_keep_the_columns():
    values = [0.5, -12.3456, -1234.5678, -1.5e7, -1e300, 7, np.nan]
    shown = [format_figure(value) for value in values]
    assert shown == ["0.500", "-12.346", "-1235", "-2e+07", "-1e+300", "7", "-"]
    X, y, _ = piecewise("numbers")
    moe = fit_kind("numbers", X, y)
    report = specialization_report(moe, X, 1000 + (y - 1000) / 1e4)
    assert report.score < -1000
    lines = [line for line in str(report).splitlines() if line.startswith("  R2")]
    assert all(len(line.split("  ")) > 3 for line in lines)


def test_metrics_of_several_labels_match_loops():
    rng = np.random.RandomState(0)
    y, proba = rng.randint(2, size=(60, 3)), rng.uniform(size=(60, N_EXPERTS, 3))
    gates, clusters = rng.dirichlet(np.ones(N_EXPERTS), size=60), np.arange(60) % N_CLUSTERS
    first = gates.argmax(axis=1)
    errors, swapped = expert_error_matrix(y, clusters, proba), expert_swap_accuracy(y, first, proba)
    for expert in range(N_EXPERTS):
        right = (proba[:, expert] > 0.5) == y
        for cluster in range(N_CLUSTERS):
            error = 1 - right[clusters == cluster].mean()
            assert errors[expert, cluster] == pytest.approx(error)
        for own in set(first):
            assert swapped[own, expert] == pytest.approx(right[first == own].mean())
    assert knock_out_accuracy(y, gates, proba).shape == (N_EXPERTS,)
    with pytest.raises(ValueError, match=r"about 3 labels: .* got shape \(60, 2\)"):
        expert_error_matrix(y[:, :2], clusters, proba)
    with pytest.raises(ValueError, match=r"columns of zeros and ones, .* entries \[0, 2\]"):
        expert_error_matrix(2 * y, clusters, proba)


class Silent:
    """Routes, and says nothing by itself."""

    def apply(self, X):
        return np.zeros(len(X), dtype=int)

    def gate_proba(self, X):
        return np.ones((len(X), 1))

    predict = apply


def test_wrong_input_of_the_report_is_explained(fitted, patches):
    _, (X, y, clusters) = patches
    with pytest.raises(TypeError, match=r"StandardScaler does not have apply, gate_proba"):
        specialization_report(StandardScaler(), X, y)
    with pytest.raises(TypeError, match=r"Silent does not have expert_proba"):
        specialization_report(Silent(), X, y)
    with pytest.raises(ValueError, match=r"inconsistent numbers of samples: \[1000, 1000, 999\]"):
        specialization_report(fitted, X, y, clusters[1:])


def test_a_notebook_shows_the_same_figures_as_the_text(report):
    html = report._repr_html_()
    tree = ElementTree.fromstring(f"<all>{html}</all>")
    cells = {"".join(cell.itertext()) for cell in tree.iter("td")}
    for name, value in report.to_frame()["value"].items():
        assert name in cells
        assert f"{value:.3f}" in cells or str(int(value)) in cells
    assert {str(int(count)) for count in report.routing_matrix.ravel()} <= cells


def test_a_cluster_that_no_expert_answers_is_white(report):
    matrix = report.routing_matrix.copy()
    matrix[1] = 0
    html = replace(report, routing_matrix=matrix)._repr_html_()
    assert html.count("178, 0.00)") >= report.n_experts
    assert "nan" not in html


def test_labels_of_clusters_are_no_html(report):
    labels = np.array([f"<b>{label}" for label in report.cluster_labels])
    assert "<td>&lt;b&gt;0</td>" in replace(report, cluster_labels=labels)._repr_html_()


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.filterwarnings("ignore::sklearn_moe.exceptions.ExpertCollapseWarning")
def test_a_report_of_several_labels_tells_what_their_combination_says_of_the_expert(images):
    X, y = images
    labels = np.c_[y == 0, y == 1].astype(int)
    clf = MoEClassifier(n_experts=2, router="top1", trunk="cnn", max_iter=3, random_state=0).fit(
        X, labels
    )
    report = specialization_report(clf, X, labels, n_permutations=20, random_state=0)
    expected = split_information(y, clf.apply(X), n_permutations=20, random_state=0)
    assert report.split["labels"].information == pytest.approx(expected.information)
