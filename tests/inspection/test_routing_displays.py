"""The plots of routes: the routing matrix, and the load of the experts."""

from itertools import pairwise

import matplotlib
import numpy as np
import pytest
from helpers import legend_texts
from numpy.testing import assert_allclose, assert_array_equal

from sklearn_moe.inspection import LoadDisplay, RoutingDisplay, expert_colors
from sklearn_moe.metrics import dispatch_entropy, expert_load, routing_matrix

PETS = ["dog", "cat", "dog", "bird"]


@pytest.fixture
def routing():
    rng = np.random.RandomState(0)
    return rng.randint(4, size=300), rng.randint(6, size=300)


def texts(display):
    return np.vectorize(lambda text: text.get_text())(display.text_)


def tick_labels(axis):
    return [label.get_text() for label in axis.get_ticklabels()]


# -- matrix ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("normalize", "weighted"), [("true", False), ("pred", True), ("all", False), (None, True)]
)
def test_numbers_are_the_routing_matrix(pyplot, routing, normalize, weighted):
    clusters, experts = routing
    weight = np.linspace(0.5, 2, len(clusters)) if weighted else None
    options = {"n_experts": 8, "sample_weight": weight, "normalize": normalize}
    display = RoutingDisplay.from_predictions(*routing, **options, values_format=".5g")
    expected = routing_matrix(*routing, **options)
    assert_array_equal(display.routing_matrix, expected)
    assert_array_equal(display.im_.get_array(), expected)
    assert_array_equal(texts(display), np.vectorize(lambda value: format(value, ".5g"))(expected))
    assert display.entropy == dispatch_entropy(clusters, experts, sample_weight=weight)
    ax = display.ax_
    assert f"{display.entropy:.3f}" in ax.get_title()
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("Expert", "Cluster")
    assert (tick_labels(ax.xaxis), tick_labels(ax.yaxis)) == (list("01234567"), list("0123"))
    assert ax.get_ylim() == (3.5, -0.5)  # the first cluster on top
    largest = 1 if normalize in ("true", "pred") else expected.max()
    assert display.im_.get_clim() == (0, largest)
    label = {"true": "of the cluster", "pred": "of the expert", "all": "of all", None: "Samples"}
    assert label[normalize] in display.figure_.axes[1].get_ylabel()


def test_default_numbers_and_names(pyplot):
    clusters, experts = [0, 0, 0, 1], [0, 0, 1, 1]
    shares = RoutingDisplay.from_predictions(clusters, experts)
    assert texts(shares).tolist() == [["0.67", "0.33"], ["0", "1.00"]]
    counts = RoutingDisplay.from_predictions(clusters, experts, normalize=None)
    assert texts(counts).tolist() == [["2", "1"], ["0", "1"]]
    for names in (None, ["B", "C", "D"]):
        display = RoutingDisplay.from_predictions(PETS, [0, 1, 0, 2], display_labels=names)
        assert tick_labels(display.ax_.yaxis) == (names or ["bird", "cat", "dog"])


@pytest.mark.parametrize("shape", [(4, 2), (4, 8), (4, 32), (100, 64), (12, 3)])
def test_labels_and_numbers_fit(pyplot, shape):
    names = [f"cluster {k}" for k in range(shape[0])]
    display = RoutingDisplay(np.ones(shape) / shape[1], display_labels=names).plot()
    has_values = max(shape) < 12 or shape == (12, 3)
    assert (display.text_ is not None) == has_values
    assert len(display.ax_.texts) == has_values * np.prod(shape)
    n_lines = len(display.ax_.get_xticks(minor=True))  # none around the smallest cells
    assert n_lines == (0 if shape == (100, 64) else shape[1] - 1)
    display.figure_.canvas.draw()
    numbers = [] if display.text_ is None else [display.text_[0]]
    for row in (display.ax_.get_xticklabels(), display.ax_.get_yticklabels(), *numbers):
        boxes = [text.get_window_extent() for text in row]
        assert len(boxes) >= 2
        assert not any(a.overlaps(b) for a, b in pairwise(boxes))
    assert display.plot(include_values=False).text_ is None
    if shape == (4, 32):
        assert display.plot(include_values=True).text_.shape == shape


def test_text_stands_out_from_its_cell(pyplot):
    matrix = np.linspace(0, 1, 12).reshape(3, 4)
    display = RoutingDisplay(matrix, normalize="true").plot(cmap="viridis")
    weights = [0.299, 0.587, 0.114]
    for (row, column), text in np.ndenumerate(display.text_):
        cell = display.im_.to_rgba(display.im_.get_array()[row, column])[:3]
        color = matplotlib.colors.to_rgb(text.get_color())
        assert abs(np.dot(weights, cell) - np.dot(weights, color)) > 0.45


def test_options_of_the_matrix(pyplot, routing):
    ax = pyplot.figure().add_subplot(title="mine")
    display = RoutingDisplay.from_predictions(*routing, ax=ax, colorbar=False, cmap="cividis_r")
    assert (ax.get_title(), display.im_.get_cmap().name) == ("mine", "cividis_r")
    assert display.figure_.axes == [ax]
    display.plot(im_kw={"vmax": 0.5}, text_kw={"size": 9})
    assert display.im_.get_clim() == (0, 0.5)
    assert {text.get_fontsize() for text in display.text_.flat} == {9}


def test_malformed_input_is_refused(pyplot, routing):
    clusters, experts = routing
    labels, options = ["a", "b"], {"n_experts": 2, "normalize": "rows", "sample_weight": [1]}
    for name, value in (options | {"display_labels": labels}).items():
        with pytest.raises(ValueError, match=name):
            RoutingDisplay.from_predictions(clusters, experts, **{name: value})
    assert pyplot.get_fignums() == []


# -- load ------------------------------------------------------------------------------------


def test_bars_are_the_load(pyplot, routing):
    clusters, experts = routing
    options = {"n_experts": 8, "sample_weight": np.linspace(0.5, 2, 300)}
    load = expert_load(experts, **options)
    display = LoadDisplay.from_predictions(experts, **options)
    assert_array_equal(display.load, load)
    assert_array_equal([[bar.get_height() for bar in bars] for bars in display.bars_], [load])

    display = LoadDisplay.from_predictions(experts, clusters, **options)
    assert_array_equal(display.load, routing_matrix(clusters, experts, normalize="all", **options))
    heights = np.array([[bar.get_height() for bar in bars] for bars in display.bars_])
    bottoms = np.array([[bar.get_y() for bar in bars] for bars in display.bars_])
    assert_allclose(heights.sum(axis=0), load)
    assert_allclose(bottoms, np.cumsum(heights, axis=0) - heights)


def test_equal_share_and_dead_experts_are_marked(pyplot):
    display = LoadDisplay.from_predictions([0, 0, 0, 2], n_experts=5)
    assert set(display.uniform_.get_ydata()) == {1 / 5}
    assert display.dead_.get_xdata().tolist() == [1, 3, 4]
    assert (0 < display.dead_.get_ydata()).all()  # inside the axes
    assert display.ax_.get_ylim() == (0, 1.05 * 0.75)
    assert legend_texts(display.ax_) == ["equal share, 1/5", "receives no sample"]
    assert LoadDisplay.from_predictions([0, 1]).dead_ is None
    several = LoadDisplay.from_predictions([[0, 1], [0, 2]], n_experts=4)
    assert several.load.tolist() == [0.5, 0.25, 0.25, 0]


def test_clusters_are_named_as_they_are_stacked(pyplot):
    experts = [0, 1, 0, 1]
    names = legend_texts(LoadDisplay.from_predictions(experts, PETS).ax_)
    assert names[1:] == ["cluster dog", "cluster cat", "cluster bird"]
    display = LoadDisplay.from_predictions(experts, PETS, display_labels=["B", "C", "D"])
    assert legend_texts(display.ax_)[1:] == ["cluster D", "cluster C", "cluster B"]
    assert_allclose([bars[0].get_facecolor()[:3] for bars in display.bars_], expert_colors(3))
    with pytest.raises(ValueError, match=r"display_labels .* 3 clusters, got 1"):
        LoadDisplay.from_predictions(experts, PETS, display_labels=["B"])
    many = LoadDisplay(np.full((40, 2), 1 / 80)).plot()
    assert legend_texts(many.ax_) == ["equal share, 1/2"]  # clusters without names
