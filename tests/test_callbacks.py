"""Callbacks of scikit-learn 1.9, and our own."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_moe import MoEClassifier, MoERegressor
from sklearn_moe.callbacks import FreezeRouter

callback = pytest.importorskip("sklearn.callback", reason="callbacks came with scikit-learn 1.9")
pytestmark = pytest.mark.filterwarnings("ignore::sklearn_moe.exceptions.ExpertCollapseWarning")
# Without the best epoch, to which a fit would return in the end.
BRIEF = {
    **{"n_experts": 3, "max_iter": 4, "tol": None, "random_state": 0},
    "early_stopping": False,
}


class Recorder:
    """Keep what the hooks are told, and stop after some epochs."""

    def __init__(self, epochs=None):
        self.epochs = epochs
        self.scores, self.tasks = [], []

    def setup(self, estimator, context):
        self.tasks.append("setup")

    def teardown(self, estimator, context):
        self.tasks.append("teardown")

    def on_fit_task_begin(self, estimator, context, *, X, y):
        self.tasks.append(f"begin {context.task_name}")

    def on_fit_task_end(self, estimator, context, *, X, y, metadata, fitted_estimator):
        self.tasks.append(f"end {context.task_name}")
        self.metadata = metadata
        self.scores.append(fitted_estimator.score(X, y))
        return self.epochs is not None and len(self.scores) == self.epochs


@pytest.fixture(scope="module")
def table():
    X = np.random.default_rng(0).normal(size=(120, 4))
    return X, np.where(X[:, 0] > 0, "yes", "no")


def test_hooks_are_called_in_their_order(table):
    recorder = Recorder()
    clf = MoEClassifier(**BRIEF).set_callbacks(recorder).fit(*table)
    epochs = ["begin epoch", "end epoch"] * 4
    assert recorder.tasks == ["setup", "begin fit", *epochs, "end fit", "teardown"]
    assert recorder.scores[-1] == clf.score(*table)
    assert recorder.metadata is None
    clf.fit(*table, sample_weight=np.ones(120))
    assert recorder.metadata["sample_weight"].shape == (120,)


def test_looking_on_changes_nothing(table):
    watched = MoEClassifier(**BRIEF).set_callbacks(Recorder()).fit(*table)
    alone = MoEClassifier(**BRIEF).fit(*table)
    np.testing.assert_array_equal(watched.predict_proba(table[0]), alone.predict_proba(table[0]))


def test_a_callback_stops_the_training(table):
    clf = MoEClassifier(**(BRIEF | {"max_iter": 50})).set_callbacks(Recorder(epochs=3)).fit(*table)
    assert clf.n_iter_ == 3


def test_scoring_monitor(table):
    X, y = table
    monitor = callback.ScoringMonitor(scoring=["accuracy", "neg_log_loss"])
    clf = MoEClassifier(**BRIEF).set_callbacks(monitor).fit(X, y)
    log = [row for row in monitor.get_logs().data if row["task_name"] == "epoch"]
    assert len(log) == 4
    assert log[-1]["accuracy"] == clf.score(X, y)
    monitor = callback.ScoringMonitor(scoring="r2")
    MoERegressor(**BRIEF).set_callbacks(monitor).fit(X, X[:, 0])
    assert len(monitor.get_logs().data) >= 4


@pytest.mark.parametrize("around", ["nothing", "pipeline", "search"])
def test_progress_bar(table, around, capsys):
    pytest.importorskip("rich")
    model = MoEClassifier(**BRIEF)
    if around == "pipeline":
        model = make_pipeline(StandardScaler(), model)
    if around == "search":
        model = GridSearchCV(model, {"n_experts": [1, 2]}, cv=2)
    model.set_callbacks(callback.ProgressBar()).fit(*table)
    assert "MoEClassifier" in capsys.readouterr().out


def test_monitor_inside_of_a_search(table):
    monitor = callback.ScoringMonitor(scoring="accuracy")
    model = MoEClassifier(**BRIEF).set_callbacks(monitor)
    GridSearchCV(model, {"n_experts": [1, 2]}, cv=2, refit=False).fit(*table)
    epochs = [row for run in monitor.get_logs("all") for row in run.data]
    assert sum(row["task_name"] == "epoch" for row in epochs) == 16


def test_a_frozen_router_stays_as_it_is(table):
    X, y = table
    weights = []

    class Look(Recorder):
        def on_fit_task_end(self, estimator, context, *, fitted_estimator):
            module = fitted_estimator.module_
            weights.append(module.router.network.weight.detach().clone().numpy())

    options = BRIEF | {"router": "top1", "balance": "bias", "callbacks": [FreezeRouter(after=2)]}
    clf = MoEClassifier(**options).set_callbacks(Look()).fit(X, y)
    assert np.abs(weights[0] - weights[1]).max() > 0
    np.testing.assert_array_equal(weights[1], weights[3])
    assert clf.module_.router.network.weight.requires_grad  # another fit may train it
    never = MoEClassifier(**(BRIEF | {"callbacks": [FreezeRouter()]})).fit(X, y)
    assert not never.module_.router.network.weight.any()
    assert clone(never).callbacks[0].after == 0
