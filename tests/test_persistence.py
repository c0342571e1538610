"""A fitted model is its parameters and arrays: it travels, hashes, and trains on."""

import copy
import pickle
import subprocess
import sys
import textwrap

import cloudpickle
import joblib
import numpy as np
import pytest
import torch
from helpers import as_kind
from skorch.callbacks import Callback

from sklearn_moe import MoEClassifier, MoERegressor
from sklearn_moe.nn import ROUTERS

pytestmark = pytest.mark.filterwarnings("ignore::sklearn_moe.exceptions.ExpertCollapseWarning")
BRIEF = {"n_experts": 3, "max_iter": 3, "tol": None, "random_state": 0}
WAYS = {
    "pickle": lambda model: pickle.loads(pickle.dumps(model)),
    "cloudpickle": lambda model: cloudpickle.loads(cloudpickle.dumps(model)),
    "deepcopy": copy.deepcopy,
}
CONFIGURATIONS = [
    *({"router": router} for router in ROUTERS),
    {"solver": "adam"},
    {"solver": "sgd", "momentum": 0.9},
    {"batch_size": 100, "momentum": 0.5},
    {"balance": "bias", "balance_weight": 0.1},
    {"early_stopping": True},
]


@pytest.fixture(scope="module")
def samples(patches):
    (X, y, _), _ = patches
    return X[:300], y[:300]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("options", CONFIGURATIONS, ids=str)
def test_a_copy_answers_and_trains_on_bit_by_bit(samples, options, way):
    X, y = samples
    original = MoEClassifier(**(BRIEF | options)).fit(X, y)
    twin = WAYS[way](original)
    np.testing.assert_array_equal(twin.predict_proba(X), original.predict_proba(X))
    for _ in range(2):
        original.partial_fit(X, y)
        twin.partial_fit(X, y)
    np.testing.assert_array_equal(twin.predict_proba(X), original.predict_proba(X))
    assert twin.loss_curve_ == original.loss_curve_


@pytest.mark.parametrize("expert", ["patch", "mlp", "cnn"])
@pytest.mark.parametrize("options", [{}, {"early_stopping": True}, {"router": "relu"}], ids=str)
def test_equal_fits_hash_equal(samples, expert, options):
    X, y = as_kind(samples[0], expert), samples[1]
    first, second, other = (
        MoEClassifier(**(BRIEF | options | {"random_state": seed})).fit(X, y) for seed in (0, 0, 1)
    )
    expected = joblib.hash(first)
    assert joblib.hash(second) == expected
    assert joblib.hash(pickle.loads(pickle.dumps(first))) == expected
    assert joblib.hash(other) != expected
    first.predict(X)
    assert joblib.hash(first) == expected


def test_a_regressor_hashes_and_travels(samples):
    X, y = samples
    first, second = (MoERegressor(**BRIEF).fit(X, y) for _ in range(2))
    assert joblib.hash(first) == joblib.hash(second)
    np.testing.assert_array_equal(WAYS["pickle"](first).predict(X), first.predict(X))


def test_files_are_read_memory_mapped(samples, tmp_path):
    X, y = samples
    clf = MoEClassifier(**BRIEF).fit(X, y)
    joblib.dump(clf, tmp_path / "model")
    mapped = joblib.load(tmp_path / "model", mmap_mode="r")
    np.testing.assert_array_equal(mapped.partial_fit(X, y).apply(X), clf.partial_fit(X, y).apply(X))


NOTEBOOK = textwrap.dedent(
    """
    import warnings
    import numpy as np, torch
    from joblib import parallel_config
    from sklearn.ensemble import BaggingClassifier
    from sklearn.model_selection import cross_validate
    from sklearn_moe import MoEClassifier
    from sklearn_moe.nn import Balance, Router, SoftRouter

    warnings.simplefilter("ignore")

    class Mine(torch.nn.Module):
        def __init__(self, input_shape, n_outputs):
            super().__init__()
            self.layer = torch.nn.Linear(*input_shape, n_outputs)

        def forward(self, x):
            return self.layer(x)

    class Even(Balance):
        def loss(self, router, route, weight):
            return route.scores.square().mean()

    class Mixed(SoftRouter):
        pass

    X = np.random.default_rng(0).normal(size=(80, 3))
    y = (X[:, 0] > 0).astype(int)
    clf = MoEClassifier(2, expert=Mine, balance=Even, router=Mixed, max_iter=2, random_state=0)
    with parallel_config("loky", n_jobs=2):
        result = cross_validate(clf, X, y, cv=2, return_estimator=True)
        serial = cross_validate(clf, X, y, cv=2, n_jobs=1)
        assert (result["test_score"] == serial["test_score"]).all()
        assert result["estimator"][0].predict(X).shape == (80,)
        BaggingClassifier(clf, 2).fit(X, y)
    print("done")
    """
)


def test_parts_that_are_defined_in_a_notebook_travel_to_workers():
    shown = subprocess.run(
        [sys.executable, "-c", NOTEBOOK], capture_output=True, text=True, timeout=300
    )
    assert shown.stdout.strip() == "done", shown.stderr


@pytest.mark.parametrize("expert", ["patch", "mlp"])
def test_what_belongs_to_a_training_stays_out_of_pickles_made_during_it(samples, expert):
    X, y = as_kind(samples[0], expert), samples[1]
    recipes = []

    class Look(Callback):
        def on_epoch_end(self, net, **kwargs):
            recipes.append(net.__getstate__()[0])

    clf = MoEClassifier(**BRIEF, callbacks=[Look()]).fit(X, y)
    assert set(recipes[-1]) == set(clf.net_.__getstate__()[0])
    for value in recipes[-1].values():
        parts = value if isinstance(value, list) else [value]
        assert not any(isinstance(part, torch.Tensor | torch.Generator) for part in parts)
