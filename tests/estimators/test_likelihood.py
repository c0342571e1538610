"""Densities, responsibilities, draws and quantiles, against references in float64."""

import numpy as np
import pytest
import torch
from helpers import brief_fits, raises, refuses, slow
from scipy import integrate, stats
from scipy.special import logsumexp, softmax
from sklearn.datasets import load_diabetes, load_wine

from sklearn_moe import MoEClassifier, MoERegressor
from sklearn_moe.nn.heads import Head

pytestmark = brief_fits
FAMILIES = {"squared_error": "norm", "absolute_error": "laplace", "huber": "logistic"}
LOSSES = [*FAMILIES, "gaussian"]
Q = [0.03, 0.5, 0.9]
BRIEF = {"n_experts": 3, "max_iter": 8, "random_state": 0}


@pytest.fixture(scope="module")
def numbers():
    X, y = load_diabetes(return_X_y=True)
    return X[:300], 1000 + y[:300]


@pytest.fixture(scope="module")
def classes():
    X, y = load_wine(return_X_y=True)
    return X, np.array(["a", "b", "c"])[y]


def scales_at(reg, numbers):
    """Return the scale of the density around predictions."""
    z = (numbers - reg._target.mean) / reg._target.scale
    return reg.scale_ * np.exp(reg.scale_slope_ * np.clip(z, -3, 3))


def log_joint(reg, X, y):
    """Return log gate + log density of each expert, by scipy.stats and the public predictions."""
    gate, centers = reg.gate_proba(X), reg.expert_predict(X)
    if reg.loss == "gaussian":
        z = reg.module_.encode(torch.as_tensor(X))
        raw = torch.stack([expert(z)[:, 1] for expert in reg.module_.experts], 1).detach().double()
        scales = (torch.nn.functional.softplus(raw) + 1e-3).numpy() * reg._target.scale
        family = stats.norm
    else:
        scales, family = scales_at(reg, centers), getattr(stats, FAMILIES[reg.loss])
    return np.log(gate) + family.logpdf(np.asarray(y)[:, np.newaxis], centers, scales)


# -- numbers ------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", LOSSES)
def test_densities_of_numbers_against_a_reference(numbers, loss):
    X, y = numbers
    reg = MoERegressor(loss=loss, **BRIEF).fit(X, y)
    joint = log_joint(reg, X, y)
    np.testing.assert_allclose(reg.score_samples(X, y), logsumexp(joint, axis=1), rtol=1e-5)
    np.testing.assert_allclose(reg.responsibilities(X, y), softmax(joint, axis=1), atol=1e-4)
    levels = np.interp(Q, np.linspace(0, 1, 201), reg._levels)
    points = reg.predict(X[:1]) + np.linspace(-3000, 3000, 20_001)
    density = np.exp(reg.score_samples(np.tile(X[:1], (len(points), 1)), points))
    share = integrate.cumulative_trapezoid(density, points, initial=0)
    found = np.interp(reg.predict_quantiles(X[:1], Q)[0], points, share)
    np.testing.assert_allclose([*found, share[-1]], [*levels, 1], atol=1e-4)


def test_the_scale_is_that_of_samples_that_were_not_trained_on():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(400, 10)), rng.normal(size=400)  # nothing to be learned
    for stop, low, high in (("out_of_bag", 0.85, 1.3), (True, 0.85, 1.3), (False, 0, 0.6)):
        options = BRIEF | {"early_stopping": stop, "tol": None, "max_iter": 100}
        reg = MoERegressor(expert="mlp", learning_rate_init=0.02, **options).fit(X, y)
        assert low < reg.scale_[0] < high


@pytest.mark.parametrize("loss", ["squared_error", "gaussian"])
def test_several_outputs(numbers, loss):
    X, y = numbers
    Y = np.stack([y, -2 * y], axis=1)
    reg = MoERegressor(loss=loss, **BRIEF).fit(X, Y)
    assert reg.score_samples(X, Y).shape == (300,)
    assert reg.responsibilities(X, Y).sum(axis=1) == pytest.approx(1)
    with pytest.raises(ValueError, match="predict_quantiles needs a y of one output, got 2"):
        reg.predict_quantiles(X, 0.5)


@pytest.mark.parametrize("router", ["top1", "topk", "sigmoid"])
def test_routers_that_add_outputs_have_one_density(numbers, router):
    X, y = numbers
    reg = MoERegressor(router=router, **BRIEF).fit(X, y)
    center, scale = reg.predict(X), scales_at(reg, reg.predict(X))
    expected = stats.norm.logpdf(y, center, scale)
    np.testing.assert_allclose(reg.score_samples(X, y), expected, rtol=1e-5)
    assert reg.responsibilities(X, y).sum(axis=1) == pytest.approx(1)
    levels = np.interp(Q, np.linspace(0, 1, 201), reg._levels)
    expected = stats.norm.ppf(levels, center[:, np.newaxis], scale[:, np.newaxis])
    np.testing.assert_allclose(reg.predict_quantiles(X, Q), expected, rtol=1e-6)


def test_losses_without_a_density_are_refused(numbers):
    class Own(Head):
        kind = "regression"

        def loss(self, output, y):
            return (output - y).square().sum(1)

        def predict(self, output):
            return output

    X, y = numbers
    reg = MoERegressor(loss=Own, router="top1", **BRIEF).fit(X, y)
    assert not hasattr(reg, "scale_")
    for name, value in {"score_samples": y, "responsibilities": y, "predict_quantiles": Q}.items():
        refuses(name, r"loss=.*Own.*belongs to no density", getattr(reg, name), X, value)


def test_bad_arguments(numbers):
    X, y = numbers
    reg = MoERegressor(**BRIEF).fit(X, y)
    for call, name, values in (
        (reg.predict_quantiles, r"\bq\b", (0, 1.2, [0.5, -1], [[0.5]], np.nan, "half", [])),
        (reg.predict_interval, "coverage", (0, 1, 90, "most", [0.9])),
        (reg.score_samples, "X and y", [y[:-1]]),
        (reg.responsibilities, "y", [np.where(y > 1100, np.nan, y)]),
    ):
        for value in values:
            refuses(value, name, call, X, value)


def hetero(seed, n):
    rng = np.random.default_rng(seed)
    X = rng.uniform(-2, 2, size=(n, 2))
    return X, X[:, 0] + (0.2 + np.abs(X[:, 1])) * rng.normal(size=n)


def widening(seed, n):
    """Return numbers whose noise grows with their mean."""
    rng = np.random.default_rng(seed)
    X = rng.uniform(-1, 1, size=(n, 3))
    return X, 3 * X[:, 0] + np.exp(X[:, 0] - 1) * rng.normal(size=n)


@pytest.mark.parametrize("loss", slow(FAMILIES, "absolute_error", "huber"))
def test_intervals_are_wide_where_the_noise_is(loss):
    X, y = widening(0, 1500)
    reg = MoERegressor(3, loss=loss, max_iter=20, random_state=0).fit(X, y)
    assert reg.scale_slope_[0] == pytest.approx(y.std() / 3, rel=0.2)
    X, y = widening(1, 4000)
    interval = reg.predict_interval(X, coverage=0.8)
    np.testing.assert_allclose(interval, reg.predict_quantiles(X, [0.1, 0.9]), 1e-9)
    covered = (interval[:, 0] < y) & (y < interval[:, 1])
    for part in (X[:, 0] < 0, X[:, 0] >= 0):
        assert covered[part].mean() == pytest.approx(0.8, abs=0.05)
    even = (
        X[:, 0]
        + X[:, 1]
        + reg.predict_quantiles(X[:1], np.random.default_rng(2).uniform(size=4000))[0]
    )
    steady = MoERegressor(loss=loss, **BRIEF).fit(X[:1000], even[:1000])
    assert abs(steady.scale_slope_[0]) < 0.1


def test_small_chunks_change_intervals_by_what_they_are_worth():
    """Errors are those of rows that were not trained on yet: 16 rows are learned by heart."""
    X, y = hetero(0, 2000)
    further = MoERegressor(2, expert="mlp", max_iter=8, random_state=0).fit(X[:400], y[:400])
    further.partial_fit(X[400:403], y[400:403])
    streamed = MoERegressor(2, learning_rate_init=0.01, random_state=0)
    for start in range(0, 800, 16):
        streamed.partial_fit(X[start : start + 16], y[start : start + 16])
    for reg in (further, streamed):
        low, high = reg.predict_interval(X[1000:]).T
        assert 0.85 < ((low < y[1000:]) & (y[1000:] < high)).mean() < 0.95


# -- classes ------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"router": "top1"}, {"loss": "probabilities"}])
def test_probabilities_of_classes(classes, options):
    X, y = classes
    clf = MoEClassifier(**BRIEF | options).fit(X, y)
    codes, rows = np.searchsorted(clf.classes_, y), np.arange(len(y))
    expected = np.log(clf.predict_proba(X)[rows, codes])
    np.testing.assert_allclose(clf.score_samples(X, y), expected, rtol=1e-4, atol=1e-6)
    joint = clf.gate_proba(X) * clf.expert_proba(X)[rows, :, codes]
    joint /= joint.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(clf.responsibilities(X, y), joint, atol=1e-5)
    raises(ValueError, r"labels \['x'\]", clf.score_samples, X, np.where(y == "a", "x", y))


def test_probabilities_of_margins_and_labels(classes):
    X, y = classes
    two = MoEClassifier(loss="margin", **BRIEF).fit(X, y == "a")
    expected = np.log(two.predict_proba(X)[np.arange(len(y)), (y == "a").astype(int)])
    np.testing.assert_allclose(two.score_samples(X, y == "a"), expected, rtol=1e-4, atol=1e-6)
    Y = np.stack([y == "a", y == "b"], axis=1).astype(int)
    several = MoEClassifier(**BRIEF).fit(X, Y)
    proba = several.predict_proba(X)
    expected = np.log(np.where(Y, proba, 1 - proba)).sum(axis=1)
    np.testing.assert_allclose(several.score_samples(X, Y), expected, rtol=1e-3, atol=1e-6)


def test_an_expert_that_no_float_can_tell_from_0_has_responsibility_0(classes):
    X, y = classes
    clf = MoEClassifier(2, expert_loss_weight=0, max_iter=100, random_state=0).fit(X, y)
    far = 1e4 * (X - X.mean(axis=0))
    found = clf.responsibilities(far, y)
    assert np.isfinite(found).all()
    assert np.isfinite(clf.score_samples(far, y)).all()


# -- stopping --------------------------------------------------------------------------


def overlapping(n=600, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 12))
    return X, (X[:, 0] + 2.5 * rng.normal(size=n) > 2.3).astype(int)


@pytest.mark.parametrize("options", [{"expert_loss_weight": 0}, {"router": "top1"}])
def test_regimes_stop_by_held_out_rows(options):
    X, y = overlapping()
    X_test, y_test = overlapping(3000, seed=1)
    clf = MoEClassifier(4, random_state=0, **options).fit(X, y)
    assert clf.resolved_params_["early_stopping"] is True
    null = stats.entropy([y.mean(), 1 - y.mean()])
    assert -clf.score_samples(X_test, y_test).mean() < null + 0.02
    for n_experts, n_rows, holds_out in ((4, 90, False), (2, 600, True)):
        brief = MoEClassifier(n_experts, max_iter=2, random_state=0, **options)
        brief.fit(X[:n_rows], y[:n_rows])
        assert brief.resolved_params_["early_stopping"] is holds_out


# -- counts -------------------------------------------------------------------------------


def make_counts(n_samples, seed, dispersion=0.0):
    """Return X, counts and their rates, which bend where the second column is 0."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n_samples, 3))
    rate = np.exp(1 + 0.5 * X[:, 0] * (X[:, 1] > 0))
    if dispersion:
        return X, rng.poisson(rate * rng.gamma(1 / dispersion, dispersion, n_samples)), rate
    return X, rng.poisson(rate), rate


def test_probabilities_of_counts_against_a_reference():
    X, y, _ = make_counts(300, 0)
    reg = MoERegressor(loss="poisson", **BRIEF).fit(X, y)
    gate, rates, n = reg.gate_proba(X), reg.expert_predict(X), 1 / reg.dispersion_
    each = stats.nbinom(n, n / (n + rates))
    joint = np.log(gate) + each.logpmf(y[:, np.newaxis])
    np.testing.assert_allclose(reg.score_samples(X, y), logsumexp(joint, axis=1), rtol=1e-4)
    np.testing.assert_allclose(reg.responsibilities(X, y), softmax(joint, axis=1), atol=1e-4)
    np.testing.assert_array_equal(
        reg.score_samples(X), reg.score_samples(X, np.rint(reg.predict(X)))
    )
    assert (reg.score_samples(X[:2], [0.5, -1]) == -np.inf).all()
    every = [reg.score_samples(X[:5], np.full(5, k)) for k in range(200)]
    np.testing.assert_allclose(np.exp(every).sum(axis=0), 1, atol=1e-6)
    # A quantile is the least count that is reached with the calibrated level.
    levels = np.interp(Q, np.linspace(0, 1, 201), reg._levels)
    quantiles = reg.predict_quantiles(X[:5], Q)
    shares = np.exp(every).cumsum(axis=0)
    np.testing.assert_array_equal(quantiles, [(row[:, None] < levels).sum(0) for row in shares.T])


@pytest.mark.parametrize("dispersion", [0.0, 0.5])
def test_the_dispersion_of_counts_is_found_and_intervals_hold(dispersion):
    X, y, _ = make_counts(2000, 0, dispersion)
    X_new, y_new, rate = make_counts(3000, 1, dispersion)
    reg = MoERegressor(3, loss="poisson", max_iter=30, random_state=0).fit(X, y)
    assert reg.dispersion_ == pytest.approx(dispersion, abs=0.1)
    low, high = reg.predict_interval(X_new).T
    assert ((low <= y_new) & (y_new <= high)).mean() > 0.9
    # No outer interval: without its ends it holds less.
    assert ((low < y_new) & (y_new < high)).mean() < 0.9
    n = 1 / max(dispersion, 1e-6)
    known = stats.nbinom.logpmf(y_new, n, n / (n + rate)).mean()
    assert reg.score_samples(X_new, y_new).mean() == pytest.approx(known, abs=0.04)


def test_counts_in_chunks_have_the_dispersion_of_all_of_them():
    X, y, _ = make_counts(3000, 0, 0.5)
    options = {"loss": "poisson", "batch_size": 50, "random_state": 0}
    reg = MoERegressor(**options)
    for part in np.array_split(np.arange(3000), 3):
        reg.partial_fit(X[part], y[part])
    assert reg.dispersion_ == pytest.approx(0.5, abs=0.15)
    assert reg.partial_fit(X, y + 0.5)._target.is_count is False
    raises(ValueError, "whole numbers only", reg.predict_interval, X)


def test_rates_that_happen_to_be_whole_are_no_counts():
    rng = np.random.default_rng(0)
    X, rate = rng.normal(size=(400, 3)), np.exp(0.5 * rng.normal(size=400))
    monthly = 12 * rng.poisson(rate / 3)
    reg = MoERegressor(loss="poisson", **BRIEF)
    for weight in (np.full(400, 1 / 12), None):
        reg.fit(X, monthly, weight)
        assert reg.dispersion_ < 2  # 14, if one of the counts were 12
        assert np.isneginf(reg.score_samples(X, np.ones(400))).all()
        assert reg.score_samples(X, np.full(400, 12.0)).min() > -4
        assert not (reg.predict_interval(X) % 12).any()
    # Of several exposures, each with its own step, a rate alone tells no probability.
    exposure = rng.choice([1 / 12, 1 / 2, 1], 400)
    whole = np.rint(rng.poisson(rate * exposure) / exposure)
    reg.fit(X, whole, exposure)
    raises(ValueError, "whole numbers only", reg.predict_interval, X)
    # Counts, repeated or rare, are counts.
    weight = rng.integers(1, 6, 400)
    for y in (rng.poisson(rate), 2 * (np.arange(400) < 5)):
        assert np.isfinite(reg.fit(X, y, weight).score_samples(X, np.ones(400))).all()
