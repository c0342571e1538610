"""What all displays have in common: numbers first, legible pictures, matplotlib only to draw."""

import subprocess
import sys
from itertools import combinations

import matplotlib
import numpy as np
import pytest
from numpy.testing import assert_array_equal
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from sklearn_moe import MoEClassifier, MoERegressor, inspection
from sklearn_moe.inspection import (
    AlignmentDisplay,
    DecisionRegionDisplay,
    DispatchEntropyDisplay,
    ExpertCountDisplay,
    LoadDisplay,
    RoutingDisplay,
    expert_colors,
)

matplotlib.use("Agg")


def regions(n_experts):
    rng = np.random.RandomState(0)
    experts = np.arange(20 * n_experts) % n_experts
    points = rng.normal(size=(len(experts), 2)) + 6 * rng.normal(size=(n_experts, 2))[experts]
    classes = np.array(["negative", "positive"])[experts % 2]
    return DecisionRegionDisplay(points, classes, experts, classes, n_experts=n_experts + 2)


def alignment(n_experts):
    products = np.linspace(-1, 1, 12 * n_experts).reshape(n_experts, 3, 4)
    return AlignmentDisplay(products[:, 0], 0.1 * products[:, 1], products, 0.01 * products)


def expert_count(n_experts):
    counts = np.arange(1, n_experts + 1)
    scores = np.random.RandomState(0).uniform(size=(3, n_experts, 5))
    return ExpertCountDisplay(counts, scores, names=["linear", "cubic", "tanh"])


DISPLAYS = {
    RoutingDisplay: lambda n: RoutingDisplay(np.eye(4, n), normalize="true", entropy=0.0),
    LoadDisplay: lambda n: LoadDisplay(np.eye(4, n) / 4),
    DispatchEntropyDisplay: lambda n: DispatchEntropyDisplay(
        np.arange(0, 500, 10),
        1.386 / (1 + np.arange(50) * np.arange(1, n + 1)[:, None]),
        n_clusters=4,
    ),
    AlignmentDisplay: alignment,
    DecisionRegionDisplay: regions,
    ExpertCountDisplay: expert_count,
}
ON_ONE_AXES = [display for display in DISPLAYS if display is not AlignmentDisplay]
OF_ESTIMATORS = [RoutingDisplay, LoadDisplay, DecisionRegionDisplay]
each = pytest.mark.parametrize("display", DISPLAYS)


def test_no_display_goes_untested():
    public = {getattr(inspection, name) for name in inspection.__all__} - {expert_colors}
    assert public == set(DISPLAYS)


def test_import_leaves_matplotlib_alone():
    code = "import sys, sklearn_moe.inspection; sys.exit('matplotlib' in sys.modules)"
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


@each
def test_missing_matplotlib_names_the_extra(monkeypatch, display):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=rf"{display.__name__}.*pip install sklearn_moe\[plot\]"):
        DISPLAYS[display](4).plot()


@each
def test_parameters_are_kept_as_they_are(display):
    shown = DISPLAYS[display](4)
    before = vars(shown).copy()
    again = display(**before)
    assert all(vars(again)[name] is value for name, value in before.items())


@each
def test_plot_returns_the_display_itself_again_and_again(pyplot, display):
    shown = DISPLAYS[display](4)
    assert shown.plot() is shown
    first = shown.figure_
    assert shown.plot() is shown
    assert shown.figure_ is not first


@pytest.mark.parametrize("display", ON_ONE_AXES)
def test_draws_on_the_given_axes(pyplot, display):
    figure, (left, right) = pyplot.subplots(1, 2)
    shown = DISPLAYS[display](4).plot(ax=right)
    assert shown.ax_ is right
    assert shown.figure_ is figure
    assert not left.has_data()
    assert pyplot.get_fignums() == [figure.number]


@pytest.mark.parametrize("display", ON_ONE_AXES)
def test_axes_are_named(pyplot, display):
    ax = DISPLAYS[display](4).plot().ax_
    assert ax.get_xlabel()
    assert ax.get_ylabel()


def is_apart(texts, slack=0):
    boxes = [text.get_window_extent() for text in texts if text.get_text()]
    return not any(
        a.x0 + slack < b.x1 and b.x0 + slack < a.x1 and a.y0 + slack < b.y1 and b.y0 + slack < a.y1
        for a, b in combinations(boxes, 2)
    )


def drawn_labels(axis):
    """Return the tick labels of an axis, without those beyond its ends, which are not drawn."""
    low, high = sorted(axis.get_view_interval())
    labels = zip(axis.get_ticklocs(), axis.get_ticklabels(), strict=False)  # none if shared
    return [label for place, label in labels if low <= place <= high]


@each
@pytest.mark.parametrize("n_experts", [4, 32])
def test_nothing_overlaps_or_leaves_the_figure(pyplot, display, n_experts):
    shown = DISPLAYS[display](n_experts).plot()
    figure = shown.figure_
    figure.canvas.draw()
    for ax in figure.axes:
        assert is_apart([*drawn_labels(ax.xaxis), *drawn_labels(ax.yaxis)])
        legends = ax.findobj(matplotlib.legend.Legend)
        assert is_apart([text for legend in legends for text in legend.get_texts()])
        assert is_apart(ax.texts, slack=1)
        for legend in legends:
            assert figure.bbox.expanded(1.001, 1.001).containsx(legend.get_window_extent().x1)
    tight = figure.get_tightbbox()
    (width, height), slack = figure.get_size_inches(), 0.01
    assert tight.x0 > -slack
    assert tight.y0 > -slack
    assert tight.x1 < width + slack
    assert tight.y1 < height + slack


def with_labels(display, labels):
    """Return figures in which four clusters, classes, curves or axes have these names."""
    if display is DispatchEntropyDisplay:
        return [display([0, 1], [1, 0]).plot(name=label).figure_ for label in labels]
    rng, rows = np.random.RandomState(0), np.arange(40) % 4
    if display is DecisionRegionDisplay:
        points, classes = rng.normal(size=(40, 2)), np.array(labels)[rows]
        shown = display(points, classes, rows, classes, axis_labels=labels[:2])
    elif display is ExpertCountDisplay:
        shown = display([1, 2, 3], rng.uniform(size=(4, 3, 5)), names=labels, score_name=labels[0])
    else:
        shown = DISPLAYS[display](4)
        shown.display_labels = labels
    return [shown.plot().figure_]


@each
def test_labels_are_shown_as_they_are(pyplot, display):
    """Names that hold dollars are no formulas: they are not drawn as such, nor refused."""
    labels = [r"$\frac{$", "$5-$10", r"a_b^c\d", r"\$x\$"]
    shown = set()
    for figure in with_labels(display, labels):
        figure.canvas.draw()
        for text in figure.findobj(matplotlib.text.Text):
            plain = text.get_text().replace(r"\$", "$")
            shown_here = {label for label in labels if plain.endswith(label)}
            if shown_here and text.get_visible():
                options = {"font": text.get_fontproperties(), "rotation": text.get_rotation()}
                expected = figure.text(0, 0, plain, parse_math=False, **options)
                sizes = [t.get_window_extent().size for t in (text, expected)]
                np.testing.assert_allclose(*sizes, atol=1)
                shown |= shown_here
    assert shown == set(labels)


# -- estimators ------------------------------------------------------------------------------


class Sorter(BaseEstimator):
    """Route by the first feature: the least that a display asks of an estimator."""

    def fit(self, X, y=None):
        self.fitted_ = True
        return self

    def apply(self, X):
        return np.asarray(X)[:, 0].astype(int)

    def predict(self, X):
        return self.apply(X) > 1


class GatedSorter(Sorter):
    def gate_proba(self, X):
        return np.full((len(X), 7), 1 / 7)


def experts_of(shown):
    """Return how many samples of each expert are in the picture, however it shows them."""
    if isinstance(shown, RoutingDisplay):
        return shown.routing_matrix.sum(axis=0)
    if isinstance(shown, LoadDisplay):
        return shown.load * 4
    return np.bincount(shown.experts, minlength=shown.n_experts or 0)


OPTIONS = {
    RoutingDisplay: {"clusters": ["a", "b", "b", "a"], "normalize": None},
    LoadDisplay: {},
    DecisionRegionDisplay: {"embedding": np.arange(8).reshape(4, 2) % 3},
}
of_estimators = pytest.mark.parametrize("display", OF_ESTIMATORS)


@of_estimators
def test_asks_the_estimator_by_duck_typing(pyplot, display):
    X = np.array([[0.0], [2.0], [2.0], [1.0]])
    shown = display.from_estimator(Sorter(), X, **OPTIONS[display])
    assert experts_of(shown).tolist() == [1, 1, 2]
    shown = display.from_estimator(GatedSorter(), X, **OPTIONS[display])
    assert experts_of(shown).tolist() == [1, 1, 2, 0, 0, 0, 0]


@of_estimators
def test_of_a_pipeline(pyplot, display):
    X = np.array([[3.0], [4.0], [4.0], [5.0]])
    pipeline = make_pipeline(FunctionTransformer(lambda X: X - 3), Sorter()).fit(X)
    shown = display.from_estimator(pipeline, X, **OPTIONS[display])
    assert experts_of(shown).tolist() == [1, 2, 1]
    alone = make_pipeline(Sorter()).fit(X)
    shown = display.from_estimator(alone, X - 3, **OPTIONS[display])
    assert experts_of(shown).tolist() == [1, 2, 1]


@of_estimators
def test_unfit_estimators_are_refused(display):
    X = np.ones((4, 2))
    with pytest.raises(TypeError, match="LogisticRegression"):
        display.from_estimator(LogisticRegression(), X, **OPTIONS[display])
    with pytest.raises(TypeError, match="StandardScaler"):
        display.from_estimator(make_pipeline(StandardScaler()), X, **OPTIONS[display])
    with pytest.raises(NotFittedError):
        display.from_estimator(MoEClassifier(), X, **OPTIONS[display])
    with pytest.raises(NotFittedError):
        display.from_estimator(MoERegressor(), X, **OPTIONS[display])


# -- colors ----------------------------------------------------------------------------------


def oklab(color):
    """Return colors of shape (n, 3) in a space where distance is what the eye sees (OKLab)."""
    to_cones = [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
    to_lab = [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
    return np.cbrt(color @ np.transpose(to_cones)) @ np.transpose(to_lab)


VISION = {  # what is left of linear red, green and blue (Machado et al. 2009)
    "normal": np.eye(3),
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
}


@pytest.mark.parametrize("vision", VISION)
@pytest.mark.parametrize(("n_colors", "distance"), [(4, 0.13), (8, 0.075), (32, 0.05)])
def test_colors_stay_apart(vision, n_colors, distance):
    colors = expert_colors(n_colors)
    linear = np.where(colors < 0.04045, colors / 12.92, ((colors + 0.055) / 1.055) ** 2.4)
    seen = oklab(np.clip(linear @ np.transpose(VISION[vision]), 0, 1))
    gaps = [np.linalg.norm(a - b) for a, b in combinations(seen, 2)]
    assert min(gaps) > distance  # a just noticeable difference is about 0.02


def test_an_expert_keeps_its_color():
    assert_array_equal(expert_colors(32)[:4], expert_colors(4))
    assert_array_equal(expert_colors(40)[32:], expert_colors(8))
    assert all(0 <= value <= 1 for value in expert_colors(32).flat)
    with pytest.raises(ValueError, match="n_colors"):
        expert_colors(0)
