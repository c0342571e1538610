"""Whether refits split the samples in the same way."""

import re
import sys
from dataclasses import replace

import numpy as np
import pytest
from helpers import raises
from joblib import parallel_config
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from sklearn_moe import MixtureRegressor
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


def test_a_terminal_shows_where_fits_stand(data, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    mixture = MixtureRegressor(n_init=2, max_iter=30, tol=1e-2, random_state=0)
    routing_stability(mixture, *data, n_refits=2, random_state=0)
    assert capsys.readouterr().err == ""
    routing_stability(mixture, *data, n_refits=2, random_state=0, verbose=1)
    shown = capsys.readouterr().err
    assert {f"fit={number}/3" for number in (1, 2, 3)} <= {*re.findall(r"fit=./3", shown)}
    clone(mixture).set_params(verbose=1).fit(*data)
    shown = capsys.readouterr().err
    assert "MixtureRegressor: " in shown
    for text in ("experts=2", "gate=DecisionTreeClassifier", "gate=constant", "start=3/3"):
        assert text in shown
    MixtureRegressor(n_components="auto", verbose=1).fit(*data)
    assert "gate=tree of lines" in capsys.readouterr().err


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
