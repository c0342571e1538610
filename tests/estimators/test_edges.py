"""Data and parts at the edge of what is possible: the result is right, or a clear error."""

import numpy as np
import pytest
import torch
from helpers import brief_fits, hook, press, raises
from torch import nn

from sklearn_moe import MoERegressor
from sklearn_moe._parameters import plan, request
from sklearn_moe._training import linear
from sklearn_moe.nn import EXPERTS
from sklearn_moe.nn.heads import SquaredErrorHead

pytestmark = brief_fits
BRIEF = {"max_iter": 5, "random_state": 0}


def line(n_rows=200, n_columns=4, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n_rows, n_columns))
    return X, X[:, 0] + 0.5 * rng.normal(size=n_rows)


# -- groups, held-out rows ----------------------------------------------------------------


@pytest.mark.parametrize("sizes", [(100, 100), (80, 60, 60), (30,) * 7, (196, 1, 1, 1, 1)], ids=str)
def test_few_groups_are_spread_over_the_bags_of_a_large_table(sizes, monkeypatch):
    budget = request.Budget(n_members=2, fewest_bags=10, least_pieces=8, hashes_pieces=False)
    monkeypatch.setattr(plan, "budget_of", lambda n_samples: budget)
    X, y = line(sum(sizes))
    reg = MoERegressor(**BRIEF).fit(X, y, groups=np.repeat(np.arange(len(sizes)), sizes))
    assert np.isfinite(reg.oob_prediction_).mean() >= min(1, 2 * min(sizes) / len(y))
    assert np.isfinite(reg.oob_loss_curve_).all()
    assert reg.gate_proba(X[:1]).max() > 0.4


def test_a_warm_start_holds_out_the_same_rows_or_is_refused():
    X, y = line()
    held_out = []
    look = hook("on_epoch_end", lambda net: held_out.append(net.training_.validation.y))
    options = {"expert": "mlp", "n_experts": 2, "warm_start": True, "callbacks": [look]}
    reg = MoERegressor(early_stopping=True, **BRIEF, **options)
    for _ in range(3):
        reg.fit(X, y)
    assert all(torch.equal(rows, held_out[0]) for rows in held_out)
    reg.set_params(early_stopping=False, callbacks=None).fit(X, y)
    raises(ValueError, "trained on all", reg.set_params(early_stopping=True).fit, X, y)


class Shifted(SquaredErrorHead):
    """Numbers around a level that is learned."""

    def __init__(self, n_targets):
        super().__init__(n_targets)
        self.level = nn.Parameter(torch.zeros(()))

    def density_loss(self, expert_outputs, y):
        return super().density_loss(expert_outputs + self.level, y)


@pytest.mark.parametrize(
    "options", [{"early_stopping": True}, {"expert": ["mlp", "deep"]}], ids=str
)
def test_the_best_weights_are_those_of_the_head_too(options):
    X, y = line()
    levels = []

    def spoil(net):
        levels.append(net.criterion_.level.item())
        with torch.no_grad():
            net.criterion_.level += 5 * (len(net.history) % 5 == 3)

    options = {
        "expert": "mlp",
        "n_experts": 2,
        "callbacks": [hook("on_epoch_begin", spoil)],
    } | options
    reg = MoERegressor(loss=Shifted, **BRIEF, **options).fit(X, y)
    assert abs(reg.net_.criterion_.level.item()) < 1 < max(levels)


# -- what is called -----------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["linear", "patch"])
def test_hooks_of_experts_are_called(kind):
    calls = []

    def make(input_shape, n_outputs):
        is_line = kind == "linear"
        made = nn.Linear(*input_shape, n_outputs) if is_line else patch(input_shape, n_outputs)
        made.register_forward_hook(lambda *args: calls.append(1))
        return made

    patch = EXPERTS["patch"].factory
    X = np.random.default_rng(0).normal(size=(60, 4) if kind == "linear" else (60, 3, 4))
    for router in ("soft", "top1"):
        reg = MoERegressor(2, expert=make, router=router, **BRIEF).fit(X, X.reshape(60, -1)[:, 0])
        calls.clear()
        reg.predict(X)
        assert calls


def test_callbacks_are_called_in_the_last_epochs_of_a_pool():
    def bound(net):
        with torch.no_grad():
            for weight in net.module_.experts.parameters():
                weight.clamp_(-0.1, 0.1)

    X, y = line(600)
    callbacks = [hook("on_batch_end", bound)]
    options = {"max_iter": 40, "random_state": 0, "callbacks": callbacks}
    reg = MoERegressor(expert=["mlp", "deep"], **options).fit(X, y)
    assert max(weight.abs().max() for weight in reg.module_.experts.parameters()) <= 0.1001


# -- at the same time, and Ctrl-C ---------------------------------------------------------


def test_ctrl_c_after_the_networks_of_a_pool_keeps_them(monkeypatch):
    X, y = line()
    presses = [press]
    fit_line = linear.fit_line

    def pressed(*args):
        if presses:
            presses.pop()()
        return fit_line(*args)

    monkeypatch.setattr("sklearn_moe._training.pool.fit_line", pressed)
    reg = MoERegressor(**BRIEF)
    with pytest.raises(KeyboardInterrupt):
        reg.fit(X, y)
    assert reg.score(X, y) > 0.5
