"""Boosted trees as a kind of a pool: what they predict, exports, weights and when they are kept."""

import numpy as np
import pytest
import torch
from helpers import brief_fits, refuses
from sklearn.base import clone
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import QuantileRegressor
from sklearn.metrics import r2_score

from sklearn_moe import MoEClassifier, MoERegressor
from sklearn_moe._training.trees import _as_outputs, _bin, _find_cuts, _read_trees
from sklearn_moe.nn import EXPERTS
from sklearn_moe.nn.heads import choose_head
from sklearn_moe.nn.trees import BoostedTrees, TreeArrays

pytestmark = brief_fits
FEW = EXPERTS["trees"].with_options(max_iter=20)
LOSSES = ["squared_error", "absolute_error", "gaussian", "poisson"]


def steps(n, seed=0):
    """Return columns, one of them with missing values, and classes with thresholds."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 3))
    X[:, 1] = rng.lognormal(size=n)
    y = (X[:, 0] > 0.3).astype(int) + (X[:, 1] > 1) * (X[:, 2] > 0)
    X[::9, 2] = np.nan
    return X, y


def by_hand(trees, x):
    """Return the sum of the trees for a row."""
    total = 0.0
    for tree in trees:
        node = 0
        while tree.child[node] != node:
            node = tree.child[node] + (x[tree.feature[node]] > tree.threshold[node])
        total += tree.value[node]
    return total


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_module_computes_what_scikit_learn_does(n_classes, dtype):
    """Whatever values lie at a threshold; the trees, too, are what a slow reference adds up."""
    rng = np.random.default_rng(0)
    X = np.round(rng.normal(size=(400, 3)), 1).astype(dtype)
    y = (np.sin(3 * X[:, 0]) + X[:, 1] > 0).astype(int) + (n_classes == 3) * (X[:, 2] > 1)
    cuts = _find_cuts(X, np.ones(400))
    model = HistGradientBoostingClassifier(max_iter=10, random_state=0).fit(_bin(X, cuts), y)
    found = _read_trees(model, None, cuts)
    trees, mix, bias = _as_outputs(choose_head("log_loss", "classes")(n_classes), [found])
    module = BoostedTrees((3,), n_classes)
    module.grow([trees], mix[np.newaxis], bias[np.newaxis], torch.from_numpy(X).dtype)
    outputs = module(torch.from_numpy(X))
    assert outputs.shape == (400, 1, n_classes)
    proba = outputs[:, 0].double().softmax(1).numpy()
    np.testing.assert_allclose(proba, model.predict_proba(_bin(X, cuts)), atol=1e-6)
    scores = np.array([[by_hand(part, x) for part in trees] for x in X[:20]])
    np.testing.assert_allclose(outputs[:20, 0], scores @ mix + bias, atol=1e-6)


def draw_tree(rng, n_leaves):
    """Return a tree of three columns, whose thresholds are whole numbers."""
    child, leaves = [0], [0]
    for _ in range(n_leaves - 1):
        node = leaves.pop(rng.integers(len(leaves)))
        child[node] = len(child)
        leaves += [len(child), len(child) + 1]
        child += leaves[-2:]
    child, columns = np.array(child), rng.integers(3, size=len(child))
    cuts = np.where(child == np.arange(len(child)), np.inf, rng.integers(-3, 4, len(child)))
    return TreeArrays(columns, cuts, child, rng.normal(size=len(child)), n_leaves)


@pytest.mark.parametrize("n_leaves", [2, 31, 32])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_masks_of_leaves_find_what_a_walk_finds(n_leaves, dtype):
    """To the bit, for missing and infinite values, any members and any number of rows."""
    rng = np.random.default_rng(n_leaves)
    sizes = rng.integers(1, n_leaves + 1, (3, 2, 8))
    sizes[0, 0, 0] = n_leaves
    members = [[[draw_tree(rng, n) for n in score] for score in each] for each in sizes]
    module = BoostedTrees((3,), 2)
    mix, bias = rng.normal(size=(3, 2, 2)), rng.normal(size=(3, 2))
    module.grow(members, mix, bias, torch.from_numpy(np.zeros(1, dtype)).dtype)
    values = np.array([np.nan, -np.inf, np.inf, *np.arange(-4, 5, 0.5)], dtype)
    x, member = torch.from_numpy(rng.choice(values, (500, 3))), torch.from_numpy(np.arange(500) % 3)
    found = module(x), module(x, member), module(x[:1])
    assert bool(module.masks) == (n_leaves < 32)
    module.masks = False
    for ours, walked in zip(found, (module(x), module(x, member), found[0][:1]), strict=True):
        assert torch.equal(ours, walked)


def test_numbers_are_as_good_as_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(1200, 3))
    y = np.floor(2 * X[:, 0]) * np.sign(X[:, 1]) + 0.1 * rng.normal(size=1200)
    ours = MoERegressor(expert="trees", random_state=0).fit(X[:600], y[:600])
    theirs = HistGradientBoostingRegressor(random_state=0).fit(X[:600], y[:600])
    assert ours.score(X[600:], y[600:]) > theirs.score(X[600:], y[600:])
    assert [*ours.expert_kinds_] == ["trees"]


def test_out_of_bag_predictions_are_those_of_trees_that_have_not_seen_the_row():
    """A tree with a leaf for each row is right about all that it has seen, noise included."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 1))
    y = 3 * X[:, 0] + rng.normal(size=200)
    by_heart = {"max_iter": 1, "learning_rate": 1.0, "max_leaf_nodes": 400, "min_samples_leaf": 1}
    reg = MoERegressor(expert=EXPERTS["trees"].with_options(**by_heart), random_state=0).fit(X, y)
    assert reg.score(X, y) > 0.97
    assert r2_score(y, reg.oob_prediction_) < 0.9


@pytest.mark.parametrize("loss", LOSSES)
def test_losses_of_numbers(loss):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 2))
    y = rng.poisson(np.exp(1 + (X[:, 0] > 0)))
    model = MoERegressor(expert=["linear", FEW], loss=loss, random_state=0).fit(X, y)
    low, high = model.expert_predict(X)[X[:, 0] < 0, 1], model.expert_predict(X)[X[:, 0] > 0, 1]
    assert abs(low.mean() - np.e) < 0.5
    assert abs(high.mean() - np.e**2) < 1
    if loss != "absolute_error":
        inside = model.predict_interval(X)
        assert ((inside[:, 0] <= y) & (y <= inside[:, 1])).mean() > 0.85


@pytest.mark.parametrize(
    ("loss", "expert", "best"),
    [
        ("absolute_error", "linear", np.log(2)),
        ("absolute_error", FEW, np.log(2)),
        ("absolute_error", ["linear", FEW, "deep"], np.log(2)),
        ("huber", "linear", 0.84),
    ],
)
def test_kinds_predict_what_the_loss_asks_for(loss, expert, best):
    """Of waiting times the median is lower than the mean, 1."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(800, 2)), rng.exponential(size=(800, 2)) * [1, 1000]
    n_experts = 1 if expert == "linear" else "auto"
    model = MoERegressor(n_experts, expert=expert, loss=loss, max_iter=5, random_state=0)
    found = model.fit(X, y).predict(X).mean(0) / [1, 1000]
    assert np.abs(found - best).max() < 0.08


def test_the_linear_kind_is_as_good_as_the_linear_program():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 3))
    y = X[:, 0] + np.exp(X[:, 1] / 2) * rng.exponential(size=400)
    ours = MoERegressor(1, expert="linear", loss="absolute_error", random_state=0).fit(X, y)
    theirs = QuantileRegressor(alpha=0).fit(X, y)
    errors = [np.abs(y - model.predict(X)).mean() for model in (ours, theirs)]
    assert errors[0] < 1.01 * errors[1]


def test_labels_and_several_numbers():
    X, y = steps(400)
    labels = np.column_stack([y > 0, y > 1, np.zeros(400)]).astype(int)
    clf = MoEClassifier(expert=["linear", FEW], random_state=0).fit(X, labels)
    assert (clf.predict(X) == labels).mean() > 0.95
    reg = MoERegressor(expert=["linear", FEW], random_state=0).fit(X, np.column_stack([y, -2 * y]))
    assert reg.score(X, np.column_stack([y, -2 * y])) > 0.8


@pytest.mark.parametrize("seen", [[0, 1, 2, 3], [1, 3], [2]])
def test_classes_that_a_bag_lacks_are_rare(seen):
    """A member knows the classes of its bag; others are left at odds of next to nothing."""
    rng = np.random.default_rng(0)
    y = rng.choice(seen, 200)
    X = np.column_stack([y, rng.normal(size=200)]).astype(np.float64)
    cuts = _find_cuts(X, np.ones(200))
    model = np.array(seen)
    if len(seen) > 1:
        model = HistGradientBoostingClassifier(max_iter=30, random_state=0).fit(_bin(X, cuts), y)
    parts = _as_outputs(choose_head("log_loss", "classes")(4), [_read_trees(model, None, cuts)])
    module = BoostedTrees((2,), 4)
    module.grow([parts[0]], parts[1][np.newaxis], parts[2][np.newaxis], torch.float64)
    proba = module(torch.from_numpy(X))[:, 0].softmax(1).numpy()
    assert (proba.argmax(1) == y).all()
    assert proba[:, np.setdiff1d(range(4), seen)].max(initial=0) < 0.01


@pytest.mark.parametrize("n_rows_that_tell", [400, 20_000])
def test_trees_are_kept_where_they_help(n_rows_that_tell, monkeypatch):
    """The default tries trees on 300 rows or more: steps need them, a line does not."""
    monkeypatch.setattr("sklearn_moe._training.trees._N_PROBE_ROWS", n_rows_that_tell)
    X, y = steps(900)
    rng = np.random.default_rng(0)
    line = (np.nan_to_num(X) @ [1.0, 0.5, -1.0] + rng.logistic(size=900) > 0).astype(int)
    brief = MoEClassifier(max_iter=20, random_state=0)
    few = clone(brief).fit(X[:200], y[:200])
    assert "trees" not in few.expert_kinds_
    needed = clone(brief).fit(X, y)
    assert needed.expert_load_[[*needed.expert_kinds_].index("trees")] > 0.2
    assert needed.score(X, y) > 0.95
    dropped = brief.fit(X, line)
    assert dropped.expert_load_[[*dropped.expert_kinds_].index("trees")] < 1e-6


def test_without_unseen_rows_the_trees_are_as_many_as_without_stopping():
    X, y = steps(60)
    model = MoEClassifier(expert="trees", early_stopping=False, random_state=0).fit(X, y)
    assert model.score(X, y) > 0.7


@pytest.mark.parametrize("options", [{"max_iter": 70}, {"learning_rate": 0.05}, {}])
def test_without_unseen_rows_the_trees_are_as_many_as_the_options_ask_for(options):
    """Without a number, as many as have the same length in all."""
    X, y = steps(60)
    trees = EXPERTS["trees"].with_options(**options)
    model = MoEClassifier(expert=trees, early_stopping=False, random_state=0).fit(X, y)
    n_trees = model.module_.experts[0].root.shape[-1]
    assert n_trees == options.get("max_iter", 5 / options.get("learning_rate", 0.25))


@pytest.mark.parametrize("n_events", [1, 3, 10])
def test_few_events_are_counts_too(n_events):
    """A bag may have none, or none among the rows that it does not see."""
    rng = np.random.default_rng(n_events)
    X, y = rng.normal(size=(300, 2)), np.zeros(300)
    y[rng.choice(300, n_events, replace=False)] = 1
    model = MoERegressor(expert=["linear", FEW], loss="poisson", random_state=0).fit(X, y)
    assert 0.3 < model.predict(X).mean() / y.mean() < 3


def test_whether_trees_help_a_density_is_asked_by_its_scale():
    """They need the scale of their errors, as the others have it."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(500, 3))
    y = np.floor(2 * X[:, 0]) * np.sign(X[:, 1]) + 0.02 * rng.normal(size=500)
    model = MoERegressor(loss="gaussian", max_iter=10, random_state=0).fit(X, y)
    assert model.expert_load_[[*model.expert_kinds_].index("trees")] > 0.2


def test_options_of_networks_are_not_for_trees():
    X, y = steps(300)
    MoEClassifier(expert_width=8, activation="tanh", max_iter=2, random_state=0).fit(X, y)
    unknown = EXPERTS["trees"].with_options(width=3)
    refuses("unknown", "width", MoEClassifier(expert=unknown, random_state=0).fit, X, y)


def test_refusals():
    X, y = steps(100)
    refuses("expert", "n_experts", MoEClassifier(2, expert="trees").fit, X, y)
    refuses("trees", "", MoEClassifier(expert="trees", router="top1").fit, X, y)


@pytest.mark.parametrize("change", [lambda x: x**21 * 1e30, lambda x: np.exp(20 * x), np.asarray])
def test_trees_need_no_more_than_the_order_of_numbers(change):
    """Of columns that span fifty powers of ten, too, which lose values when standardized."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(1200, 1))
    y = np.sin(2 * X[:, 0]) + (X[:, 0] > 0) + 0.05 * rng.normal(size=1200)
    model = MoERegressor(expert="trees", random_state=0).fit(change(X[:800]), y[:800])
    assert model.score(change(X[800:]), y[800:]) > 0.99
    exported = model.to_torch()(torch.from_numpy(change(X))).detach()
    np.testing.assert_allclose(exported, model.predict(change(X)), rtol=1e-5, atol=1e-5)
    shifted = MoERegressor(expert="trees", random_state=0).fit(X[:800] + 2.0**30, y[:800])
    assert shifted.score(X[800:] + 2.0**30, y[800:]) > 0.99
