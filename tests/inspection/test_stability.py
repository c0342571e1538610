"""Whether refits split the samples in the same way."""

import sys
from dataclasses import replace

import numpy as np
import pytest
from helpers import raises
from joblib import parallel_config
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from sklearn_moe.inspection import routing_stability


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    X = rng.uniform(-1, 1, (300, 3))
    return X, np.where(X[:, 0] > 0.2, 1.0, -1.0) + 0.1 * rng.normal(size=300)


def tree(n_leaves):
    """Return a mixture in small: leaves are experts."""
    return DecisionTreeRegressor(max_leaf_nodes=n_leaves, random_state=0)


def test_a_split_that_is_there_is_stable(data):
    X, y = data
    stable = routing_stability(tree(2), X, y, random_state=0)
    noise = routing_stability(tree(8), X, np.random.default_rng(1).normal(size=300), random_state=0)
    assert stable.scores.shape == (20,)
    assert stable.n_agree == 20
    assert stable.mean > 0.95
    assert noise.n_agree == 0
    assert noise.mean < 0.5
    for result in (stable, noise):
        assert -0.1 < result.null_low < 0 < result.null_high < 0.1
        assert result.low <= result.mean <= result.high
        assert_allclose([result.low, result.high], np.quantile(result.scores, [0.025, 0.975]))
    assert stable != replace(stable)  # no comparison of arrays
    assert str(stable).startswith("20 of 20 refits agree: adjusted Rand index ")


def test_a_terminal_shows_how_many_fits_there_are(data, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    routing_stability(tree(2), *data, n_refits=3, random_state=0)
    assert "fits:   0%" in (shown := capsys.readouterr().err)
    assert "/4" in shown


def test_no_split_in_any_refit_is_agreement(data):
    alone = tree(2).set_params(min_samples_leaf=200)
    result = routing_stability(alone, *data, n_refits=3, random_state=0)
    # All agree that there is none.
    assert (result.mean, result.null_high, result.n_agree) == (1, 1, 3)


def test_resamples_pipelines_and_jobs(data):
    X, y = data
    pipeline = make_pipeline(StandardScaler(), tree(4))
    options = {"n_refits": 4, "random_state": 0}
    with parallel_config("threading"):
        results = [routing_stability(pipeline, X, y, n_jobs=jobs, **options) for jobs in (None, 2)]
    assert_array_equal(results[0].scores, results[1].scores)
    assert not hasattr(pipeline[-1], "tree_")  # it stays unfitted
    other = routing_stability(pipeline, X, y, n_refits=4, random_state=1)
    assert (results[0].scores != other.scores).any()
    # No class is lost from the resamples.
    classes = np.array(["rare"] * 3 + ["often"] * 297)

    class Counting(DecisionTreeClassifier):
        def fit(self, X, y):
            assert list(np.unique(y, return_counts=True)[1]) == [297, 3]
            return super().fit(X, y)

    routing_stability(Counting(max_depth=1, random_state=0), X, classes, **options)


def test_bad_arguments_are_named(data):
    X, y = data
    raises(ValueError, "n_refits", routing_stability, tree(2), X, y, n_refits=0, random_state=0)
    raises(ValueError, "y", routing_stability, tree(2), X, y[1:])
    raises(ValueError, r"'y' parameter .* Got None", routing_stability, tree(2), X, None)
    raises(TypeError, "apply", routing_stability, LinearRegression(), X, y, random_state=0)
