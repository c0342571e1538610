"""Pictures of samples: how many each expert answers, and where they lie in the plane."""

import matplotlib
import numpy as np
import pandas as pd
import pytest
import torch
from helpers import TABLES, make_table
from matplotlib.colors import to_rgb
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.decomposition import PCA
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from sklearn_moe import MoEClassifier, MoERegressor
from sklearn_moe._data.validation import check_samples
from sklearn_moe.inspection import DecisionRegionDisplay, LoadDisplay, expert_colors
from sklearn_moe.metrics import expert_load, routing_matrix

matplotlib.use("Agg")


def legend_texts(ax):
    legends = ax.findobj(matplotlib.legend.Legend)
    return [text.get_text() for legend in legends for text in legend.get_texts()]


# -- load ------------------------------------------------------------------------------------


@pytest.fixture
def routing():
    rng = np.random.RandomState(0)
    return rng.randint(4, size=300), rng.randint(6, size=300)


def heights(bars):
    return np.array([bar.get_height() for bar in bars])


@pytest.mark.parametrize("weighted", [False, True])
def test_bars_are_the_load(pyplot, routing, weighted):
    clusters, experts = routing
    options = {"n_experts": 8, "sample_weight": np.linspace(0.5, 2, 300) if weighted else None}
    load = expert_load(experts, **options)
    display = LoadDisplay.from_predictions(experts, **options)
    assert_array_equal(display.load, load)
    (bars,) = display.bars_
    assert_array_equal(heights(bars), load)

    display = LoadDisplay.from_predictions(experts, clusters, **options)
    assert_array_equal(display.load, routing_matrix(clusters, experts, normalize="all", **options))
    assert_allclose(sum(heights(bars) for bars in display.bars_), load)
    for below, above in zip(display.bars_, display.bars_[1:], strict=False):
        tops = [bar.get_y() + bar.get_height() for bar in below]
        assert_allclose([bar.get_y() for bar in above], tops)


def test_equal_share_and_dead_experts_are_marked(pyplot):
    display = LoadDisplay.from_predictions([0, 0, 0, 2], n_experts=5)
    assert set(display.uniform_.get_ydata()) == {1 / 5}
    assert display.dead_.get_xdata().tolist() == [1, 3, 4]
    assert display.ax_.get_ylim()[0] == 0
    assert display.ax_.get_ylim()[1] > 0.75
    assert legend_texts(display.ax_) == ["equal share, 1/5", "answers no sample"]
    assert LoadDisplay.from_predictions([0, 1]).dead_ is None


def test_clusters_are_named_as_they_are_stacked(pyplot):
    clusters, experts = ["dog", "cat", "dog", "bird"], [0, 1, 0, 1]
    names = legend_texts(LoadDisplay.from_predictions(experts, clusters).ax_)
    assert names[1:] == ["cluster dog", "cluster cat", "cluster bird"]
    display = LoadDisplay.from_predictions(experts, clusters, display_labels=["B", "C", "D"])
    assert legend_texts(display.ax_)[1:] == ["cluster D", "cluster C", "cluster B"]
    colors = [bars[0].get_facecolor()[:3] for bars in display.bars_]
    assert_allclose(colors, expert_colors(3))
    with pytest.raises(ValueError, match="3 clusters of the load, got 1 labels"):
        LoadDisplay.from_predictions(experts, clusters, display_labels=["B"])


def test_many_clusters_are_not_named(pyplot):
    display = LoadDisplay(np.full((40, 2), 1 / 80)).plot()
    assert legend_texts(display.ax_) == ["equal share, 1/2"]


def test_load_of_several_experts_per_sample(pyplot):
    display = LoadDisplay.from_predictions([[0, 1], [0, 2]], n_experts=4)
    assert display.load.tolist() == [0.5, 0.25, 0.25, 0]


def test_style_of_the_load_reaches_matplotlib(pyplot, routing):
    display = LoadDisplay.from_predictions(
        routing[1], bar_kw={"color": "red", "width": 0.5}, line_kw={"linestyle": ":"}
    )
    assert {bar.get_facecolor() for bar in display.bars_[0]} == {(1, 0, 0, 1)}
    assert {bar.get_width() for bar in display.bars_[0]} == {0.5}
    assert display.uniform_.get_linestyle() == ":"


# -- regions ---------------------------------------------------------------------------------


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
    display = DecisionRegionDisplay.from_predictions(points, y, experts, y_pred)
    assert len(display.points_) == 2
    for label, drawn in zip(["left", "right"], display.points_, strict=True):
        assert_array_equal(drawn.get_offsets(), points[y == label])
        drawn.update_scalarmappable()
        color = drawn.get_facecolors() if label == "left" else drawn.get_edgecolors()
        assert_allclose(color[:, :3], expert_colors(3)[experts[y == label]])
    assert legend_texts(display.ax_) == ["0", "1", "2", "left", "right"]
    vertices = [len(drawn.get_paths()[0].vertices) for drawn in display.points_]
    assert vertices[0] != vertices[1]


def test_markers_are_predictions_without_y(pyplot, plane):
    points, _, experts, y_pred = plane
    display = DecisionRegionDisplay.from_predictions(points, None, experts, y_pred)
    assert_array_equal(display.points_[0].get_offsets(), points[y_pred == "left"])


@pytest.mark.parametrize("n_neighbors", [1, 5])
def test_background_is_the_nearest_prediction(pyplot, plane, n_neighbors):
    points, y, experts, y_pred = plane
    display = DecisionRegionDisplay.from_predictions(
        points, y, experts, y_pred, n_neighbors=n_neighbors, grid_resolution=30
    )
    region = np.asarray(display.background_.get_array())
    left, right, bottom, top = display.background_.get_extent()
    assert region.shape == (30, 30)
    steps = (np.arange(30) + 0.5) / 30
    x, z = np.meshgrid(left + steps * (right - left), bottom + steps * (top - bottom))
    scale = np.ptp(points, axis=0)  # both axes count the same, whatever their units
    knn = KNeighborsClassifier(n_neighbors).fit(points / scale, y_pred)
    expected = knn.predict(np.stack([x, z], -1).reshape(-1, 2) / scale).reshape(30, 30)
    assert_array_equal(region == 1, expected == "right")


@pytest.mark.parametrize("with_classes", [False, True])
def test_background_is_the_nearest_expert_without_predictions(pyplot, plane, with_classes):
    points, y, experts, _ = plane
    experts = np.where(experts == 1, 5, experts)  # some experts answer nobody
    display = DecisionRegionDisplay.from_predictions(
        points, y if with_classes else None, experts, None, n_experts=7, grid_resolution=30
    )
    region = np.asarray(display.background_.get_array())
    left, right, bottom, top = display.background_.get_extent()
    steps = (np.arange(30) + 0.5) / 30
    for row, column in np.ndindex(30, 30):
        x, z = left + steps[column] * (right - left), bottom + steps[row] * (top - bottom)
        gaps = (points - [x, z]) / np.ptp(points, axis=0)
        assert region[row, column] == experts[np.square(gaps).sum(axis=1).argmin()]
    image = display.background_
    for expert in np.unique(experts):
        own, pale = expert_colors(6)[expert], np.array(image.cmap(image.norm(expert))[:3])
        assert_allclose((1 - pale) / (1 - pale).max(), (1 - own) / (1 - own).max())
        assert pale.min() > 0.5
    names = ["0", "2", "5", "left", "right"] if with_classes else ["0", "2", "5"]
    assert legend_texts(display.ax_) == names
    legends = display.ax_.findobj(matplotlib.legend.Legend)
    titles = {legend.get_title().get_text() for legend in legends}
    assert titles == ({"3 of 7 experts", "Class"} if with_classes else {"3 of 7 experts"})
    assert len(display.points_) == (2 if with_classes else 1)


def test_numbers_are_no_classes(pyplot, plane):
    points, _, experts, _ = plane
    for numbers in ((points[:, 0], None), (None, points[:, 0])):
        with pytest.raises(ValueError, match=r"got numbers such as .* Pass y=None and y_pred=None"):
            DecisionRegionDisplay(points, numbers[0], experts, numbers[1]).plot()
    whole = points[:, 0].round()
    assert len(DecisionRegionDisplay(points, whole, experts, whole).plot().points_) > 2
    assert len(pyplot.get_fignums()) == 1


def test_a_single_class_and_a_single_point_in_common(pyplot):
    display = DecisionRegionDisplay.from_predictions(np.zeros((3, 2)), None, [0, 0, 1], [1, 1, 1])
    assert not np.asarray(display.background_.get_array()).any()


def test_experts_beyond_eight_are_numbered(pyplot):
    experts = np.repeat(np.arange(12), 5)
    points = np.stack([experts % 4, experts // 4], axis=1) * 1.0
    display = DecisionRegionDisplay(points, None, experts, experts % 2, n_experts=20).plot()
    assert sorted(int(text.get_text()) for text in display.text_) == list(range(12))
    for text in display.text_:
        assert_array_equal(text.xy, points[experts == int(text.get_text())][0])
    assert display.ax_.findobj(matplotlib.legend.Legend)[0].get_title().get_text() in (
        "12 of 20 experts",
        "Class (predicted: marker and background)",
    )
    assert display.plot(numbers=False).text_ == []
    few = DecisionRegionDisplay(points[:10], None, experts[:10], experts[:10] % 2)
    assert few.plot().text_ == []
    assert len(few.plot(numbers=True).text_) == 2


def test_many_classes_share_a_marker(pyplot):
    y = np.arange(40) % 20
    points = np.random.RandomState(0).normal(size=(40, 2))
    display = DecisionRegionDisplay(points, y, np.zeros(40, dtype=int), y).plot()
    assert len(display.points_) == 20
    assert legend_texts(display.ax_) == ["0"]


def test_first_of_several_experts_gives_the_color(pyplot):
    experts = np.array([[2, 0], [1, 0], [1, 2]])
    points = [[0, 0], [1, 1], [0, 1]]
    display = DecisionRegionDisplay.from_predictions(points, None, experts, [0, 0, 0])
    colors = display.points_[0].get_facecolors()[:, :3]
    assert_allclose(colors, expert_colors(3)[[2, 1, 1]])


def test_style_of_the_regions_reaches_matplotlib(pyplot, plane):
    display = DecisionRegionDisplay.from_predictions(
        *plane, scatter_kw={"s": 3, "alpha": 0.5}, region_kw={"cmap": "Blues"}
    )
    assert {drawn.get_sizes()[0] for drawn in display.points_} == {3}
    assert display.background_.get_cmap().name == "Blues"


def test_malformed_planes_are_refused(pyplot, plane):
    points, y, experts, y_pred = plane
    for embedding in (points[:, :1], points[:, 0]):
        with pytest.raises(ValueError, match=r"\(n_samples, 2\), got shape"):
            DecisionRegionDisplay.from_predictions(embedding, y, experts, y_pred)
    with pytest.raises(ValueError, match="indices from 0 on"):
        DecisionRegionDisplay.from_predictions(points, y, experts - 1, y_pred)
    with pytest.raises(ValueError, match="indices from 0 on"):
        DecisionRegionDisplay.from_predictions(points, y, experts / 2, y_pred)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        DecisionRegionDisplay.from_predictions(points, y[1:], experts, y_pred)
    assert pyplot.get_fignums() == []


class Halves:
    n_experts = 2

    def apply(self, X):
        return np.arange(len(X)) % 2

    predict = apply


class OfPatches(Halves):
    input_shape_ = (2, 3)


def test_embeddings(pyplot):
    X = np.random.RandomState(0).normal(size=(30, 6))
    bags = X.reshape(30, 2, 3)
    flat, of_bags = PCA(2).fit_transform(X), PCA(2).fit_transform(bags.sum(1))
    for estimator, samples, expected in (
        (Halves(), X, flat),
        (Halves(), X.reshape(30, 1, 2, 3), flat),
        (Halves(), bags, of_bags),
        (OfPatches(), X, of_bags),
    ):
        display = DecisionRegionDisplay.from_estimator(estimator, samples)
        assert_allclose(np.abs(display.embedding), np.abs(expected), atol=1e-10)
        assert display.ax_.get_xlabel().startswith("Principal component 1 (")
    display = DecisionRegionDisplay.from_estimator(Halves(), bags, embedding=X[:, :2].tolist())
    assert_array_equal(display.embedding, X[:, :2])


def test_tsne_is_seeded(pyplot):
    X = np.random.RandomState(0).normal(size=(12, 4))
    first, again = (
        DecisionRegionDisplay.from_estimator(Halves(), X, embedding="tsne", random_state=0)
        for _ in range(2)
    )
    assert_array_equal(first.embedding, again.embedding)
    assert first.ax_.get_xlabel() == "t-SNE 1"


def test_unknown_and_impossible_embeddings_are_refused():
    with pytest.raises(ValueError, match="'umap'"):
        DecisionRegionDisplay.from_estimator(Halves(), np.ones((9, 2)), embedding="umap")
    with pytest.raises(ValueError, match=r"2 features, got shape \(9, 1\)"):
        DecisionRegionDisplay.from_estimator(Halves(), np.ones((9, 1)))


def test_samples_of_a_fitted_mixture(pyplot, patches):
    (X, y, _), (X_test, y_test, clusters) = patches
    clf = MoEClassifier(n_experts=5, max_iter=3, tol=None, random_state=0).fit(X, y)
    X_test, y_test, clusters = X_test[:100], y_test[:100], clusters[:100]
    load = LoadDisplay.from_estimator(clf, X_test, clusters)
    assert load.load.shape == (4, 5)
    display = DecisionRegionDisplay.from_estimator(clf, X_test, y_test)
    assert display.n_experts == 5
    assert_array_equal(display.experts, clf.apply(X_test))
    assert_array_equal(display.y_pred, clf.predict(X_test))
    drawn = {to_rgb(color) for points in display.points_ for color in points.get_facecolors()}
    assert drawn <= {tuple(color) for color in expert_colors(5)}


@pytest.mark.parametrize("kind", ["labels", "numbers", "several numbers"])
def test_samples_of_a_mixture_for_other_than_classes(pyplot, patches, kind):
    (X, y, clusters), (X_test, _, clusters_test) = patches
    y = np.stack([y, clusters % 2], axis=1)
    y = {"labels": y, "numbers": y[:, 0] + 0.5, "several numbers": y + 0.5}[kind]
    estimator = MoEClassifier if kind == "multilabel" else MoERegressor
    moe = estimator(n_experts=5, max_iter=3, tol=None, random_state=0).fit(X, y)
    X_test, clusters_test = X_test[:100], clusters_test[:100]
    load = LoadDisplay.from_estimator(moe, X_test, clusters_test)
    first = moe.apply(X_test)
    assert_allclose(load.load.sum(axis=0), expert_load(first, n_experts=5))
    display = DecisionRegionDisplay.from_estimator(moe, X_test, y[:100])
    assert display.y is display.y_pred is None
    assert_array_equal(display.experts, first)
    region = np.asarray(display.background_.get_array())
    assert set(region.flat) == set(first)
    (points,) = display.points_
    assert_allclose(points.get_facecolors()[:, :3], expert_colors(5)[first])


# -- two features ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def two_features():
    """500 samples in the plane, of two units, and their classes."""
    X = np.random.default_rng(0).uniform(-1, 1, size=(500, 2))
    return X * [1, 100], np.where(X[:, 0] * X[:, 1] > 0, "same", "other")


def pixels(display, resolution=20):
    """Return the centers of the pixels of the background, row by row."""
    left, right, bottom, top = display.background_.get_extent()
    steps = (np.arange(resolution) + 0.5) / resolution
    grid = np.meshgrid(left + steps * (right - left), bottom + steps * (top - bottom))
    return np.stack(grid, -1).reshape(-1, 2)


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("framed", [False, True])
def test_two_features_are_the_plane_and_its_background_the_model(
    pyplot, two_features, scaled, framed
):
    X, y = two_features
    X = pd.DataFrame(X, columns=["age", "height"]) if framed else X
    clf = MoEClassifier(n_experts=4, max_iter=10, random_state=0)
    model = (make_pipeline(StandardScaler(), clf) if scaled else clf).fit(X, y)
    display = DecisionRegionDisplay.from_estimator(model, X, y, grid_resolution=20)
    assert_array_equal(np.vstack([d.get_offsets() for d in display.points_]).shape, (500, 2))
    names = ("age", "height") if framed else ("Feature 0", "Feature 1")
    assert (display.ax_.get_xlabel(), display.ax_.get_ylabel()) == names
    at = pixels(display)
    expected = model.predict(pd.DataFrame(at, columns=X.columns) if framed else at)
    shown = np.asarray(display.background_.get_array()).ravel()
    assert_array_equal(np.array(["other", "same"])[shown], expected)


def test_the_regions_of_a_regressor_are_its_experts_own(pyplot, two_features):
    X, _ = two_features
    reg = MoERegressor(
        n_experts=4, activation="linear", router_learning_rate_init=0.1, max_iter=30, random_state=0
    ).fit(X, np.abs(X[:, 0]))
    display = DecisionRegionDisplay.from_estimator(reg, X, grid_resolution=20)
    shown = np.asarray(display.background_.get_array()).ravel()
    assert_array_equal(shown, reg.apply(pixels(display)))


def test_another_embedding_may_be_asked_for(pyplot, two_features):
    X, y = two_features
    clf = MoEClassifier(n_experts=2, max_iter=2, random_state=0).fit(X, y)
    display = DecisionRegionDisplay.from_estimator(clf, X, y, embedding="pca", grid_resolution=20)
    assert "Principal" in display.ax_.get_xlabel()
    assert display.surface is None


# -- tables that are no arrays of numbers -----------------------------------------------------


@pytest.mark.parametrize("kind", TABLES)
@pytest.mark.parametrize("estimator", [MoEClassifier, MoERegressor])
@pytest.mark.parametrize("piped", [False, True])
def test_any_table_is_drawn_as_the_router_sees_it(pyplot, kind, estimator, piped):
    X, y, options = make_table(kind)
    y = y if estimator is MoEClassifier else y + 0.5
    moe = estimator(n_experts=3, max_iter=3, random_state=0, **options)
    model = make_pipeline(FunctionTransformer(), moe) if piped else moe
    model.fit(X, y)
    display = DecisionRegionDisplay.from_estimator(model, X, y, grid_resolution=20)
    seen = moe.net_.map_batches(moe.module_.encode, check_samples(moe, X))
    assert_allclose(np.abs(display.embedding), np.abs(PCA(2).fit_transform(seen)), atol=1e-4)
    assert_array_equal(display.experts, moe.apply(X))
    assert np.asarray(display.background_.get_array()).shape == (20, 20)
    again = DecisionRegionDisplay.from_estimator(
        model, X, embedding="tsne", grid_resolution=20, random_state=0
    )
    assert again.embedding.shape == (len(y), 2)


def test_a_trunk_is_no_part_of_what_the_router_sees(pyplot):
    X, y, _ = make_table("NaN")
    options = {"n_experts": 2, "max_iter": 2, "random_state": 0}
    with_trunk, without = (
        DecisionRegionDisplay.from_estimator(
            MoEClassifier(trunk=trunk, **options).fit(X, y), X, grid_resolution=20
        )
        for trunk in (lambda shape: torch.nn.Linear(*shape, 3), None)
    )
    assert_array_equal(with_trunk.embedding, without.embedding)
