"""Intervals of coefficients: weights, groups, families and penalties against other ways to them."""

import numpy as np
import pytest
from helpers import raises
from numpy.testing import assert_allclose
from scipy import stats
from sklearn.compose import TransformedTargetRegressor, make_column_transformer
from sklearn.linear_model import (
    GammaRegressor,
    LinearRegression,
    LogisticRegression,
    PoissonRegressor,
    Ridge,
    TweedieRegressor,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_moe import MixtureClassifier, MixtureRegressor
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


LOGARITHMS = {"func": np.log, "inverse_func": np.exp}
# What is minimized, by the power of the mean that the variance is.
FAMILIES = [
    (1, PoissonRegressor(**RATE)),
    (2, GammaRegressor(**RATE)),
    (1.5, make_pipeline(StandardScaler(), TweedieRegressor(power=1.5, **RATE))),
    (None, TransformedTargetRegressor(LinearRegression(), **LOGARITHMS)),
]


@pytest.mark.parametrize(("power", "expert"), FAMILIES)
@pytest.mark.parametrize("whole", [True, False])
def test_the_expert_tells_the_family_not_y(power, expert, whole):
    """Also where all targets are whole numbers."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 2))
    y = rng.gamma(4, np.exp(3 + 0.5 * X[:, 0]) / 4)
    y = np.ceil(y) if whole or power == 1 else y
    model = one(expert, X, y)
    rules = region_rules(model, X, y)
    assert rules.outcome == "the logarithm of the prediction"
    mean = model.predict(X)
    score, curvature = np.log(y / mean), np.ones(300)
    if power is not None:
        score, curvature = (y - mean) * mean ** (1 - power), mean ** (2 - power)
    expected = sandwich(np.c_[X, np.ones(300)], score, curvature)
    assert_allclose(by_column(rules, rules.half_width)[0], expected, rtol=1e-3)


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
    covered = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        X, groups = rng.normal(size=(300, 2)), np.repeat(np.arange(30), 10)
        truth = np.array([[1, 0, 0], [-1, 0.5, 1.0]])
        part = rng.integers(2, size=30)[groups]
        y = np.sum(np.c_[X, np.ones(300)] * truth[part], axis=1) + rng.normal(size=300)
        model = MixtureRegressor(LinearRegression(), 2, gate=None, n_init=2, random_state=0)
        rules = region_rules(model.fit(X, y, groups=groups), X, y, groups=groups)
        coef, width = (by_column(rules, numbers) for numbers in (rules.coef, rules.half_width))
        covered.append(
            np.abs(coef[np.argsort(-coef[:, 0])] - truth) < width[np.argsort(-coef[:, 0])]
        )
    assert 0.88 < np.mean(covered) < 0.99


@pytest.mark.parametrize("alpha", [0.0, 30.0])
def test_an_interval_reaches_the_truth_from_where_a_penalty_has_moved_it(alpha):
    covered = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        X = rng.normal(size=(80, 2))
        y = X[:, 0] + rng.normal(size=80)
        rules = region_rules(one(Ridge(alpha), X, y), X, y)
        coef, width = (by_column(rules, numbers)[0] for numbers in (rules.coef, rules.half_width))
        covered.append(np.abs(coef - [1, 0, 0]) < width)
    assert np.mean(covered, axis=0).min() > 0.87
    assert np.mean(covered) < 0.985


def test_a_lasso_of_one_regime_alone():
    """The effect of x1 in one regime only is shrunk by what both have in common."""
    covered = []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        X = rng.normal(size=(300, 3))
        y = np.where(X[:, 0] > 0, 3.0, 0.25 * X[:, 1]) + X[:, 2] + rng.normal(size=300)
        model = MixtureRegressor(n_components="auto", random_state=0).fit(X, y)
        if model.n_components_ == 2:
            rules = region_rules(model, X, y)
            k, place = rules.coef[:, -1].argmin(), rules.terms.index("x1")
            covered.append(abs(rules.coef[k, place] - 0.25) < rules.half_width[k, place])
    assert len(covered) > 20
    assert np.mean(covered) > 0.87


def test_intervals_of_sharper_models_of_a_stack_are_of_the_samples_that_trust_them():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(500, 3))
    part = X[:, 0] > 0
    logits = np.where(part, 6 * X[:, 1], -6 * X[:, 2])
    y = (rng.random(500) < 1 / (1 + np.exp(-logits))).astype(int)
    models = [
        make_pipeline(make_column_transformer(("passthrough", [place])), LogisticRegression())
        for place in (1, 2)
    ]
    model = MixtureClassifier(models, method="stack", random_state=0).fit(X, y)
    assert model.sharpness_ > 3
    rules = region_rules(model, X, y)
    for k, own in enumerate((part, ~part)):
        x = X[own, k + 1]
        proba = LogisticRegression(C=1e6).fit(x[:, None], y[own]).predict_proba(x[:, None])[:, 1]
        design = np.c_[x, np.ones(len(x))]
        error = np.sqrt(np.linalg.inv(design.T * (proba * (1 - proba)) @ design)[0, 0])
        width = rules.half_width[k, rules.terms.index(f"x{k + 1}")]
        assert 0.6 < width / (1.96 * error) < 2
