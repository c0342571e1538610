"""Parts of predictions that are not linear: Shapley values, their errors, importance and plots."""

import sys
from math import comb
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from made_up import shops
from numpy.testing import assert_allclose
from scipy.special import logit
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from sklearn_moe import MixtureClassifier, MixtureRegressor, MoEClassifier, MoERegressor
from sklearn_moe.inspection import explain

BRIEF = {"max_iter": 3, "tol": None, "random_state": 0}


def numbers(n=200, n_columns=8):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, n_columns))
    return X, X[:, 0] * X[:, 1] + np.sin(2 * X[:, 2]) + X[:, 3] + 0.1 * rng.normal(size=n)


def dated(n=200):
    """Return a frame with a date, which a step of a pipeline reads, and numbers with gaps."""
    frame, price = shops(n)
    frame["day"] = pd.Timestamp("2024-01-01") + pd.to_timedelta(np.arange(n) % 50, unit="D")
    return frame, price + 3 * (np.arange(n) % 50)


def with_days(model):
    def read(frame):
        return frame.assign(day=(frame["day"] - pd.Timestamp("2024-01-01")).dt.days)

    return make_pipeline(FunctionTransformer(read), model)


def exact_parts(outcome, X, row, background):
    """Return the Shapley values by all subsets, in one prediction."""
    n = X.shape[1]
    inside = (np.arange(2**n)[:, np.newaxis] >> np.arange(n) & 1).astype(bool)
    mixed = pd.concat([background] * 2**n, ignore_index=True)
    for j, name in enumerate(X):
        is_known = np.repeat(inside[:, j], len(background))
        mixed[name] = mixed[name].mask(is_known, X[name].iloc[row])
    mean = outcome(mixed).reshape(2**n, -1).mean(axis=1)
    weight = np.array([1 / n / comb(n - 1, k) for k in range(n)])
    parts = np.zeros(n)
    for j in range(n):
        without = np.flatnonzero(~inside[:, j])
        size = inside[without].sum(axis=1)
        parts[j] = np.sum(weight[size] * (mean[without + 2**j] - mean[without]))
    return parts


@pytest.mark.parametrize("name", ["numbers", "classes", "rates", "frame"])
def test_parts_are_shapley_values(name):
    X, y = numbers(n_columns=5)
    X = pd.DataFrame(X, columns=[*"abcde"])
    model = MoERegressor(3, **BRIEF)
    if name == "classes":
        y, model = np.digitize(y, [-1, 1]), MoEClassifier(3, **BRIEF)
    if name == "rates":
        y, model = np.exp(y).astype(int), MoERegressor(3, loss="poisson", **BRIEF)
    if name == "frame":
        (X, y), model = dated(), with_days(model)
    model.fit(X, y)
    background, row = X.iloc[50:62], 7
    explained = explain(model, X, row, output=2 * (name == "classes"), background=background)
    outcome = model.predict
    if name == "classes":
        outcome = lambda mixed: logit(model.predict_proba(mixed)[:, 2].astype(float))  # noqa: E731
    if name == "rates":
        outcome = lambda mixed: np.log(model.predict(mixed))  # noqa: E731
    expected = exact_parts(outcome, X, row, background)
    # The network computes in single precision.
    limit = 1e-5 * np.ptp(expected)
    assert_allclose(explained.contribution[0], expected, atol=limit)
    assert_allclose(explained.base, outcome(background).mean(), rtol=1e-5)
    assert_allclose(explained.prediction, outcome(X.iloc[[row]]), rtol=1e-5)
    assert (explained.standard_error == 0).all()
    assert explained.columns == tuple(X.columns)
    assert explained.n_background == 12
    if name == "frame":
        assert explained.values[0, 3] == "2024-01-08"


@pytest.fixture(scope="module")
def forest():
    """Return a stack that changes in steps, and its samples of eight columns."""
    X, y = numbers()
    trees = RandomForestRegressor(20, min_samples_leaf=5, random_state=0)
    model = MixtureRegressor([LinearRegression(), trees], method="stack", random_state=0)
    return model.fit(X, y), X


def test_standard_errors_tell_how_far_parts_are_from_exact_ones(forest):
    model, X = forest
    rows = np.arange(12)
    background = X[100:120]
    explained = explain(model, X, rows, background=background)
    frame, compared = pd.DataFrame(X), pd.DataFrame(background)
    predict = lambda mixed: model.predict(mixed.to_numpy())  # noqa: E731
    expected = np.array([exact_parts(predict, frame, row, compared) for row in rows])
    z = np.abs(explained.contribution - expected) / explained.standard_error
    assert (z <= 3).mean() >= 0.99
    assert 0.4 < np.sqrt(np.mean(z**2)) < 1.3
    total = explained.base + explained.contribution.sum(axis=1)
    assert_allclose(total, model.predict(X[rows]), rtol=1e-9)
    spread = [np.std([*model.predict(background), p]) for p in explained.prediction]
    assert (explained.standard_error.max(axis=1) < 0.02 * np.array(spread)).all()


def test_parts_of_a_row_depend_on_the_seed_only(forest):
    model, X = forest
    several = explain(model, X, [3, 9])
    alone = explain(model, X, 9)
    assert np.array_equal(several.contribution[1], alone.contribution[0])
    other = explain(model, X, 9, random_state=1)
    assert not np.array_equal(other.contribution, alone.contribution)
    X_other = np.concatenate([X, X[:50]])
    same = explain(model, X_other, 9, background=X[:30])
    given = explain(model, X, 9, background=X[:30])
    assert np.array_equal(same.contribution, given.contribution)


EFFECTS = {
    "additive": (lambda X: 2 * X[:, 0] + X[:, 1] ** 2, [0, 1]),
    "interaction": (lambda X: 3 * X[:, 2] * X[:, 3], [2, 3]),
    "category": (lambda X: 3.0 * (X[:, 4] > 0) + X[:, 0], [0, 4]),
    "regime": (lambda X: np.where(X[:, 0] > 0, 3 * X[:, 1], -3 * X[:, 2]), [0, 1, 2]),
    "nuisance": (lambda X: 2 * X[:, 5], [5]),
}


@pytest.mark.parametrize("name", EFFECTS)
def test_true_columns_are_above_all_others(name):
    effect, true = EFFECTS[name]
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 7))
    y = effect(X) + 0.2 * rng.normal(size=400)
    frame = pd.DataFrame(X, columns=[f"c{i}" for i in range(7)])
    frame["c4"] = np.where(X[:, 4] > 0, "up", "down")
    model = MoERegressor(3, max_iter=25, random_state=0).fit(frame, y)
    found = explain(model, frame, np.arange(25)).importance()
    assert {*found.index[: len(true)]} == {f"c{i}" for i in true}
    assert found["importance"].is_monotonic_decreasing
    assert (found["standard_error"] > 0).all()


def test_importance_is_the_mean_absolute_part(forest):
    model, X = forest
    explained = explain(model, X, np.arange(10))
    found = explained.importance()
    size = np.abs(explained.contribution)
    place = explained.columns.index(found.index[0])
    assert place == size.mean(axis=0).argmax()
    assert_allclose(found["importance"].iloc[0], size[:, place].mean())
    deviation = size[:, place].std(ddof=1) / np.sqrt(10)
    assert_allclose(found["standard_error"].iloc[0], deviation, rtol=0.05)
    alone = explain(model, X, 3)
    error = alone.importance()["standard_error"].loc[[*alone.columns]]
    assert_allclose(error, alone.standard_error[0])


def test_the_class_asked_for():
    X, y = numbers(n_columns=4)
    three = MoEClassifier(3, **BRIEF).fit(X, np.array([*"abc"])[np.digitize(y, [-1, 1])])
    explained = explain(three, X, [0, 1], output="b")
    proba = three.predict_proba(X[:2])[:, 1].astype(float)
    assert_allclose(explained.prediction, np.log(proba / (1 - proba)), rtol=1e-5)
    assert explained.outcome == "the log odds of 'b'"
    with pytest.raises(ValueError, match=r"output must be one of .*'c'\], got 'd'"):
        explain(three, X, 0, output="d")
    two = MixtureClassifier(LogisticRegression(), 1, random_state=0).fit(X, y > 0)
    yes, no = (explain(two, X, [0, 1], output=output) for output in (True, False))
    assert_allclose(yes.contribution, -no.contribution)


@pytest.fixture(scope="module")
def priced():
    frame, price = shops(150)
    model = MoERegressor(3, max_iter=10, random_state=0).fit(frame, price)
    return explain(model, frame, np.arange(40))


def test_to_shap(priced, monkeypatch):
    monkeypatch.setitem(sys.modules, "shap", SimpleNamespace(Explanation=dict))
    found = priced.to_shap()
    assert_allclose(found["base_values"] + found["values"].sum(axis=1), priced.prediction)
    assert found["feature_names"] == ["size", "age", "kind"]
    assert found["data"].shape == found["display_data"].shape == (40, 3)


def test_wrong_background():
    X, y = numbers(n_columns=4)
    model = MoERegressor(3, **BRIEF).fit(X, y)
    with pytest.raises(ValueError, match="background must have the columns of X"):
        explain(model, X, 0, background=X[:, :2])
    with pytest.raises(ValueError, match="X: Found array with dim 3"):
        explain(model, X.reshape(200, 2, 2))
