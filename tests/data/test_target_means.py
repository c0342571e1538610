"""Columns of many categories, which are read as means of y."""

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import brief_fits, predictions, weights_of
from sklearn.base import clone
from sklearn.metrics import log_loss

from sklearn_moe import MoEClassifier, MoERegressor
from sklearn_moe._data.target_means import TargetMeans

pytestmark = brief_fits


def made_up(n=3000, n_categories=60, seed=0):
    """Return a frame with a column of many categories, and log odds that depend on them."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(n_categories, size=n)
    frame = pd.DataFrame({"a": rng.normal(size=n), "town": [f"t{code}" for code in codes]})
    odds = frame["a"] + np.random.default_rng(1).normal(size=n_categories)[codes]
    return frame, odds, (rng.random(n) < 1 / (1 + np.exp(-odds))).astype(int)


def shrunk(codes, y):
    """Return the shrunk mean of each category, by a slow reference."""
    groups = [y[codes == code] for code in range(codes.max() + 1)]
    sizes = np.array([len(group) for group in groups])
    means = np.array([group.mean() for group in groups])
    within = sum(((g - g.mean()) ** 2).sum() for g in groups) / (len(y) - len(groups))
    between = (sizes * (means - y.mean()) ** 2).sum() - (len(groups) - 1) * within
    between = max(0, between) / (len(y) - (sizes**2).sum() / len(y))
    share = sizes * between / (sizes * between + within)
    return y.mean() + share * (means - y.mean())


def test_means_are_shrunk():
    rng = np.random.default_rng(0)
    codes = rng.integers(40, size=500)
    y = rng.normal(size=40)[codes] + rng.normal(size=500)
    means = TargetMeans([0], [0])
    X = np.column_stack([codes, rng.normal(size=500)]).astype(float)
    trained = means.fit_transform(X, y[:, np.newaxis], 1, np.ones(500), None)
    expected = shrunk(codes, y)
    np.testing.assert_allclose(means.transform(X)[:, 0], expected[codes], rtol=1e-9)
    unknown = np.array([[99.0, 0.0], [np.nan, 0.0]])
    np.testing.assert_allclose(means.transform(unknown)[:, 0], y.mean())
    assert np.array_equal(trained[:, 1], X[:, 1])


def test_no_row_knows_its_own_y():
    """What a row is told does not move with its y, but for the mean of all rows."""
    rng = np.random.default_rng(0)
    X = np.column_stack([rng.integers(40, size=500), rng.normal(size=500)]).astype(float)
    y = rng.normal(size=(500, 1))
    before = TargetMeans([0], [0]).fit_transform(X, y, 1, np.ones(500), None)[:, 0] - y.mean()
    for row in range(5):
        other = y.copy()
        other[row] += 10
        after = TargetMeans([0], [0]).fit_transform(X, other, 1, np.ones(500), None)[:, 0]
        assert abs(after[row] - other.mean() - before[row]) < 1e-9
        assert np.abs(after - other.mean() - before).max() > 1e-3


def crossed(n=4000, n_categories=40, seed=0):
    """Return a frame and y: the slope of a number differs between the categories."""
    rng = np.random.default_rng(seed)
    codes, a, b = rng.integers(n_categories, size=n), *rng.normal(size=(2, n))
    y = np.random.default_rng(1).normal(size=n_categories)[codes] * a + 0.5 * b
    frame = pd.DataFrame({"a": 1e3 * a, "b": b, "town": [f"t{code:02}" for code in codes]})
    frame.loc[:50, "a"] = np.nan
    return frame, y + rng.normal(size=n) / 3, codes


def test_slopes_that_differ_are_those_of_least_squares():
    frame, y, codes = crossed()
    X, means = np.column_stack([frame["a"], frame["b"], codes]), TargetMeans([2], [2])
    trained = means.fit_transform(X, y[:, np.newaxis], 1, np.ones(len(X)), None)
    assert trained.shape == (len(X), 4)
    (slopes,) = means.slopes
    assert [*slopes] == [0]
    known = ~np.isnan(X[:, 0])
    of_each = [
        np.polyfit(*X[known & (codes == code)][:, :1].T, y[known & (codes == code)], 1)[0]
        for code in range(40)
    ]
    assert np.corrcoef(of_each, slopes[0][:-1, 1])[0, 1] > 0.99
    unknown = np.array([[1e3, 0, 99.0], [1e3, 0, np.nan], [np.nan, 0, np.nan]])
    assert not means.transform(unknown)[:, 3].any()


def test_slopes_help_and_are_exported():
    frame, y, codes = crossed()
    for model, target in (
        (MoERegressor(expert="linear", n_experts=1, random_state=0), y),
        (MoEClassifier(expert="linear", n_experts=1, random_state=0), np.digitize(y, [-1, 1])),
    ):
        score = model.fit(frame[:3000], target[:3000]).score(frame[3000:], target[3000:])
        assert score > (0.8 if target is y else 0.7)
        module, answer = model.to_torch(), getattr(model, "predict_proba", model.predict)
        X = frame.assign(town=codes).to_numpy(float)
        found = module(torch.tensor(X).to(module.x_dtype)).detach()
        np.testing.assert_allclose(found, answer(frame), atol=1e-5)


@pytest.mark.filterwarnings("ignore:Column 'noise':UserWarning")
@pytest.mark.parametrize("is_identifier", [True, False])
def test_what_tells_nothing_costs_nothing(is_identifier):
    frame, _, y = made_up()
    rng = np.random.default_rng(3)
    codes = np.arange(3000) if is_identifier else rng.integers(500, size=3000)
    noisy = frame[["a"]].assign(noise=[f"n{code}" for code in codes])
    train, test = slice(0, 1500), slice(1500, None)
    model, losses = MoEClassifier(expert="linear", n_experts=1, random_state=0), []
    for X in (frame[["a"]], noisy):
        proba = model.fit(X[train], y[train]).predict_proba(X[test])
        losses.append(log_loss(y[test], proba))
    assert losses[1] < 1.01 * losses[0]


def test_effects_of_categories_are_found():
    frame, odds, _ = made_up()
    model = MoERegressor(expert="linear", n_experts=1, random_state=0)
    assert model.fit(frame[:2000], odds[:2000]).score(frame[2000:], odds[2000:]) > 0.95
    assert [*model.coef_names_] == ["a", "town"]


def test_exports_of_several_classes():
    frame, odds, _ = made_up()
    y = np.digitize(odds, [-1, 1])
    model = MoEClassifier(expert=["linear", "deep"], max_iter=5, random_state=0).fit(frame, y)
    assert model.input_shape_ == (2,)
    module = model.to_torch()
    X = frame.assign(town=pd.Index(module.category_names[1]).get_indexer(frame["town"]))
    found = module(torch.tensor(X.to_numpy(float)).to(module.x_dtype)).detach()
    np.testing.assert_allclose(found, model.predict_proba(frame), atol=1e-6)


def test_chunks_and_warm_starts():
    frame, _, y = made_up()
    model = MoEClassifier(random_state=0).partial_fit(frame[:1500], y[:1500], classes=[0, 1])
    for _ in range(3):
        model.partial_fit(frame[1500:], y[1500:])
    assert model.score(frame, y) > 0.6
    warm = MoEClassifier(expert="linear", n_experts=1, warm_start=True, random_state=0)
    first = warm.fit(frame, y).predict_proba(frame)
    np.testing.assert_allclose(warm.fit(frame, y).predict_proba(frame), first, atol=1e-3)


@pytest.mark.parametrize("kind", ["classes", "numbers", "chunks"])
def test_rows_of_weight_0_are_as_if_not_there(kind):
    frame, odds, y = made_up(400)
    weight = np.random.default_rng(0).integers(3, size=400).astype(float)
    weight[frame["town"] == "t7"] = 0
    frame["town"] = frame["town"].astype("category")
    options = {"expert": "linear", "n_experts": 1, "random_state": 0}
    model = MoERegressor(**options) if kind == "numbers" else MoEClassifier(**options)
    target, found = (odds if kind == "numbers" else y), []
    kept = weight > 0
    for rows in (slice(None), kept):
        if kind == "chunks":
            model = clone(model).partial_fit(frame[rows], target[rows], [0, 1], weight[rows])
            model.partial_fit(frame[rows], target[rows], sample_weight=weight[rows])
        else:
            model.fit(frame[rows], target[rows], weight[rows])
        found.append(predictions(model, frame))
    np.testing.assert_allclose(*found, rtol=1e-6)


def test_warm_starts_read_as_many_columns_as_the_first_fit():
    """Whatever slopes differ in the rows of the second fit."""
    frame, y, _ = crossed(1000)
    flat, sizes = np.random.default_rng(0).normal(size=1000), []
    for first, second in ((y, flat), (flat, y), (y, y)):
        warm = MoERegressor(expert="linear", n_experts=1, warm_start=True, random_state=0)
        sizes.append(len(weights_of(warm.fit(frame, first))))
        assert len(weights_of(warm.fit(frame[::-1], second[::-1]))) == sizes[-1]
        assert np.isfinite(warm.predict(frame)).all()
    assert sizes[0] == sizes[2] > sizes[1]


def by_values(n_values, n_rows, rough=True, seed=0):
    """Return a column of repeated numbers, and y that depends on each value for itself, or not."""
    rng = np.random.default_rng(seed)
    x = rng.integers(n_values, size=n_rows)
    means = rng.normal(size=n_values) if rough else 3 * np.arange(n_values) / n_values
    return x[:, np.newaxis] - 7.25, means[x] + 0.6 * rng.normal(size=n_rows)


@pytest.mark.parametrize("n_values", [60, 300])
@pytest.mark.parametrize("task", ["numbers", "classes"])
def test_numbers_whose_values_are_cases_of_their_own_have_a_mean_each(task, n_values):
    X, y = by_values(n_values, 12 * n_values)
    y = y if task == "numbers" else (y > 0).astype(int)
    half, codes = len(X) // 2, np.searchsorted(np.unique(X), X[:, 0])
    known = [[y.mean(), *y[:half][codes[:half] == code]] for code in range(n_values)]
    mean = np.array([*map(np.mean, known)])[codes[half:]]
    if task == "numbers":
        model = MoERegressor(random_state=0).fit(X[:half], y[:half])
        found = said = model.predict(X[half:])
        assert np.mean((found - y[half:]) ** 2) < 1.05 * np.mean((mean - y[half:]) ** 2)
    else:
        model = MoEClassifier(random_state=0).fit(X[:half], y[:half])
        said = model.predict_proba(X[half:])
        found = said[:, 1]
        assert log_loss(y[half:], found) < 1.03 * log_loss(y[half:], mean)
    # A value between two of them is an unknown one.
    assert np.isfinite(predictions(model, X[:5] + 0.5)).all()
    module = model.to_torch()
    outputs = module(torch.from_numpy(X[half:]).to(module.x_dtype))
    np.testing.assert_allclose(outputs.detach().numpy(), said, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("kind", ["smooth", "steps", "noise", "exact", "few rows"])
def test_numbers_that_y_follows_have_no_means(kind):
    X, y = by_values(200, 150 if kind == "few rows" else 2000, rough=False)
    if kind == "steps":
        y = y + 5 * (X[:, 0] > 50) - 3 * (X[:, 0] > 120)
    elif kind == "noise":
        y = np.random.default_rng(1).normal(size=len(y))
    elif kind == "exact":
        y = np.sin(X[:, 0] / 10)
    means = TargetMeans.of(None)
    assert means.fit_transform(X, y[:, np.newaxis], 1, np.ones(len(y)), None) is X
