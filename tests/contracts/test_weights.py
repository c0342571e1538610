"""Weights of samples: what they mean in training by batches, wherever a mean is taken."""

import numpy as np
import pytest
from helpers import brief_fits, predictions, slow, weights_of
from representatives import REPRESENTATIVES, SAMPLES
from sklearn.base import clone

from sklearn_moe import (
    MixtureClassifier,
    MixtureRegressor,
    MoEClassifier,
    MoERegressor,
)
from sklearn_moe._data.validation import as_row_counts

RATE = 1e-6  # so small that a step does not change the gradient of the next one
N, N_BATCHES = 240, 8


def draw(n=N, n_heavy=12):
    rng = np.random.default_rng(0)
    X, weight = rng.normal(size=(n, 5)), np.ones(n)
    y = (X[:, 0] + rng.normal(size=n) > 0).astype(int)
    weight[rng.choice(n, n_heavy, replace=False)] = 300.0
    return X, y, weight


def move(batch_size, model, **options):
    """Return how far an epoch moves the weights."""
    X, y, weight = draw()
    options = {"solver": "sgd", "max_iter": 1, "tol": None, "random_state": 0} | options
    # What is not standardized is trained in the type of X: the steps are 1e-6 of the weights.
    options |= {"early_stopping": False, "batch_size": batch_size, "standardize": False}
    start, end = (
        model().set_params(learning_rate_init=rate, router__learning_rate=rate, **options)
        for rate in (1e-30, RATE)
    )
    return (weights_of(end.fit(X, y, weight)) - weights_of(start.fit(X, y, weight))).numpy()


@pytest.mark.parametrize(
    ("model", "options"),
    [
        (MoEClassifier, {"router": "soft", "expert": "mlp"}),
        (MoERegressor, {"router": "topk", "expert": "mlp", "router__noise": None}),
    ],
)
def test_batches_of_uneven_weight_add_up_to_the_step_of_all_samples(model, options):
    by_batches, at_once = (move(size, model, **options) for size in (N // N_BATCHES, None))
    assert np.abs(at_once).max() > RATE / 100
    np.testing.assert_allclose(by_batches, N_BATCHES * at_once, rtol=1e-3, atol=1e-4 * RATE)


def exact(name):
    """Return a representative that draws nothing by batches, and samples for it."""
    kind, estimator = REPRESENTATIVES[name]
    estimator = clone(estimator).set_params(max_iter=15, random_state=0)
    estimator.n_experts = 1 if estimator.n_experts == 1 else 3
    if estimator.early_stopping == "auto":  # batches are of fixed sizes but out of bag
        estimator.set_params(batch_size=None)
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, *SAMPLES[kind].shape[1:]))
    y = (X.reshape(60, -1)[:, 0] + rng.normal(size=60) > 0).astype(int)
    if kind == "table":
        X[::4, 1], X[:, 2] = np.nan, X[:, 2] > 0
    return estimator, X, y, rng.integers(3, size=60)


# Of all others noise is drawn by the place of a row, not from what it holds.
EXACT = [*(n for n, (kind, _) in REPRESENTATIVES.items() if kind == "table"), "images"]


@brief_fits
@pytest.mark.parametrize("name", EXACT)
def test_weight_two_is_the_sample_twice_and_weight_zero_none(name):
    estimator, X, y, weight = exact(name)
    weighted = clone(estimator).fit(X, y, sample_weight=weight)
    repeated = clone(estimator).fit(X.repeat(weight, 0), y.repeat(weight))
    np.testing.assert_allclose(predictions(weighted, X), predictions(repeated, X), rtol=1e-6)
    np.testing.assert_allclose(weighted.expert_load_, repeated.expert_load_, atol=1e-7)
    if hasattr(repeated, "scale_"):
        ends = (model.predict_interval(X) for model in (weighted, repeated))
        np.testing.assert_allclose(*ends, rtol=1e-6)
    if hasattr(repeated, "oob_loss_curve_"):
        np.testing.assert_allclose(weighted.oob_loss_curve_, repeated.oob_loss_curve_)


BRIEF = {"max_iter": 3, "tol": None, "random_state": 0}
ANY_MODEL = {
    "MoERegressor": MoERegressor(**BRIEF),
    "MoEClassifier": MoEClassifier(**BRIEF),
    "poisson": MoERegressor(loss="poisson", **BRIEF),
    "MixtureRegressor": MixtureRegressor(n_init=1, max_iter=5, random_state=0),
    "model tree": MixtureRegressor(n_components="auto", random_state=0),
    "MixtureClassifier": MixtureClassifier(n_init=1, max_iter=5, random_state=0),
}


def bent(name, n):
    """Return a table, what a model takes as a target that bends, and a source of weights."""
    rng = np.random.default_rng(1)
    X = rng.normal(size=(n, 4))
    y = X[:, 0] + np.abs(X[:, 1]) + 0.5 * rng.normal(size=n)
    if "Classifier" in name:
        y = (y > 1).astype(int)
    return X, rng.poisson(np.exp(y.clip(-3, 2))) if name == "poisson" else y, rng


def said(model, X, y, weight=None, at=None):
    """Return predictions of a model that is fitted, and where there are any the intervals."""
    model, at = clone(model).fit(X, y, weight), X if at is None else at
    if hasattr(model, "predict_proba"):
        return model.predict_proba(at)
    return np.column_stack([model.predict(at), model.predict_quantiles(at, [0.05, 0.95])])


@brief_fits
@pytest.mark.parametrize("name", slow(ANY_MODEL, "model tree", "poisson", "MixtureClassifier"))
def test_the_scale_of_weights_changes_nothing_and_up_to_five_are_repetitions(name):
    X, y, rng = bent(name, 120)
    nearly_equal = np.where(np.arange(120) == 3, 999, 1000)
    days, uneven = rng.integers(1, 366, 120), rng.lognormal(size=120)
    model = clone(ANY_MODEL[name])
    for pair in ((None, nearly_equal), (days, days / 365.25), (uneven, 1e6 * uneven)):
        first, second = (said(model, X, y, weight) for weight in pair)
        np.testing.assert_allclose(first, second, atol=1e-6 * np.std(y))
    weight = rng.integers(1, 6, 120)
    if hasattr(model, "batch_size"):
        model.set_params(batch_size=None, learning_rate_init=0.01)
    weighted = said(model, X, y, 0.37 * weight)
    repeated = said(model, X.repeat(weight, 0), y.repeat(weight), at=X)
    # The EM of regimes, which has not ended, amplifies what sums are rounded by.
    np.testing.assert_allclose(weighted, repeated, atol=0.05 * np.std(y))


def test_how_many_rows_a_weight_stands_for():
    rng = np.random.default_rng(0)
    whole, uneven = rng.integers(1, 101, 50).astype(float), rng.lognormal(size=50)
    whole[0] = 1
    for factor in (1, 0.37, 1e-300, 1e300):
        np.testing.assert_array_equal(as_row_counts(factor * whole), whole)
        assert as_row_counts(np.full(5, factor)).tolist() == [1] * 5
        np.testing.assert_array_equal(as_row_counts(factor * uneven), as_row_counts(uneven))
    np.testing.assert_array_equal(as_row_counts((0.1 * whole).astype(np.float32)), whole)
    assert as_row_counts(np.array([0, 3, 6.0])).tolist() == [0, 1, 2]
    # Weights that are no repetitions have Kish's size, and keep their proportions.
    for weight in (uneven, np.array([1.0, 1.01]), np.array([1.0, 101]), np.array([2.0, 3])):
        counts = as_row_counts(weight)
        assert counts.sum() == pytest.approx(weight.sum() ** 2 / (weight @ weight))
        np.testing.assert_allclose(counts / counts[0], weight / weight[0], rtol=1e-6)


def test_weights_of_classes_are_weights_of_samples():
    X, y, _ = draw()
    options = {"n_experts": 3, "max_iter": 5, "tol": None, "random_state": 0}
    by_class = MoEClassifier(**options, class_weight={0: 3.0, 1: 1.0}).fit(X, y)
    by_sample = MoEClassifier(**options).fit(X, y, sample_weight=np.where(y == 0, 3.0, 1.0))
    np.testing.assert_array_equal(by_class.predict_proba(X), by_sample.predict_proba(X))
    assert by_class.predict(X).sum() < MoEClassifier(**options).fit(X, y).predict(X).sum()
    labels = np.stack([y, X[:, 1] > 0], axis=1).astype(int)
    with pytest.raises(ValueError, match=r"class_weight.*'balanced'"):
        by_class.fit(X, labels)


def no_information(n=4000, n_rare=8):
    """Return a column of two values that tells nothing, and weights that even two classes."""
    X, y, weight = np.arange(n)[:, None] % 2.0, np.zeros(n, int), np.ones(n)
    y[:n_rare], weight[:n_rare] = 1, n / n_rare - 1
    order = np.random.default_rng(0).permutation(n)
    return X[order], y[order], weight[order]


@pytest.mark.parametrize("n_experts", [1, 8])
def test_a_few_heavy_samples_count_as_much_as_many_light_ones(n_experts):
    X, y, weight = no_information()
    options = {"early_stopping": False, "max_iter": 30, "random_state": 0}
    model = MoEClassifier(n_experts, **options).fit(X, y, sample_weight=weight)
    np.testing.assert_allclose(model.predict_proba([[0.0], [1.0]])[:, 1], 0.5, atol=0.03)
    # As many samples of the rare class, and no weights.
    assert model.loss_curve_[-1] == pytest.approx(np.log(2), abs=0.02)


def test_batches_of_uneven_weight_are_larger():
    X, y, _ = draw()
    sizes = []
    for heavy in (1.0, 2.0, 1e6):
        weight = np.where(np.arange(N) < N // 2, heavy, 1.0)
        model = MoEClassifier(1, max_iter=1, random_state=0).fit(X, y, sample_weight=weight)
        sizes.append(model.resolved_params_["batch_size"])
    assert sizes == [200, 222, 400]  # 200 times 1, 10 / 9, 2


@pytest.mark.parametrize("solver", ["normalized_sgd", pytest.param("sgd", marks=pytest.mark.slow)])
def test_a_step_is_as_long_as_its_batch_is_heavy(solver):
    X, y, weight = no_information()
    options = {"solver": solver, "batch_size": 50, "max_iter": 15, "random_state": 0}
    options |= {"early_stopping": False, "tol": None, "learning_rate_init": 0.02}
    model = MoEClassifier(1, **options).fit(X, y, sample_weight=weight)
    np.testing.assert_allclose(model.predict_proba(X[:2])[:, 1], 0.5, atol=0.15)


def test_chunks_weigh_what_their_samples_do():
    rng = np.random.default_rng(0)
    model = MoEClassifier(2, expert="mlp", learning_rate_init=0.003, random_state=0)
    for heavy in 25 * (True, False):
        X = rng.normal(size=(300, 2))
        y = (rng.random(300) < (0.8 if heavy else 0.2)).astype(int)
        model.partial_fit(X, y, classes=[0, 1], sample_weight=np.full(300, 100.0 if heavy else 1))
    assert model.predict_proba(X)[:, 1].mean() == pytest.approx(80.2 / 101, abs=0.04)


def test_the_scale_of_weights_does_not_matter_chunk_by_chunk_either():
    X, y, weight = draw()
    models = []
    for scale in (1.0, 2.0**-900, 2.0**900):
        model = MoEClassifier(2, random_state=0)
        for part in np.array_split(np.arange(N), 3):
            w = scale * weight[part]
            model.partial_fit(X[part], y[part], classes=[0, 1], sample_weight=w)
        models.append(model)
    for model in models[1:]:
        np.testing.assert_array_equal(weights_of(model), weights_of(models[0]))
        np.testing.assert_allclose(model.expert_load_, models[0].expert_load_)


@brief_fits
@pytest.mark.parametrize("weights", [[0, 1], [1, 2]])
def test_rows_that_weights_stand_for_decide_the_precision(weights):
    """There are fewer than a hundred rows by one way of counting, and more by the other."""
    X, y, _ = draw(120 if 0 in weights else 70)
    weight = np.where(np.arange(len(X)) % 2, *weights)
    # What is "auto" depends on the number of rows.
    model = MoEClassifier(4, expert="mlp", early_stopping=False, batch_size=None, **BRIEF)
    weighted = clone(model).fit(X, y, sample_weight=weight)
    repeated = clone(model).fit(X.repeat(weight, 0), y.repeat(weight))
    assert weights_of(weighted).dtype == weights_of(repeated).dtype
    np.testing.assert_allclose(predictions(weighted, X), predictions(repeated, X), rtol=1e-5)
