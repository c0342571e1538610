"""When training ends, which weights are kept, and how rates fall."""

from functools import partial
from itertools import repeat
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers import at, hook, throw
from sklearn.exceptions import ConvergenceWarning
from skorch.history import History

from sklearn_moe import MoEClassifier, MoERegressor, RouterParams, SolverParams
from sklearn_moe._training.callbacks import Stopping, StopTraining


def run(scores, name, n_batches=None, **options):
    """Return the epochs run and the weight kept, that of epoch e being e."""
    module = torch.nn.PReLU()
    net = SimpleNamespace(history=History(), training_=SimpleNamespace(module=module))
    net.criterion_ = torch.nn.Identity()
    stopping = Stopping(score=None if name == "train_loss" else name, **options)
    for epoch, (score, count) in enumerate(zip(scores, n_batches or repeat(50), strict=False)):
        net.history.new_epoch()
        for entry in {"train_batch_count": count, "train_loss": 1.0, name: score}.items():
            net.history.record(*entry)
        torch.nn.init.constant_(module.weight, epoch)
        try:
            stopping.on_epoch_end(net)
        except StopTraining:
            break
    stopping.on_train_end(net)
    return epoch + 1, module.weight.item(), stopping.converged_


@pytest.mark.parametrize(("name", "sign"), [("oob_loss", 1), ("valid_loss", 1), ("valid_r2", -1)])
def test_stopping_returns_to_the_least_loss_or_the_largest_score(name, sign):
    scores = [sign * score for score in (3, 2, 1, 0, 4, -1, *[5] * 40)]
    assert run(scores, name, tol=0.0, patience=3) == (9, 5, True)
    assert run(scores, name, tol=0.0, patience=1) == (5, 3, True)
    assert run(scores, name, tol=0.0, patience=3, share=0.5) == (12, 5, True)
    assert run(scores, name, tol=None, patience=1) == (46, 5, False)
    assert run(scores[:6], name, tol=0.0, patience=3) == (6, 5, False)


def test_a_training_loss_below_the_tolerance_ends_it():
    for loss, epochs in ((0.0, 1), (0.9e-3, 1), (1.1e-3, 3)):
        assert run([loss] * 9, "train_loss", tol=1e-3, patience=2)[0] == epochs


def test_fifty_steps_are_waited_for_at_least():
    """Those of the epochs themselves: the first one may have had more batches than the others."""
    n_batches = [100, *[7] * 30]  # eight epochs of 7 steps have 50
    assert run([0] * 31, "valid_loss", n_batches, tol=0.0, patience=3) == (9, 0, True)
    assert run([0] * 31, "valid_loss", n_batches, tol=0.0, patience=12) == (13, 0, True)


def test_rates_rise_over_a_twentieth_and_fall_by_a_cosine():
    def look(net):
        seen.append([group["lr"] for group in net.optimizer_.param_groups])

    X, seen = np.random.default_rng(0).normal(size=(50, 2)), []
    options = {"router": RouterParams(learning_rate=0.1), "learning_rate_init": 0.2}
    options |= {"solver": SolverParams(schedule="cosine"), "batch_size": 5, "max_iter": 8}
    options |= {"early_stopping": False, "warm_start": True, "random_state": 0}
    clf = MoEClassifier(2, callbacks=[hook("on_grad_computed", look)], **options)
    for _ in range(2):  # a warm start begins anew
        seen.clear()
        clf.fit(X, X[:, 0] > 0)
        of_experts, of_router = np.array(seen).T
        rise = np.minimum(1, np.arange(1, 81) / 4)
        expected = 0.1 * rise * (1 + np.cos(np.pi * np.arange(80) / 80))
        np.testing.assert_allclose(of_experts, expected)
        np.testing.assert_allclose(of_router, expected / 2)


def test_a_fit_that_a_callback_ends_is_not_called_too_short():
    stop = at(3, partial(throw, StopTraining), "on_epoch_end")
    X = np.random.default_rng(0).normal(size=(60, 3))
    options = {"solver": "adam", "early_stopping": False, "tol": 1e-9, "random_state": 0}
    options["expert"] = "mlp"
    clf = MoEClassifier(2, max_iter=20, callbacks=[stop], **options).fit(X, X[:, 0] > 0)
    assert clf.n_iter_ == 3
    with pytest.warns(ConvergenceWarning, match="max_iter=3"):
        MoEClassifier(2, max_iter=3, **options).fit(X, X[:, 0] > 0)


def test_a_single_expert_ends_when_unseen_rows_gain_nothing():
    X = np.random.default_rng(0).normal(size=(60, 3))
    y = (X[:, 0] > 0).astype(int)
    clf = MoEClassifier(1, random_state=0).fit(X, y)
    assert clf.expert_kinds_ == ["mlp"]
    assert clf.n_iter_ < clf.resolved_params_["max_iter"]
    assert np.isfinite(clf.oob_decision_function_).all()
    assert MoEClassifier(1, max_iter=4, random_state=0).fit(X, y).n_iter_ <= 4


def test_each_kind_of_a_pool_ends_when_it_gets_no_better():
    rng = np.random.default_rng(0)
    reg = MoERegressor(max_iter=100, random_state=0)
    reg.fit(rng.normal(size=(150, 3)), rng.normal(size=150))
    kinds = reg.net_.history[:, "kind"]
    assert max(kinds.count(kind) for kind in {*kinds}) < 25
