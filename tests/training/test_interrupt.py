"""Ctrl-C reaches the caller at any moment, and leaves the estimator whole."""

import signal
import threading
from contextlib import suppress
from functools import partial
from itertools import product

import numpy as np
import pytest
from helpers import at, press, raises, throw
from sklearn.utils.validation import check_is_fitted
from skorch.callbacks import EarlyStopping

from sklearn_moe import MoEClassifier, MoERegressor
from sklearn_moe._estimators import fit
from sklearn_moe._training.callbacks import Interrupts
from sklearn_moe.callbacks import StopTraining

pytestmark = pytest.mark.filterwarnings("ignore::sklearn_moe.exceptions.ExpertCollapseWarning")
BRIEF = {"expert": "mlp", "n_experts": 3, "max_iter": 20, "tol": None, "random_state": 0}
HOOKS = ["on_epoch_begin", "on_batch_end", "on_epoch_end"]


def make_table():
    X = np.random.default_rng(0).normal(size=(120, 4))
    return X, np.array(["a", "b", "c"])[(X[:, 0] > 0).astype(int) + (X[:, 1] > 0)]


table = pytest.fixture(scope="module")(make_table)


def press_and_swallow():
    with suppress(KeyboardInterrupt):
        press()


def interrupted(model, *data):
    with pytest.raises(KeyboardInterrupt):
        model.fit(*data)
    return model


def test_it_reaches_the_caller_whoever_swallows_it_and_keeps_what_was_learned(table):
    X, y = table
    ways = {}, {"verbose": 1}, {"early_stopping": True}
    for options, name, action in product(ways, HOOKS, (press_and_swallow, press)):
        options = BRIEF | options | {"callbacks": [at(5, action, name)]}
        clf = interrupted(MoEClassifier(**options), X, y)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        if action is press:
            n_done = 5 if name == "on_epoch_end" else 4
            assert clf.n_iter_ == len(clf.loss_curve_) == n_done
    assert clf.predict_proba(X).shape == (120, 3)
    assert clf.expert_load_.sum() == pytest.approx(1)
    before = clf.loss_curve_
    clf.set_params(callbacks=None, warm_start=True).fit(X, y)
    assert clf.loss_curve_[: len(before)] == before


def test_before_the_first_epoch_nothing_is_fitted(table):
    clf = interrupted(MoEClassifier(**BRIEF, callbacks=[at(1, press)]), *table)
    assert not hasattr(clf, "classes_")
    assert not hasattr(clf, "n_features_in_")
    raises(ValueError, "not fitted", check_is_fitted, clf)


def test_a_refit_is_all_or_nothing(table):
    X, y = table
    two = y != "c"
    clf = MoEClassifier(**BRIEF).fit(X[two][:, :3], y[two])
    expected = clf.predict_proba(X[:, :3])
    interrupted(clf.set_params(callbacks=[at(1, press)]), X, y)
    np.testing.assert_array_equal(clf.predict_proba(X[:, :3]), expected)
    assert clf.classes_.tolist() == ["a", "b"]
    interrupted(clf.set_params(callbacks=[at(3, press)]), X, y)
    assert clf.predict_proba(X).shape == (120, 3)
    with pytest.raises(ValueError, match="became"):
        clf.set_params(callbacks=None, solver="sgd", learning_rate_init=1e9).fit(X[two], y[two])
    assert clf.predict_proba(X).shape == (120, 3)


def test_early_stopping_keeps_the_best_weights_so_far(table):
    late = at(15, press, "on_epoch_end")
    clf = interrupted(MoEClassifier(**BRIEF, early_stopping=True, callbacks=[late]), *table)
    stop = at(15, partial(throw, StopTraining()), "on_epoch_end")  # with the same rates
    best = MoEClassifier(**BRIEF, early_stopping=True, callbacks=[stop]).fit(*table)
    np.testing.assert_array_equal(clf.predict_proba(table[0]), best.predict_proba(table[0]))


def test_partial_fit_goes_on_after_it(table):
    X = table[0]
    reg = MoERegressor(**BRIEF, callbacks=[at(3, press)])
    reg.partial_fit(X, X[:, 0]).partial_fit(X, X[:, 0])
    with pytest.raises(KeyboardInterrupt):
        reg.partial_fit(X, X[:, 0])
    assert reg.n_iter_ == 2
    assert reg.set_params(callbacks=None).partial_fit(X, X[:, 0]).n_iter_ == 3


def test_a_callback_that_stops_is_no_ctrl_c(table):
    patient = EarlyStopping("train_loss", patience=2, threshold=10.0, sink=str)
    # KeyboardInterrupt is skorch's way to say it.
    stops = [at(3, partial(throw, e), "on_epoch_end") for e in (StopTraining, KeyboardInterrupt)]
    for callback in (*stops, patient):
        assert MoEClassifier(**BRIEF, callbacks=[callback]).fit(*table).n_iter_ == 3


def test_other_threads_and_ignored_signals_are_left_alone(table):
    done = []
    thread = threading.Thread(target=lambda: done.append(MoEClassifier(**BRIEF).fit(*table)))
    thread.start()
    thread.join()
    assert done[0].n_iter_ == 20
    usual = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert MoEClassifier(**BRIEF, callbacks=[at(5, press)]).fit(*table).n_iter_ == 20
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, usual)


def test_a_block_that_must_not_be_torn_apart():
    finished = []

    def work(presses):
        with Interrupts(hold=True):
            for _ in range(presses):
                press()
            finished.append(presses)

    for presses in (1, 2):  # who presses twice does not want to wait
        with pytest.raises(KeyboardInterrupt):
            work(presses)
    assert finished == [1]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


# -- a pool, whose kinds are trained one after the other ----------------------------------


def once(epoch, name):
    """Return a callback that presses Ctrl-C the first time that an epoch has that number."""
    presses = [press]
    return at(epoch, lambda: presses and presses.pop()(), name)


@pytest.mark.parametrize(
    ("epoch", "name", "n_kept"),
    [
        *((3, "on_batch_end", (2, 1)), (3, "on_epoch_end", (3, 1)), (4, "on_epoch_end", (4, 1))),
        *((5, "on_batch_end", (4, 1)), (7, "on_batch_end", (4, 2)), (8, "on_epoch_end", (4, 4))),
    ],
)
def test_kinds_that_are_left_are_trained_for_an_epoch(table, monkeypatch, epoch, name, n_kept):
    """`n_kept` are the epochs of both kinds; each trains five networks, the second by few rows."""
    monkeypatch.setattr(fit, "_FEW_ROWS", 50)
    options = {"max_iter": 4, "tol": None, "random_state": 0}
    clf = interrupted(MoEClassifier(**options, callbacks=[once(epoch, name)]), *table)
    kinds = [row["kind"] for row in clf.net_.history]
    assert kinds == ["deep"] * n_kept[0] + ["piecewise"] * n_kept[1]
    assert clf.n_iter_ == len(clf.loss_curve_) == sum(n_kept)
    assert clf.expert_load_.sum() == pytest.approx(1)
    assert np.isfinite(clf.oob_decision_function_).any(1).sum() == 50
    assert clf.score(*table) > 0.6
    whole = MoEClassifier(**options).fit(*table)
    assert clf.loss_curve_[: n_kept[0]] == whole.loss_curve_[: n_kept[0]]


def test_who_presses_twice_does_not_want_to_wait(table):
    for epoch in (1, 3):  # of these the first has no end
        clf = MoEClassifier(max_iter=4, random_state=0, callbacks=[at(epoch, press)])
        assert not hasattr(interrupted(clf, *table), "net_")
