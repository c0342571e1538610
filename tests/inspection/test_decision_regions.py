"""The plot of samples in the plane: experts, classes and regions."""

from types import SimpleNamespace

import matplotlib
import numpy as np
import pandas as pd
import polars as pl
import pytest
from helpers import TABLES, legend_texts, make_table, raises
from numpy.testing import assert_allclose, assert_array_equal
from scipy.sparse import csr_matrix
from sklearn.decomposition import PCA
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler, scale
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils import _safe_indexing

from sklearn_moe import MixtureRegressor, MoEClassifier, MoERegressor
from sklearn_moe._data.validation import check_samples
from sklearn_moe.inspection import DecisionRegionDisplay, expert_colors
from sklearn_moe.metrics._columns import as_dense

matplotlib.use("Agg")
from_predictions = DecisionRegionDisplay.from_predictions
from_estimator = DecisionRegionDisplay.from_estimator


def legend_titles(ax):
    return {legend.get_title().get_text() for legend in ax.findobj(matplotlib.legend.Legend)}


def regions(display):
    return np.asarray(display.background_.get_array())


def pixels(display, resolution=20):
    """Return the centers of the pixels of the background, row by row."""
    left, right, bottom, top = display.background_.get_extent()
    steps = (np.arange(resolution) + 0.5) / resolution
    grid = np.meshgrid(left + steps * (right - left), bottom + steps * (top - bottom))
    return np.stack(grid, -1).reshape(-1, 2)


@pytest.fixture
def plane():
    """Points, classes, experts and predictions, some of them wrong."""
    rng = np.random.RandomState(0)
    points = rng.normal(size=(60, 2)) * [1, 100]
    y = np.where(points[:, 0] > 0, "right", "left")
    y_pred = np.where(points[:, 0] > 0.3, "right", "left")
    return points, y, rng.randint(3, size=60), y_pred


def test_color_is_the_expert_and_marker_the_class(pyplot, plane):
    points, y, experts, y_pred = plane
    display = from_predictions(*plane)
    for label, drawn in zip(["left", "right"], display.points_, strict=True):
        assert_array_equal(drawn.get_offsets(), points[y == label])
        color = drawn.get_facecolors() if label == "left" else drawn.get_edgecolors()
        assert_allclose(color[:, :3], expert_colors(3)[experts[y == label]])
        assert drawn.get_sizes() == [36]
    assert legend_texts(display.ax_) == ["0", "1", "2", "left", "right"]
    assert legend_titles(display.ax_) == {"Expert", "Class (predicted: background)"}
    vertices = [len(drawn.get_paths()[0].vertices) for drawn in display.points_]
    assert vertices[0] != vertices[1]
    display = from_predictions(points, None, np.column_stack([experts, 2 - experts]), y_pred)
    assert_array_equal(display.points_[0].get_offsets(), points[y_pred == "left"])
    colors = display.points_[0].get_facecolors()[:, :3]  # of the first of several experts
    assert_allclose(colors, expert_colors(3)[experts[y_pred == "left"]])
    assert "Class (predicted: marker and background)" in legend_titles(display.ax_)


@pytest.mark.parametrize("n_neighbors", [1, 5])
def test_background_is_the_nearest_prediction(pyplot, plane, n_neighbors):
    points, y_pred = plane[0], plane[3]
    display = from_predictions(*plane, n_neighbors=n_neighbors, grid_resolution=30)
    scale = np.ptp(points, axis=0)  # both axes have the same weight, whatever their units
    knn = KNeighborsClassifier(n_neighbors).fit(points / scale, y_pred)
    expected = knn.predict(pixels(display, 30) / scale).reshape(30, 30)
    assert_array_equal(regions(display) == 1, expected == "right")
    low, high = points.min(axis=0), points.max(axis=0)
    extent = np.reshape(display.background_.get_extent(), (2, 2)).T
    assert_allclose(extent, [low - 0.05 * scale, high + 0.05 * scale])


@pytest.mark.parametrize("with_classes", [False, True])
def test_background_is_the_nearest_expert_without_predictions(pyplot, plane, with_classes):
    points, y, experts, _ = plane
    experts, y = np.where(experts == 1, 5, experts), y if with_classes else None
    display = from_predictions(points, y, experts, None, n_experts=7, grid_resolution=30)
    gaps = (points - pixels(display, 30)[:, np.newaxis]) / np.ptp(points, axis=0)
    nearest = np.square(gaps).sum(axis=2).argmin(axis=1)
    assert_array_equal(regions(display).ravel(), experts[nearest])
    image = display.background_
    for expert in np.unique(experts):
        own, pale = expert_colors(6)[expert], np.array(image.cmap(image.norm(expert))[:3])
        assert_allclose(1 - pale, 0.35 * (1 - own), atol=0.01)
    names, titles = ["0", "2", "5"], {"3 of 7 experts"}
    if with_classes:
        names, titles = [*names, "left", "right"], titles | {"Class"}
    assert (legend_texts(display.ax_), legend_titles(display.ax_)) == (names, titles)
    assert len(display.points_) == (2 if with_classes else 1)


def test_experts_beyond_eight_are_numbered(pyplot):
    experts = np.repeat(np.arange(12), 5)
    points = np.stack([experts % 4, experts // 4], axis=1) * 1.0
    display = DecisionRegionDisplay(points, None, experts, experts % 2, n_experts=20).plot()
    assert sorted(int(text.get_text()) for text in display.text_) == list(range(12))
    for text in display.text_:
        assert_array_equal(text.xy, points[experts == int(text.get_text())][0])
    assert "12 of 20 experts" in legend_titles(display.ax_)
    assert display.plot(numbers=False).text_ == []
    few = DecisionRegionDisplay(points[:10], None, experts[:10], experts[:10] % 2)
    assert (few.plot().text_, len(few.plot(numbers=True).text_)) == ([], 2)
    # Where numbers overlap, the expert of more samples is shown, at the sample near its median.
    several = np.array([[0, 0], [1, 1], [9, 9], [1, 1.001], [1, 0.999]])
    (text,) = DecisionRegionDisplay(several, None, [3, 3, 3, 1, 1], None).plot(numbers=True).text_
    assert (text.get_text(), *text.xy) == ("3", 1, 1)


def test_many_classes_and_single_ones(pyplot):
    y, points = np.arange(40) % 20, np.random.RandomState(0).normal(size=(40, 2))
    display = DecisionRegionDisplay(points, y, np.zeros(40, dtype=int), y).plot()
    assert (len(display.points_), legend_texts(display.ax_)) == (20, ["0"])
    one = from_predictions(np.zeros((3, 2)), None, [0, 0, 1], [1, 1, 1])
    assert not regions(one).any()
    whole = points[:, 0].round()  # floats that are classes
    assert len(DecisionRegionDisplay(points, whole, y, whole).plot().points_) > 2


def test_malformed_planes_are_refused(pyplot, plane):
    points, y, experts, y_pred = plane
    for arguments, message in (
        ((points[:, :1], y, experts, y_pred), "embedding"),
        ((points[:, 0], y, experts, y_pred), "embedding"),
        ((points, y, experts - 1, y_pred), "experts must be indices from 0 on"),
        ((points, y, experts / 2, y_pred), "experts must be integer indices"),
        ((points, y[1:], experts, y_pred), "inconsistent numbers of samples"),
        ((points, points[:, 0], experts, None), "y must hold classes"),
        ((points, None, experts, points[:, 0]), "y_pred must hold classes"),
    ):
        raises(ValueError, message, from_predictions, *arguments)
    assert pyplot.get_fignums() == []


# -- embeddings ------------------------------------------------------------------------------


def halves(**attributes):
    """Return the least that the plot needs of an estimator."""

    def apply(X):
        return np.arange(len(X)) % 2

    return SimpleNamespace(n_experts=2, apply=apply, predict=apply, **attributes)


def test_embeddings(pyplot):
    X = np.random.RandomState(0).normal(size=(30, 6))
    bags = X.reshape(30, 2, 3)
    flat, of_bags = PCA(2).fit_transform(X), PCA(2).fit_transform(bags.sum(1))
    table = from_estimator(halves(), X * 10 ** np.arange(6.0)).embedding
    assert_allclose(np.abs(table), np.abs(PCA(2).fit_transform(scale(X))), atol=1e-10)
    for estimator, samples, expected in (
        (halves(), X.reshape(30, 1, 2, 3), flat),
        (halves(), bags, of_bags),
        (halves(input_shape_=(2, 3)), X, of_bags),
    ):
        display = from_estimator(estimator, samples)
        assert_allclose(np.abs(display.embedding), np.abs(expected), atol=1e-10)
        share = PCA(2).fit(X if expected is flat else bags.sum(1)).explained_variance_ratio_[1]
        expected = f"Principal component 2 ({share:.0%} of variance)"
        assert display.ax_.get_ylabel() == expected
    display = from_estimator(halves(), bags, embedding=X[:, :2].tolist())
    assert_array_equal(display.embedding, X[:, :2])
    options = {"embedding": "tsne", "random_state": 0}
    first, again = (from_estimator(halves(), X[:12], **options) for _ in range(2))
    assert_array_equal(first.embedding, again.embedding)
    assert first.ax_.get_xlabel() == "t-SNE 1"
    raises(ValueError, "'umap'", from_estimator, halves(), np.ones((9, 2)), embedding="umap")
    raises(ValueError, r"2 features, got shape \(9, 1\)", from_estimator, halves(), np.ones((9, 1)))


@pytest.mark.parametrize("estimator", [MoEClassifier, MoERegressor])
def test_several_labels_or_numbers_are_no_classes(pyplot, patches, estimator):
    X, y, clusters = (array[:300] for array in patches[0])
    pair = np.stack([y, clusters % 2], axis=1)
    moe = estimator(n_experts=5, max_iter=2, tol=None, random_state=0).fit(X, pair)
    display, first = from_estimator(moe, X, pair), moe.apply(X)
    assert_array_equal(display.experts, first)
    assert display.n_experts == 5
    assert display.y is display.y_pred is None
    assert set(regions(display).flat) == set(first)
    assert_allclose(display.points_[0].get_facecolors()[:, :3], expert_colors(5)[first])


# -- two features, and tables ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("framed", "scaled", "estimator"),
    [
        *((False, False, MoEClassifier), (True, True, MoEClassifier)),
        *((True, False, MoERegressor), (False, True, MoERegressor)),
    ],
)
def test_two_features_are_the_plane_and_its_background_the_model(pyplot, framed, scaled, estimator):
    X = np.random.default_rng(0).uniform(-1, 1, size=(500, 2)) * [1, 100]
    y = np.where(X[:, 0] * X[:, 1] > 0, "same", "other")
    y = y if estimator is MoEClassifier else np.abs(X[:, 0])
    X = pd.DataFrame(X, columns=["age", "height"]) if framed else X
    moe = estimator(n_experts=4, max_iter=10, random_state=0)
    model = (make_pipeline(StandardScaler(), moe) if scaled else moe).fit(X, y)
    display = from_estimator(model, X, y, grid_resolution=20)
    drawn = np.vstack([points.get_offsets() for points in display.points_])
    assert_array_equal(np.sort(drawn, axis=0), np.sort(np.asarray(X), axis=0))
    names = ("age", "height") if framed else ("x0", "x1")
    assert (display.ax_.get_xlabel(), display.ax_.get_ylabel()) == names
    at = pd.DataFrame(pixels(display), columns=X.columns) if framed else pixels(display)
    shown = regions(display).ravel()
    if estimator is MoEClassifier:
        assert_array_equal(np.array(["other", "same"])[shown], model.predict(at))
        other = from_estimator(model, X, y, embedding="pca", grid_resolution=20)
        assert "Principal" in other.ax_.get_xlabel()
        assert other.surface is None
        assert_array_equal(other.y_pred, model.predict(X))
        assert_array_equal(other.y, y)
    else:
        at = model[0].transform(at) if scaled else at
        assert_array_equal(shown, moe.apply(at).reshape(400, -1)[:, 0])


@pytest.mark.parametrize("kind", TABLES)
def test_any_table_is_drawn_by_its_router_inputs(pyplot, kind):
    X, y, options = make_table(kind)
    is_odd = TABLES.index(kind) % 2
    estimator, y = (MoERegressor, y + 0.5) if is_odd else (MoEClassifier, y)
    moe = estimator(n_experts=3, max_iter=3, random_state=0, **options)
    model = make_pipeline(FunctionTransformer(), moe) if is_odd else moe
    options = {"embedding": "pca", "grid_resolution": 20}
    display = from_estimator(model.fit(X, y), X, y, **options)
    encoded = moe.net_.map_batches(moe.module_.encode, check_samples(X, "", moe._format))
    is_number = ~np.isin(encoded, (0, 1)).all(axis=0)
    encoded = np.where(is_number, scale(encoded), encoded)
    assert_allclose(np.abs(display.embedding), np.abs(PCA(2).fit_transform(encoded)), atol=1e-4)
    assert_array_equal(display.experts, moe.apply(X))
    assert regions(display).shape == (20, 20)


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
        "polars": (pl.from_pandas(frame), ("age", "load")),
        "array": (numbers.to_numpy(), (1, 0)),
        "objects": (frame.to_numpy(), (2, 1)),
        "sparse": (csr_matrix(numbers), (1, 0)),
    }[container]
    seen = []

    def predict(X):
        seen.append(X)
        load = _safe_indexing(as_dense(X), columns[1], axis=1)
        return np.where(np.asarray(load, dtype=float) > 0, "high", "low")

    model = SimpleNamespace(apply=lambda X: np.zeros(X.shape[0], int), predict=predict, n_experts=2)
    display = from_estimator(model, X, columns=columns, grid_resolution=10)
    points = frame[["age", "load"]].fillna(0 if container in ("array", "sparse") else np.nan)
    points = points.dropna().to_numpy()
    assert_allclose(display.embedding, points)
    assert len(display.experts) == len(display.y_pred) == len(points)
    at = pixels(display, 10)
    assert_array_equal(regions(display).ravel() == 0, at[:, 1] > 0)  # "high" is first
    assert type(seen[-1]) is type(X)
    held, known = (np.asarray(as_dense(table)) for table in (seen[-1], X))
    if held.shape[1] == 4:
        assert set(held[:, 0]) == {"Bonn"}
    assert_allclose(held[:, [-2, -3]].astype(float), at)
    (income,) = set(held[:, -1])
    assert abs(income - np.nanmedian(known[:, -1].astype(float))) < 0.05
    names = ("age", "load") if container in ("pandas", "polars") else [f"x{i}" for i in columns]
    assert (display.ax_.get_xlabel(), display.ax_.get_ylabel()) == tuple(names)


@pytest.mark.parametrize("container", ["pandas", "polars", "array", "pipeline"])
def test_a_wide_table_is_shown_by_the_columns_of_the_gate(pyplot, container):
    rng = np.random.default_rng(0)
    names = ["a", "b", "noise", "load", "hour", "level"]
    X = pd.DataFrame(rng.uniform(-1, 1, size=(400, 6)), columns=names)
    X["level"] = pd.Categorical((X["level"] > 0).astype(int))
    rule = 2 * (X["load"] > 0) + (X["hour"] > 0)
    y = np.array([5, -5, 2, -2])[rule] * (X["a"] + 1)
    X = {"polars": pl.from_pandas, "array": np.asarray}.get(container, lambda frame: frame)(X)
    gate = DecisionTreeClassifier(max_leaf_nodes=4, criterion="log_loss")
    if container in ("polars", "array"):
        gate = make_pipeline(FunctionTransformer(lambda X: np.asarray(X, dtype=float)), gate)
    mixture = MixtureRegressor(n_components=4, gate=gate, init="tree", random_state=0)
    if container == "pipeline":
        mixture = make_pipeline(FunctionTransformer(), mixture)
    display = from_estimator(mixture.fit(X, y), X, grid_resolution=20)
    expected = {"load", "hour"} if container != "array" else {"x3", "x4"}
    assert {display.ax_.get_xlabel(), display.ax_.get_ylabel()} == expected
    assert len(np.unique(regions(display))) == 4


def test_without_a_gate_that_changes_the_prediction_chooses(pyplot):
    X = np.random.default_rng(0).normal(size=(300, 4))
    clf = MoEClassifier(n_experts=2, expert="mlp", max_iter=20, random_state=0)
    clf.fit(X, X[:, 1] + X[:, 3] > 0)
    display = from_estimator(clf, X, grid_resolution=20)
    assert {display.ax_.get_xlabel(), display.ax_.get_ylabel()} == {"x1", "x3"}


def test_columns_of_a_fitted_mixture_and_wrong_ones(pyplot):
    X, y, _ = make_table("frame")
    clf = MoEClassifier(n_experts=3, max_iter=3, random_state=0).fit(X, y)
    display = from_estimator(clf, X, y, columns=("c", "a"), grid_resolution=5)
    known = X[["c", "a"]].notna().all(axis=1)
    assert_array_equal(display.embedding, X.loc[known, ["c", "a"]])
    assert_array_equal(display.y, y[known])
    typical = X.median(numeric_only=True).to_dict() | {"city": X["city"].mode()[0]}
    at = pd.DataFrame([typical] * 25, columns=X.columns)
    at[["c", "a"]] = pixels(display, 5)
    assert np.mean(clf.classes_[regions(display).ravel()] == clf.predict(at)) > 0.9
    for columns in (("a", "city"), ("a",), ("a", "b", "c"), ("a", "z"), (0, 9)):
        raises(ValueError, "columns", from_estimator, clf, X, y, columns=columns)
    with pytest.raises(ValueError, match="columns must be two columns of numbers of a table"):
        from_estimator(halves(), np.zeros((9, 2, 3)), columns=(0, 1))
