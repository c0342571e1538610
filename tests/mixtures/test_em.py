"""Expectation maximization: likelihoods, starts, weights, groups, the number of components."""

import os
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers import brief_fits, predictions
from made_up import counts, three_rules, two_lines, two_rules_of_classes
from numpy.testing import assert_allclose
from scipy import stats
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LinearRegression, LogisticRegression, PoissonRegressor
from sklearn.metrics import adjusted_rand_score
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures
from sklearn.tree import DecisionTreeClassifier

from sklearn_moe import MixtureClassifier, MixtureRegressor

LOGIT = LogisticRegression(C=np.inf, tol=1e-6, max_iter=1000)
TREE = DecisionTreeClassifier(max_leaf_nodes=4)
EXACT = {"alpha": 0, "tol": 1e-8, "max_iter": 1000, "solver": "newton-cholesky"}
REGIMES = os.environ.get("SKLEARN_MOE_REGIMES")
SEEDS = [0, pytest.param(1, marks=pytest.mark.slow)]


def joint_by_hand(mixture, X, y, density):
    """Return gate x density of each sample and component, one by one."""
    joint = np.empty((len(y), mixture.n_components_))
    for i, row in enumerate(X):
        row = row.reshape(1, -1)
        shares = mixture.weights_ if mixture.gate_ is None else mixture.gate_.predict_proba(row)[0]
        for k, expert in enumerate(mixture.experts_):
            scale = None if mixture.scale_ is None else mixture.scale_[k]
            joint[i, k] = shares[k] * density(expert, row, y[i], scale)
    return joint


def normal(expert, x, y, scale):
    return stats.norm(expert.predict(x)[0], scale).pdf(y)


def poisson(expert, x, y, scale):
    return stats.poisson(expert.predict(x)[0]).pmf(y)


def of_class(expert, x, y, scale):
    return expert.predict_proba(x)[0, [*expert.classes_].index(y)]


CASES = {
    "gaussian": (MixtureRegressor(gate=None), two_lines()[:2], normal),
    "gaussian, logit": (MixtureRegressor(gate=LOGIT), two_lines()[:2], normal),
    "poisson": (MixtureRegressor(PoissonRegressor(**EXACT), gate=None), counts(), poisson),
    "poisson, logit": (MixtureRegressor(PoissonRegressor(**EXACT), gate=LOGIT), counts(), poisson),
    "classes": (MixtureClassifier(LOGIT, gate=None), two_rules_of_classes(), of_class),
    "classes, logit": (MixtureClassifier(LOGIT, gate=LOGIT), two_rules_of_classes(), of_class),
}


@pytest.mark.parametrize("case", CASES)
def test_likelihood_climbs_and_is_that_of_the_definition(case):
    mixture, (X, y), density = CASES[case]
    mixture.set_params(n_init=1, max_iter=2000, random_state=0).fit(X, y)
    atol = 1e-4 if mixture.gate else 1e-9  # a gate's probability of 0 becomes 1e-6
    assert np.diff(mixture.lower_bounds_).min() > -max(atol, 1e-7)
    assert len(mixture.lower_bounds_) == mixture.n_iter_ > 2
    assert mixture.converged_
    joint = joint_by_hand(mixture, X, y, density)
    assert_allclose(mixture.score_samples(X, y), np.log(joint.sum(axis=1)), rtol=1e-6, atol=atol)
    expected = joint / joint.sum(axis=1, keepdims=True)
    assert_allclose(mixture.responsibilities(X, y), expected, rtol=1e-5, atol=atol)
    assert_allclose(mixture.log_likelihood_, np.log(joint.sum(axis=1)).sum(), rtol=1e-5)
    assert_allclose(mixture.lower_bound_, mixture.log_likelihood_ / len(y))
    n = mixture.n_parameters_
    bic = n * np.log(len(y)) - 2 * mixture.log_likelihood_
    assert_allclose(mixture.bic(X, y), bic, rtol=1e-5)
    assert_allclose(mixture.aic(X, y), 2 * n - 2 * mixture.log_likelihood_, rtol=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_one_component_is_the_estimator_alone(case):
    mixture, (X, y), _ = CASES[case]
    expert = mixture._default_expert(X, y) if mixture.estimator is None else mixture.estimator
    weight = np.random.default_rng(0).integers(1, 4, size=len(y))
    fitted = type(mixture)(expert, 1, gate=mixture.gate, n_init=1, random_state=0)
    fitted.fit(X, y, weight)
    alone = expert.fit(X, y, weight)
    # A logistic regression ends at a gradient of 1e-6.
    assert_allclose(predictions(fitted, X), predictions(alone, X), rtol=1e-5)
    assert fitted.gate_ is None
    if case == "gaussian":
        variance = np.average((y - alone.predict(X)) ** 2, weights=weight)
        assert_allclose(fitted.scale_, [np.sqrt(variance)])


def test_small_components_are_dropped_and_it_is_said():
    X, y, _ = two_lines()
    mixture = MixtureRegressor(n_components=3, min_prior=0.3, n_init=3, random_state=0)
    with pytest.warns(ConvergenceWarning, match=r"1 of 3 components.*min_prior=0.3.*dropped"):
        mixture.fit(X, y)
    assert mixture.n_components_ == len(mixture.experts_) == len(mixture.weights_) == 2
    assert mixture.gate_proba(X).shape == (len(y), 2)
    slopes = sorted(expert.coef_[0] for expert in mixture.experts_)
    assert_allclose(slopes, [-2, 2], atol=0.1)
    with pytest.raises(ValueError, match=r"All components .* min_prior=0.7"):
        mixture.set_params(min_prior=0.7).fit(X, y)


@pytest.mark.parametrize("options", [{"n_components": "auto"}, {"n_components": 1}, {"n_init": 2}])
def test_a_constant_is_exact_whatever_its_value(options):
    X, mixture = two_lines(50)[0], MixtureRegressor(**options, random_state=0)
    found = [mixture.fit(X, np.full(50, y)).lower_bound_ for y in (0.1, 0.3, 1 / 3, -7, 1e4)]
    assert_allclose(found, stats.norm(0, 1e-6).logpdf(0))
    assert_allclose(mixture.predict(X), 1e4)


def test_component_on_samples_without_noise_is_bounded_and_it_is_said():
    X, y, line = two_lines()
    y = np.where(line, 3 * X[:, 0], y)
    with pytest.warns(ConvergenceWarning, match="lower bound, 0.05"):
        mixture = MixtureRegressor(n_init=3, random_state=0).fit(X, y)
    assert_allclose(mixture.scale_.min(), 0.05 * mixture.scale_.max())


UNITS = [(1e-6, 0), (1e-3, 1e5), (1e8, 0), (1, 1e8), (1000, 1.7e9)]


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("case", ["numbers", "counts", "classes"])
def test_units_of_columns_change_nothing(case, unit):
    X, y = two_rules_of_classes(150) if case == "classes" else two_lines(150)[:2]
    mixture = MixtureClassifier() if case == "classes" else MixtureRegressor()
    if case == "counts":
        X, y = np.column_stack([counts(150)[0], X[:, 1]]), counts(150)[1]
        mixture.set_params(estimator=PoissonRegressor(alpha=0))
    mixture.set_params(gate=None, n_init=1, random_state=0)
    scale, offset = unit
    moved = X.copy()
    moved[:, 0] = scale * X[:, 0] + offset
    # As far as the column still has its digits.
    X[:, 0] = (moved[:, 0] - offset) / scale
    expected = mixture.fit(X, y).score_samples(X, y)
    assert_allclose(mixture.fit(moved, y).score_samples(moved, y), expected, atol=2e-4)


@pytest.mark.parametrize("unit", [*UNITS, (1e-9, 0)])
@pytest.mark.parametrize("n_components", [2, "auto"])
@pytest.mark.parametrize("of", [MixtureRegressor, MixtureClassifier])
def test_units_of_the_column_that_regimes_are_split_by_change_nothing(of, n_components, unit):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(600, 2))
    y = np.where(X[:, 0] > 0, 3 + 2 * X[:, 1], -2 * X[:, 1]) + 0.1 * rng.normal(size=600)
    if of is MixtureClassifier:
        y = np.where(rng.logistic(size=600) < 3 * y, "yes", "no")
    scale, offset = unit
    moved = X.copy()
    moved[:, 0] = scale * X[:, 0] + offset
    mixture = of(n_components=n_components)
    if n_components == 2:
        mixture.set_params(n_init=1, random_state=0)
    expected = mixture.fit(X[:300], y[:300]).score_samples(X[300:], y[300:]).mean()
    found = mixture.fit(moved[:300], y[:300]).score_samples(moved[300:], y[300:]).mean()
    assert_allclose(found, expected, atol=0.002)


@pytest.mark.parametrize("n_rows", [500, 3000])
@pytest.mark.parametrize("slope", [0, 1])
def test_levels_that_differ_are_found_though_random_starts_are_a_saddle(slope, n_rows):
    rng = np.random.default_rng(0)
    X, kind = rng.normal(size=(n_rows, 1)), rng.integers(2, size=n_rows)
    y = slope * X[:, 0] + 5 * kind + rng.normal(size=n_rows)
    true = np.logaddexp(*stats.norm.logpdf(y - slope * X[:, 0], [[0], [5]])) - np.log(2)
    # Whether columns are of use or constant, and the samples groups of their own.
    for columns, groups in ((X, None), (slope * X, None), (X, np.arange(n_rows))):
        mixture = MixtureRegressor(gate=None, n_init=2, random_state=0)
        found = mixture.fit(columns, y, groups=groups).score_samples(columns, y)
        assert found.mean() > true.mean() - 0.001


def test_a_search_tries_auto_beside_numbers():
    X, y, _ = two_lines(200)
    grid = {"n_components": [1, 2, "auto"]}
    search = GridSearchCV(
        MixtureRegressor(n_init=2, random_state=0), grid, cv=2, error_score="raise"
    )
    scores = search.fit(X, y).cv_results_["mean_test_score"]
    alone = MixtureRegressor(n_components="auto", random_state=0)
    assert_allclose(cross_val_score(alone, X, y, cv=2).mean(), scores[2])


def test_rows_of_a_group_are_of_one_component():
    X, y, line = two_lines(400, noise=1.5)
    groups = np.empty(400, dtype=int)
    groups[np.argsort(line, kind="stable")] = np.arange(400) // 8  # eight rows of one line
    names = np.array([f"person {g}" for g in groups])
    for gate in (None, LOGIT):
        mixture = MixtureRegressor(gate=gate, n_init=3, random_state=0).fit(X, y, groups=names)
        found = mixture.responsibilities(X, y, names)
        for group in range(50):
            assert np.ptp(found[groups == group], axis=0).max() == 0
        assert adjusted_rand_score(line, found.argmax(axis=1)) > 0.85
        density = stats.norm(mixture.expert_predict(X), mixture.scale_).logpdf(y[:, np.newaxis])
        log_gate = np.log(mixture.gate_proba(X))
        parts = [groups == g for g in range(50)]
        joint = [density[rows].sum(axis=0) + log_gate[rows].mean(axis=0) for rows in parts]
        assert_allclose(mixture.log_likelihood_, np.logaddexp(*np.transpose(joint)).sum())
        alone = mixture.fit(X, y, groups=np.arange(400)[::-1]).score_samples(X, y)
        mixture = MixtureRegressor(gate=gate, n_init=3, random_state=0).fit(X, y)
        assert_allclose(alone, mixture.score_samples(X, y), rtol=1)


@pytest.mark.parametrize("gate", [None, LOGIT, TREE])
@pytest.mark.parametrize("kind", [MixtureRegressor, MixtureClassifier])
@brief_fits
def test_weights_are_as_many_rows(kind, gate):
    X, y = two_lines(120)[:2] if kind is MixtureRegressor else two_rules_of_classes(120)
    weight = np.random.default_rng(0).integers(3, size=120)
    mixture = kind(gate=gate, n_init=1, max_iter=15, random_state=0)
    by_weight = mixture.fit(X, y, weight).score_samples(X, y)
    log_likelihood = mixture.log_likelihood_
    rows = np.repeat(np.arange(120), weight)
    assert_allclose(mixture.fit(X[rows], y[rows]).score_samples(X, y), by_weight, atol=1e-4)
    assert_allclose(mixture.log_likelihood_, log_likelihood, rtol=1e-5)


def test_starts_do_not_depend_on_the_order_of_rows():
    X, y, _ = two_lines(120)
    X = pd.DataFrame(X, columns=["a", "b"]).assign(town=np.where(y > 0, "Bonn", "Oslo"))
    expert = make_pipeline(make_column_transformer(("passthrough", ["a", "b"])), LinearRegression())
    mixture = MixtureRegressor(expert, gate=None, n_init=1, max_iter=3, tol=1, random_state=0)
    once = mixture.fit(X, y).log_likelihood_
    assert_allclose(mixture.fit(X[::-1], y[::-1]).log_likelihood_, once)


@pytest.mark.parametrize(
    ("low", "gate"), [(1, None), pytest.param(0, "auto", marks=pytest.mark.slow)]
)
def test_criteria_count_samples_whatever_the_scale_of_their_weights(low, gate):
    X, y, _ = two_lines(150)
    weight = np.random.default_rng(0).uniform(low, 1, size=150)  # all 1, or no counts
    auto = MixtureRegressor(LinearRegression(), "auto", n_init=1, tol=1e-2, random_state=0)
    auto.set_params(gate=gate)
    scales = (1, 1e-6) if gate else (1, 1e-6, 1e3, 1 / 150)
    fits = [clone(auto).fit(X, y, scale * weight) for scale in scales]
    for fit in fits:
        assert fit.n_components_ == fits[0].n_components_ == 2
        assert_allclose(fit.selection_["bic"], fits[0].selection_["bic"], rtol=1e-6)
    n = weight.sum() ** 2 / np.square(weight).sum()
    log_likelihood = n * np.average(fits[0].score_samples(X, y), weights=weight)
    expected = fits[0].n_parameters_ * np.log(n) - 2 * log_likelihood
    assert_allclose(fits[0].selection_["bic"][1], expected)
    counts = np.random.default_rng(0).integers(4, size=150)
    twice, rows = fits[0].fit(X, y, counts), np.repeat(np.arange(150), counts)
    repeated = clone(auto).fit(X[rows], y[rows])
    assert_allclose(twice.selection_["bic"], repeated.selection_["bic"], rtol=1e-9)


@pytest.mark.parametrize("seed", SEEDS)
def test_number_of_components_is_found(seed):
    X, y, _ = two_lines(400, seed)
    auto = MixtureRegressor(None, "auto", gate=None, n_init=2, tol=1e-4, random_state=seed)
    found = auto.fit(X, y).selection_
    assert (auto.n_components_, np.round(np.diff(found["bic"]), 6).argmin()) == (2, 0)
    assert found["n_components"] == [*range(1, len(found["bic"]) + 1)]
    assert found["n_parameters"][:2] == [4, 9]
    assert {type(value) for values in found.values() for value in values} == {int, float}
    for name in ("bic", "aic"):
        assert_allclose(found[name][1], getattr(auto, name)(X, y), rtol=1e-5)
    without = X[:, 0] + np.random.default_rng(seed).normal(size=400)
    assert auto.fit(X[:200], without[:200]).n_components_ == 1
    auto.set_params(n_components=2).fit(X, y)
    assert not hasattr(auto, "selection_")


@pytest.mark.parametrize(
    ("seed", "n_noise"),
    [(0, 0), *(pytest.param(i % 4, 10 * (i // 4), marks=pytest.mark.slow) for i in (1, 3, 4, 6))],
)
def test_three_rules_are_found_with_their_thresholds(seed, n_noise):
    X, y, rule = three_rules(seed, n_noise=n_noise)
    mixture = MixtureRegressor(n_components=3, gate=TREE, n_init=2, random_state=seed).fit(X, y)
    assert adjusted_rand_score(rule, mixture.apply(X)) >= (0.9 if n_noise else 0.95)
    tree = mixture.gate_.tree_
    for column, cut in enumerate((0.4, 0.6)):
        assert np.abs(tree.threshold[tree.feature == column] - cut).min() < 0.05


FLEXMIX = {
    ("NPreg", "yn", ("x",), 2, "gaussian", None): [-728.315, -642.545, -636.278],
    ("NPreg", "yn", ("x",), 2, "gaussian", "x"): [None, -642.077],
    ("NPreg", "yp", ("x",), 1, "poisson", None): [-460.737, -440.640, -440.517],
    ("tonedata", "tuned", ("stretchratio",), 1, "gaussian", None): [9.375, 141.189, 154.693],
    ("tonedata", "tuned", ("stretchratio",), 1, "gaussian", "stretchratio"): [None, 142.838],
    ("patent", "Patents", ("lgRD",), 1, "poisson", None): [-316.692, -219.637, -203.533],
    ("patent", "Patents", ("lgRD",), 1, "poisson", "RDS"): [None, None, -197.675],
}


@pytest.mark.slow
@brief_fits
# NPreg.csv and patent.csv hold data of the R package flexmix, tonedata.csv those of mixtools.
@pytest.mark.skipif(REGIMES is None, reason="set SKLEARN_MOE_REGIMES to the folder of these tables")
@pytest.mark.parametrize("case", FLEXMIX, ids=lambda case: f"{case[0]}, {case[4]}, {case[5]}")
def test_as_likely_as_the_mixtures_of_flexmix(case):
    name, target, columns, degree, family, by = case
    table = pd.read_csv(Path(REGIMES) / f"{name}.csv")
    X, y = table[sorted({*columns, by} - {None})], table[target]
    model = LinearRegression() if family == "gaussian" else PoissonRegressor(**EXACT)
    powers = PolynomialFeatures(degree, include_bias=False)
    expert = make_pipeline(make_column_transformer((powers, [*columns])), model)
    gate = by and make_pipeline(make_column_transformer(("passthrough", [by])), LOGIT)
    for n_components, expected in enumerate(FLEXMIX[case], 1):
        if expected is not None:
            mixture = MixtureRegressor(expert, n_components, gate=gate, n_init=20, random_state=0)
            assert mixture.fit(X, y).log_likelihood_ >= expected - 0.05


def test_many_classes_in_few_rows_are_one_component():
    """Parameters of two components cost more than any likelihood of so few rows is worth."""
    X, y = np.random.default_rng(0).normal(size=(90, 4)), np.arange(90) % 40
    auto = MixtureClassifier(None, "auto", gate=None, n_init=1, tol=1e-2, random_state=0)
    assert auto.fit(X, y).n_components_ == 1


class Witness(LinearRegression):
    """A line that notes the filters of warnings, which are those of all threads."""

    def fit(self, X, y, sample_weight=None):
        Witness.seen.append(warnings.filters)
        return super().fit(X, y, sample_weight)


def test_fits_leave_the_filters_of_warnings_alone():
    Witness.seen = []
    before = warnings.filters
    X, y = two_lines(60)[:2]
    MixtureRegressor(Witness(), n_init=2, tol=1.0, random_state=0).fit(X, y)
    assert len(Witness.seen) > 1
    assert all(filters is before for filters in Witness.seen)
