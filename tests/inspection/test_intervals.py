"""Intervals of coefficients: weights, groups, families and penalties against other ways to them."""

import numpy as np
import pytest
from helpers import raises
from numpy.testing import assert_allclose
from scipy import stats
from sklearn.compose import TransformedTargetRegressor
from sklearn.feature_selection import SelectKBest, f_regression
from sklearn.linear_model import (
    GammaRegressor,
    LinearRegression,
    PoissonRegressor,
    Ridge,
    TweedieRegressor,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

from sklearn_moe import MixtureRegressor
from sklearn_moe.inspection import region_rules

RATE = {"alpha": 0, "max_iter": 1000, "tol": 1e-8}


def one(expert, X, y, **fit):
    return MixtureRegressor(expert, 1, random_state=0).fit(X, y, **fit)


def by_column(rules, numbers):
    """Return numbers of the experts in the order of the columns, the intercept last."""
    n_columns = len(rules.terms) - 1
    return numbers[:, [rules.terms.index(f"x{j}") for j in range(n_columns)] + [n_columns]]


def sandwich(design, score, curvature, groups=None):
    """Return half widths where each group is left out once, by the first term of its effect."""
    groups = np.arange(len(design)) if groups is None else groups
    inverse = np.linalg.inv(design.T * curvature @ design)
    codes = np.unique(groups)
    variance = 0
    for group in codes:
        own = groups == group
        influence = inverse @ design[own].T @ score[own]
        again = inverse @ (design[own].T * curvature[own]) @ design[own] @ influence
        variance = variance + (influence + again) ** 2
    freedom = len(codes) - (1 if len(codes) < len(design) else design.shape[1])
    return stats.t.ppf(0.975, freedom) * np.sqrt(variance)


LOGARITHMIC = {
    PoissonRegressor(**RATE): 1,
    GammaRegressor(**RATE): 2,
    TweedieRegressor(power=1.5, **RATE): 1.5,
    TweedieRegressor(power=0, link="log", **RATE): 0,
    make_pipeline(StandardScaler(), GammaRegressor(**RATE)): 2,
}


@pytest.mark.parametrize("expert", LOGARITHMIC)
def test_intervals_of_logarithms_are_those_of_the_variance_that_the_expert_assumes(expert):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 2))
    y = np.ceil(rng.gamma(4, np.exp(3 + 0.5 * X[:, 0]) / 4))
    model = one(expert, X, y)
    rules = region_rules(model, X, y)
    assert rules.outcome == "the logarithm of the prediction"
    mean = model.predict(X)
    assert_allclose(by_column(rules, rules.coef)[0][:2].round(1), [0.5, 0])
    # The score is of y, not of its logarithm.
    assert_allclose(rules.own_score, [np.sqrt(np.mean((y - mean) ** 2))])
    power = LOGARITHMIC[expert]
    score, curvature = (y - mean) * mean ** (1 - power), mean ** (2 - power)
    expected = sandwich(np.c_[X, np.ones(300)], score, curvature)
    assert_allclose(by_column(rules, rules.half_width)[0], expected, rtol=1e-3)
    assert "Change of the logarithm of the prediction per unit, with 95 %" in str(rules)


def test_no_interval_where_the_loss_of_logarithms_is_not_known():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(100, 2))
    y = np.exp(X[:, 0] + rng.normal(size=100))
    expert = TransformedTargetRegressor(LinearRegression(), func=np.log, inverse_func=np.exp)
    rules = region_rules(one(expert, X, y), X, y)
    assert np.isfinite(rules.coef).all()
    assert np.isnan(rules.half_width).all()


def test_weights_have_no_scale_and_samples_of_a_group_depend():
    rng = np.random.default_rng(0)
    X, groups = rng.normal(size=(200, 2)), np.repeat(np.arange(40), 5)
    X[:, 0] = X[groups, 0]
    y = X[:, 0] + rng.normal(size=200) + rng.normal(size=40)[groups]
    weight = np.where(rng.random(200) < 0.5, 50.0, 1.0)
    model = one(LinearRegression(), X, y, sample_weight=weight)
    labels = np.array([f"group {g}" for g in groups])
    design, error = np.c_[X, np.ones(200)], y - model.predict(X)
    widths = []
    for codes, given in ((None, None), (groups, labels)):
        rules = region_rules(model, X, y, weight, given)
        widths.append(by_column(rules, rules.half_width)[0])
        # Degrees of freedom are those of as many samples, or groups, of equal weights.
        expected = sandwich(design, weight * error, weight, codes)
        assert_allclose(widths[-1], expected, rtol=0.03)
        scaled = region_rules(model, X, y, 1e6 * weight, given)
        assert_allclose(scaled.half_width, rules.half_width, rtol=1e-9)
        assert_allclose(rules.own_score, [np.sqrt(np.average(error**2, weights=weight))])
    assert widths[1][0] > 1.3 * widths[0][0]
    raises(ValueError, "groups", region_rules, model, X, y, groups=groups[1:])
    raises(ValueError, "sample_weight", region_rules, model, X, y, weight[1:])


def test_groups_of_a_fit_belong_to_one_expert():
    """The posterior of a whole group decides which expert its samples tell about."""
    rng = np.random.default_rng(0)
    X, groups = rng.normal(size=(300, 2)), np.repeat(np.arange(30), 10)
    slopes = np.array([[1, 0, 0], [-1, 0.5, 3.0]])[rng.integers(2, size=30)[groups]]
    design = np.c_[X, np.ones(300)]
    y = (design * slopes).sum(axis=1) + rng.normal(size=300)
    model = MixtureRegressor(LinearRegression(), 2, gate=None, n_init=2, random_state=0)
    rules = region_rules(model.fit(X, y, groups=groups), X, y, groups=groups)
    widths, errors = by_column(rules, rules.half_width), y[:, np.newaxis] - model.expert_predict(X)
    owner = model.responsibilities(X, y, groups).argmax(axis=1)
    for k in (0, 1):
        own = owner == k
        expected = sandwich(design[own], errors[own, k], np.ones(own.sum()), groups[own])
        assert_allclose(widths[k], expected, rtol=0.01)


@pytest.mark.parametrize("expert", [LinearRegression(), Ridge(30), None])
def test_an_interval_reaches_beyond_what_a_penalty_has_moved(expert):
    """By default it is a lasso, here of an effect of x1 in one regime alone."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 3))
    y = np.where(X[:, 0] > 0, 3.0, 0.25 * X[:, 1]) + X[:, 2] + rng.normal(size=300)
    model = one(expert, X, y) if expert else MixtureRegressor(n_components="auto", random_state=0)
    rules = region_rules(model.fit(X, y), X, y)
    coef, width = by_column(rules, rules.coef), by_column(rules, rules.half_width)
    error, owner = y - model.predict(X), model.apply(X)
    for k in range(model.n_components_):
        own = owner == k
        line = LinearRegression().fit(X[own], y[own])
        moved = np.abs(coef[k] - np.append(line.coef_, line.intercept_))
        two_sided = sandwich(np.c_[X, np.ones(300)][own], error[own], np.ones(own.sum()))
        ratio = np.divide(*stats.t.ppf([0.95, 0.975], own.sum() - 4))
        expected = np.maximum(two_sided, moved + ratio * two_sided)
        assert_allclose(width[k], expected, rtol=1e-4)
    assert (expected > two_sided + 0.01).any() == (not isinstance(expert, LinearRegression))


@pytest.mark.parametrize("weight", [None, np.tile([1.0, 2.5], 100)])
def test_rows_that_are_not_those_of_the_fit_have_no_intervals(weight):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 2))
    y = X[:, 0] + rng.normal(size=200)
    model = one(LinearRegression(), X, y, sample_weight=weight)
    rules = region_rules(model, X, y, weight)
    assert (rules.half_width > 0).all()
    assert "with 95 % interval\n" in str(rules)
    others = [(X[1:], y[1:], None if weight is None else weight[1:]), (X, y, np.arange(200) + 1.0)]
    for other in others:
        rules = region_rules(model, *other)
        assert np.isnan(rules.half_width).all()
        assert "no intervals: these are not the rows, or not the weights, of the fit" in str(rules)
    # Of other mixtures it is not known.
    stack = MixtureRegressor([LinearRegression(), Ridge()], method="stack", random_state=0)
    rules = region_rules(stack.fit(X, y), X, y)
    assert "with 95 % interval if these are the rows of the fit" in str(rules)


def test_intervals_say_that_the_border_is_taken_as_known_where_there_is_one():
    words = "Intervals take the border between the experts as known."
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 2))
    y = np.where(X[:, 0] > 0, X[:, 1], 5 - X[:, 1]) + 0.1 * rng.normal(size=200)
    line = LinearRegression()
    model = MixtureRegressor(line, 2, random_state=0).fit(X, y)
    assert str(region_rules(model, X, y)).endswith(words)
    assert words not in str(region_rules(model, X))
    assert words not in str(region_rules(one(line, X, y), X, y))
    # Constant shares have no border, and models of a stack are fitted to the rows of both sides.
    constant = MixtureRegressor(line, 2, gate=None, random_state=0).fit(X, y)
    gate = DecisionTreeClassifier(max_leaf_nodes=2, random_state=0)
    lines = [line, make_pipeline(SelectKBest(f_regression, k=1), line)]
    stack = MixtureRegressor(lines, gate=gate, method="stack", random_state=0).fit(X, y)
    assert np.ptp(stack.gate_proba(X)[:, 0]) > 0
    for mixture in (constant, stack):
        text = str(region_rules(mixture, X, y))
        assert "±" in text
        assert words not in text
