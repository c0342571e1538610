"""Many fits at once: the models of one after the other."""

import pickle
import re

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_iris
from sklearn.exceptions import ConvergenceWarning, FitFailedWarning, NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, KFold, ParameterGrid, cross_validate
from torch import nn

from sklearn_moe import MoEClassifier, MoERegressor
from sklearn_moe._training import MoENet
from sklearn_moe.callbacks import StopTraining
from sklearn_moe.model_selection import cross_validate_together, fit_together
from sklearn_moe.nn import BALANCES, ROUTERS, Noise

TOL = {np.uint8: 1e-5, np.float32: 1e-5, np.float64: 1e-10}


def assert_same(model, reference, X, tol):
    """Compare all that a fit leaves."""
    assert type(model) is type(reference)
    assert model.n_iter_ == reference.n_iter_
    for name in ("loss_curve_", "router_gradient_curve_", "expert_load_"):
        np.testing.assert_allclose(getattr(model, name), getattr(reference, name), tol, tol)
    said = [
        m.predict_proba(X) if hasattr(m, "predict_proba") else m.predict(X)
        for m in (model, reference)
    ]
    np.testing.assert_allclose(*said, atol=tol)
    np.testing.assert_array_equal(model.apply(X), reference.apply(X))
    weights = zip(model.module_.parameters(), reference.module_.parameters(), strict=True)
    for weight, expected in weights:
        torch.testing.assert_close(weight, expected, rtol=tol, atol=tol)
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
    rng = np.random.default_rng(0)
    X = rng.normal(size=(150, 4, 6)).astype(np.float32)
    return X, (X[:, 0, 0] * X[:, 1, 1] > 0).astype(int)


def seeds(model, n=5):
    return [clone(model).set_params(random_state=seed) for seed in range(n)]


FEW = {"n_experts": 3, "max_iter": 4, "tol": None, "batch_size": 64}


@pytest.mark.parametrize("router", ROUTERS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_router_of_patches(bags, router, dtype):
    X, y = bags
    assert_as_alone(seeds(MoEClassifier(router=router, **FEW)), X.astype(dtype), y)


@pytest.mark.parametrize("router", ["topk", "noisy_topk"])
def test_two_experts_for_each_sample(bags, router):
    assert_as_alone(seeds(MoEClassifier(router=router, top_k=2, **FEW)), *bags)


@pytest.mark.parametrize("router", [r for r in ROUTERS if r != "patch_choice"])
def test_every_router_of_tables(router):
    X, y = load_iris(return_X_y=True)
    assert_as_alone(seeds(MoEClassifier(router=router, expert_width=5, **FEW)), X, y)


@pytest.mark.filterwarnings("ignore::sklearn_moe.exceptions.ExpertCollapseWarning")
@pytest.mark.parametrize("balance", BALANCES)
@pytest.mark.parametrize("router", ["top1", "soft"])
def test_every_balance(bags, router, balance):
    if balance in ("bias", "load") and router == "soft":
        pytest.skip("for routers that choose")
    model = MoEClassifier(router=router, balance=balance, balance_weight=0.1, **FEW)
    assert_as_alone(seeds(model, 3), *bags)


class _NoiseAndX(Noise):
    def __call__(self, x, scores, generator):
        return super().__call__(x, scores, generator) + x.flatten(1)[:, : scores.shape[1]]

    @staticmethod
    def quantile(u):
        return u


def _relative_to_the_batch(scores, noisy, chosen):
    return scores.softmax(1).gather(1, chosen) / scores.softmax(1).amax()


@pytest.mark.filterwarnings("ignore::sklearn_moe.exceptions.ExpertCollapseWarning")
@pytest.mark.parametrize(
    "parameters",
    [
        {"router_noise": _NoiseAndX},
        {"gate": _relative_to_the_batch},
        {"router_network": "mlp"},
        {"expert": lambda shape, n: nn.Sequential(nn.Flatten(), nn.Linear(24, n))},
    ],
    ids=["noise", "gate", "network", "expert"],
)
def test_parts_of_ones_own(bags, parameters):
    assert_as_alone(seeds(MoEClassifier(**FEW, **parameters), 3), *bags)


def test_an_optimizer_of_ones_own(bags):
    model = MoEClassifier(solver=torch.optim.RMSprop, learning_rate_init=0.01, **FEW)
    assert_as_alone(seeds(model, 3), *bags)


@pytest.mark.parametrize("solver", ["normalized_sgd", "sgd", "adam", "adamw"])
def test_rates_of_their_own(bags, solver):
    grid = ParameterGrid(
        {"learning_rate_init": [0.002, 0.01], "router_learning_rate_init": [0.001, 0.01]}
    )
    model = MoEClassifier(solver=solver, momentum=0.5 if "sgd" in solver else 0, **FEW)
    models = [clone(model).set_params(random_state=0, **p) for p in grid]
    models = assert_as_alone(models, *bags)
    sizes = {sum(p.double().norm().item() for p in m.module_.parameters()) for m in models}
    assert len(sizes) == 4


@pytest.mark.parametrize("model", [MoEClassifier(), MoERegressor(), MoERegressor(loss="gaussian")])
def test_default_tables(model):
    load = load_iris if isinstance(model, MoEClassifier) else load_diabetes
    X, y = load(return_X_y=True)
    rows = [train for train, _ in KFold(3, shuffle=True, random_state=0).split(X)]
    models = seeds(model.set_params(expert_width=8, max_iter=6), 3)
    assert_as_alone(models, X, y, rows=rows, sample_weight=np.linspace(0, 2, len(X)))


def test_rows_of_their_own(bags):
    X, y = bags
    rows = [np.arange(150), np.arange(149), np.arange(100) + 30, np.arange(0, 150, 2)]
    assert_as_alone(seeds(MoEClassifier(**FEW), 4), X, y, rows=rows)
    masked, chosen = seeds(MoEClassifier(**FEW), 1), seeds(MoEClassifier(**FEW), 1)
    fit_together(masked + chosen, X, y, rows=[np.arange(150) < 70, np.arange(70)])
    np.testing.assert_allclose(masked[0].predict_proba(X), chosen[0].predict_proba(X), atol=1e-6)


def test_each_stops_by_itself(patches):
    (X, y, _), _ = patches
    models = seeds(MoEClassifier(tol=0.01, batch_size=50), 4)
    models = assert_as_alone(models, X[:200], y[:200])
    assert len({model.n_iter_ for model in models}) > 1


@pytest.mark.parametrize("options", [{"momentum": 0.9}, {"solver": "adam"}], ids=str)
def test_optimizers_remember_when_others_have_stopped(bags, options):
    options = FEW | options
    models = [MoEClassifier(**options | {"max_iter": m}, random_state=0) for m in (2, 4, 6)]
    assert_as_alone(models, *bags)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_early_stopping_and_several_epochs_at_most(bags):
    models = [
        MoEClassifier(
            n_experts=3, batch_size=9, early_stopping=True, max_iter=m, n_iter_no_change=3,
            random_state=0, tol=0.1,
        )
        for m in (3, 8, 60)
    ]  # fmt: skip
    models = assert_as_alone(models, *bags)
    assert models[0].n_iter_ == 3 < models[1].n_iter_
    assert models[2].validation_scores_


def test_other_architectures_are_other_groups(bags):
    models = [MoEClassifier(**FEW | {"n_experts": n}, random_state=0) for n in (1, 2, 3, 2)]
    assert_as_alone(models, *bags)


def test_pictures_and_what_has_a_trunk(images):
    X, y = images
    assert_as_alone(seeds(MoEClassifier(**FEW, expert_width=4), 2), X, y)


def test_bytes_of_pictures():
    X = np.random.default_rng(0).integers(256, size=(90, 3, 8, 8)).astype(np.uint8)
    model = MoEClassifier(**FEW, expert="cnn", expert_width=4)
    assert_as_alone(seeds(model, 2), X, np.arange(90) % 3)


def test_the_models_are_ordinary_ones(bags):
    X, y = bags
    alone = MoEClassifier(**FEW, random_state=1, momentum=0.9).fit(X, y)
    model = fit_together(seeds(clone(alone), 2), X, y)[1]
    assert len(pickle.dumps(model)) == len(pickle.dumps(alone))
    alone, model = (pickle.loads(pickle.dumps(m)) for m in (alone, model))
    for m in (alone, model):
        m.partial_fit(X, y)
    np.testing.assert_allclose(model.predict_proba(X), alone.predict_proba(X), atol=1e-6)
    for m in (alone, model):
        m.set_params(warm_start=True).fit(X, y)
    fit_together([model], X, y)
    alone.fit(X, y)
    assert_same(model, alone, X, 1e-5)


def test_a_generator_is_shared_in_the_order_of_the_estimators(bags):
    X, y = bags
    rng = np.random.RandomState(0)
    alone = [MoEClassifier(**FEW, random_state=rng).fit(X, y) for _ in range(3)]
    rng = np.random.RandomState(0)
    models = fit_together([MoEClassifier(**FEW, random_state=rng) for _ in range(3)], X, y)
    for model, reference in zip(models, alone, strict=True):
        np.testing.assert_allclose(model.predict_proba(X), reference.predict_proba(X), atol=1e-5)


def test_a_loss_that_is_not_finite_is_its_own(bags):
    X, y = bags
    models = [
        MoEClassifier(
            **FEW, learning_rate="constant", solver="sgd", learning_rate_init=rate, random_state=0
        )
        for rate in (0.01, 1e9, 0.02)
    ]
    with pytest.raises(ValueError, match=r"estimators\[1\].*loss became"):
        fit_together(models, X, y)
    for model in (models[0], models[2]):
        assert_same(model, clone(model).fit(X, y), X, 1e-5)
    with pytest.raises(NotFittedError):
        models[1].predict(X)


def test_weights_that_leave_all_bounds_in_the_last_step_are_noticed(bags):
    X, y = bags
    sgd = FEW | {"max_iter": 1, "batch_size": None, "solver": "sgd", "learning_rate": "constant"}
    models = [MoEClassifier(**sgd, learning_rate_init=rate, random_state=0) for rate in (0.1, 3e38)]
    with pytest.raises(ValueError, match=r"estimators\[1\].*beyond all bounds"):
        fit_together(models, 1e4 * X, y)
    assert models[0].n_iter_ == 1
    with pytest.raises(NotFittedError):
        models[1].predict(X)


@pytest.mark.parametrize(
    ("parameters", "named"),
    [
        ({"callbacks": [StopTraining]}, "callbacks"),
        ({"train_transform": np.abs}, "train_transform"),
        ({"upcycle": 0.5, "gate": "relative"}, "upcycle"),
        ({"checkpoint": "fits"}, "checkpoint"),
        (
            {"expert": lambda *_: nn.Sequential(nn.Dropout(), nn.Flatten(), nn.Linear(24, 2))},
            "Dropout",
        ),
    ],
)
def test_what_is_for_a_fit_of_its_own(bags, parameters, named):
    models = seeds(MoEClassifier(**FEW), 2)
    models[1].set_params(**parameters)
    with pytest.raises(ValueError, match=rf"(?s)estimators\[1\] has .*{named}"):
        fit_together(models, *bags)
    assert not any(hasattr(model, "net_") for model in models)


def test_bad_calls(bags):
    X, y = bags
    model = MoEClassifier(**FEW, random_state=0)
    with pytest.raises(TypeError, match=r"estimators\[0\] is LogisticRegression"):
        fit_together([LogisticRegression()], X, y)
    with pytest.raises(ValueError, match="same object"):
        fit_together([model, model], X, y)
    with pytest.raises(ValueError, match="got 1 for 2"):
        fit_together(seeds(model, 2), X, y, rows=[np.arange(3)])
    with pytest.raises(ValueError, match="at least 2 classes"):
        fit_together([model], X, y, rows=[np.flatnonzero(y == 1)])
    with pytest.raises(ValueError, match="n_experts"):
        fit_together([MoEClassifier(n_experts=0)], X, y)
    assert fit_together([], X, y) == []


def test_ctrl_c_keeps_what_was_learned(bags, monkeypatch):
    X, y = bags
    left = iter([True, True, False])
    take = MoENet.record_pass

    def interrupted(net, *args, **kwargs):
        if net.module_.router.network.weight.shape[0] == 3 and not next(left):
            raise KeyboardInterrupt
        take(net, *args, **kwargs)

    monkeypatch.setattr(MoENet, "record_pass", interrupted)
    models = [MoEClassifier(**FEW | {"n_experts": n}, random_state=0) for n in (2, 3, 4)]
    with pytest.raises(KeyboardInterrupt):
        fit_together(models, X, y)
    monkeypatch.undo()
    assert [getattr(model, "n_iter_", 0) for model in models] == [4, 2, 0]
    models[1].partial_fit(X, y)


def test_warnings_are_those_of_fit(bags):
    with pytest.warns(ConvergenceWarning):
        fit_together([MoEClassifier(**FEW | {"tol": 1e-9}, random_state=0)], *bags)


def test_cross_validation_is_that_of_scikit_learn(bags):
    X, y = bags
    models = seeds(MoEClassifier(**FEW), 2)
    for scoring in (None, "neg_log_loss", ["accuracy", "roc_auc"]):
        results = cross_validate_together(models, X, y, cv=3, scoring=scoring)
        for model, result in zip(models, results, strict=True):
            expected = cross_validate(model, X, y, cv=3, scoring=scoring)
            assert result.keys() == {name for name in expected if "time" not in name}
            for name, values in result.items():
                np.testing.assert_allclose(values, expected[name], atol=1e-5)
    (result,) = cross_validate_together(models[:1], X, y, cv=3, return_estimator=True)
    assert [len(m.loss_curve_) for m in result["estimator"]] == [4, 4, 4]


def test_a_failed_fit_scores_nan(bags):
    models = [
        MoEClassifier(
            **FEW, learning_rate="constant", solver="sgd", learning_rate_init=rate, random_state=0
        )
        for rate in (0.01, 1e9)
    ]
    with pytest.warns(FitFailedWarning, match=re.escape("2 of 2 fits failed")):
        good, bad = cross_validate_together(models, *bags, cv=2, scoring=["accuracy"])
    assert np.isfinite(good["test_accuracy"]).all()
    assert np.isnan(bad["test_accuracy"]).all()


@pytest.mark.parametrize("scoring", [None, ["accuracy", "neg_log_loss"]])
def test_a_fold_of_one_class_scores_nan_as_in_scikit_learn(bags, scoring):
    X, y = bags
    rows = np.arange(len(y))
    folds = [(rows[y == 1], rows[:20]), (rows[20:], rows[:20]), (rows[:-20], rows[-20:])]
    models = seeds(MoEClassifier(**FEW), 2)
    with pytest.warns(FitFailedWarning, match="1 of 3 fits"):
        results = cross_validate_together(models, X, y, cv=folds, scoring=scoring)
    for model, result in zip(models, results, strict=True):
        with pytest.warns(FitFailedWarning):
            expected = cross_validate(model, X, y, cv=folds, scoring=scoring)
        assert result.keys() == {name for name in expected if "time" not in name}
        for name, values in result.items():
            assert np.isnan(values).tolist() == [True, False, False]
            np.testing.assert_allclose(values, expected[name], atol=1e-5)


def test_candidates_that_cannot_be_fitted_leave_the_others(bags):
    models = [MoEClassifier(**FEW | {"n_experts": n}, random_state=0) for n in (0, 2)]
    with pytest.warns(FitFailedWarning, match="n_experts"):
        bad, good = cross_validate_together(models, *bags, cv=2)
    assert np.isnan(bad["test_score"]).all()
    assert np.isfinite(good["test_score"]).all()
    with pytest.raises(ValueError, match="n_experts"):
        cross_validate_together(models[:1], *bags, cv=2)
    models[0] = MoEClassifier(**FEW, callbacks=[StopTraining])
    with pytest.raises(ValueError, match="callbacks"):
        cross_validate_together(models, *bags, cv=2)


def test_groups_split_as_in_scikit_learn(bags):
    X, y = bags
    groups = np.random.RandomState(0).randint(7, size=len(y))
    model = MoEClassifier(**FEW, random_state=0)
    options = {"cv": GroupKFold(3), "groups": groups}
    (result,) = cross_validate_together([model], X, y, **options)
    expected = cross_validate(model, X, y, **options)["test_score"]
    np.testing.assert_allclose(result["test_score"], expected, atol=1e-5)
    with pytest.raises(ValueError, match="groups"):
        cross_validate_together([model], X, y, cv=GroupKFold(3))
