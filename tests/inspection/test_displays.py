"""What all displays have in common: numbers first, legible plots, styles, duck typing."""

import sys
from inspect import signature
from itertools import combinations
from types import SimpleNamespace

import matplotlib
import numpy as np
import pytest
from helpers import raises
from matplotlib.colors import Normalize, to_rgba
from numpy.testing import assert_array_equal, assert_equal
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from sklearn_moe import MoEClassifier, inspection
from sklearn_moe.inspection import (
    AlignmentDisplay,
    DecisionRegionDisplay,
    DispatchEntropyDisplay,
    ExpertCountDisplay,
    LoadDisplay,
    RoutingDisplay,
    StabilityDisplay,
    expert_colors,
)


def regions(n_experts, labels=("negative", "positive")):
    rng, experts = np.random.RandomState(0), np.arange(20 * n_experts) % n_experts
    points = rng.normal(size=(len(experts), 2)) + 6 * rng.normal(size=(n_experts, 2))[experts]
    classes = np.array(labels)[experts % len(labels)]
    options = {"n_experts": n_experts + 2, "axis_labels": labels[:2]}
    return DecisionRegionDisplay(points, classes, experts, classes, **options)


def alignment(n_experts, labels=None):
    products = np.linspace(-1, 1, 12 * n_experts).reshape(n_experts, 3, 4)
    router = products[:, 0], 0.1 * products[:, 1]
    return AlignmentDisplay(*router, products, 0.01 * products, display_labels=labels)


def entropy(n_runs):
    runs = 1.386 / (1 + np.arange(50) * np.arange(1, n_runs + 1)[:, None])
    return DispatchEntropyDisplay(np.arange(0, 500, 10), runs, n_clusters=4)


def expert_count(n_experts, labels=("linear", "cubic", "tanh")):
    scores = np.random.RandomState(0).uniform(size=(len(labels), n_experts, 5))
    counts = range(1, n_experts + 1)
    return ExpertCountDisplay(counts, scores, names=labels, score_name=labels[0])


def routing(n_experts, labels=None):
    return RoutingDisplay(np.eye(4, n_experts), display_labels=labels, normalize="true", entropy=0)


DISPLAYS = {  # called with the number of experts, and names of clusters, classes, curves or axes
    RoutingDisplay: routing,
    LoadDisplay: lambda n, labels=None: LoadDisplay(np.eye(4, n) / 4, display_labels=labels),
    DispatchEntropyDisplay: entropy,
    AlignmentDisplay: alignment,
    DecisionRegionDisplay: regions,
    ExpertCountDisplay: expert_count,
}
each = pytest.mark.parametrize("display", DISPLAYS)


def test_all_displays_are_tested():
    public = {getattr(inspection, n) for n in inspection.__all__ if n.endswith("Display")}
    assert public == {*DISPLAYS, StabilityDisplay}


@each
def test_parameters_figures_and_missing_matplotlib(pyplot, display, monkeypatch):
    shown = DISPLAYS[display](4)
    before = vars(shown).copy()
    assert all(vars(display(**before))[name] is value for name, value in before.items())
    first = shown.plot().figure_
    assert shown.plot() is shown
    assert shown.figure_ is not first
    if display is not AlignmentDisplay:
        assert shown.ax_.get_xlabel()
        assert shown.ax_.get_ylabel()
        figure, (left, right) = pyplot.subplots(1, 2)
        assert shown.plot(ax=right).ax_ is right
        assert shown.figure_ is figure
        assert not left.has_data()
        assert len(pyplot.get_fignums()) == 3
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    raises(ImportError, rf"{display.__name__}.*pip install matplotlib", shown.plot)


def is_apart(texts, slack=0):
    boxes = [text.get_window_extent() for text in texts if text.get_text()]
    return not any(a.padded(-slack).overlaps(b) for a, b in combinations(boxes, 2))


def drawn_labels(axis):
    """Return the tick labels of an axis, without those beyond its ends, which are not drawn."""
    low, high = sorted(axis.get_view_interval())
    labels = zip(axis.get_ticklocs(), axis.get_ticklabels(), strict=False)  # none if shared
    return [label for place, label in labels if low <= place <= high]


@each
@pytest.mark.parametrize("n_experts", [4, 32])
def test_nothing_overlaps_or_leaves_the_figure(pyplot, display, n_experts):
    figure = DISPLAYS[display](n_experts).plot().figure_
    figure.canvas.draw()
    for ax in figure.axes:
        assert is_apart([*drawn_labels(ax.xaxis), *drawn_labels(ax.yaxis)])
        legends = ax.findobj(matplotlib.legend.Legend)
        assert is_apart([text for legend in legends for text in legend.get_texts()])
        assert is_apart(ax.texts, slack=1)
        for legend in legends:
            assert figure.bbox.expanded(1.001, 1.001).containsx(legend.get_window_extent().x1)
    tight, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    assert min(tight.x0, tight.y0) > -0.01
    assert max(tight.x1 - width, tight.y1 - height) < 0.01


@each
def test_labels_are_shown_as_they_are(pyplot, display):
    """Names that hold dollars are neither drawn as formulas nor refused."""
    labels = [r"$\frac{$", "$5-$10", r"a_b^c\d", r"\$x\$"]
    shown = set()
    if display is DispatchEntropyDisplay:
        displays = [display([0, 1], [1, 0]).plot(name=label) for label in labels]
    else:
        displays = [DISPLAYS[display](4, labels).plot()]
    for figure in (display.figure_ for display in displays):
        figure.canvas.draw()
        for text in figure.findobj(matplotlib.text.Text):
            plain = text.get_text().replace(r"\$", "$")
            here = {label for label in labels if plain.endswith(label)}
            if here and text.get_visible():
                options = {"font": text.get_fontproperties(), "rotation": text.get_rotation()}
                expected = figure.text(0, 0, plain, parse_math=False, **options)
                sizes = [t.get_window_extent().size for t in (text, expected)]
                np.testing.assert_allclose(*sizes, atol=1)
                shown |= here
    assert shown == set(labels)


# -- styles ----------------------------------------------------------------------------------

# What is drawn, how, and what of it: {(display, name of the argument): ...}.
DRAWN = {
    (RoutingDisplay, "im_kw"): ("image", lambda s: s.im_),
    (RoutingDisplay, "text_kw"): ("text", lambda s: s.text_[0, 0]),
    (AlignmentDisplay, "im_kw"): ("image", lambda s: s.im_[1, 0]),
    (AlignmentDisplay, "text_kw"): ("text", lambda s: s.text_[1, 0][0, 0]),
    (LoadDisplay, "bar_kw"): ("patch", lambda s: s.bars_[1][1]),
    (LoadDisplay, "line_kw"): ("line", lambda s: s.uniform_),
    (DispatchEntropyDisplay, "line_kw"): ("line", lambda s: s.line_),
    (DispatchEntropyDisplay, "band_kw"): ("collection", lambda s: s.band_),
    (DispatchEntropyDisplay, "maximum_kw"): ("line", lambda s: s.maximum_),
    (DecisionRegionDisplay, "scatter_kw"): ("collection", lambda s: s.points_[0]),
    (DecisionRegionDisplay, "region_kw"): ("image", lambda s: s.background_),
    (ExpertCountDisplay, "line_kw"): ("line", lambda s: s.lines_[0].lines[0]),
    (ExpertCountDisplay, "fold_kw"): ("line", lambda s: s.folds_[0]),
}
# Aliases of properties, and values that are none of our defaults.
STYLES = {
    "line": [{"c": "red", "lw": 3, "ls": ":"}, {"color": "red", "ms": 9, "mec": "lime"}],
    "patch": [{"fc": "red", "ec": "lime", "lw": 3}, {"color": "red", "linestyle": ":"}],
    "collection": [{"fc": "red", "ec": "lime", "lw": 3}, {"facecolors": "red", "linewidths": 3}],
    "text": [{"c": "red", "size": 8, "ha": "left"}, {"color": "red", "fontsize": 8}],
    "image": [{"cmap": "viridis", "interpolation": "bilinear", "zorder": 5, "alpha": 0.75}],
}


def draw(display, **options):
    if display is ExpertCountDisplay and "fold_kw" in options:
        options["show_folds"] = True
    if display is AlignmentDisplay:
        options["colorbar"] = False  # for speed
    return DISPLAYS[display](4).plot(**options)


def shown_style(artist, style):
    """Return the properties of an artist that a style sets."""
    names = [name if hasattr(artist, f"get_{name}") else f"face{name}" for name in style]
    return {name: getattr(artist, f"get_{name}")() for name in names}


@pytest.mark.parametrize(("display", "argument"), DRAWN)
def test_the_style_of_the_user_wins_by_any_name(pyplot, display, argument):
    artist, find = DRAWN[display, argument]
    for style in STYLES[artist]:
        given = style.copy()
        drawn = find(draw(display, **{argument: given}))
        assert given == style
        shown = shown_style(drawn, style)
        drawn.set(**style)  # changes nothing
        assert_equal(shown, shown_style(drawn, style))
    if artist == "image":
        norm = Normalize(-3, 3)  # in place of our limits
        image = find(draw(display, **{argument: {"norm": norm}}))
        assert image.norm is norm
        assert (norm.vmin, norm.vmax) == (-3, 3)


def test_details_of_styles(pyplot):
    named = {(d, name) for d in DISPLAYS for name in signature(d.plot).parameters}
    assert {(d, name) for d, name in named if name.endswith("_kw")} == set(DRAWN)
    bar = draw(LoadDisplay, bar_kw={"fc": "red"}).bars_[0][0]
    assert bar.get_edgecolor() == to_rgba("white")
    values = {"c": np.arange(40), "cmap": "viridis"}
    mapped = draw(DecisionRegionDisplay, scatter_kw=values).points_
    assert mapped[0].get_array().tolist() == list(range(40))
    assert to_rgba(mapped[0].get_edgecolor()[0]) == to_rgba("black")
    dots, crosses = draw(DecisionRegionDisplay, scatter_kw={"ec": "lime", "c": "red"}).points_
    assert to_rgba(crosses.get_edgecolor()[0]) == to_rgba("red")  # a cross has no edge
    assert to_rgba(dots.get_edgecolor()[0]) == to_rgba("lime")
    draw(DecisionRegionDisplay, scatter_kw={"marker": "+"})
    with pytest.raises(TypeError, match="aliases of one another"):
        draw(LoadDisplay, bar_kw={"ec": "red", "edgecolor": "lime"})


# -- estimators ------------------------------------------------------------------------------


def sorter(**attributes):
    """Return the least that a display needs of an estimator; it routes by the first feature."""

    def apply(X):
        return X[:, 0].astype(int)

    return SimpleNamespace(apply=apply, predict=lambda X: apply(X) > 1, **attributes)


def experts_of(shown):
    """Return how many samples of each expert are shown, in any way."""
    if isinstance(shown, RoutingDisplay):
        return shown.routing_matrix.sum(axis=0).tolist()
    if isinstance(shown, LoadDisplay):
        return (shown.load.sum(axis=0) * 4).tolist()
    return np.bincount(shown.experts, minlength=shown.n_experts or 0).tolist()


@pytest.mark.parametrize(
    ("display", "options"),
    [
        (RoutingDisplay, {"clusters": ["a", "b", "b", "a"], "normalize": None}),
        (LoadDisplay, {"clusters": ["a", "b", "b", "a"]}),
        (DecisionRegionDisplay, {"embedding": np.arange(8).reshape(4, 2) % 3}),
    ],
)
def test_estimators_and_pipelines_by_duck_typing(pyplot, display, options):
    X = np.array([[0.0], [2.0], [2.0], [1.0]])
    shift = FunctionTransformer(lambda X: X - 3).fit(X)
    gated = sorter(gate_proba=lambda X: np.full((len(X), 7), 1 / 7))
    for estimator, samples, expected in (
        (sorter(), X, [1, 1, 2]),
        (gated, X, [1, 1, 2, 0, 0, 0, 0]),
        (make_pipeline(shift, sorter()), X + 3, [1, 1, 2]),
        (make_pipeline(sorter()), X, [1, 1, 2]),
    ):
        assert experts_of(display.from_estimator(estimator, samples, **options)) == expected
    if display is not DecisionRegionDisplay:
        options = options | {"sample_weight": [0, 1, 1, 2]}
        assert experts_of(display.from_estimator(sorter(), X, **options)) == [0, 2, 2]
    for wrong in (LogisticRegression(), make_pipeline(LogisticRegression())):
        raises(TypeError, "LogisticRegression", display.from_estimator, wrong, X, **options)
    with pytest.raises(NotFittedError):
        display.from_estimator(MoEClassifier(), X, **options)
    raises(TypeError, "colour", display.from_estimator, sorter(), X, **options, colour="red")


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
        lab = cones @ np.reshape(LAB, (3, 3)).T  # OKLab, where distance is what the eye sees
        gaps = [np.linalg.norm(a - b) for a, b in combinations(lab, 2)]
        assert min(gaps) > distance  # a just noticeable difference is about 0.02
