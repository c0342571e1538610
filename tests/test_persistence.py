"""A fitted model is its parameters and arrays: it travels, hashes, and trains on."""

import copy
import pickle
import re
import subprocess
import sys
import textwrap

import cloudpickle
import joblib
import numpy as np
import pytest
import torch
from helpers import as_kind
from sklearn.base import clone
from sklearn.exceptions import InconsistentVersionWarning
from skorch.callbacks import Callback

from sklearn_moe import MoEClassifier, MoERegressor
from sklearn_moe.nn import ROUTERS
from sklearn_moe.nn.seeding import OwnGenerator

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
        original.set_params(early_stopping="auto").partial_fit(X, y)
        twin.set_params(early_stopping="auto").partial_fit(X, y)
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
            recipes.append(net.__getstate__()["recipe"])

    clf = MoEClassifier(**BRIEF, callbacks=[Look()]).fit(X, y)
    assert set(recipes[-1]) == set(clf.net_.__getstate__()["recipe"])
    for value in recipes[-1].values():
        parts = value if isinstance(value, list) else [value]
        assert not any(isinstance(part, torch.Tensor | torch.Generator) for part in parts)


# -- size ---------------------------------------------------------------------------------

MOST = 1.3  # times the weights


def n_bytes(module):
    return sum(value.numel() * value.element_size() for value in module.state_dict().values())


@pytest.fixture(scope="module")
def table():
    X = np.random.default_rng(0).normal(size=(300, 50)).astype(np.float32)
    return X, (X[:, 0] > 0).astype(int)


@pytest.mark.parametrize("solver", ["adam", "adamw", "normalized_sgd"])
@pytest.mark.parametrize("expert", ["mlp", "patch"])
def test_a_file_is_hardly_larger_than_the_weights(table, solver, expert):
    X, y = table
    if expert == "patch":
        X = np.random.default_rng(0).normal(size=(300, 4, 50)).astype(np.float32)
    options = {"solver": solver, "max_iter": 100, "batch_size": None, "tol": None}
    clf = MoEClassifier(random_state=0, **options).fit(X, y)
    assert clf.n_iter_ == 100
    assert len(pickle.dumps(clf)) <= MOST * n_bytes(clf.module_)


def test_further_training_needs_the_state_of_the_optimizer(table):
    X, y = table
    clf = MoEClassifier(random_state=0, max_iter=2, tol=None).fit(X, y)
    assert not clf.net_.optimizer_.state
    clf.partial_fit(X, y)
    assert clf.net_.optimizer_.state
    assert len(pickle.dumps(clf)) > 3 * n_bytes(clf.module_)


def test_a_network_given_as_trunk_is_stored_once_beside_what_became_of_it(table):
    X, y = table
    with OwnGenerator(torch.Generator().manual_seed(0)):
        trunk = torch.nn.Sequential(
            torch.nn.Linear(50, 400), torch.nn.BatchNorm1d(400), torch.nn.Linear(400, 20)
        )
    trunk.register_buffer("table", torch.ones(3), persistent=False)
    clf = MoEClassifier(**BRIEF, trunk=trunk).fit(X, y)
    weights = n_bytes(clf.module_)
    assert len(pickle.dumps(clf.net_)) <= MOST * weights
    assert len(pickle.dumps(clf)) <= MOST * (weights + n_bytes(trunk))  # a parameter as it was

    twin = pickle.loads(pickle.dumps(clf))
    assert torch.equal(twin.trunk[0].weight, trunk[0].weight)
    assert torch.equal(twin.module_.trunk.table, trunk.table)
    np.testing.assert_array_equal(twin.predict_proba(X), clf.predict_proba(X))
    assert joblib.hash(twin) == joblib.hash(clf) == joblib.hash(clone(clf).fit(X, y))
    np.testing.assert_array_equal(
        twin.partial_fit(X, y).predict_proba(X), clf.partial_fit(X, y).predict_proba(X)
    )
    assert copy.copy(clf).trunk is trunk


# -- versions and damage ------------------------------------------------------------------


def stored(model):
    """Return the state of a fitted estimator and that of its net, to be changed."""
    state = model.__getstate__()
    return state, state["net_"].__getstate__()


def restored(model, state):
    twin = type(model).__new__(type(model))
    twin.__setstate__(state)
    return twin


@pytest.mark.parametrize("fitted", [True, False])
def test_another_version_warns(samples, fitted):
    clf = MoEClassifier(**BRIEF)
    state = (clf.fit(*samples) if fitted else clf).__getstate__()
    state["_sklearn_moe_version"] = "0.0.1"
    with pytest.warns(InconsistentVersionWarning, match=r"sklearn_moe from version 0\.0\.1 when"):
        twin = restored(clf, state)
    if fitted:
        np.testing.assert_array_equal(twin.predict(samples[0]), clf.predict(samples[0]))


def test_a_parameter_that_another_version_did_not_have_is_at_its_default():
    state = MoEClassifier(n_experts=3).__getstate__()
    del state["precision"]
    twin = restored(MoEClassifier(), state)
    assert (twin.n_experts, twin.precision) == (3, "auto")


def test_an_estimator_that_lacks_something_is_refused(samples):
    clf = MoEClassifier(**BRIEF).fit(*samples)
    state, _ = stored(clf)
    del state["_target"]
    with pytest.raises(ValueError, match=r"stored MoEClassifier .* lacks \['_target'\]"):
        restored(clf, state)


def spoil_format(state):
    return state | {"format": 0}


def spoil_recipe(state):
    return {key: value for key, value in state.items() if key != "recipe"}


def spoil_weights(state):
    return state | {"parts": state["parts"] | {"module_": {}}}


@pytest.mark.parametrize(
    "spoil", [spoil_format, spoil_recipe, spoil_weights, lambda state: ({}, None)]
)
def test_a_net_that_cannot_be_read_is_one_clear_error(samples, spoil):
    clf = MoEClassifier(**BRIEF).fit(*samples)
    _, state = stored(clf)
    with pytest.raises(ValueError, match=r"cannot be read.*\n?.*fit the model again"):
        restored(clf.net_, spoil(state))


# -- devices ------------------------------------------------------------------------------


def test_a_model_of_a_gpu_loads_where_there_is_none(samples):
    X, y = samples
    clf = MoEClassifier(**BRIEF).fit(X, y)
    clf.set_params(device="cuda:7")
    state = clf.net_.__getstate__()
    state["recipe"]["device"] = "cuda:7"
    net = restored(clf.net_, state)
    assert net.device == "cpu"
    twin = pickle.loads(pickle.dumps(clf))
    twin.net_ = net
    np.testing.assert_array_equal(twin.predict_proba(X), clf.predict_proba(X))
    assert twin.device == "cuda:7"  # a parameter, for the next fit
    twin.partial_fit(X, y)
    with pytest.raises(ValueError, match="'cuda:7' is not there"):
        twin.fit(X, y)


def test_a_move_to_where_it_is_changes_nothing(samples):
    X, y = samples
    clf = MoEClassifier(**BRIEF, solver="adam").fit(X, y).partial_fit(X, y)
    twin = copy.deepcopy(clf)
    assert twin.to("cpu") is twin
    np.testing.assert_array_equal(
        twin.partial_fit(X, y).predict_proba(X), clf.partial_fit(X, y).predict_proba(X)
    )


@pytest.mark.parametrize(("device", "match"), [("gpu7", "no device that"), ("cuda:7", "not there")])
def test_a_move_to_nowhere_is_refused_and_changes_nothing(samples, device, match):
    X, y = samples
    clf = MoEClassifier(**BRIEF).fit(X, y)
    with pytest.raises(ValueError, match=re.compile(f"{device}.*{match}.*'cpu'")):
        clf.to(device)
    assert clf.predict(X).shape == y.shape


@pytest.mark.parametrize("options", [{}, {"router": "soft"}, {"solver": "adam"}], ids=str)
def test_a_model_moves_between_devices(device, samples, options):
    X, y = samples
    clf = MoEClassifier(**BRIEF, **options).fit(X, y).partial_fit(X, y)
    moved = copy.deepcopy(clf).to(device)
    assert {value.device.type for value in moved.module_.parameters()} == {device.split(":")[0]}
    np.testing.assert_allclose(moved.predict_proba(X), clf.predict_proba(X), rtol=1e-5)
    moved.partial_fit(X, y)  # with the state of its optimizer
    proba = moved.predict_proba(X)
    np.testing.assert_allclose(pickle.loads(pickle.dumps(moved)).predict_proba(X), proba)
    np.testing.assert_allclose(moved.to("cpu").predict_proba(X), proba, rtol=1e-5)
