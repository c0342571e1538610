"""What the plots share: matplotlib, which is optional, labels and colors."""

import sys
from itertools import combinations

import matplotlib
import numpy as np
import pandas as pd
import pytest
from helpers import raises
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.datasets import load_breast_cancer, load_diabetes, load_wine

from sklearn_moe import MixtureClassifier, MixtureRegressor
from sklearn_moe.inspection import explain, region_rules
from sklearn_moe.inspection._plotting import expert_colors


def test_matplotlib_may_be_missing(monkeypatch):
    X = np.random.default_rng(0).normal(size=(60, 2))
    model = MixtureRegressor(n_components=1, random_state=0).fit(X, X[:, 0])
    shown = [explain(model, X, [0]), region_rules(model, X)]
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    for each in shown:
        name = type(each).__name__
        raises(ImportError, rf"{name}\.plot.*pip install matplotlib", each.plot)


def test_labels_are_shown_as_they_are(pyplot):
    """Names that hold dollars are neither drawn as formulas nor refused."""
    labels = [r"$\frac{$", "5-$10", r"a_b^c\d", r"\$x\$"]
    X = pd.DataFrame(np.random.default_rng(0).normal(size=(60, 4)), columns=labels)
    X = X.assign(**{label: X[label].round() for label in labels})
    model = MixtureRegressor(n_components=1, random_state=0).fit(X, X.sum(axis=1))
    figure = explain(model, X, [0]).plot()
    figure.canvas.draw()
    shown = set()
    for text in figure.findobj(matplotlib.text.Text):
        name, is_value, value = text.get_text().replace(r"\$", "$").partition(" = ")
        if is_value and text.get_visible():
            options = {"font": text.get_fontproperties(), "rotation": text.get_rotation()}
            plain = f"{name} = {value}"
            expected = figure.text(0, 0, plain, parse_math=False, **options)
            sizes = [t.get_window_extent().size for t in (text, expected)]
            assert_allclose(*sizes, atol=1)
            shown.add(name)
    assert shown == set(labels)


def drawn_texts(figure):
    """Return the texts that are seen and the boxes that they cover."""
    figure.canvas.draw()
    texts = [text for legend in figure.legends for text in legend.get_texts()]
    for ax in figure.axes:
        texts += [*ax.texts, ax.title, ax._left_title, ax.xaxis.label, ax.yaxis.label]
        texts += ax.get_legend().get_texts() if ax.get_legend() else []
        for axis in (ax.xaxis, ax.yaxis):
            low, high = sorted(axis.get_view_interval())
            texts += [t.label1 for t in axis.get_major_ticks() if low <= t.get_loc() <= high]
    texts = [text for text in texts if text.get_visible() and text.get_text()]
    return [(text.get_text(), text.get_window_extent()) for text in texts]


def covers(one, other):
    return (np.minimum(one.max, other.max) - np.maximum(one.min, other.min) > 1).all()


@pytest.mark.parametrize("load", [load_wine, load_breast_cancer, load_diabetes])
def test_no_text_is_over_another_or_over_a_border(load, pyplot):
    X, y = load(return_X_y=True, as_frame=True)
    model = MixtureClassifier(n_components=1, random_state=0)
    if load is load_diabetes:
        model = MixtureRegressor(n_components=2, n_init=1, random_state=0)
    model.fit(X, y)
    explained = explain(model, X, range(0, len(X), len(X) // 3))
    pictures = [explained.plot(row) for row in range(3)]
    for figure in [*pictures, region_rules(model, X, y).plot()]:
        found = drawn_texts(figure)
        for place, (text, box) in enumerate(found):
            assert covers(box, figure.bbox), text
            inside = box.min >= -1, box.max <= figure.bbox.max + 1
            assert np.all(inside), f"{text} leaves the figure"
            over = [other for other, its in found[:place] if covers(box, its)]
            assert not over, f"{text} over {over}"
            borders = [ax.bbox for ax in figure.axes if covers(box, ax.bbox)]
            assert not borders, f"{text} over a border"


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
