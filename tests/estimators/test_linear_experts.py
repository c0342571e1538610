"""Linear experts are linear in X, and say how."""

import numpy as np
import pandas
import pytest
from helpers import brief_fits, raises
from scipy.sparse import csr_array
from scipy.special import softmax
from sklearn.base import clone
from sklearn.datasets import make_regression
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.preprocessing import StandardScaler

from sklearn_moe import MoEClassifier, MoERegressor
from sklearn_moe._training import linear

pytestmark = brief_fits
BRIEF = {"n_experts": 3, "activation": "linear", "max_iter": 5, "random_state": 0}
RELU = {"activation": "relu", "expert": "mlp"}
BRIEF["early_stopping"] = False  # so that all rows are those of the means


@pytest.fixture(scope="module")
def frame():
    rng = np.random.default_rng(0)
    n = 99
    columns = {
        "age": rng.normal(40, 9, n),
        "vendor": rng.choice(["A", "B", "C"], n),
        "two": rng.choice([3.0, 5.5], n),
        "wage": np.where(rng.random(n) < 0.2, np.nan, rng.normal(3000, 500, n)),
        "same": np.full(n, 7.0),
        "day": rng.choice([10, 20], n),
    }
    return pandas.DataFrame(columns).astype({"day": "category"}), 100 + 50 * rng.normal(size=n)


def columns_of(frame):
    """Return the columns of `coef_` by name, everything written out."""
    columns = {name: frame[name] for name in ("age", "two", "wage", "same")}
    columns["wage"] = columns["wage"].fillna(frame["wage"].mean())
    columns["wage=missing"] = frame["wage"].isna()
    columns |= {f"vendor={v}": frame["vendor"] == v for v in "ABC"}
    columns |= {f"day={v}": frame["day"] == v for v in (10, 20)}
    return pandas.DataFrame(columns).astype(float)


@pytest.mark.parametrize("loss", ["squared_error", "absolute_error", "gaussian"])
@pytest.mark.parametrize("n_outputs", [None, 2])
def test_an_expert_predicts_by_its_coefficients(frame, loss, n_outputs):
    X, y = frame
    y = y if n_outputs is None else np.stack([y, -3 * y + 1], axis=1)
    reg = MoERegressor(loss=loss, **BRIEF).fit(X, y)
    encoded = columns_of(X)
    assert reg.coef_names_.tolist() == list(encoded)
    assert reg.coef_.shape == (3, *([] if n_outputs is None else [2]), 10)
    expected = np.tensordot(encoded.to_numpy(), reg.coef_, axes=(1, -1)) + reg.intercept_
    np.testing.assert_allclose(reg.expert_predict(X), expected, rtol=1e-8)
    assert reg.coef_[..., list(encoded).index("same")] == pytest.approx(0)


def test_probabilities_of_an_expert_follow_from_its_coefficients(frame):
    X, y = frame
    clf = MoEClassifier(**BRIEF).fit(X, np.digitize(y, [80, 120]))
    logits = np.tensordot(columns_of(X).to_numpy(), clf.coef_, axes=(1, -1)) + clf.intercept_
    assert clf.coef_.shape == (3, 3, 10)
    np.testing.assert_allclose(clf.expert_proba(X), softmax(logits, axis=2), rtol=1e-7)
    two = MoEClassifier(loss="margin", **BRIEF).fit(X, y > 100)
    assert two.coef_.shape == (3, 1, 10)


def test_no_soft_bound_for_linear_experts():
    X = np.random.default_rng(0).normal(size=(99, 2))
    line = np.stack([np.linspace(-60, 60, 25), np.zeros(25)], axis=1)
    linear = MoERegressor(**BRIEF).fit(X, X[:, 0]).expert_predict(line)
    np.testing.assert_allclose(np.diff(linear, 2, axis=0), 0, atol=1e-10 * np.abs(linear).max())
    bounded = MoERegressor(**BRIEF | RELU).fit(X, X[:, 0]).expert_predict(line)
    assert np.abs(bounded).max() < 5
    assert np.isfinite(MoERegressor(**BRIEF).fit(X, X[:, 0]).predict([[1e30, 0.0]])).all()


def test_one_expert_of_the_linear_kind_is_the_line_of_a_solver():
    X, y = make_regression(300, 5, noise=20, random_state=0)
    Z = StandardScaler().fit_transform(X)
    reg = MoERegressor(1, expert="linear", max_iter=3, random_state=0).fit(X, y)
    line = RidgeCV(np.logspace(-1, 5, 7)).fit(Z, y)
    assert reg.predict(X) == pytest.approx(line.predict(Z), rel=1e-3)
    # Not so near to y that no penalty is needed.
    label = y + 100 * np.random.default_rng(0).normal(size=300) > 0
    clf = MoEClassifier(1, expert=["linear"], max_iter=3, random_state=0).fit(X, label)
    near = [LogisticRegression(C=1 / a).fit(Z, label) for a in np.logspace(4, -2, 5)]
    gaps = [np.abs(clf.predict_proba(X) - one.predict_proba(Z)).max() for one in near]
    assert min(gaps) < 3e-3


@pytest.mark.parametrize("what", ["classes", "labels", "rates", "numbers"])
def test_of_noise_a_line_is_nearly_the_mean(what):
    rng = np.random.default_rng(0)
    X, noise = rng.normal(size=(100, 40)), rng.normal(size=(100, 2))
    models = {
        "classes": (MoEClassifier(), noise[:, 0] > 0),
        "labels": (MoEClassifier(), noise > 0),
        "rates": (MoERegressor(loss="poisson"), rng.poisson(3, 100)),
        "numbers": (MoERegressor(), noise[:, 0]),
    }
    model, y = models[what]
    model.set_params(n_experts=1, expert="linear", random_state=0).fit(X, y)
    predicted = getattr(model, "predict_proba", model.predict)(X)
    assert np.std(predicted, axis=0).max() < 0.1


def test_folds_choose_the_scaling_of_wide_tables():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 300))
    # In columns of one unit the spread tells what they are worth.
    X[:, :5] *= 5
    y = (X[:, :5] @ rng.normal(size=(5, 3))).argmax(axis=1)
    known, new = slice(0, 80), slice(80, None)
    clf = MoEClassifier(1, expert="linear", random_state=0).fit(X[known], y[known])
    raw = LogisticRegression(max_iter=1000).fit(X[known], y[known])
    assert clf.score(X[new], y[new]) > raw.score(X[new], y[new]) - 0.01


def test_a_sparse_table_of_any_size_has_the_same_line(monkeypatch):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 20)) * (rng.random((300, 20)) < 0.2)
    y = X[:, :3].sum(axis=1) + rng.logistic(size=300) > 0
    model = MoEClassifier(1, expert="linear", random_state=0)
    dense = model.fit(X, y).predict_proba(X)
    for n_numbers in (linear._MOST_DENSE, 1000):
        monkeypatch.setattr(linear, "_MOST_DENSE", n_numbers)
        sparse = clone(model).fit(csr_array(X), y).predict_proba(csr_array(X))
        assert sparse == pytest.approx(dense, abs=5e-3)


def test_others_have_no_coefficients(frame):
    X, y = frame
    assert not hasattr(MoERegressor(**BRIEF), "coef_")
    reg = MoERegressor(**BRIEF | RELU).fit(X, y)
    for name in ("coef_", "intercept_", "coef_names_"):
        raises(AttributeError, "activation='linear'", getattr, reg, name)
    raises(AttributeError, "permutation_importance", getattr, reg, "feature_importances_")
    patches = np.random.default_rng(0).normal(size=(20, 3, 4))
    assert not hasattr(MoERegressor(**BRIEF).fit(patches, patches[:, 0, 0]), "coef_")
