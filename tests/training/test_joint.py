"""Many fits at once: the models of one after the other."""

import pickle
import re
from contextlib import nullcontext

import joblib
import numpy as np
import pytest
import torch
from helpers import named
from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_iris
from sklearn.exceptions import ConvergenceWarning, FitFailedWarning, NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, GroupKFold, KFold, ParameterGrid, cross_validate
from torch import nn

from sklearn_moe import BalanceParams, MoEClassifier, MoERegressor, RouterParams, SolverParams
from sklearn_moe._training.loop import Training
from sklearn_moe.callbacks import StopTraining
from sklearn_moe.model_selection import cross_validate_together, fit_together
from sklearn_moe.nn import BALANCES, ROUTERS, Noise

pytestmark = pytest.mark.filterwarnings("ignore::sklearn_moe.exceptions.ExpertCollapseWarning")
TOL = {np.uint8: 1e-5, np.float32: 1e-5, np.float64: 1e-10}
FEW = {"n_experts": 3, "max_iter": 4, "tol": None, "batch_size": 64, "random_state": 0}
# A step of these is as large as its learning rate says.
PLAIN = FEW | {"solver": SolverParams("sgd", schedule="constant")}


def assert_close_answers(model, reference, X, tol=1e-6):
    said = [getattr(m, "predict_proba", m.predict)(X) for m in (model, reference)]
    np.testing.assert_allclose(*said, atol=tol)


def assert_same(model, reference, X, tol=1e-5):
    """Compare all that a fit leaves."""
    assert type(model) is type(reference)
    assert model.n_iter_ == reference.n_iter_
    for name in ("loss_curve_", "router_gradient_curve_", "expert_load_"):
        np.testing.assert_allclose(getattr(model, name), getattr(reference, name), tol, tol)
    assert_close_answers(model, reference, X, tol)
    np.testing.assert_array_equal(model.apply(X), reference.apply(X))
    weights = ([*m.module_.parameters()] for m in (model, reference))
    torch.testing.assert_close(*weights, rtol=tol, atol=tol)
    for row, expected in zip(model.net_.history, reference.net_.history, strict=True):
        assert row.keys() == expected.keys()
        ours, theirs = ([v for v in r.values() if not isinstance(v, list)] for r in (row, expected))
        np.testing.assert_allclose(ours, theirs, tol, tol)


def assert_as_alone(models, X, y, *, sample_weight=None, rows=None):
    """Fit clones one after the other and all together; return the latter."""
    rows = [slice(None)] * len(models) if rows is None else rows
    alone = [clone(m) for m in models]
    for model, chosen in zip(alone, rows, strict=True):
        model.fit(X[chosen], y[chosen], None if sample_weight is None else sample_weight[chosen])
    indices = [np.arange(len(X))[chosen] for chosen in rows]
    assert fit_together(models, X, y, sample_weight=sample_weight, rows=indices) == models
    for model, reference in zip(models, alone, strict=True):
        assert_same(model, reference, X, TOL[X.dtype.type])
    return models


@pytest.fixture(scope="module")
def bags():
    X = np.random.default_rng(0).normal(size=(150, 4, 6)).astype(np.float32)
    return X, (X[:, 0, 0] * X[:, 1, 1] > 0).astype(int)


def few(**options):
    return MoEClassifier(**FEW | options)


def seeds(model, n=3):
    return [clone(model).set_params(random_state=seed) for seed in range(n)]


@pytest.mark.parametrize("router", ROUTERS)
def test_every_router(bags, router):
    X, y = bags
    dtype = np.float64 if ROUTERS[router].router_class.sparse else np.float32
    assert_as_alone(seeds(few(router=router)), X.astype(dtype), y)
    if router != "patch_choice":
        X, y = load_iris(return_X_y=True)
        assert_as_alone(seeds(few(router=router, expert_width=5)), X, y)
    if router in ("topk", "noisy_topk"):
        assert_as_alone(seeds(few(router=router, top_k=2)), *bags)


class _NoiseAndX(Noise):
    def __call__(self, x, scores, generator):
        return super().__call__(x, scores, generator) + x.flatten(1)[:, : scores.shape[1]]

    @staticmethod
    def quantile(u):
        return u


def _relative_to_the_batch(scores, noisy, chosen):
    return scores.softmax(1).gather(1, chosen) / scores.softmax(1).amax()


@pytest.mark.parametrize(
    "options",
    [
        *({"balance": BalanceParams(balance, weight=0.1)} for balance in BALANCES),
        {"router": "soft", "balance": "switch"},
        {"router": RouterParams(noise=_NoiseAndX)},
        {"router": RouterParams(gate=_relative_to_the_batch)},
        {"router": RouterParams(network="mlp")},
        {"expert": lambda shape, n: nn.Sequential(nn.Flatten(), nn.Linear(24, n))},
        {"solver": torch.optim.RMSprop, "learning_rate_init": 0.01},
    ],
    ids=named,
)
def test_every_balance_and_parts_of_ones_own(bags, options):
    assert_as_alone(seeds(few(**{"router": "top1"} | options)), *bags)


@pytest.mark.parametrize("solver", ["normalized_sgd", "sgd", "adam", "adamw"])
def test_optimizers_with_rates_of_their_own_remember_when_others_have_stopped(bags, solver):
    rates = {"learning_rate_init": [0.002, 0.01], "router__learning_rate": [0.001, 0.01]}
    model = few(solver=SolverParams(solver, momentum=0.5 if "sgd" in solver else 0))
    models = [clone(model).set_params(**options) for options in ParameterGrid(rates)]
    models = assert_as_alone(models, *bags)
    sizes = {sum(p.double().norm().item() for p in m.module_.parameters()) for m in models}
    assert len(sizes) == 4
    assert_as_alone([clone(model).set_params(max_iter=m) for m in (2, 4, 6)], *bags)


@pytest.mark.parametrize("model", [MoEClassifier(), MoERegressor(), MoERegressor(loss="gaussian")])
def test_default_tables(model):
    load = load_iris if isinstance(model, MoEClassifier) else load_diabetes
    X, y = load(return_X_y=True)
    rows = [train for train, _ in KFold(3, shuffle=True, random_state=0).split(X)]
    models = seeds(model.set_params(expert_width=8, max_iter=6))
    assert_as_alone(models, X, y, rows=rows, sample_weight=np.linspace(0, 2, len(X)))


def test_rows_and_architectures_of_their_own(bags):
    X, y = bags
    rows = [np.arange(150), np.arange(149), np.arange(100) + 30, np.arange(0, 150, 2)]
    assert_as_alone(seeds(few(), 4), X, y, rows=rows)
    models = fit_together([few(), few()], X, y, rows=[np.arange(150) < 70, np.arange(70)])
    assert_close_answers(*models, X)
    assert_as_alone([few(n_experts=n) for n in (1, 2, 3, 2)], *bags)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_each_stops_by_itself(patches, bags):
    (X, y, _), _ = patches
    models = seeds(MoEClassifier(4, tol=0.03, batch_size=50))
    models = assert_as_alone(models, X[:200], y[:200])
    assert len({model.n_iter_ for model in models}) > 1
    stop = {"batch_size": 9, "early_stopping": True, "n_iter_no_change": 3, "tol": 0.1}
    models = assert_as_alone([few(**stop, max_iter=m) for m in (3, 8, 60)], *bags)
    assert models[0].n_iter_ == 3 < models[1].n_iter_
    assert models[2].validation_scores_


def test_images_behind_a_trunk_and_as_bytes(images):
    X, y = images
    assert_as_alone(seeds(few(expert_width=4), 2), X.astype(np.float64), y)
    X = np.random.default_rng(0).integers(256, size=(90, 3, 8, 8)).astype(np.uint8)
    assert_as_alone(seeds(few(expert="cnn", expert_width=4), 2), X, np.arange(90) % 3)


def test_the_models_are_ordinary_ones(bags):
    X, y = bags
    alone = few(random_state=1, solver=SolverParams(momentum=0.9)).fit(X, y)
    model = fit_together(seeds(clone(alone), 2), X, y)[1]
    assert len(pickle.dumps(model)) == len(pickle.dumps(alone))
    alone, model = (pickle.loads(pickle.dumps(m)).partial_fit(X, y) for m in (alone, model))
    assert_close_answers(model, alone, X)
    for m in (alone, model):
        m.set_params(warm_start=True).fit(X, y)
    fit_together([model], X, y)
    assert_same(model, alone.fit(X, y), X)


def test_a_generator_is_shared_in_the_order_of_the_estimators(bags):
    rngs = [np.random.RandomState(0) for _ in range(2)]
    alone = [few(random_state=rngs[0]).fit(*bags) for _ in range(3)]
    models = fit_together([few(random_state=rngs[1]) for _ in range(3)], *bags)
    for model, reference in zip(models, alone, strict=True):
        assert_close_answers(model, reference, bags[0], 1e-5)


def test_numbers_that_leave_all_bounds_end_one_fit(bags):
    X, y = bags
    models = [MoEClassifier(**PLAIN, learning_rate_init=rate) for rate in (0.01, 1e9, 0.02)]
    with pytest.raises(ValueError, match=r"estimators\[1\].*loss became"):
        fit_together(models, X, y)
    for model in (models[0], models[2]):
        assert_same(model, clone(model).fit(X, y), X)
    last = PLAIN | {"max_iter": 1, "batch_size": None}
    others = [MoEClassifier(**last, learning_rate_init=rate) for rate in (0.1, 3e38)]
    with pytest.raises(ValueError, match=r"estimators\[1\].*weights became infinite"):
        fit_together(others, 1e4 * X, y)
    assert others[0].n_iter_ == 1
    for model in (models[1], others[1]):
        with pytest.raises(NotFittedError):
            model.predict(X)


def dropping(input_shape, n_outputs):
    return nn.Sequential(nn.Dropout(), nn.Flatten(), nn.Linear(24, 2))


def test_what_is_for_a_fit_of_its_own(bags):
    for expected, name, value in (
        ("callbacks", "callbacks", [StopTraining]),
        ("train_transform", "train_transform", np.abs),
        ("upcycle", "router", RouterParams("top1", upcycle=0.5, gate="relative")),
        ("checkpoint", "checkpoint", "fits"),
        ("Dropout", "expert", dropping),
    ):
        models = [few(), few(**{name: value})]
        with pytest.raises(ValueError, match=rf"(?s)estimators\[1\] has .*{expected}"):
            fit_together(models, *bags)
        assert not any(hasattr(model, "net_") for model in models)


def test_bad_calls(bags):
    X, y = bags
    model = few()
    with pytest.raises(TypeError, match=r"estimators\[0\] is LogisticRegression"):
        fit_together([LogisticRegression()], X, y)
    for models, rows, match in (
        ([model, model], None, "same object"),
        (seeds(model, 2), [np.arange(3)], "got 1 for 2"),
        ([model], [np.flatnonzero(y == 1)], "at least 2 classes"),
        ([few(n_experts=0)], None, "n_experts"),
    ):
        with pytest.raises(ValueError, match=match):
            fit_together(models, X, y, rows=rows)
    assert fit_together([], X, y) == []


def test_ctrl_c_keeps_what_was_learned(bags, monkeypatch):
    X, y = bags
    left = iter([True, True, False])
    record = Training.record_pass

    def interrupted(training, *args, **kwargs):
        if len(training.net.module_.experts) == 3 and not next(left):
            raise KeyboardInterrupt
        record(training, *args, **kwargs)

    monkeypatch.setattr(Training, "record_pass", interrupted)
    models = [few(n_experts=n) for n in (2, 3, 4)]
    with pytest.raises(KeyboardInterrupt):
        fit_together(models, X, y)
    monkeypatch.undo()
    assert [getattr(model, "n_iter_", 0) for model in models] == [4, 2, 0]
    models[1].partial_fit(X, y)


def test_warnings_are_those_of_fit(bags):
    with pytest.warns(ConvergenceWarning):
        fit_together([few(tol=1e-9)], *bags)


# -- cross-validation ---------------------------------------------------------------------


def assert_scores(result, expected):
    assert result.keys() == {name for name in expected if "time" not in name}
    for name, values in result.items():
        np.testing.assert_allclose(values, expected[name], atol=1e-5)


def test_cross_validation_is_that_of_scikit_learn(bags):
    X, y = bags
    models = seeds(few(), 2)
    rows, groups = np.arange(len(y)), np.random.RandomState(0).randint(7, size=len(y))
    folds = [(rows[y == 1], rows[:20]), (rows[20:], rows[:20])]  # the first is of one class
    for options in (
        {"cv": 3},
        {"cv": 2, "scoring": ["accuracy", "roc_auc"]},
        {"cv": GroupKFold(3), "groups": groups},
        {"cv": folds},
        {"cv": folds, "scoring": ["accuracy", "neg_log_loss"]},
    ):
        fails = options["cv"] is folds
        warned = pytest.warns(FitFailedWarning, match="1 of 2 fits") if fails else nullcontext()
        with warned:
            results = cross_validate_together(models, X, y, **options)
        for model, result in zip(models, results, strict=True):
            with pytest.warns(FitFailedWarning) if fails else nullcontext():
                expected = cross_validate(model, X, y, **options)
            assert_scores(result, expected)
            assert all(np.isnan(values[0]) == fails for values in result.values())
    (result,) = cross_validate_together(models[:1], X, y, cv=3, return_estimator=True)
    assert [len(m.loss_curve_) for m in result["estimator"]] == [4, 4, 4]
    with pytest.raises(ValueError, match="groups"):
        cross_validate_together(models, X, y, cv=GroupKFold(3))


def test_candidates_that_cannot_be_fitted_score_nan(bags):
    diverging = MoEClassifier(**PLAIN, learning_rate_init=1e9)
    for model, match in ((diverging, "2 of 2 fits failed"), (few(n_experts=0), "n_experts")):
        with pytest.warns(FitFailedWarning, match=re.escape(match)):
            bad, good = cross_validate_together([model, few()], *bags, cv=2, scoring=["accuracy"])
        assert np.isfinite(good["test_accuracy"]).all()
        assert np.isnan(bad["test_accuracy"]).all()
    with pytest.raises(ValueError, match="n_experts"):
        cross_validate_together([model], *bags, cv=2)
    with pytest.raises(ValueError, match="callbacks"):
        cross_validate_together([few(callbacks=[StopTraining]), few()], *bags, cv=2)


# -- searches by several processes and machines ---------------------------------------------


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # of sockets that dask closes late
def test_processes_score_as_one(bags):
    def scores(backend, **options):
        search = GridSearchCV(few(), {"n_experts": [1, 3]}, cv=3, error_score="raise")
        with joblib.parallel_config(backend, **options):
            search.set_params(scoring="neg_log_loss", refit=False).fit(*bags)
        return search.cv_results_["mean_test_score"]

    expected = scores("sequential")
    np.testing.assert_array_equal(scores("loky", n_jobs=2), expected)
    dask = pytest.importorskip("distributed")
    with dask.LocalCluster(2, threads_per_worker=1, dashboard_address=None) as cluster:
        with dask.Client(cluster):
            np.testing.assert_array_equal(scores("dask"), expected)
