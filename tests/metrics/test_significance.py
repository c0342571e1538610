"""The test of the dispatch entropy: its null, its interval, its seeds."""

from functools import partial

import numpy as np
import pytest
from helpers import draw_routes
from scipy.stats import entropy, kstest

from sklearn_moe.metrics import dispatch_entropy, dispatch_entropy_test


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
