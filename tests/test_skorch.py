"""`net_` is a skorch net that works, and callbacks of skorch hear what they hear of any net."""

import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.metrics import accuracy_score, log_loss, make_scorer, r2_score
from skorch.callbacks import Callback as SkorchCallback
from skorch.callbacks import (
    Checkpoint,
    EarlyStopping,
    EpochScoring,
    EpochTimer,
    GradientNormClipping,
    LoadInitState,
    LRScheduler,
    PassthroughScoring,
    PrintLog,
    ProgressBar,
    TensorBoard,
    TrainEndCheckpoint,
)

from sklearn_moe import MoEClassifier, MoERegressor

pytestmark = pytest.mark.filterwarnings(
    "ignore::sklearn_moe.exceptions.ExpertCollapseWarning",
    "ignore::sklearn.exceptions.ConvergenceWarning",
)
BRIEF = {"n_experts": 3, "max_iter": 4, "tol": None, "random_state": 0}


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 5)).astype(np.float32)
    return X, (X[:, 0] * X[:, 1] > 0).astype(int)


def fit(table, *callbacks, **parameters):
    options = BRIEF | {"callbacks": list(callbacks)} | parameters
    return MoEClassifier(**options).fit(*table)


# -- the net ------------------------------------------------------------------------------


def test_the_net_predicts_as_the_estimator(table):
    X, y = table
    clf = fit(table)
    np.testing.assert_allclose(clf.net_.predict_proba(X), clf.predict_proba(X), rtol=1e-5)
    np.testing.assert_array_equal(clf.net_.predict(X), clf.predict(X))
    assert clf.net_.score(X, y) == clf.score(X, y)
    assert clf.net_.forward(X).shape == (200, 2)
    assert len(clf.net_.history) == 4
    loss = make_scorer(log_loss, response_method="predict_proba", greater_is_better=False)
    assert loss(clf.net_, X, y) == pytest.approx(-log_loss(y, clf.predict_proba(X)), rel=1e-5)


def test_the_net_of_a_regressor_speaks_in_standard_deviations(table):
    X, _ = table
    y = 1000 + 5 * X[:, 0]
    reg = MoERegressor(**BRIEF).fit(X, y)
    scaled = (y - y.mean()) / y.std()
    assert reg.net_.score(X, scaled) == pytest.approx(reg.score(X, y), abs=1e-4)
    assert reg.net_.predict(X).shape == (200, 1)


def test_the_net_of_several_labels(table):
    X, y = table
    clf = MoEClassifier(**BRIEF).fit(X, np.stack([y, 1 - y], 1))
    np.testing.assert_array_equal(clf.net_.predict(X), clf.predict(X))


def test_weights_are_saved_and_loaded(table, tmp_path):
    X, _ = table
    trained, other = fit(table), fit(table, random_state=1)
    names = {
        f"f_{name}": str(tmp_path / name)
        for name in ("params", "optimizer", "criterion", "history")
    }
    trained.net_.save_params(**names)
    other.net_.load_params(**names)
    np.testing.assert_array_equal(other.predict_proba(X), trained.predict_proba(X))


def test_a_clone_of_the_net_trains_by_itself(table):
    X, y = table
    net = clone(fit(table).net_).set_params(max_epochs=30)
    net.fit(X, y)
    assert len(net.history) == 30
    assert net.score(X, y) > 0.6
    net.partial_fit(X, y)
    assert len(net.history) == 60


@pytest.mark.parametrize("kind", ["labels", "numbers"])
def test_nets_of_labels_and_numbers_train_by_themselves(table, kind):
    X, _ = table
    y = X[:, :2].astype(np.float64) if kind == "regression" else (X[:, :2] > 0).astype(int)
    model = (MoERegressor if kind == "regression" else MoEClassifier)(**BRIEF).fit(X, y)
    before = model.net_.score(X, y)
    net = model.net_.set_params(max_epochs=60).partial_fit(X, y)
    assert net.predict_proba(X).dtype == np.float32
    assert net.score(X, y) > max(before, 0.6)


def test_a_pickled_net_predicts_and_trains_on(table):
    X, y = table
    net = fit(table).net_
    twin = pickle.loads(pickle.dumps(net))
    for each in (net, twin):
        each.set_params(max_epochs=2).partial_fit(X, y)
    np.testing.assert_array_equal(net.predict_proba(X), twin.predict_proba(X))


# -- callbacks ----------------------------------------------------------------------------


def test_held_out_rows_are_in_the_history(table):
    clf = fit(table, early_stopping=True, batch_size=9)
    assert set(clf.net_.history[:, "valid_batch_count"]) == {1}
    for name in ("valid_loss", "valid_acc", "valid_loss_best", "train_loss_best"):
        assert len(clf.net_.history[:, name]) == 4
    assert clf.net_.history[:, "valid_acc"] == clf.validation_scores_
    for name, least in (("valid_loss", min), ("train_loss", min), ("valid_acc", max)):
        values = clf.net_.history[:, name]
        best = [v == least(values[: i + 1]) and v not in values[:i] for i, v in enumerate(values)]
        assert clf.net_.history[:, name + "_best"] == best


@pytest.mark.parametrize("caching", [True, False])
@pytest.mark.parametrize("on_train", [True, False])
def test_epoch_scoring(table, caching, on_train):
    scorings = {
        "accuracy": "accuracy",
        "neg_log_loss": "neg_log_loss",
        "roc_auc": "roc_auc",
        "function": lambda net, X, y: accuracy_score(y, net.predict(X)),
        "net's own": None,
    }
    callbacks = [
        EpochScoring(scoring, name=name, on_train=on_train, use_caching=caching)
        for name, scoring in scorings.items()
    ]
    clf = fit(table, *callbacks, early_stopping=True)
    history = clf.net_.history
    assert history[:, "accuracy"] == history[:, "function"] == history[:, "net's own"]
    assert all(len(history[:, name]) == 4 for name in scorings)
    if not on_train:
        assert history[:, "accuracy"] == pytest.approx(history[:, "valid_acc"])
        expected = [-loss for loss in history[:, "valid_loss"]]
        assert history[:, "neg_log_loss"] == pytest.approx(expected, rel=1e-5)


def test_epoch_scoring_of_a_regressor(table):
    X, _ = table
    scoring = EpochScoring("r2", name="r2", lower_is_better=False)
    reg = MoERegressor(**BRIEF, callbacks=[scoring], early_stopping=True).fit(X, X[:, 0])
    assert len(reg.net_.history[:, "r2"]) == 4
    assert reg.score(X, X[:, 0]) == pytest.approx(r2_score(X[:, 0], reg.predict(X)))


def test_checkpoint_and_load_init_state(table, tmp_path):
    clf = fit(table, Checkpoint(dirname=tmp_path), early_stopping=True)
    best = fit(table, LoadInitState(Checkpoint(dirname=tmp_path)), early_stopping=True)
    assert len(best.net_.history) > len(clf.net_.history)
    end = TrainEndCheckpoint(dirname=tmp_path / "end")
    done = fit(table, end)
    again = fit(table, LoadInitState(end), random_state=1, max_iter=1)
    assert again.net_.history[:4, "train_loss"] == done.net_.history[:, "train_loss"]
    assert len(again.net_.history) == 5


def test_checkpoint_of_the_training_loss(table, tmp_path):
    fit(table, Checkpoint(dirname=tmp_path, monitor="train_loss_best"))
    assert (tmp_path / "params.pt").exists()


def test_early_stopping_by_its_defaults(table):
    stop = EarlyStopping(patience=1, threshold=1.0, sink=lambda text: None)
    clf = fit(table, stop, early_stopping=True, max_iter=50)
    assert len(clf.net_.history) == 2


@pytest.mark.parametrize(
    "schedule", ["StepLR", "ReduceLROnPlateau", torch.optim.lr_scheduler.OneCycleLR]
)
def test_learning_rate_schedules(table, schedule):
    options = {
        "StepLR": {"step_size": 1},
        "ReduceLROnPlateau": {"monitor": "train_loss"},
    }.get(schedule, {"max_lr": 0.01, "total_steps": 100, "step_every": "batch"})
    rates = []

    class Look(SkorchCallback):
        def on_epoch_begin(self, net, **kwargs):
            rates.append(net.optimizer_.param_groups[0]["lr"])

    own = {"learning_rate": "constant", "learning_rate_init": 1e-3}
    fit(table, LRScheduler(schedule, **options), Look(), **own)
    assert len(rates) == 4
    if schedule == "StepLR":
        np.testing.assert_allclose(rates, [1e-3, 1e-4, 1e-5, 1e-6])


def test_values_of_batches_are_averaged(table):
    class Count(SkorchCallback):
        def on_batch_end(self, net, batch, training, **kwargs):
            net.history.record_batch("size", len(batch[1]))

    clf = fit(
        table,
        Count(),
        PassthroughScoring("size", on_train=True, lower_is_better=False),
        batch_size=50,
    )
    assert clf.net_.history[:, "size"] == [50] * 4
    assert clf.net_.history[-1, "batches"] == [{}]  # callbacks have seen them


def test_the_mean_of_the_batches_is_the_loss(table):
    class Copy(SkorchCallback):
        def on_epoch_end(self, net, **kwargs):
            losses = net.history[-1, "batches", :, "train_loss"]
            net.history.record("mean", float(np.mean(losses)))

    # PassthroughScoring alone has no hook of batches, and wants to know of them.
    clf = fit(table, Copy(), PassthroughScoring("train_loss", on_train=True))
    np.testing.assert_allclose(clf.net_.history[:, "mean"], clf.loss_curve_, rtol=1e-5)


def test_bars_logs_and_timers(table, capsys):
    fit(table, ProgressBar(), EpochTimer(), PrintLog(), GradientNormClipping(1.0))
    assert "train_loss" in capsys.readouterr().out


def test_tensorboard(table, tmp_path):
    tensorboard = pytest.importorskip("torch.utils.tensorboard")
    with tensorboard.SummaryWriter(tmp_path) as writer:
        fit(table, TensorBoard(writer), early_stopping=True)
    assert list(tmp_path.iterdir())


def test_pruning_of_optuna(table):
    optuna = pytest.importorskip("optuna")
    integration = pytest.importorskip("optuna_integration")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(
        direction="maximize", pruner=optuna.pruners.ThresholdPruner(lower=2.0)
    )

    def objective(trial):
        pruning = integration.SkorchPruningCallback(trial, "valid_acc")
        return fit(table, pruning, early_stopping=True).score(*table)

    study.optimize(objective, n_trials=2)
    assert [trial.state.name for trial in study.trials] == ["PRUNED"] * 2


def test_no_callback_costs_a_step(table):
    epochs = []

    class Epochs(SkorchCallback):
        def on_epoch_end(self, net, **kwargs):
            epochs.append(net.has_batch_listeners_)

    clf = fit(table, Epochs())
    assert epochs == [False] * 4
    assert clf.net_.callbacks_ == []


def test_callbacks_may_be_classes_and_have_names(table):
    fit(table, EpochTimer, ("timer", EpochTimer()))


@pytest.mark.parametrize("callback", [3, "early", ("name", object()), object])
def test_what_is_no_callback_is_named(table, callback):
    with pytest.raises(TypeError, match=r"must be those of skorch .* set_callbacks"):
        fit(table, callback)


class RouterGradients(SkorchCallback):
    """Collect the norm of the router's gradient of every step."""

    def on_train_begin(self, net, **kwargs):
        self.norms = []

    def on_grad_computed(self, net, **kwargs):
        gradients = [p.grad.flatten() for p in net.module_.router.parameters()]
        self.norms.append(float(torch.cat(gradients).norm()))


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("network", ["linear", "mlp"])
def test_the_gradient_curve_is_the_norm_over_all_weights_of_the_router(patches, network):
    (X, y, _), _ = patches
    seen = RouterGradients()
    clf = MoEClassifier(
        n_experts=3,
        router_network=network,
        batch_size=None,
        max_iter=3,
        callbacks=[seen],
        random_state=0,
    ).fit(X[:200], y[:200])
    np.testing.assert_allclose(clf.router_gradient_curve_, seen.norms, rtol=1e-5)
