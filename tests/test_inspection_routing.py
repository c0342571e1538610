"""The routing picture shows the routing matrix, legibly, whoever does the routing."""

from itertools import pairwise

import matplotlib
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from sklearn_moe import MoEClassifier, MoERegressor
from sklearn_moe.inspection import RoutingDisplay
from sklearn_moe.metrics import dispatch_entropy, routing_matrix

matplotlib.use("Agg")


@pytest.fixture
def routing():
    rng = np.random.RandomState(0)
    return rng.randint(4, size=300), rng.randint(6, size=300)


def shown(display):
    return np.vectorize(lambda text: text.get_text())(display.text_)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("normalize", ["true", "pred", "all", None])
def test_numbers_are_the_routing_matrix(pyplot, routing, normalize, weighted):
    clusters, experts = routing
    weight = np.linspace(0.5, 2, len(clusters)) if weighted else None
    display = RoutingDisplay.from_predictions(
        clusters,
        experts,
        n_experts=8,
        sample_weight=weight,
        normalize=normalize,
        values_format=".5g",
    )
    expected = routing_matrix(
        clusters, experts, n_experts=8, sample_weight=weight, normalize=normalize
    )
    assert_array_equal(display.routing_matrix, expected)
    assert_array_equal(display.im_.get_array(), expected)
    assert_array_equal(shown(display), np.vectorize(lambda value: format(value, ".5g"))(expected))
    assert display.entropy == dispatch_entropy(clusters, experts, sample_weight=weight)
    assert f"{display.entropy:.3f}" in display.ax_.get_title()


def test_axes_say_what_they_are(pyplot, routing):
    display = RoutingDisplay.from_predictions(*routing, n_experts=8)
    ax = display.ax_
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("Expert", "Cluster")
    assert [label.get_text() for label in ax.get_xticklabels()] == list("01234567")
    assert [label.get_text() for label in ax.get_yticklabels()] == list("0123")
    assert ax.get_ylim() == (3.5, -0.5)  # the first cluster on top
    assert display.im_.get_clim() == (0, 1)
    assert display.figure_ is ax.figure
    assert display.figure_.axes[1].get_ylabel() == "Share of the cluster"


def test_numbers_by_default(pyplot):
    clusters, experts = [0, 0, 0, 1], [0, 0, 1, 1]
    shares = RoutingDisplay.from_predictions(clusters, experts)
    assert shown(shares).tolist() == [["0.67", "0.33"], ["0", "1.00"]]
    counts = RoutingDisplay.from_predictions(clusters, experts, normalize=None)
    assert shown(counts).tolist() == [["2", "1"], ["0", "1"]]


def test_string_clusters_and_names(pyplot):
    clusters = np.array(["dog", "cat", "dog", "bird"])
    display = RoutingDisplay.from_predictions(clusters, [0, 1, 0, 2])
    names = [label.get_text() for label in display.ax_.get_yticklabels()]
    assert names == ["bird", "cat", "dog"]
    display = RoutingDisplay.from_predictions(
        clusters, [0, 1, 0, 2], display_labels=["B", "C", "D"]
    )
    assert [label.get_text() for label in display.ax_.get_yticklabels()] == ["B", "C", "D"]


def test_several_experts_per_sample(pyplot):
    experts = np.array([[0, 1], [0, 2]])
    display = RoutingDisplay.from_predictions([0, 1], experts, n_experts=4)
    assert display.routing_matrix.tolist() == [[0.5, 0.5, 0, 0], [0.5, 0, 0.5, 0]]


@pytest.mark.parametrize(("n_experts", "has_values"), [(2, True), (8, True), (32, False)])
def test_numbers_appear_where_they_fit(pyplot, n_experts, has_values):
    matrix = np.full((4, n_experts), 1 / n_experts)
    display = RoutingDisplay(matrix, normalize="true").plot()
    assert (display.text_ is not None) == has_values
    assert len(display.ax_.texts) == (matrix.size if has_values else 0)
    assert RoutingDisplay(matrix).plot(include_values=True).text_.shape == matrix.shape
    assert RoutingDisplay(matrix).plot(include_values=False).text_ is None


@pytest.mark.parametrize("shape", [(4, 8), (4, 12), (4, 32), (100, 64), (12, 3)])
def test_nothing_overlaps(pyplot, shape):
    display = RoutingDisplay(
        np.ones(shape), display_labels=[f"cluster {k}" for k in range(shape[0])]
    )
    display.plot()
    display.figure_.canvas.draw()
    ax = display.ax_
    for labels in (ax.get_xticklabels(), ax.get_yticklabels()):
        boxes = [label.get_window_extent() for label in labels]
        assert len(boxes) >= 2
        assert not any(a.overlaps(b) for a, b in pairwise(boxes))
    if display.text_ is not None:
        boxes = [text.get_window_extent() for text in display.text_[0]]
        assert not any(a.overlaps(b) for a, b in pairwise(boxes))


@pytest.mark.parametrize("cmap", ["Blues", "viridis", "Greys_r"])
def test_text_stands_out_from_its_cell(pyplot, cmap):
    display = RoutingDisplay(np.linspace(0, 1, 12).reshape(3, 4), normalize="true").plot(cmap=cmap)
    weights = [0.299, 0.587, 0.114]
    for (row, column), text in np.ndenumerate(display.text_):
        cell = display.im_.to_rgba(display.im_.get_array()[row, column])[:3]
        color = matplotlib.colors.to_rgb(text.get_color())
        assert abs(np.dot(weights, cell) - np.dot(weights, color)) > 0.45


def test_style_reaches_matplotlib(pyplot, routing):
    _, (left, right) = pyplot.subplots(1, 2, sharey=True, figsize=(12, 4))
    left.set_title("mine")
    display = RoutingDisplay.from_predictions(*routing, ax=left, colorbar=False, cmap="cividis_r")
    assert display.ax_ is left
    assert left.get_title() == "mine"
    assert display.im_.get_cmap().name == "cividis_r"
    assert len(display.figure_.axes) == 2
    again = display.plot(
        ax=right, im_kw={"vmax": 0.5, "aspect": "equal"}, text_kw={"size": 9, "color": "red"}
    )
    assert again is display
    assert display.ax_ is right
    assert display.im_.get_clim() == (0, 0.5)
    assert {(text.get_fontsize(), text.get_color()) for text in display.text_.flat} == {(9, "red")}


@pytest.mark.parametrize("estimator", [MoEClassifier, MoERegressor])
def test_of_a_fitted_mixture(pyplot, patches, estimator):
    (X, y, _), (X_test, _, clusters) = patches
    clf = estimator(n_experts=5, max_iter=3, tol=None, random_state=0).fit(X, y)
    display = RoutingDisplay.from_estimator(clf, X_test, clusters, normalize=None)
    assert display.routing_matrix.shape == (4, 5)
    assert display.routing_matrix.sum() == len(X_test)
    assert display.entropy == dispatch_entropy(clusters, clf.apply(X_test))


def test_malformed_input_is_refused(pyplot, routing):
    clusters, experts = routing
    figures = pyplot.get_fignums()
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        RoutingDisplay.from_predictions(clusters[1:], experts)
    with pytest.raises(ValueError, match="n_experts=2"):
        RoutingDisplay.from_predictions(clusters, experts, n_experts=2)
    with pytest.raises(ValueError, match="normalize"):
        RoutingDisplay.from_predictions(clusters, experts, normalize="rows")
    with pytest.raises(ValueError, match="4 clusters of the routing matrix, got 2 labels"):
        RoutingDisplay.from_predictions(clusters, experts, display_labels=["a", "b"])
    assert pyplot.get_fignums() == figures
