"""A fitted model is its parameters and arrays: it travels, hashes, and trains on."""

import copy
import io
import json
import pickle
import zipfile
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import cloudpickle
import joblib
import numpy as np
import pandas
import pytest
import torch
from helpers import as_kind, brief_fits, narrow, predictions, raises
from sklearn.base import clone
from sklearn.exceptions import InconsistentVersionWarning
from sklearn.linear_model import PoissonRegressor, Ridge
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

import sklearn_moe
from sklearn_moe import (
    MixtureClassifier,
    MixtureRegressor,
    MoEClassifier,
    MoERegressor,
    RouterParams,
    SolverParams,
    nn,
)
from sklearn_moe.nn.router_parts import GATES, NOISES
from sklearn_moe.optim import SOLVERS

pytestmark = pytest.mark.filterwarnings("ignore::sklearn_moe.exceptions.ExpertCollapseWarning")
BRIEF = {"n_experts": 3, "max_iter": 3, "tol": None, "random_state": 0}


def pickled(model):
    return pickle.loads(pickle.dumps(model))


WAYS = [pickled, copy.deepcopy, lambda model: cloudpickle.loads(cloudpickle.dumps(model))]


def skops_copy(model):
    """Return a model that went through a file of skops, and the file."""
    skops = pytest.importorskip("skops.io")
    data = skops.dumps(model)
    unknown = skops.get_untrusted_types(data=data)
    others = [name for name in unknown if name.startswith("sklearn.")]  # depends on the versions
    return skops.loads(data, trusted=[*sklearn_moe.trusted_types(), *others]), data


@pytest.fixture(scope="module")
def samples(patches):
    (X, y, _), _ = patches
    return X[:300], y[:300]


def classifier(**options):
    return MoEClassifier().set_params(**BRIEF | options)


@pytest.mark.parametrize(
    "options",
    [
        {"router": "top1", "solver": "adam"},
        {"router": "sampled", "solver": SolverParams("sgd", momentum=0.9)},
        {"router": "soft", "early_stopping": True},
        {"router": "random", "solver": SolverParams("normalized_sgd", weight_decay=0.5)},
        {"router": "topk", "balance": "bias", "balance__weight": 0.1, "batch_size": 100},
    ],
    ids=str,
)
def test_a_copy_answers_and_trains_on_bit_by_bit(samples, options):
    X, y = samples
    original = classifier(**options).fit(X, y)
    twins = [way(original) for way in WAYS]
    for model in twins:
        np.testing.assert_array_equal(model.predict_proba(X), original.predict_proba(X))
    for model in (original, *twins):
        model.set_params(early_stopping="auto").partial_fit(X, y).partial_fit(X, y)
    further = pickled(original).partial_fit(X, y)  # with the state of its optimizer
    expected = original.partial_fit(X, y).predict_proba(X)
    for model in [further, *(twin.partial_fit(X, y) for twin in twins)]:
        np.testing.assert_array_equal(model.predict_proba(X), expected)
        assert model.loss_curve_ == original.loss_curve_


BAYES = {"expert": ["deep", GaussianNB(), "linear"], "n_experts": "auto"}


@brief_fits
@pytest.mark.parametrize(
    ("expert", "model"),
    [
        ("patch", classifier(early_stopping=True)),
        ("mlp", classifier(router="sigmoid")),
        *(("mlp", classifier(n_experts="auto")), ("mlp", classifier(**BAYES))),
        *(("cnn", classifier()), ("patch", MoERegressor(**BRIEF))),
    ],
)
def test_equal_fits_hash_equal(samples, expert, model):
    X, y = as_kind(samples[0][:100], expert), samples[1][:100]
    models = (clone(model).set_params(random_state=seed) for seed in (0, 0, 1))
    first, second, other = (model.fit(X, y) for model in models)
    expected = joblib.hash(first)
    assert joblib.hash(second) == joblib.hash(pickled(first)) == expected
    assert joblib.hash(other) != expected
    for way in WAYS:
        np.testing.assert_array_equal(predictions(way(first), X), predictions(first, X))
    assert joblib.hash(first) == expected


def assert_trains_on_equally(first, second, X, y):
    first, second = (model.partial_fit(X, y).predict_proba(X) for model in (first, second))
    np.testing.assert_array_equal(first, second)


# -- versions -----------------------------------------------------------------------------


def restored(model, state):
    twin = type(model).__new__(type(model))
    twin.__setstate__(state)
    return twin


def test_another_version_warns(samples):
    for clf in (classifier(), classifier().fit(*samples)):
        state = clf.__getstate__() | {"_sklearn_moe_version": "0.0.1"}
        with pytest.warns(InconsistentVersionWarning, match=r"sklearn_moe from version 0\.0\.1"):
            twin = restored(clf, state)
    np.testing.assert_array_equal(twin.predict(samples[0]), clf.predict(samples[0]))


# -- devices ------------------------------------------------------------------------------


def test_a_model_of_a_gpu_loads_where_there_is_none(samples):
    X, y = samples
    clf = classifier().fit(X, y).set_params(device="cuda:7")
    state = clf.net_.__getstate__()
    state["recipe"]["device"] = "cuda:7"
    net = restored(clf.net_, state)
    assert net.device == "cpu"
    twin = pickled(clf)
    twin.net_ = net
    np.testing.assert_array_equal(twin.predict_proba(X), clf.predict_proba(X))
    assert twin.device == "cuda:7"  # a parameter, for the next fit
    assert twin.partial_fit(X, y).n_iter_ == 4  # it goes on where it is
    raises(ValueError, "'cuda:7' cannot be used here", twin.fit, X, y)
    assert (twin.n_iter_, twin.net_.device) == (4, "cpu")


def test_a_move_to_where_it_is_or_nowhere_changes_nothing(samples):
    X, y = samples
    clf = classifier(solver="adam").fit(X, y).partial_fit(X, y)
    twin = copy.deepcopy(clf)
    assert twin.to("cpu") is twin
    for device in ("gpu7", "cuda:7"):
        raises(ValueError, f"{device}' cannot be used here, choose .*'cpu'", twin.to, device)
    assert_trains_on_equally(twin, clf, X, y)


# -- skops: what `trusted_types` lists, and no pickle --------------------------------------

small = partial(MoEClassifier, 2, max_iter=1, tol=None, random_state=0)
small_regressor = partial(MoERegressor, 2, max_iter=1, tol=None, random_state=0)
BAGS = np.random.default_rng(0).normal(size=(40, 4, 50)).astype(np.float32)
ROWS, NUMBERS, IMAGES = BAGS[:, 0, :6], BAGS[:, 0, 0], as_kind(BAGS, "cnn")
CLASSES = np.array(["no", "yes"])[(NUMBERS > 0).astype(int)]


def models(folder):
    """Yield models of all that is registered, as it is, and samples for each."""
    for name, expert in nn.EXPERTS.items():
        make = small if name != "trees" else partial(MoEClassifier, random_state=0)
        yield make(**narrow(name, 4) | {"expert": expert}), as_kind(BAGS, name), CLASSES
    for loss in nn.LOSSES.values():
        if loss.classes:
            yield small(loss=loss), ROWS, CLASSES
        if loss.multilabel:
            yield small(loss=loss), ROWS, (ROWS[:, :3] > 0).astype(int)
        if loss.regression:
            yield small_regressor(loss=loss), ROWS, np.abs(NUMBERS)
    for options in (
        *({"router": router} for router in nn.ROUTERS.values()),
        *({"router": RouterParams("topk", gate=gate), "top_k": 2} for gate in GATES),
        *({"solver": solver} for solver in (*SOLVERS.values(), SolverParams("adam"))),
        *({"router": "topk", "balance__kind": kind} for kind in nn.BALANCES.values()),
        *({"router": RouterParams(noise=noise)} for noise in NOISES),
        *({"activation": nn.ACTIVATIONS[name]} for name in ("cubic", "linear")),
        {"checkpoint": Path(folder)},
    ):
        yield small().set_params(**options), BAGS, CLASSES
    whole = {"trunk": None, "expert": "cnn", "expert_width": 4}
    for options in (
        *(whole | {"router": RouterParams("top1", network=n)} for n in nn.NETWORKS.values()),
        *({"trunk": trunk} for trunk in nn.TRUNKS.values()),
    ):
        yield small(**options), IMAGES, CLASSES
    frame = pandas.DataFrame({"word": CLASSES, "number": NUMBERS})
    yield small(device=torch.device("cpu")), frame, CLASSES
    towns = pandas.DataFrame({"town": [f"town {i}" for i in range(len(CLASSES) - 1)] + ["town 0"]})
    yield small(), towns, CLASSES
    yield make_pipeline(StandardScaler(), classifier(**BAYES)), ROWS, CLASSES
    yield from mixtures_of_estimators()


def mixtures_of_estimators():
    """Yield a mixture for every density, and samples for each."""
    options = {"n_components": 1, "n_init": 1, "random_state": 0}
    yield MixtureClassifier(**options), ROWS, CLASSES
    tree = DecisionTreeClassifier(max_depth=1, random_state=0)
    yield MixtureRegressor(gate=tree, n_init=1, random_state=0), ROWS, NUMBERS
    lines = np.random.RandomState(0).normal(size=(200, 2))
    bent = np.where(lines[:, 0] > 0, 3 + 2 * lines[:, 1], -2 * lines[:, 1])
    yield MixtureRegressor(n_components="auto"), lines, bent
    yield MixtureRegressor([Ridge(), Ridge(9)], method="stack", random_state=0), ROWS, NUMBERS
    counts = np.arange(len(ROWS)) % 5
    yield MixtureRegressor(**options), pandas.DataFrame({"word": CLASSES}), counts
    for expert in (None, PoissonRegressor(), MixtureRegressor(**options)):
        yield MixtureRegressor(expert, **options), ROWS, counts


@brief_fits
@pytest.mark.slow
def test_the_listed_types_suffice_and_all_are_needed():
    skops = pytest.importorskip("skops.io")
    used = set()
    with TemporaryDirectory() as folder:
        for model, X, y in models(folder):
            again, data = skops_copy(model.fit(X, y))
            used.update(skops.get_untrusted_types(data=data))
            np.testing.assert_array_equal(
                predictions(again, X), predictions(model, X), err_msg=str(model)
            )
    first = MoERegressor(2, random_state=0).partial_fit(np.eye(4), np.arange(4.0))
    used.update(skops.get_untrusted_types(data=skops.dumps(first)))  # more chunks are to come
    assert used == set(sklearn_moe.trusted_types())


def test_no_pickle_hides_in_a_file():
    for solver in SOLVERS:
        model = small(solver=solver).partial_fit(BAGS, CLASSES, classes=["no", "yes"])
        again, data = skops_copy(model)
        with zipfile.ZipFile(io.BytesIO(data)) as file:
            for name in file.namelist():
                if name.endswith(".json"):
                    json.loads(file.read(name))
                else:
                    np.load(io.BytesIO(file.read(name)), allow_pickle=False)
        for each in (again, model):
            each.partial_fit(BAGS, CLASSES)
        np.testing.assert_array_equal(predictions(again, BAGS), predictions(model, BAGS))


def test_parts_of_ones_own_are_not_trusted():
    skops = pytest.importorskip("skops.io")
    data = skops.dumps(small(activation=torch.sigmoid).fit(BAGS, CLASSES))
    raises(TypeError, r"torch\.sigmoid", skops.loads, data, trusted=sklearn_moe.trusted_types())
    skops.loads(data, trusted=[*sklearn_moe.trusted_types(), "torch.sigmoid"])
