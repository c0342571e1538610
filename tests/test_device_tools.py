"""What looks at a model while it is trained on another device, and afterwards."""

import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from devices import FOLDER
from skorch.callbacks import Callback, EpochScoring, LRScheduler

from sklearn_moe import MoEClassifier
from sklearn_moe.callbacks import RoutingTrace
from sklearn_moe.datasets import PAPER_SETTINGS, make_cluster_patches
from sklearn_moe.inspection import (
    AlignmentDisplay,
    DecisionRegionDisplay,
    DispatchEntropyDisplay,
    LoadDisplay,
    RoutingDisplay,
)
from sklearn_moe.metrics import specialization_report

pytestmark = pytest.mark.filterwarnings("ignore::sklearn_moe.exceptions.ExpertCollapseWarning")
BRIEF = {"n_experts": 3, "max_iter": 3, "tol": None, "random_state": 0, "early_stopping": False}


@pytest.fixture(scope="module")
def data():
    options = PAPER_SETTINGS[1] | {"return_clusters": True, "return_dictionary": True}
    return make_cluster_patches(200, random_state=0, **options)


def test_displays(device, data, pyplot):
    X, y, clusters, dictionary = data
    trace = RoutingTrace(X, clusters=clusters, dictionary=dictionary)
    clf = MoEClassifier(device=device, callbacks=[trace], **BRIEF).fit(X, y)
    routing = RoutingDisplay.from_estimator(clf, X, clusters)
    np.testing.assert_allclose(routing.routing_matrix.sum(1), 1)
    LoadDisplay.from_estimator(clf, X, clusters)
    AlignmentDisplay.from_estimator(clf, dictionary)
    DispatchEntropyDisplay.from_traces(trace)
    DecisionRegionDisplay.from_estimator(clf, X, y, grid_resolution=20)


def test_the_report(device, data):
    X, y, clusters, _ = data
    clf = MoEClassifier(device=device, **BRIEF).fit(X, y)
    assert "expert" in str(specialization_report(clf, X, y, clusters, random_state=0))


class Predict(Callback):
    """Ask a net in training."""

    def on_epoch_end(self, net, dataset_train=None, **kwargs):
        self.seen = net.predict_proba(dataset_train.X)


def test_callbacks_of_skorch(device, data):
    X, y, *_ = data
    callbacks = [
        *(EpochScoring("accuracy", on_train=True), LRScheduler("StepLR", step_size=1)),
        *(asked := [Predict()]),
    ]
    clf = MoEClassifier(device=device, callbacks=callbacks, **BRIEF).fit(X, y)
    np.testing.assert_allclose(asked[0].seen, clf.predict_proba(X), atol=1e-6)
    assert len(clf.net_.history[:, "accuracy"]) == 3


def test_callbacks_of_scikit_learn(device, data):
    callback = pytest.importorskip("sklearn.callback", reason="came with scikit-learn 1.9")
    X, y, *_ = data
    monitor = callback.ScoringMonitor(scoring="accuracy")
    MoEClassifier(device=device, **BRIEF).set_callbacks(monitor).fit(X, y)


SEARCH = """
    import numpy as np
    from sklearn.model_selection import cross_validate
    from sklearn_moe import MoEClassifier

    if __name__ == "__main__":
        X = np.random.default_rng(0).normal(size=(60, 4, 6)).astype(np.float32)
        clf = MoEClassifier(3, device={device!r}, max_iter=2, tol=None, random_state=0)
        for n_jobs in (1, 2):
            found = cross_validate(clf, X, X[:, 0, 0] > 0, n_jobs=n_jobs, return_estimator=True)
            print(found["test_score"], {{fitted.net_.device for fitted in found["estimator"]}})
"""


@pytest.mark.slow
def test_processes_of_a_search(device, tmp_path):
    """They share one device."""
    (tmp_path / "search.py").write_text(textwrap.dedent(SEARCH.format(device=device)))
    paths = [str(tmp_path), os.getcwd()]
    if device == "pretend":  # each process must make it known to torch
        paths.append(FOLDER)
        (tmp_path / "sitecustomize.py").write_text("import pretend\n")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "PYTHONWARNINGS": "ignore"}
    shown = subprocess.run(
        [sys.executable, "search.py"], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert shown.returncode == 0, shown.stderr
    one, two = shown.stdout.splitlines()
    assert one == two
    assert device in one
