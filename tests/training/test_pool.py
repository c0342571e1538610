"""Experts of several kinds on a table: when each is trained, and what each counts."""

import pickle

import numpy as np
import pytest
import torch
from helpers import raises, refuses
from sklearn.datasets import load_breast_cancer
from sklearn.preprocessing import normalize

from sklearn_moe import MoEClassifier, MoERegressor
from sklearn_moe._data.router import fit_router
from sklearn_moe._training import finish
from sklearn_moe.nn import EXPERTS, LOSSES
from sklearn_moe.nn.heads import SquaredErrorHead, choose_head

DEEP = EXPERTS["mlp"].with_options(n_layers=2, width=20)
KINDS = ["linear", DEEP, EXPERTS["piecewise"].with_options(width=20)]


def regressor(**options):
    return MoERegressor(8, random_state=0, **{"expert": KINDS, "max_iter": 60} | options)


def wave(n, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.uniform(-1, 1, (n, 2))
    return X, np.sin(20 * X[:, 0]) + 0.1 * rng.normal(size=n)


def heavy_tails(n, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.standard_cauchy((n, 4))
    return X, X @ [1.0, -2.0, 0.5, 3.0]


@pytest.mark.parametrize(("data", "kind"), [(wave, "piecewise"), (heavy_tails, "linear")])
def test_the_router_finds_the_kind_that_is_right(data, kind):
    X, y = data(1000)
    model = regressor(max_iter="auto").fit(X[:500], y[:500])
    alone = MoERegressor(8, expert="mlp", random_state=0).fit(X[:500], y[:500])
    assert model.score(X[500:], y[500:]) > 0.75 > 0.6 > alone.score(X[500:], y[500:])
    gate = model.gate_proba(X[500:]).mean(axis=0)
    is_kind = np.array([name.startswith(kind) for name in model.expert_kinds_])
    assert gate[is_kind].sum() > 0.9
    assert gate[is_kind] == pytest.approx(gate[is_kind].mean())


def test_kinds_are_repeated_over_the_experts():
    X, y = heavy_tails(300)
    model = MoERegressor(5, expert=KINDS, max_iter=10, random_state=0).fit(X, y)
    deep, piecewise = "deep(width=20)", "piecewise(width=20)"
    assert model.expert_kinds_.tolist() == ["linear", deep, piecewise, "linear", deep]
    assert model.coef_[[0, 3]] == pytest.approx(np.array([[1.0, -2.0, 0.5, 3.0]] * 2), abs=0.01)
    assert np.isnan(model.coef_[[1, 2, 4]]).all()
    assert model.expert_predict(X)[:, 0] == pytest.approx(X @ model.coef_[0] + model.intercept_[0])


def test_predictions_are_those_of_the_experts_by_their_gates():
    X, y = load_breast_cancer(return_X_y=True)
    model = MoEClassifier(6, expert=KINDS, max_iter=5, random_state=0).fit(X[:300], y[:300])
    mixed = np.einsum("nm,nmc->nc", model.gate_proba(X), model.expert_proba(X))
    mixed = normalize(mixed ** float(model.module_.sharpness), "l1")
    assert model.predict_proba(X) == pytest.approx(mixed, abs=1e-6)
    assert model.to_torch()(torch.from_numpy(X)).detach().numpy() == pytest.approx(mixed, abs=1e-5)
    again = pickle.loads(pickle.dumps(model))
    assert np.array_equal(again.predict_proba(X), model.predict_proba(X))
    assert again.partial_fit(X[:100], y[:100]).score(X, y) > 0.9


@pytest.mark.parametrize("loss", [name for name, spec in LOSSES.items() if spec.regression])
def test_weights_are_by_the_loss_of_the_mixture(loss):
    """Against a search over a grid, with the loss as it is computed for a mixture."""
    rng = np.random.default_rng(0)
    head = choose_head(loss, "regression")(1)
    y = torch.from_numpy(rng.normal(size=(200, 1)))
    y = y.exp() if head.is_rate else y
    noise = torch.from_numpy(rng.normal(size=(200, 2, head.n_outputs)))
    outputs = torch.zeros(200, 2, head.n_outputs, dtype=torch.double)
    outputs[..., :1] = y[:, None].log() if head.is_rate else y[:, None]
    outputs += noise * torch.tensor([[0.5], [0.7]])
    values, losses = head.mixing_parts(outputs, y)
    found = fit_router(values, losses, np.ones(200), np.empty((200, 0)), np.arange(200))

    def loss_of(share):
        gate = torch.tensor([share, 1 - share], dtype=torch.double).expand(200, 2)
        mixed = head.mix(gate.log(), outputs)
        mixed = mixed if head.has_scale else head.predict(mixed)
        mixed = mixed.log() if head.is_rate else mixed
        return head.loss(mixed, y).mean().item()

    shares = np.linspace(0.001, 0.999, 999)
    best = min(shares, key=loss_of)
    share = found.gates(np.empty((1, 0)))[0, 0]
    assert share == pytest.approx(best, abs=0.003)
    assert loss_of(share) == pytest.approx(loss_of(best), abs=1e-5)


def test_a_gate_reads_the_columns_only_where_that_helps():
    rng = np.random.default_rng(0)
    X, n = rng.normal(size=(600, 3)), 600
    y = torch.from_numpy(np.where(X[:, 0] > 0, X[:, 1], -X[:, 1]))[:, None]
    outputs = torch.from_numpy(np.stack([X[:, 1], -X[:, 1]], 1))[..., None]
    values, losses = SquaredErrorHead(1).mixing_parts(outputs, y)
    folds = np.arange(n) % 8
    gates = fit_router(values, losses, np.ones(n), X, folds).gates(X)
    assert np.mean(gates.argmax(axis=1) == (X[:, 0] < 0)) > 0.98
    either = outputs + torch.from_numpy(rng.normal(size=outputs.shape))
    values, losses = SquaredErrorHead(1).mixing_parts(either, outputs[:, 0])
    assert not fit_router(values, losses, np.ones(n), X, folds).slopes.any()


@pytest.mark.parametrize(("bend", "alone"), [(0.0, True), (0.3, False)])
def test_a_line_has_all_the_weight_where_a_mixture_is_no_better(bend, alone):
    rng = np.random.default_rng(0)
    x, n = rng.normal(size=600), 600
    y = torch.from_numpy(x + bend * x**2 + rng.normal(scale=0.5, size=n))[:, None]
    curve = x + bend * x**2 + rng.normal(scale=0.05, size=n)
    outputs = torch.from_numpy(np.stack([curve, x], 1))[..., None]
    values, losses = SquaredErrorHead(1).mixing_parts(outputs, y)
    for lines in [], [1]:
        weights = fit_router(values, losses, np.ones(n), x[:, None], np.arange(n) % 5, lines)
        share = weights.gates(x[:, None])[:, 1]
        assert (share.min() > 1 - 1e-9) == (alone and bool(lines))


def test_weights_are_repetitions_and_groups_are_hidden_together():
    X, y = wave(60)
    weight = np.random.default_rng(0).integers(1, 3, size=60)
    options = {"batch_size": None, "learning_rate_init": 0.01, "max_iter": 8}
    once = regressor(**options).fit(X, y, sample_weight=weight)
    twice = regressor(**options).fit(np.repeat(X, weight, axis=0), np.repeat(y, weight))
    assert once.predict(X) == pytest.approx(twice.predict(X), abs=1e-3)
    assert once.gate_proba(X) == pytest.approx(twice.gate_proba(X), abs=1e-3)
    groups = np.arange(60) // 2
    repeated = regressor(**options).fit(X[groups], y[groups], groups=groups)
    oob = repeated.oob_prediction_
    assert oob[::2] == pytest.approx(oob[1::2], nan_ok=True)
    assert 0.2 < np.isnan(oob).mean() < 0.8  # of few experts, some rows are hidden from none


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"expert": []}, "names no kind of experts"),
        ({"expert_loss_weight": 1, "balance": "switch"}, "expert_loss_weight=1 leaves nothing"),
        ({"standardize": False}, "expert='piecewise.*' reads the standardized columns"),
        ({"trunk": torch.nn.Identity()}, "expert='piecewise.*' reads the standardized columns"),
        ({"router": "topk", "router__n_shared_experts": 1}, "needs experts of one kind"),
        ({"activation": "relu", "expert": ["linear"]}, "takes no activation"),
    ],
)
def test_what_does_not_go_together_is_refused(options, message):
    X, y = wave(40)
    model = regressor().set_params(**options)
    refuses(options, message, model.fit, X, y)


def test_what_is_set_of_the_router_acts():
    X, y = wave(200)
    before = regressor(max_iter=5).fit(X, y).predict(X)
    for options in (
        {"balance": "switch"},
        {"router__learning_rate": 0.3},
        {"router__network": "mlp"},
        {"router": "top1"},
        {"early_stopping": True},
        {"n_experts": 2},
    ):
        after = regressor(max_iter=5).set_params(**options).fit(X, y).predict(X)
        assert not np.allclose(before, after, atol=1e-3), options


@pytest.mark.parametrize("expert", ["piecewise", "linear"])
def test_a_solver_with_steps_for_each_expert_trains_experts_with_own_columns(expert):
    X, y = wave(200)
    options = {"solver": "normalized_sgd", "max_iter": 30, "tol": None, "random_state": 0}
    model = MoERegressor(2, expert=expert, **options).fit(X, y)
    assert model.loss_curve_[-1] < model.loss_curve_[0]
    raises(ValueError, "experts of one kind", model.set_params(expert=KINDS).fit, X, y)


def test_no_last_epochs_of_rate_zero(monkeypatch):
    """Where the best epoch is the last one, the rates are 0 by then: no weight would move."""
    X, y = wave(200)
    model = regressor(max_iter=3).fit(X, y)
    assert np.argmin(model.oob_loss_curve_) == 2
    monkeypatch.setattr(finish, "Training", None)
    again = regressor(max_iter=3).fit(X, y)
    assert np.array_equal(again.predict(X), model.predict(X))
    with pytest.raises(TypeError):
        regressor(max_iter=60).fit(X, y)


def test_a_line_is_found_by_some_of_many_rows(monkeypatch):
    X, y = wave(1000)
    every = regressor(max_iter=1).fit(X, y)
    monkeypatch.setattr(finish, "_N_LINE_ROWS", 0)
    monkeypatch.setattr(finish, "_N_ROWS_OF_A_COLUMN", 250)
    half = regressor(max_iter=1).fit(X, y)
    assert 0 < np.abs(half.coef_[0] - every.coef_[0]).max() < 0.2
