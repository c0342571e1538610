"""Regimes of a pool: found where there are some, and where there are none a single linear rule."""

import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import brief_fits
from made_up import quadrants, three_rules
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.datasets import load_diabetes, make_friedman1
from sklearn.metrics import adjusted_rand_score

from sklearn_moe import MoEClassifier, MoERegressor
from sklearn_moe.inspection import region_rules
from sklearn_moe.metrics import specialization_report

SEEDS = [0, pytest.param(3, marks=pytest.mark.slow)]


def pool(make=MoERegressor, **options):
    return make(random_state=0, **options)


def shares(model, X):
    """Return the mean share of each linear expert among these."""
    gate = model.gate_proba(X)[:, model.expert_kinds_ == "linear"]
    return (gate / gate.sum(axis=1, keepdims=True)).mean(axis=0)


def three_rules_of_classes(seed, n=3000):
    X, _, rule = three_rules(seed, n)
    slopes = np.array([[12, -9], [-12, 9], [9, 12]])
    odds = (slopes[rule] * (X[:, 2:] - 0.5)).sum(axis=1)
    y = np.random.default_rng(seed).uniform(size=n) < 1 / (1 + np.exp(-odds))
    return X, np.where(y, "yes", "no"), rule


def by_category(seed, n=1500):
    rng = np.random.default_rng(seed)
    X, rule = rng.normal(size=(n, 3)), rng.integers(3, size=n)
    y = (X * np.array([[2, -1, 0], [-1, 2, 1], [0, 0, -2]])[rule]).sum(axis=1)
    frame = pd.DataFrame(X, columns=["a", "b", "c"])
    frame["kind"] = pd.Categorical(np.array(["u", "v", "w"])[rule])
    return frame, y + 0.2 * rng.normal(size=n), rule


def two_rules(seed, n=400):
    rng = np.random.default_rng(seed)
    X = rng.uniform(-1, 1, size=(n, 3))
    sign = np.where(X[:, 0] > 0, 1, -1)
    return X, sign * (1 + 2 * X[:, 1] - X[:, 2]) + 0.2 * rng.normal(size=n), sign


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("make", "n_rules", "least"),
    [
        (three_rules, 3, 0.95),
        (three_rules_of_classes, 3, 0.8),
        (by_category, 3, 0.95),
        (two_rules, 2, 0.9),
    ],
)
def test_regimes_are_found(make, n_rules, least, seed):
    X, y, _ = make(seed)
    unseen, _, regime = make(100 + seed, n=4000)
    kind = MoEClassifier if make is three_rules_of_classes else MoERegressor
    # Rules are sought in the end, and must beat the networks: these are good after 20 epochs.
    model = pool(kind, **{} if seed == 3 else {"max_iter": 20}).fit(X, y)
    assert np.sum(shares(model, unseen) > 0.01) == n_rules
    assert adjusted_rand_score(regime, model.apply(unseen)) > least


def rings(n=800):
    X = np.random.default_rng(0).normal(size=(n, 2))
    return X, np.sum(X**2, axis=1) + 0.3 * np.random.default_rng(1).normal(size=n) > 1.4


def waves(n=600):
    X = np.random.default_rng(0).uniform(-2, 2, size=(n, 3))
    y = np.sin(2 * X[:, 0]) + X[:, 1] ** 2 / 2
    return X, y + 0.2 * np.random.default_rng(1).normal(size=n)


@pytest.mark.parametrize(
    "make",
    [
        rings,
        waves,
        lambda: make_friedman1(500, noise=1.0, random_state=0),
        lambda: load_diabetes(return_X_y=True),
    ],
)
def test_without_regimes_the_linear_kind_is_one_rule(make):
    X, y = make()
    model = pool(MoEClassifier if make is rings else MoERegressor, max_iter=30).fit(X, y)
    assert_allclose(shares(model, X), 0.2, rtol=1e-5)
    lines = model.coef_[model.expert_kinds_ == "linear"]
    assert_allclose(lines, lines[[0] * len(lines)])


def bent(function, is_class=False):
    """Return samples of a function of three columns, numbers or two classes."""
    rng = np.random.default_rng(0)
    X = rng.uniform(-1, 1, size=(1500, 3))
    y = function(*X.T)
    if is_class:
        return X, (rng.uniform(size=len(y)) < 1 / (1 + np.exp(-3 * y))).astype(int)
    return X, y + 0.1 * rng.normal(size=len(y))


@pytest.mark.parametrize(
    ("function", "is_class", "verdict"),
    [
        (lambda a, b, c: 1.5 * np.sign(a - 0.2) + b, False, "Curves, no regimes: x0 bends."),
        (lambda a, b, c: np.abs(2 * a) + np.abs(b), False, "Curves, no regimes: x0 and x1 bend."),
        (lambda a, b, c: 2 * a * b, True, "Rules change gradually: no regimes found."),
        # Beside regimes there may be a step, which is most of y.
        (lambda a, b, c: np.sign(a) * (3 + b), False, "Regimes: two."),
    ],
)
def test_curves_are_no_regimes(function, is_class, verdict):
    X, y = bent(function, is_class)
    model = pool(MoEClassifier if is_class else MoERegressor, max_iter=20).fit(X, y)
    report = specialization_report(model, X, y)
    assert report.verdict == verdict
    assert region_rules(model, X, y).verdict == verdict
    assert report.regimes.max() == verdict.startswith("Regimes")


def test_a_parabola_is_named_by_its_column():
    """The columns of numbers are others than those of X."""
    X, y = bent(lambda a, b, c: a + b**2)
    frame = pd.DataFrame({"a": X[:, 0], "of": "text", "b": X[:, 1]})
    model = pool(max_iter=10).fit(frame, y)
    report = specialization_report(model, frame, y)
    assert report.bends == ("b",)
    assert report.verdict == "Curves, no regimes: b bends."
    # What a fit has found is trained further; another fit finds anew.
    model.partial_fit(frame, y)
    assert specialization_report(model, frame, y).bends == ("b",)
    X, y, _ = two_rules(0)
    assert specialization_report(model.fit(X, y), X, y).bends is None


@pytest.fixture(scope="module")
def found():
    """A model of four quadrants, and what it was fitted to."""
    X, y, _ = quadrants(0, n=1200)
    return pool(max_iter=20).fit(X, y), X, y


def test_the_experts_are_the_rules(found):
    model, *_ = found
    unseen, numbers, _ = quadrants(1)
    linear = model.expert_kinds_ == "linear"
    assert np.all(model.gate_proba(unseen)[:, linear].sum(axis=1) > 0.5)
    rules = model.expert_predict(unseen)
    own = rules[np.arange(len(unseen)), model.apply(unseen)]
    assert np.median(np.abs(own - numbers)) < 0.05
    far = model.expert_predict(np.array([[0.0], [10.0], [20.0]]) * np.ones(4))[:, linear]
    assert_allclose(far[2] - far[1], far[1] - far[0], rtol=1e-3)
    report = specialization_report(model, unseen, numbers)
    assert report.verdict.startswith("Regimes: four.")


def test_what_is_measured_of_regimes_is_honest(found):
    model, X, y = found
    unseen, numbers, _ = quadrants(1, n=4000)
    low, high = model.predict_interval(unseen).T
    assert 0.87 < np.mean((low < numbers) & (numbers < high)) < 0.95
    errors = [np.nanmean((y - p) ** 2) for p in (model.oob_prediction_, model.predict(X))]
    assert errors[1] < np.mean((numbers - model.predict(unseen)) ** 2) < 1.5 * errors[0]


def test_regimes_are_kept_with_the_model(found):
    model, X, y = found
    again = pickle.loads(pickle.dumps(model))
    assert_array_equal(again.predict(X), model.predict(X))
    assert_allclose(model.to_torch()(torch.from_numpy(X)).detach(), model.predict(X), atol=1e-5)
    again.partial_fit(X, y)
    assert adjusted_rand_score(model.apply(X), again.apply(X)) > 0.95
    assert again.score(X, y) > 0.97
    again = pickle.loads(pickle.dumps(model)).set_params(warm_start=True).fit(X, y)
    assert adjusted_rand_score(model.apply(X), again.apply(X)) > 0.95  # sought anew


def test_weights_and_missing_values_count():
    X, y, _ = quadrants(0, n=1600)
    wrong = np.random.default_rng(0).uniform(size=len(y)) < 0.3
    y = np.where(wrong, -y, y)
    X[::40, 3] = np.nan
    model = pool(max_iter=20).fit(X, y, np.where(wrong, 1e-3, 1.0))
    unseen, numbers, quadrant = quadrants(1)
    assert adjusted_rand_score(quadrant, model.apply(unseen)) > 0.9
    assert model.score(unseen, numbers) > 0.97


def test_rows_that_are_held_out_decide():
    X, y, sign = two_rules(0, n=800)
    model = pool(max_iter=20, early_stopping=True, validation_fraction=0.4).fit(X, y)
    assert adjusted_rand_score(sign, model.apply(X)) > 0.9


@brief_fits
def test_weights_of_a_handful_of_rows_leave_one_rule():
    """Five rows of 3,000 have half of the weight, and no regime as many as it has coefficients."""
    rng, y = np.random.default_rng(2), (np.arange(3000) % 600 == 0).astype(int)
    X = rng.normal(size=(3000, 5))
    X[:, :2] += y[:, np.newaxis] * 2.0 * rng.choice([-1, 1], size=(3000, 1))
    clf = MoEClassifier(class_weight="balanced", random_state=2, max_iter=10).fit(X, y)
    proba = clf.predict_proba(X)[:, 1]
    assert proba[y == 1].mean() > proba[y == 0].mean()
