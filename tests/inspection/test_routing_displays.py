"""The plot of the routing matrix."""

from itertools import pairwise

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from sklearn_moe.inspection import RoutingDisplay
from sklearn_moe.metrics import dispatch_entropy, routing_matrix


@pytest.fixture
def routing():
    rng = np.random.RandomState(0)
    return rng.randint(4, size=300), rng.randint(6, size=300)


def texts(display):
    return np.vectorize(lambda text: text.get_text())(display.text_)


def tick_labels(axis):
    return [label.get_text() for label in axis.get_ticklabels()]


@pytest.mark.parametrize("normalize", ["true", "pred", "all", None])
def test_numbers_are_the_routing_matrix(pyplot, routing, normalize):
    options = {"n_experts": 8, "normalize": normalize}
    display = RoutingDisplay.from_predictions(*routing, **options)
    expected = routing_matrix(*routing, **options)
    assert_array_equal(display.routing_matrix, expected)
    assert_array_equal(display.im_.get_array(), expected)
    assert display.entropy == dispatch_entropy(*routing)
    ax = display.ax_
    assert f"{display.entropy:.3f}" in ax.get_title()
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("Expert", "Cluster")
    assert (tick_labels(ax.xaxis), tick_labels(ax.yaxis)) == (list("01234567"), list("0123"))
    # The first cluster is on top.
    assert ax.get_ylim() == (3.5, -0.5)
    largest = 1 if normalize in ("true", "pred") else expected.max()
    assert display.im_.get_clim() == (0, largest)


def test_texts_names_and_options(pyplot):
    clusters, experts = [0, 0, 0, 1], [0, 0, 1, 1]
    shares = RoutingDisplay.from_predictions(clusters, experts)
    assert texts(shares).tolist() == [["0.67", "0.33"], ["0.00", "1.00"]]
    counts = RoutingDisplay.from_predictions(clusters, experts, normalize=None)
    assert texts(counts).tolist() == [["2", "1"], ["0", "1"]]
    pets = RoutingDisplay.from_predictions(["dog", "cat", "dog", "bird"], experts)
    assert tick_labels(pets.ax_.yaxis) == ["bird", "cat", "dog"]
    ax = pyplot.figure().add_subplot(title="mine")
    plain = RoutingDisplay.from_predictions(clusters, experts, ax=ax)
    assert (ax.get_title(), plain.ax_) == ("mine", ax)


@pytest.mark.parametrize("shape", [(4, 2), (4, 8), (4, 32), (100, 64), (12, 3)])
def test_labels_and_numbers_fit(pyplot, shape):
    names = [f"cluster {k}" for k in range(shape[0])]
    display = RoutingDisplay(np.ones(shape) / shape[1], display_labels=names).plot()
    has_values = max(shape) < 12 or shape == (12, 3)
    assert (display.text_ is not None) == has_values
    display.figure_.canvas.draw()
    numbers = [display.text_[0], display.text_[:, 0]] if has_values else []
    for row in (display.ax_.get_xticklabels(), display.ax_.get_yticklabels(), *numbers):
        boxes = [text.get_window_extent() for text in row]
        assert len(boxes) >= 2
        assert not any(a.overlaps(b) for a, b in pairwise(boxes))


def test_text_stands_out_from_its_cell(pyplot):
    display = RoutingDisplay([[0, 0.4, 1]], normalize="true").plot()
    assert [text.get_color() for text in display.text_.flat] == ["black", "black", "white"]
