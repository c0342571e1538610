"""Regimes by default: found where there are some, and where there are none an ensemble."""

import pickle

import numpy as np
import pytest
import torch
from made_up import quadrants, three_rules
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.datasets import load_diabetes, make_friedman1, make_regression
from sklearn.metrics import adjusted_rand_score

from sklearn_moe import MoERegressor
from sklearn_moe.metrics import dispatch_entropy, specialization_report

MAKERS = {"quadrants": quadrants, "three rules": three_rules}
slow = pytest.mark.slow
SEEDS = [pytest.param(seed, marks=[] if seed < 3 else slow) for seed in range(10)]


def kind_of(model):
    return {0: "regimes", 1: "ensemble"}[model.resolved_params_["expert_loss_weight"]]


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("seed", SEEDS)
def test_regimes_are_found_by_default(name, seed):
    X, y, _ = MAKERS[name](seed)
    unseen, numbers, regime = MAKERS[name](100 + seed, n=4000)
    model = MoERegressor(random_state=seed).fit(X, y)
    found = model.apply(unseen)
    assert kind_of(model) == "regimes"
    assert model.score(unseen, numbers) > {"quadrants": 0.985, "three rules": 0.94}[name]
    assert adjusted_rand_score(regime, found) > 0.95
    assert dispatch_entropy(regime, found) < 0.1


def friedman():
    return make_friedman1(500, noise=1.0, random_state=0)


def linear():
    return make_regression(500, 8, noise=50.0, random_state=0)


@pytest.mark.parametrize("make", [friedman, linear, lambda: load_diabetes(return_X_y=True)])
def test_without_regimes_the_ensemble_stays_as_it_is(make):
    X, y = make()
    model = MoERegressor(random_state=0).fit(X, y)
    ensemble = MoERegressor(expert_loss_weight=1.0, random_state=0).fit(X, y)
    assert kind_of(model) == "ensemble"
    assert_array_equal(model.predict(X), ensemble.predict(X))


@pytest.fixture(scope="module")
def found():
    """A model of four quadrants, and what it was fitted to."""
    X, y, _ = quadrants(0)
    return MoERegressor(max_iter=40, random_state=0).fit(X, y), X, y


def test_the_experts_are_the_rules(found):
    model, X, _ = found
    unseen, numbers, _ = quadrants(1)
    assert_array_equal(model.expert_load_ > 0, [True] * 4 + [False] * 4)
    assert_allclose(model.gate_proba(X)[:, 4:], 0)
    rules = model.expert_predict(unseen)
    own = rules[np.arange(len(unseen)), model.apply(unseen)]
    assert np.median(np.abs(own - numbers)) < 0.05
    # Linear in the columns, however far.
    far = model.expert_predict(np.array([[0.0], [10.0], [20.0]]) * np.ones(4))
    assert_allclose(far[2] - far[1], far[1] - far[0], rtol=1e-3)
    report = specialization_report(model, unseen, numbers, random_state=0, n_permutations=200)
    assert report.verdict.startswith("Regimes: four, split by x")


def test_what_is_measured_of_regimes_is_honest(found):
    model, X, y = found
    unseen, numbers, _ = quadrants(1, n=4000)
    low, high = model.predict_interval(unseen).T
    assert 0.87 < np.mean((low < numbers) & (numbers < high)) < 0.95
    errors = [np.mean((y - p) ** 2) for p in (model.oob_prediction_, model.predict(X))]
    assert errors[1] < np.mean((numbers - model.predict(unseen)) ** 2) < 1.5 * errors[0]


def test_regimes_are_kept_with_the_model(found):
    model, X, y = found
    again = pickle.loads(pickle.dumps(model))
    assert_array_equal(again.predict(X), model.predict(X))
    assert_allclose(model.to_torch()(torch.from_numpy(X)).detach(), model.predict(X), rtol=1e-6)
    again.partial_fit(X, y)
    assert adjusted_rand_score(model.apply(X), again.apply(X)) > 0.95
    assert again.score(X, y) > 0.97
    again.set_params(warm_start=True).fit(X, y)  # seeks them anew
    assert_array_equal(again.predict(X), model.predict(X))


def test_weights_and_missing_values_count():
    X, y, _ = quadrants(0, n=2400)
    wrong = np.random.default_rng(0).uniform(size=len(y)) < 0.3
    y = np.where(wrong, -y, y)
    X[::40, 3] = np.nan
    model = MoERegressor(max_iter=40, random_state=0).fit(X, y, np.where(wrong, 1e-3, 1.0))
    unseen, numbers, quadrant = quadrants(1)
    assert adjusted_rand_score(quadrant, model.apply(unseen)) > 0.95
    assert model.score(unseen, numbers) > 0.97


@pytest.mark.parametrize(
    "options", [{"activation": "tanh"}, {"loss": "absolute_error"}, {"early_stopping": False}]
)
def test_other_models_stay_as_they_are(options):
    X, y, _ = quadrants(0)
    model = MoERegressor(max_iter=2, tol=None, random_state=0, **options).fit(X, y)
    assert kind_of(model) == "ensemble"
    assert not model.module_.encoder.is_linear
