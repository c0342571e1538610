"""MoERegressor as its users meet it."""

import warnings
from functools import partial

import numpy as np
import pytest
import torch
from helpers import brief, brief_fits
from sklearn.base import clone
from sklearn.datasets import load_diabetes
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import PoissonRegressor, Ridge
from sklearn.metrics import mean_poisson_deviance

from sklearn_moe import MoERegressor
from sklearn_moe.metrics import dispatch_entropy
from sklearn_moe.nn import LOSSES, ROUTERS

pytestmark = brief_fits
make = partial(brief, MoERegressor, max_iter=5)
OF_NUMBERS = [name for name, spec in LOSSES.items() if spec.regression]


def samples(shape, n=60, n_outputs=None, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, *shape))
    y = X.reshape(n, -1) @ rng.normal(size=(X[0].size, n_outputs or 1))
    return X, 100 + 7 * (y if n_outputs else y[:, 0])


@pytest.fixture(scope="module")
def regions():
    """A target that is another linear function on either side, and the sides."""
    X = np.random.default_rng(0).uniform(-1, 1, size=(700, 3))
    side = X[:, 0] > 0
    return X, np.where(side, 4 + 2 * X[:, 1], -3 * X[:, 2]), side


# -- it learns ----------------------------------------------------------------------------


def test_finds_the_regions_of_a_piecewise_linear_target(regions):
    X, y, side = regions
    options = {"expert_loss_weight": 0.0, "router__learning_rate": 0.1, "max_iter": 150}
    reg = make(n_experts=4, tol="auto", **options).fit(X[:400], y[:400])
    assert reg.score(X[400:], y[400:]) > 0.95
    assert dispatch_entropy(side[400:], reg.apply(X[400:])) < 0.15
    assert Ridge().fit(X[:400], y[:400]).score(X[400:], y[400:]) < 0.8


@pytest.mark.parametrize("loss", OF_NUMBERS)
def test_every_loss_learns(regions, loss):
    X, y, _ = regions
    y = y - y.min() if loss == "poisson" else y
    reg = make(loss=loss, max_iter=30).fit(X[:400], y[:400])
    assert reg.score(X[400:], y[400:]) > 0.8


@pytest.mark.parametrize("router", ROUTERS)
def test_every_router_learns_from_every_kind_of_sample(router):
    for shape in ((8,), (4, 6), (3, 8, 8)):
        X, y = samples(shape)
        reg = make(router=router, max_iter=15).fit(X / 3, y)
        assert reg.loss_curve_[-1] < reg.loss_curve_[0]
        assert np.isfinite(reg.predict(X)).all()
        np.testing.assert_allclose(reg.gate_proba(X).sum(1), 1, rtol=1e-5)
        assert reg.expert_predict(X).shape == (60, 3)
    X, Y = samples((8,), n_outputs=2)
    for loss in OF_NUMBERS if router in ("soft", "top1") else ["auto"]:
        reg = make(router=router, loss=loss, max_iter=1).fit(X, Y)
        assert reg.predict(X).shape == (60, 2)
        assert reg.expert_predict(X).shape == (60, 3, 2)
        assert reg.score(X, Y) <= 1


# -- what it says -------------------------------------------------------------------------


def test_units_of_the_target_do_not_matter():
    X, y = samples((8,))
    plain, scaled, tiny = (make().fit(X, t) for t in (y, 1e6 + 1e-3 * y, 2.0**-1000 * y))
    np.testing.assert_allclose(scaled.predict(X), 1e6 + 1e-3 * plain.predict(X), rtol=1e-9)
    np.testing.assert_allclose(tiny.predict(X) * 2.0**1000, plain.predict(X), rtol=1e-9)
    far, near = (make().fit(X.astype(np.float32), target) for target in (1e9 + y, y))
    np.testing.assert_allclose(far.predict(X) - 1e9, near.predict(X), atol=1e-2)
    for offset, unit in ((1e12, 0.01), (1e15, 10), (1.7e18, 1e4)):  # as far as float64 holds them
        found = make().fit(X, offset + unit * y).predict(X) - offset
        np.testing.assert_allclose(found / unit, plain.predict(X), atol=0.1)


def test_a_constant_target_is_predicted_exactly():
    X, y = samples((8,))
    for value in (0.0, 1e-6, -1e9):
        reg = make().fit(X, np.full(60, value))
        np.testing.assert_array_equal(reg.predict(X), value)
        np.testing.assert_array_equal(reg.to_torch()(torch.from_numpy(X)).detach(), value)
        both = make().fit(X, np.stack([y, np.full(60, value)], axis=1)).predict(X)
        np.testing.assert_array_equal(both[:, 1], value)
        assert both[:, 0].std() > 0
        sure = make(loss="gaussian").fit(X, np.full(60, value))
        np.testing.assert_array_equal(sure.predict(X, return_std=True), [[value] * 60, [0.0] * 60])


@pytest.mark.parametrize("router", ["top1", "soft"])
def test_the_standard_deviation_is_that_of_the_noise(router):
    rng = np.random.default_rng(0)
    X = rng.uniform(-1, 1, size=(800, 1))
    deviation = np.where(X[:, 0] > 0, 2.0, 0.5)
    y = 10 * X[:, 0] + deviation * rng.normal(size=800)
    reg = make(n_experts=2, router=router, loss="gaussian", max_iter=60).fit(X, y)
    mean, std = reg.predict(X, return_std=True)
    np.testing.assert_array_equal(mean, reg.predict(X))
    assert std.shape == (800,)
    assert np.median(std[X[:, 0] > 0.3]) == pytest.approx(2, rel=0.15)
    assert np.median(std[X[:, 0] < -0.3]) == pytest.approx(0.5, rel=0.25)
    with pytest.raises(ValueError, match=r"needs loss='gaussian', .* loss='auto'"):
        make().fit(X, y).set_params(loss="gaussian").predict(X, return_std=True)


# -- the contract -------------------------------------------------------------------------


def test_further_training_keeps_the_units():
    X, y = samples((8,))
    reg = make()
    for _ in range(15):
        reg.partial_fit(X, y)
    assert reg.score(X, y) > 0.8
    with pytest.raises(ValueError, match=r"y must have shape \(n_samples,\), as in the first fit"):
        reg.partial_fit(X, np.stack([y, y], 1))


# -- steps that are too long --------------------------------------------------------------


def ruins(model, X, y):
    """Fit, and return the messages that name a learning rate."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(X, y)
    messages = [str(w.message) for w in caught if issubclass(w.category, ConvergenceWarning)]
    return [message for message in messages if "learning_rate_init" in message]


@pytest.mark.parametrize("loss", OF_NUMBERS)
def test_a_fit_that_is_worse_than_none_names_its_rate(loss):
    X, y = samples((8,), n=300)
    for early_stopping, rate in (("auto", 1000), (True, 1000), (False, 1000), (True, "auto")):
        options = {"loss": loss, "early_stopping": early_stopping, "max_iter": 15, "tol": "auto"}
        reg = make(learning_rate_init=rate, expert="mlp", **options)
        named = ["learning_rate_init=1000 " in message for message in ruins(reg, X, y)]
        assert (named, reg.score(X, y) < 0) == ([True] * (rate == 1000), rate == 1000)


def test_only_the_epoch_that_is_kept_is_judged():
    X, y = load_diabetes(return_X_y=True)
    reg = MoERegressor(learning_rate_init=1, random_state=0)
    assert not ruins(reg, X, y)
    assert max(reg.loss_curve_) > 50  # other epochs were in ruins
    assert reg.score(X, y) > 0.4


def test_what_the_rate_did_not_do_is_not_put_down_to_it():
    for shape, factor, options in (
        ((8,), 1000, {"standardize": False}),  # drawn weights say far too much of such X
        ((3, 8, 8), 1, {"activation": "cubic", "standardize": False}),
        ((400,), 1, {"loss": "gaussian"}),
    ):
        X, y = samples(shape)
        assert not ruins(make(max_iter=1, router="top1", **options), factor * X, y)


# -- counts and rates ---------------------------------------------------------------------


def make_rates(n_samples, seed, level=0.5):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n_samples, 4))
    return X, np.exp(level + X @ [0.5, -0.3, 0.2, 0]), rng


def deviance(model, X, rate):
    """Return how far rates are from those that are known."""
    return mean_poisson_deviance(rate, model.predict(X))


def test_rates_are_exponential_functions_where_they_are():
    (X, rate, rng), (X_new, new_rate, _) = make_rates(400, 0), make_rates(1000, 1)
    y = rng.poisson(rate)
    options = {"n_experts": "auto", "expert": ["mlp", "linear"], "max_iter": 20}
    counts = make(loss="poisson", **options).fit(X, y)
    known = PoissonRegressor(alpha=1e-3).fit(X, y)
    assert deviance(counts, X_new, new_rate) < 1.1 * deviance(known, X_new, new_rate)
    plain = make(**options).fit(X, y)
    plain = mean_poisson_deviance(new_rate, plain.predict(X_new).clip(min=0.01))
    assert deviance(counts, X_new, new_rate) < plain / 2
    assert counts.predict(1e6 * X).min() >= 0
    assert np.isfinite(counts.predict(1e6 * X)).all()


def test_coefficients_of_rates_are_those_of_their_logarithm():
    X, rate, rng = make_rates(500, 0)
    X, y = 100 + 10 * X, 50 * rng.poisson(rate)
    reg = MoERegressor(1, expert="linear", loss="poisson", random_state=0).fit(X, y)
    known = PoissonRegressor(alpha=0, max_iter=1000, tol=1e-8).fit(X, y)
    np.testing.assert_allclose(reg.coef_[0], known.coef_, atol=2e-3)
    of_both = np.exp(X @ reg.coef_[0] + reg.intercept_[0])
    np.testing.assert_allclose(reg.predict(X), of_both, rtol=1e-4)


def test_a_rate_per_exposure_is_weighted_by_it():
    """Counts of half the time each, and their rate in all of it, tell the same."""
    X, rate, rng = make_rates(400, 0)
    halves = rng.poisson(np.stack([rate, rate]) / 2)
    reg = make(loss="poisson", n_experts="auto", expert=["mlp", "linear"])
    twice = clone(reg).fit(np.tile(X, (2, 1)), 2 * halves.ravel(), np.full(800, 0.5))
    once = clone(reg).fit(X, halves.sum(axis=0), np.ones(400))
    assert np.corrcoef(np.log(twice.predict(X)), np.log(once.predict(X)))[0, 1] > 0.97
    X_new, new_rate, _ = make_rates(1000, 10)
    exposure = rng.choice([0.1, 3], 400)
    y = rng.poisson(rate * exposure) / exposure
    weighted, alike = (clone(reg).fit(X, y, weight) for weight in (exposure, None))
    assert deviance(weighted, X_new, new_rate) < deviance(alike, X_new, new_rate) / 2


def test_units_of_a_rate_do_not_matter():
    X, rate, rng = make_rates(99, 0)
    y = rng.poisson(rate)
    first, second = (make(loss="poisson").fit(X, c * y) for c in (1, 2.0**40))
    np.testing.assert_array_equal(second.predict(X), 2.0**40 * first.predict(X))


def test_several_rates_and_one_that_is_always_zero():
    X, rate, rng = make_rates(300, 0)
    Y = np.stack([rng.poisson(rate), 10 * rng.poisson(1 / rate), np.zeros(300)], axis=1)
    reg = make(loss="poisson", max_iter=30).fit(X, Y)
    predicted = reg.predict(X)
    assert np.corrcoef(predicted[:, 0], rate)[0, 1] > 0.9
    assert np.corrcoef(predicted[:, 1], 1 / rate)[0, 1] > 0.9
    assert not predicted[:, 2].any()
    assert reg.dispersion_.shape == (3,)
    assert np.isfinite(reg.score_samples(X, Y)).all()


def test_negative_rates_are_refused_by_name():
    X, rate, _ = make_rates(60, 0)
    reg = make(loss="poisson").fit(X, rate)
    for method in (reg.fit, reg.partial_fit):
        with pytest.raises(ValueError, match=r"loss='poisson' needs counts or rates .* got -2"):
            method(X, np.where(X[:, 0] > 0, -2, rate))
