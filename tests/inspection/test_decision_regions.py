"""The plot of samples in the plane: experts, classes and regions."""

from types import SimpleNamespace

import matplotlib
import numpy as np
import pandas as pd
import pytest
from helpers import legend_texts, make_table, raises
from numpy.testing import assert_allclose, assert_array_equal
from scipy.sparse import csr_matrix, issparse
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils import _safe_indexing

from sklearn_moe import MixtureRegressor, MoEClassifier, MoERegressor
from sklearn_moe._data.experts import view_of
from sklearn_moe.inspection import DecisionRegionDisplay
from sklearn_moe.inspection._plotting import expert_colors

from_predictions = DecisionRegionDisplay.from_predictions
from_estimator = DecisionRegionDisplay.from_estimator


def as_dense(X):
    return X.toarray() if issparse(X) else X


def legend_titles(ax):
    return {legend.get_title().get_text() for legend in ax.findobj(matplotlib.legend.Legend)}


def axis_labels(display):
    return display.ax_.get_xlabel(), display.ax_.get_ylabel()


def regions(display):
    return np.asarray(display.background_.get_array())


def pixels(display, resolution=20):
    """Return the centers of the pixels of the background, row by row."""
    left, right, bottom, top = display.background_.get_extent()
    steps = (np.arange(resolution) + 0.5) / resolution
    grid = np.meshgrid(left + steps * (right - left), bottom + steps * (top - bottom))
    return np.stack(grid, -1).reshape(-1, 2)


def nearest(display, points, resolution):
    """Return the point next to each pixel, if both axes have the same weight."""
    gaps = (points - pixels(display, resolution)[:, np.newaxis]) / np.ptp(points, axis=0)
    return np.square(gaps).sum(axis=2).argmin(axis=1)


@pytest.fixture
def plane():
    """Points, classes, experts and predictions, some of them wrong."""
    rng = np.random.RandomState(0)
    points = rng.normal(size=(60, 2)) * [1, 100]
    y = np.where(points[:, 0] > 0, "right", "left")
    y_pred = np.where(points[:, 0] > 0.3, "right", "left")
    return points, y, rng.randint(3, size=60), y_pred


def test_color_is_the_expert_marker_the_class_and_background_the_prediction(pyplot, plane):
    points, y, experts, y_pred = plane
    display = from_predictions(*plane, grid_resolution=30)
    for label, drawn in zip(["left", "right"], display.points_, strict=True):
        assert_array_equal(drawn.get_offsets(), points[y == label])
        color = drawn.get_facecolors() if label == "left" else drawn.get_edgecolors()
        assert_allclose(color[:, :3], expert_colors(3)[experts[y == label]])
    assert legend_texts(display.ax_) == ["0", "1", "2", "left", "right"]
    assert legend_titles(display.ax_) == {"Expert", "Class (predicted: background)"}
    vertices = [len(drawn.get_paths()[0].vertices) for drawn in display.points_]
    assert vertices[0] != vertices[1]
    shown = y_pred[nearest(display, points, 30)] == "right"
    assert_array_equal(regions(display).ravel() == 1, shown)
    low, high = points.min(axis=0), points.max(axis=0)
    extent = np.reshape(display.background_.get_extent(), (2, 2)).T
    assert_allclose(extent, [low - 0.05 * (high - low), high + 0.05 * (high - low)])
    # Without classes the predicted ones are marked; the first of several experts counts.
    display = from_predictions(points, None, np.column_stack([experts, 2 - experts]), y_pred)
    assert_array_equal(display.points_[0].get_offsets(), points[y_pred == "left"])
    colors = display.points_[0].get_facecolors()[:, :3]
    assert_allclose(colors, expert_colors(3)[experts[y_pred == "left"]])


@pytest.mark.parametrize("with_classes", [False, True])
def test_background_is_the_nearest_expert_without_predictions(pyplot, plane, with_classes):
    points, y, experts, _ = plane
    experts, y = np.where(experts == 1, 5, experts), y if with_classes else None
    display = from_predictions(points, y, experts, None, grid_resolution=30)
    assert_array_equal(regions(display).ravel(), experts[nearest(display, points, 30)])
    image = display.background_
    for expert in np.unique(experts):
        own, pale = expert_colors(6)[expert], np.array(image.cmap(image.norm(expert))[:3])
        assert_allclose(1 - pale, 0.35 * (1 - own), atol=0.01)
    names = ["0", "2", "5"] + ["left", "right"] * with_classes
    assert legend_texts(display.ax_) == names
    assert len(display.points_) == 1 + with_classes


def test_many_classes_and_single_ones(pyplot):
    y, points = np.arange(40) % 20, np.random.RandomState(0).normal(size=(40, 2))
    display = from_predictions(points, y, np.zeros(40, dtype=int), y, grid_resolution=20)
    assert legend_texts(display.ax_) == ["0", *map(str, range(20))]
    one = from_predictions(np.zeros((3, 2)), None, [0, 0, 1], [1, 1, 1], grid_resolution=20)
    assert not regions(one).any()
    # Whole floats are classes.
    assert len(from_predictions(points, points[:, 0].round(), y, None).points_) > 2


def test_malformed_planes_are_refused(pyplot, plane):
    points, y, experts, y_pred = plane
    for arguments, message in (
        ((points[:, :1], y, experts, y_pred), "embedding"),
        ((points[:, 0], y, experts, y_pred), "embedding"),
        ((points, y, experts - 1, y_pred), "experts must be indices from 0 on"),
        ((points, y, experts / 2, y_pred), "experts must be integer indices"),
        ((points, y[1:], experts, y_pred), "inconsistent numbers of samples"),
        ((points, points[:, 0], experts, None), "Unknown label type: continuous"),
        ((points, None, experts, points[:, 0]), "Unknown label type: continuous"),
    ):
        raises(ValueError, message, from_predictions, *arguments)
    assert pyplot.get_fignums() == []


# -- tables ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("framed", "estimator"), [(False, MoEClassifier), (True, MoEClassifier), (True, MoERegressor)]
)
def test_two_features_are_the_plane_and_its_background_the_model(pyplot, framed, estimator):
    X = np.random.default_rng(0).uniform(-1, 1, size=(200, 2)) * [1, 100]
    y = np.where(X[:, 0] * X[:, 1] > 0, "same", "other")
    y = y if estimator is MoEClassifier else np.abs(X[:, 0])
    X = pd.DataFrame(X, columns=["age", "height"]) if framed else X
    moe = estimator(n_experts=3, expert="mlp", max_iter=3, random_state=0)
    model = make_pipeline(StandardScaler(), moe).fit(X, y)
    display = from_estimator(model, X, y, grid_resolution=20)
    drawn = np.vstack([points.get_offsets() for points in display.points_])
    assert_array_equal(np.sort(drawn, axis=0), np.sort(np.asarray(X), axis=0))
    assert axis_labels(display) == (("age", "height") if framed else ("x0", "x1"))
    at = pd.DataFrame(pixels(display), columns=X.columns) if framed else pixels(display)
    shown = regions(display).ravel()
    if estimator is MoEClassifier:
        assert_array_equal(np.array(["other", "same"])[shown], model.predict(at))
        assert_array_equal(display.y_pred, model.predict(X))
    else:
        assert_array_equal(shown, moe.apply(model[0].transform(at)).reshape(400, -1)[:, 0])
        assert display.y is display.y_pred is None


@pytest.mark.parametrize("container", ["pandas", "polars", "array", "objects", "sparse"])
def test_two_columns_of_a_table_with_the_others_held(pyplot, container):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "city": pd.Categorical(rng.choice(["Bonn", "Oslo", "Rome"], 200, p=[0.6, 0.2, 0.2])),
            "load": np.where(np.arange(200) % 20, rng.normal(size=200), np.nan),
            "age": rng.integers(20, 70, 200),
            "income": np.where(np.arange(200) % 3, rng.exponential(size=200), np.nan),
        }
    )
    numbers = frame[["load", "age", "income"]].fillna(0)
    X, columns = {
        "pandas": (frame, ("age", "load")),
        "polars": (frame, ("age", "load")),
        "array": (numbers.to_numpy(), (1, 0)),
        "objects": (frame.to_numpy(), (2, 1)),
        "sparse": (csr_matrix(numbers), (1, 0)),
    }[container]
    if container == "polars":
        X = pytest.importorskip("polars").from_pandas(X)
    seen = []

    def predict(X):
        seen.append(X)
        load = _safe_indexing(as_dense(X), columns[1], axis=1)
        return np.where(np.asarray(load, dtype=float) > 0, "high", "low")

    model = SimpleNamespace(apply=lambda X: np.zeros(X.shape[0], int), predict=predict)
    display = from_estimator(model, X, columns=columns, grid_resolution=10)
    points = frame[["age", "load"]].fillna(0 if container in ("array", "sparse") else np.nan)
    points = points.dropna().to_numpy()
    assert_allclose(display.embedding, points)
    assert len(display.experts) == len(display.y_pred) == len(points)
    at = pixels(display, 10)
    # "high" is the first class.
    assert_array_equal(regions(display).ravel() == 0, at[:, 1] > 0)
    assert type(seen[-1]) is type(X)
    held, known = (np.asarray(as_dense(table)) for table in (seen[-1], X))
    if held.shape[1] == 4:
        assert set(held[:, 0]) == {"Bonn"}
    assert_allclose(held[:, [-2, -3]].astype(float), at)
    (income,) = set(held[:, -1])
    assert abs(income - np.nanmedian(known[:, -1].astype(float))) < 0.05
    named = container in ("pandas", "polars")
    assert axis_labels(display) == tuple(columns if named else [f"x{i}" for i in columns])


def test_a_wide_table_is_shown_by_two_of_its_columns(pyplot):
    names = ["a", "b", "noise", "load", "hour", "level"]
    X = np.random.default_rng(0).uniform(-1, 1, size=(400, 6))
    X = pd.DataFrame(X, columns=names)
    X["level"] = pd.Categorical((X["level"] > 0).astype(int))
    rule = 2 * (X["load"] > 0) + (X["hour"] > 0)
    y = np.array([5, -5, 2, -2])[rule] * (X["a"] + 1)
    gate = DecisionTreeClassifier(max_leaf_nodes=4, criterion="log_loss")
    model = MixtureRegressor(n_components=4, gate=gate, n_init=1, random_state=0)
    model = make_pipeline(FunctionTransformer(), model)
    display = from_estimator(model.fit(X, y), X, grid_resolution=20)
    assert axis_labels(display) == ("load", "hour")
    assert len(np.unique(regions(display))) == 4
    display = from_estimator(model, X, columns=("a", "b"), grid_resolution=20)
    assert axis_labels(display) == ("a", "b")


def test_an_ensemble_is_shown_by_the_columns_that_its_predictions_depend_on(pyplot):
    X = np.random.default_rng(0).uniform(-1, 1, size=(200, 4))
    model = SimpleNamespace(apply=lambda X: np.ones(len(X), int))
    model.expert_predict = lambda X: np.c_[X[:, 2], X[:, 3]]
    model._experts_view = lambda X: view_of(model, X, ["line", "trees"])
    model.predict = lambda X: X[:, 2] + X[:, 3]
    display = from_estimator(model, X, grid_resolution=10)
    assert axis_labels(display) == ("x2", "x3")
    assert legend_texts(display.ax_) == ["trees"]


def test_what_has_not_two_columns_of_numbers_is_refused(pyplot):
    X, y, _ = make_table("frame")
    model = SimpleNamespace(apply=lambda X: np.zeros(len(X), int), predict=np.zeros_like)
    for columns in (("a", "city"), ("a",), ("a", "b", "city"), ("a", "z"), (0, 9)):
        raises(ValueError, "columns", from_estimator, model, X, y, columns=columns)
    rows = np.random.default_rng(0).normal(size=(60, 6))
    patches = MoEClassifier(1, sample_shape=(2, 3), max_iter=1, tol=None, random_state=0)
    patches.fit(rows, rows[:, 0] > 0)
    for estimator, samples in (
        (model, rows.reshape(60, 2, 3)),
        (model, rows[:, :1]),
        (patches, rows),
    ):
        raises(ValueError, "two columns.*from_predictions", from_estimator, estimator, samples)


def test_an_axis_of_dates(pyplot):
    rng = np.random.default_rng(0)
    start = pd.Timestamp("2024-01-01")
    X = pd.DataFrame({"day": start + pd.to_timedelta(rng.integers(0, 300, 200), unit="D")})
    X["x"], X["wait"] = rng.normal(size=200), X["day"] - start
    is_late = X["day"] > pd.Timestamp("2024-06-01")

    def read(frame):
        return frame.assign(day=frame["day"].astype("int64"), wait=frame["wait"].astype("int64"))

    gate = DecisionTreeClassifier(max_depth=1, random_state=0)
    model = MixtureRegressor(LinearRegression(), 2, gate=gate, random_state=0)
    model = make_pipeline(FunctionTransformer(read), model)
    model.fit(X, np.where(is_late, X["x"], -X["x"]))
    for columns in (("day", "x"), ("x", "wait")):
        display = from_estimator(model, X, columns=columns, grid_resolution=40)
        split = (display.surface != display.surface[0, 0]).mean()
        assert_allclose(split, is_late.mean(), atol=0.1)
    start, end = from_estimator(model, X, columns=("x", "day")).ax_.get_ylim()
    assert [matplotlib.dates.num2date(day).year for day in (start + 30, end)] == [2024, 2024]
