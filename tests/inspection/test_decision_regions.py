"""The plot of samples in the plane: experts, classes and regions."""

import matplotlib
import numpy as np
import pandas as pd
import pytest
from helpers import legend_texts, raises
from numpy.testing import assert_allclose, assert_array_equal

from sklearn_moe.inspection import DecisionRegionDisplay
from sklearn_moe.inspection._plotting import expert_colors

from_predictions = DecisionRegionDisplay.from_predictions


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
    points = pd.DataFrame(points, columns=["age", "height"])
    display = from_predictions(points, y, experts, None, grid_resolution=30)
    assert (display.ax_.get_xlabel(), display.ax_.get_ylabel()) == ("age", "height")
    assert_array_equal(regions(display).ravel(), experts[nearest(display, points.to_numpy(), 30)])
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
