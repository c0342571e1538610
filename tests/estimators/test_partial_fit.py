"""Training little by little, chunk by chunk."""

import pickle

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from helpers import hook, raises, refuses, throw, weights_of
from torch.utils.data import DataLoader, TensorDataset

from sklearn_moe import MoEClassifier, MoERegressor

BRIEF = {"n_experts": 2, "batch_size": 50, "random_state": 0}


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    X = (rng.normal(size=(600, 5)) * [1, 10, 1, 0.1, 1] + [0, 5, 0, 0, 9]).astype(np.float32)
    return X, (X[:, 0] + X[:, 3] > 0).astype(int)


def start(X, y, **options):
    """Return a model that knows its scales."""
    return MoEClassifier(**BRIEF | options).partial_fit(X, y, classes=[0, 1])


def test_a_call_is_one_epoch_of_its_chunk(table):
    X, y = table
    clf = start(X, y).partial_fit(X, y)
    assert (clf.n_iter_, len(clf.loss_curve_)) == (2, 2)
    assert clf.net_.history[:, "train_batch_count"] == [12, 12]  # of 50 samples
    weight, classes = np.linspace(0, 1, len(y)), {"classes": [0, 1]}
    top1 = MoEClassifier(**BRIEF, router="top1").partial_fit(X, y, sample_weight=weight, **classes)
    load = np.bincount(top1.apply(X).ravel(), weight, top1.n_experts) / weight.sum()
    np.testing.assert_allclose(top1.expert_load_, load, atol=1e-6)


def test_chunks_are_learned_from(table):
    X, y = table
    options = {"expert": "mlp", "learning_rate_init": 0.02, "random_state": 0}
    clf, reg = (model(2, **options) for model in (MoEClassifier, MoERegressor))
    for first in 2 * [*range(0, 500, 100)]:
        for _ in range(6):
            chunk = slice(first, first + 100)
            clf.partial_fit(X[chunk], y[chunk], classes=[0, 1])
            reg.partial_fit(X[chunk], X[chunk, 1])
    assert clf.loss_curve_[-1] < clf.loss_curve_[0] / 2
    assert clf.score(X[500:], y[500:]) > 0.9
    assert reg.score(X[500:], X[500:, 1]) > 0.8


def test_the_first_chunk_sets_the_scales(table):
    X = table[0].astype(float)
    y = 5 * X[:, 1] + 1e6
    model, whole = (MoERegressor(**BRIEF, **more) for more in ({}, {"max_iter": 1}))
    for fitted in (model.partial_fit(X, y), whole.fit(X, y)):
        np.testing.assert_allclose(fitted._scales.scale, X.std(axis=0))
        before = joblib.hash((fitted._scales, fitted._target))
        fitted.partial_fit(9 * X, 9 * y)
        assert joblib.hash((fitted._scales, fitted._target)) == before


def test_a_single_value_in_the_first_chunk_is_worth_a_warning(table):
    X = pd.DataFrame({"x": table[0][:, 0], "c": "u", "d": ["u", "v"] * 300, "e": 0.3})
    for name, match in (("c", r"Columns \['c'\] hold a single c"), ("e", r"Columns \['e'\] hold")):
        with pytest.warns(UserWarning, match=match):
            start(X[["x", name, "d"]], table[1])
    # Of 50 categories without effect the means are equal, and what follows them is no column of X.
    X = np.c_[np.arange(600) % 50, table[0]]
    frame = pd.DataFrame(X, columns=[*"abcdef"])
    for coded, name in ((X, "0"), (frame, "'a'")):
        first = MoEClassifier(**BRIEF, categorical_features=[0]).partial_fit
        with pytest.warns(UserWarning, match=rf"Columns \[{name}\] hold many cat") as caught:
            first(coded, np.arange(600) // 50 % 3, range(3))
        assert len(caught) == 1
    with pytest.warns(UserWarning, match="y holds a single value"):
        model = MoERegressor(**BRIEF).partial_fit(table[0], np.full(600, 7.0))
    np.testing.assert_array_equal(model.partial_fit(*table).predict(table[0]), 7)


@pytest.mark.filterwarnings("ignore:Columns")
@pytest.mark.parametrize("value", [7.0, np.nan])
def test_a_column_is_scaled_by_the_first_chunk_that_has_values_of_it(table, value):
    X = table[0].astype(float)
    first, second = X[:300].copy(), X[300:]
    first[:, 3] = value
    model = MoERegressor(random_state=0).partial_fit(first, first[:, 0])
    # A chunk that has none, or of which nothing is taken, changes nothing.
    before = joblib.hash(model._scales)
    assert joblib.hash(model.partial_fit(first, first[:, 0])._scales) == before
    for _ in range(20):
        model.partial_fit(second, second[:, 0] + 10 * second[:, 3])
    np.testing.assert_allclose(model._scales.scale[3], second[:, 3].std())
    np.testing.assert_allclose(model._scales.scale[:3], first[:, :3].std(axis=0))
    assert model.score(second, second[:, 0] + 10 * second[:, 3]) > 0.9
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict(X), model.predict(X))


def test_batches_grow_with_the_chunks(table):
    X, y = table
    for batch_size, n_steps in {"auto": 3, None: 1, 200: 3}.items():
        clf = start(X[:20], y[:20], batch_size=batch_size, solver="adamw").partial_fit(X, y)
        assert clf.net_.history[:, "train_batch_count"] == [1, n_steps]


def test_a_weight_of_a_class_holds_in_chunks_without_it(table):
    X, y = table
    by_class = start(X, y, class_weight={1: 3.0})
    by_row = MoEClassifier(**BRIEF).partial_fit(X, y, [0, 1], sample_weight=np.where(y == 1, 3, 1))
    for model in (by_class, by_row):
        model.partial_fit(X[y == 0], y[y == 0])
    assert torch.equal(weights_of(by_class), weights_of(by_row))
    match = r"classes, \[0, 1\], are not in class_weight"
    refuses("2", match, start(X, y).set_params(class_weight={2: 3.0}).partial_fit, X, y)


def test_chunks_may_lack_classes_and_bring_missing_values(table):
    X, y = table
    holed = X.copy()
    holed[::3, 2] = np.nan
    clf = start(X, y)
    for k in (0, 1):
        clf.partial_fit(holed[y == k], y[y == k])
    assert np.isfinite(clf.predict_proba(holed)).all()


def test_the_first_chunk_decides_the_precision(table):
    X, y = (array[:99] for array in table)
    for first in (np.float32, np.float64):
        reg = MoERegressor(**BRIEF).partial_fit(X.astype(first), y)
        for dtype in (np.float32, np.float64):
            reg.partial_fit(X.astype(dtype), y)
        assert reg.predict(X.astype(np.float64)).shape == y.shape
        assert weights_of(reg).numpy().dtype == first


class Flood:
    """A transform that is harmless until it is told otherwise."""

    factor = 1.0

    def __call__(self, x):
        return x * self.factor


@pytest.mark.parametrize("solver", ["adam", "sgd"])
def test_a_call_that_diverges_changes_nothing(table, solver, monkeypatch):
    X, y = table
    X = X[:, None]  # a bag of one patch: columns of a table would be bounded
    clf, twin = (start(X, y, solver=solver, train_transform=Flood()) for _ in range(2))
    before = joblib.hash(clf)
    monkeypatch.setattr(Flood, "factor", np.inf)
    raises(ValueError, "Likely causes", clf.partial_fit, X, y)
    assert joblib.hash(clf) == before
    monkeypatch.undo()
    for model in (clf, twin):
        model.partial_fit(X, y)
    assert joblib.hash(clf) == joblib.hash(twin)


def half(x):
    return x / 2


SET_BETWEEN = {
    "learning_rate_init": 0.1,
    "router__learning_rate": 0.1,
    "solver__weight_decay": 1.0,
    "batch_size": 20,
    "balance__weight": 1.0,
    "train_transform": half,
}


@pytest.mark.parametrize("name", SET_BETWEEN)
def test_what_is_set_between_two_calls_acts(table, name):
    X, y = (array[:200] for array in table)
    options = {"router": "top1", "balance": "switch", "solver": "adam"}
    clf, twin, failed = (start(X, y, **options).partial_fit(X, y) for _ in range(3))
    new = {name: SET_BETWEEN[name]}
    assert not torch.equal(
        weights_of(clf.set_params(**new).partial_fit(X, y)), weights_of(twin.partial_fit(X, y))
    )
    again = pickle.loads(pickle.dumps(clf))
    assert torch.equal(weights_of(again.partial_fit(X, y)), weights_of(clf.partial_fit(X, y)))
    before, old = joblib.hash(failed.net_), {name: failed.get_params()[name]}
    crash = hook("on_epoch_end", lambda net: throw(RuntimeError))
    with pytest.raises(RuntimeError):
        failed.set_params(**new, callbacks=[crash]).partial_fit(X, y)
    assert joblib.hash(failed.net_) == before
    failed.set_params(**old, callbacks=None).partial_fit(X, y)
    assert joblib.hash(failed.net_) == joblib.hash(twin.net_)


@pytest.mark.parametrize(
    ("name", "value"),
    [("solver", "sgd"), ("sample_shape", (5, 1)), ("categorical_features", [0]), ("top_k", 2)],
)
def test_what_cannot_change_between_two_calls_is_refused(table, name, value):
    X, y = table
    clf = start(X, y, router="topk", n_experts=3).set_params(**{name: value})
    raises(ValueError, rf"cannot be trained further with other \['{name}'\]", clf.partial_fit, X, y)
    clf.set_params(warm_start=True, max_iter=1, tol=None)
    if name == "solver":  # whose state begins anew
        assert clf.fit(X, y).n_iter_ == 2
    else:
        refuses(name, name, clf.fit, X, y)


def test_what_was_auto_stays_as_it_was(table):
    X, y = table
    clf = MoEClassifier(2, random_state=0).partial_fit(X, y, classes=[0, 1])
    before = clf.resolved_params_
    clf.set_params(batch_size=10).partial_fit(X[:9], y[:9])
    rates = "learning_rate_init", "router__learning_rate"
    assert [clf.resolved_params_[name] for name in rates] == [before[name] for name in rates]
    assert clf.resolved_params_["batch_size"] == 10
    assert [clf.net_.lr, clf.net_.router_lr] == [before[name] for name in rates]


def test_wrong_calls_are_explained(table):
    X, y = table
    for call, source, options, message in (
        (start, X, {"y": None}, "requires y"),
        (MoEClassifier().fit, DataLoader(TensorDataset(torch.from_numpy(X))), {"y": y}, "^X: "),
        (MoEClassifier().partial_fit, X, {"y": y}, "classes must be passed"),
        (MoERegressor(early_stopping=True).partial_fit, X, {"y": y}, "early_stopping=True"),
    ):
        refuses(source, message, call, source, **options)
