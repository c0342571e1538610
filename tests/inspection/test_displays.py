"""What all displays have in common: numbers first, legible plots, styles, duck typing."""

import sys
from itertools import combinations
from types import SimpleNamespace

import matplotlib
import numpy as np
import pytest
from helpers import raises
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from sklearn_moe import MoEClassifier, inspection
from sklearn_moe.inspection import RoutingDisplay
from sklearn_moe.inspection._plotting import expert_colors


def routing(n_experts, labels=None):
    return RoutingDisplay(np.eye(4, n_experts), display_labels=labels, normalize="true", entropy=0)


DISPLAYS = {RoutingDisplay: routing}
each = pytest.mark.parametrize("display", DISPLAYS)


def test_all_displays_are_tested():
    names = {display.__name__ for display in DISPLAYS}
    assert names == {name for name in inspection.__all__ if name.endswith("Display")}


@each
def test_parameters_figures_and_missing_matplotlib(pyplot, display, monkeypatch):
    shown = DISPLAYS[display](4)
    before = vars(shown).copy()
    assert all(vars(display(**before))[name] is value for name, value in before.items())
    first = shown.plot().figure_
    assert shown.plot() is shown
    assert shown.figure_ is not first
    assert shown.ax_.get_xlabel()
    figure, (left, right) = pyplot.subplots(1, 2)
    assert shown.plot(ax=right).ax_ is right
    assert shown.figure_ is figure
    assert not left.has_data()
    assert len(pyplot.get_fignums()) == 3
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    raises(ImportError, rf"{display.__name__}.*pip install matplotlib", shown.plot)


def is_apart(texts):
    boxes = [text.get_window_extent() for text in texts if text.get_text()]
    return not any(a.overlaps(b) for a, b in combinations(boxes, 2))


@each
@pytest.mark.parametrize("n_experts", [4, 32])
def test_nothing_overlaps_or_leaves_the_figure(pyplot, display, n_experts):
    figure = DISPLAYS[display](n_experts).plot().figure_
    figure.canvas.draw()
    for ax in figure.axes:
        assert is_apart(ax.get_xticklabels())
        assert is_apart(ax.get_yticklabels())
        legends = ax.findobj(matplotlib.legend.Legend)
        assert is_apart([text for legend in legends for text in legend.get_texts()])
    tight, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    assert min(tight.x0, tight.y0) > -0.01
    assert max(tight.x1 - width, tight.y1 - height) < 0.01


def test_labels_are_shown_as_they_are(pyplot):
    """Names that hold dollars are neither drawn as formulas nor refused."""
    labels = [r"$\frac{$", "5-$10", r"a_b^c\d", r"\$x\$"]
    figure = routing(4, labels).plot().figure_
    figure.canvas.draw()
    shown = set()
    for text in figure.findobj(matplotlib.text.Text):
        plain = text.get_text().replace(r"\$", "$")
        if plain in labels and text.get_visible():
            options = {"font": text.get_fontproperties(), "rotation": text.get_rotation()}
            expected = figure.text(0, 0, plain, parse_math=False, **options)
            sizes = [t.get_window_extent().size for t in (text, expected)]
            assert_allclose(*sizes, atol=1)
            shown.add(plain)
    assert shown == set(labels)


# -- estimators ------------------------------------------------------------------------------


def test_estimators_and_pipelines_by_duck_typing(pyplot):
    X = np.array([[0.0, 1.0], [2.0, 2.0], [2.0, 3.0], [1.0, 4.0]])
    sorter = SimpleNamespace(apply=lambda X: np.maximum(X[:, 0], 0).astype(int))
    shift = FunctionTransformer(lambda X: X - 3).fit(X)
    options = {"clusters": ["a", "b", "b", "a"], "normalize": None}
    from_estimator = RoutingDisplay.from_estimator
    for estimator, samples in (
        (sorter, X),
        (make_pipeline(shift, sorter), X + 3),
        (make_pipeline(sorter), X),
    ):
        shown = from_estimator(estimator, samples, **options)
        assert shown.routing_matrix.sum(axis=0).tolist() == [1, 1, 2]
    for wrong in (LogisticRegression(), make_pipeline(LogisticRegression())):
        raises(TypeError, "LogisticRegression", from_estimator, wrong, X, **options)
    with pytest.raises(NotFittedError):
        from_estimator(MoEClassifier(), X, **options)
    raises(TypeError, "colour", from_estimator, sorter, X, **options, colour="red")


# -- colors ----------------------------------------------------------------------------------

CONES = [0.41222147, 0.53633254, 0.05144599, 0.2119035, 0.68069955, 0.10739696]
CONES += [0.08830246, 0.28171884, 0.6299787]
LAB = [0.21045426, 0.79361779, -0.00407205, 1.9779985, -2.42859221, 0.45059371]
LAB += [0.02590404, 0.78277177, -0.80867577]
PROTANOPIA = [0.152286, 1.052583, -0.204868, 0.114503, 0.786281, 0.099216]
PROTANOPIA += [-0.003882, -0.048116, 1.051998]
DEUTERANOPIA = [0.367322, 0.860646, -0.227968, 0.280085, 0.672501, 0.047413]
DEUTERANOPIA += [-0.011820, 0.042940, 0.968881]
# What is left of linear red, green and blue (Machado et al. 2009).
VISION = {"normal": np.eye(3), "protanopia": PROTANOPIA, "deuteranopia": DEUTERANOPIA}


@pytest.mark.parametrize("vision", VISION)
def test_colors_stay_apart(vision):
    assert_array_equal(expert_colors(40)[32:], expert_colors(32)[:8])
    for n_colors, distance in ((4, 0.13), (8, 0.075), (32, 0.05)):
        assert_array_equal(expert_colors(n_colors), expert_colors(32)[:n_colors])
        colors = expert_colors(n_colors)
        linear = np.where(colors < 0.04045, colors / 12.92, ((colors + 0.055) / 1.055) ** 2.4)
        seen = np.clip(linear @ np.reshape(VISION[vision], (3, 3)).T, 0, 1)
        cones = np.cbrt(seen @ np.reshape(CONES, (3, 3)).T)
        # In OKLab distance is what the eye sees: a just noticeable difference is about 0.02.
        lab = cones @ np.reshape(LAB, (3, 3)).T
        gaps = [np.linalg.norm(a - b) for a, b in combinations(lab, 2)]
        assert min(gaps) > distance
