"""`net_` is a skorch net that works, and callbacks of skorch hear what they hear of any net."""

import numpy as np
import pytest
import torch
from helpers import brief_fits, hook, raises, seeded
from sklearn.metrics import accuracy_score
from sklearn.naive_bayes import GaussianNB
from skorch import callbacks as skorch

from sklearn_moe import MoEClassifier, MoERegressor, SolverParams
from sklearn_moe._training.pool import in_bag_mask
from sklearn_moe.nn.seeding import hash_rows

pytestmark = brief_fits
BRIEF = {"n_experts": 3, "max_iter": 4, "tol": None, "random_state": 0, "expert": "mlp"}


@pytest.fixture(scope="module")
def table():
    X = np.random.default_rng(0).normal(size=(200, 5)).astype(np.float32)
    return X, (X[:, 0] * X[:, 1] > 0).astype(int)


def fit(table, *callbacks, **parameters):
    return MoEClassifier(**BRIEF | {"callbacks": list(callbacks)} | parameters).fit(*table)


# -- the net ------------------------------------------------------------------------------


def test_the_net_predicts_as_the_estimator(table):
    X, y = table
    clf = fit(table)
    np.testing.assert_allclose(clf.net_.predict_proba(X), clf.predict_proba(X), rtol=1e-5)
    np.testing.assert_array_equal(clf.net_.predict(X), clf.predict(X))
    fixed = X.copy()
    fixed.flags.writeable = False
    np.testing.assert_array_equal(clf.predict(fixed), clf.predict(X))
    assert clf.net_.forward(X).shape == (200, 2)
    assert len(clf.net_.history) == 4
    raises(NotImplementedError, "trained by its estimator", clf.net_.partial_fit, X, y)
    clf = fit((X, np.stack([y, 1 - y], 1)))
    np.testing.assert_array_equal(clf.net_.predict(X), clf.predict(X))
    y = 1000 + 5 * X[:, 0]
    reg = MoERegressor(**BRIEF).fit(X, y)
    numbers = reg.net_.predict(X)[:, 0] * y.std() + y.mean()
    np.testing.assert_allclose(numbers, reg.predict(X), rtol=1e-5)


def test_what_is_found_without_steps_has_no_curves(table):
    for kind in ("linear", GaussianNB()):
        model = MoEClassifier(1, expert=[kind], random_state=0).fit(*table)
        assert model.loss_curve_ == []
        assert (model.n_iter_, model.score(*table) > 0.4) == (0, True)


def test_weights_are_saved_and_loaded(table, tmp_path):
    trained, other = fit(table), fit(table, random_state=1)
    names = {f"f_{n}": tmp_path / n for n in ("params", "optimizer", "criterion", "history")}
    trained.net_.save_params(**names)
    other.net_.load_params(**names)
    np.testing.assert_array_equal(other.predict_proba(table[0]), trained.predict_proba(table[0]))


# -- callbacks ----------------------------------------------------------------------------


def test_held_out_rows_are_in_the_history(table):
    clf = fit(table, early_stopping=True, batch_size=9)
    history = clf.net_.history
    assert set(history[:, "valid_batch_count"]) == {1}
    assert history[:, "valid_acc"] == clf.validation_scores_
    for name, least in (("valid_loss", min), ("train_loss", min), ("valid_acc", max)):
        values = history[:, name]
        best = [v == least(values[: i + 1]) and v not in values[:i] for i, v in enumerate(values)]
        assert (history[:, name + "_best"], len(best)) == (best, 4)

    stop = skorch.EarlyStopping(patience=1, threshold=1.0, sink=str)  # by its defaults
    assert len(fit(table, stop, early_stopping=True, max_iter=50).net_.history) == 2


@pytest.mark.parametrize(("caching", "on_train"), [(True, True), (True, False), (False, False)])
def test_epoch_scoring(table, caching, on_train):
    options = {"on_train": on_train, "use_caching": caching}
    callbacks = [
        *(skorch.EpochScoring(n, name=n, **options) for n in ("accuracy", "neg_log_loss")),
        skorch.EpochScoring(lambda n, X, y: accuracy_score(y, n.predict(X)), name="own", **options),
    ]
    history = fit(table, *callbacks, early_stopping=True).net_.history
    assert history[:, "accuracy"] == history[:, "own"]
    if not on_train:
        assert history[:, "accuracy"] == pytest.approx(history[:, "valid_acc"])
        expected = [-loss for loss in history[:, "valid_loss"]]
        assert history[:, "neg_log_loss"] == pytest.approx(expected, rel=1e-5)
        r2 = skorch.EpochScoring("r2", name="r2", lower_is_better=False, use_caching=caching)
        reg = MoERegressor(**BRIEF, callbacks=[r2], early_stopping=True)
        assert len(reg.fit(table[0], table[0][:, 0]).net_.history[:, "r2"]) == 4


def test_checkpoint_and_load_init_state(table, tmp_path):
    end = skorch.TrainEndCheckpoint(dirname=tmp_path / "end")
    done = fit(table, end, skorch.Checkpoint(dirname=tmp_path / "loss", monitor="train_loss_best"))
    assert (tmp_path / "loss" / "params.pt").exists()
    again = fit(table, skorch.LoadInitState(end), random_state=1, max_iter=1)
    assert again.net_.history[:4, "train_loss"] == done.net_.history[:, "train_loss"]
    assert len(again.net_.history) == 5


def test_learning_rate_schedules(table):
    rates = []
    look = hook("on_epoch_begin", lambda net: rates.append(net.optimizer_.param_groups[0]["lr"]))
    own = {"solver": SolverParams(schedule="constant"), "learning_rate_init": 1e-3}
    fit(table, skorch.LRScheduler("StepLR", step_size=1), look, **own)
    np.testing.assert_allclose(rates, [1e-3, 1e-4, 1e-5, 1e-6])
    one_cycle = torch.optim.lr_scheduler.OneCycleLR
    fit(table, skorch.LRScheduler(one_cycle, max_lr=0.01, total_steps=9, step_every="batch"), **own)


def test_values_of_batches_are_averaged_and_logged(table, capsys):
    count = hook("on_batch_end", lambda net: net.history.record_batch("size", 50))
    size = skorch.PassthroughScoring("size", on_train=True, lower_is_better=False)
    # This one alone has no hook of batches, and wants to know of them.
    loss = skorch.PassthroughScoring("train_loss", on_train=True)
    others = skorch.PrintLog(), skorch.EpochTimer, ("timer", skorch.EpochTimer())
    history = fit(table, count, size, loss, *others, batch_size=50).net_.history
    assert history[:, "size"] == [50] * 4
    assert history[-1, "batches"] == [{}]  # callbacks have seen them
    assert "train_loss" in capsys.readouterr().out


def test_what_is_no_callback_is_named(table):
    for callback in (3, "early", ("name", object()), object):
        raises(TypeError, "must be those of skorch", fit, table, callback)


# -- out-of-bag rows and calibration ------------------------------------------------------


def test_every_sample_is_out_of_bag_for_some_experts():
    def mask(x):
        return in_bag_mask(hash_rows(x.double(), n, seeded()), n_out)

    x = torch.randn(1000, 50, generator=seeded(), dtype=torch.float64)
    x[500:] = x[:500]
    for dtype, n, n_out in ((torch.float32, 2, 1), (torch.float64, 8, 3), (torch.float32, 8, 7)):
        x = x.to(dtype)
        in_bag = mask(x)
        assert (in_bag.shape, in_bag.dtype) == ((1000, n), torch.bool)
        assert (in_bag.sum(1) == n - n_out).all()
        assert torch.equal(in_bag[500:], in_bag[:500])
        share = (~in_bag[:500]).double().mean(0)
        assert (share - n_out / n).abs().max() < 0.1  # four standard deviations
        for size in (1, 7):
            parts = torch.cat([mask(part) for part in x[:500].split(size)])
            assert torch.equal(parts, in_bag[:500])


@brief_fits
@pytest.mark.parametrize(
    ("noise", "options"),
    [(2, {"max_iter": 15}), (0.5, {"max_iter": 10, "learning_rate_init": 0.01})],
    ids=["too sure", "too unsure"],
)
def test_logits_have_the_factor_of_least_out_of_bag_loss_shrunk_by_the_rows(noise, options):
    n = 300
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, 10)).astype(np.float32)
    y = X[:, 0] + noise * rng.normal(size=n) > 0
    model = MoEClassifier(8, random_state=0, **options).fit(X, y)
    factor = float(model.module_.sharpness)
    assert (factor < 1) == (noise > 1)
    proba = model.oob_decision_function_
    known = np.isfinite(proba[:, 0])  # of few experts, some rows are hidden from none
    proba, y = proba[known], y[known]
    logits, logs = np.log(proba[:, 1] / proba[:, 0]), np.linspace(-1, 1, 201)
    losses = [np.logaddexp(0, np.where(y, -1, 1) * np.exp(f) * logits).mean() for f in logs]
    # The best factor has 100 of n + 100 parts of its logarithm left: n parts are taken.
    assert logs[np.argmin(losses)] == pytest.approx(np.log(factor) * 100 / n, abs=0.02)
