"""Keyword arguments for what displays draw: any name that matplotlib knows, before our defaults."""

from inspect import signature

import numpy as np
import pytest
from matplotlib.colors import Normalize, to_rgba

from sklearn_moe import inspection
from sklearn_moe.inspection import (
    AlignmentDisplay,
    DecisionRegionDisplay,
    DispatchEntropyDisplay,
    ExpertCountDisplay,
    LoadDisplay,
    RoutingDisplay,
)

EYE = np.eye(2)


def entropy():
    return DispatchEntropyDisplay([0, 1, 2], [[0.6, 0.3, 0.1], [0.6, 0.4, 0.2]], n_clusters=2)


def alignment():
    return AlignmentDisplay(EYE, EYE, EYE[:, np.newaxis], EYE[:, np.newaxis])


def regions():
    points = np.arange(12.0).reshape(6, 2) % 5
    classes = np.arange(6) % 2
    return DecisionRegionDisplay(points, classes, classes, classes)


def folds():
    return ExpertCountDisplay([1, 2, 4], [[0.5, 0.6], [0.7, 0.8], [0.7, 0.9]])


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
MAKE = {
    RoutingDisplay: lambda: RoutingDisplay(EYE),
    AlignmentDisplay: alignment,
    LoadDisplay: lambda: LoadDisplay(EYE / 2),
    DispatchEntropyDisplay: entropy,
    DecisionRegionDisplay: regions,
    ExpertCountDisplay: folds,
}
# Several names of one property, and a value that is none of our defaults.
NAMES = {
    "line": {
        "color": (["c", "color"], "red"),
        "linewidth": (["lw", "linewidth"], 3),
        "linestyle": (["ls", "linestyle"], ":"),
        "markersize": (["ms", "markersize"], 9),
        "markeredgecolor": (["mec", "markeredgecolor"], "lime"),
        "marker": (["marker"], "s"),
    },
    "patch": {
        "facecolor": (["fc", "facecolor", "color"], "red"),
        "edgecolor": (["ec", "edgecolor"], "lime"),
        "linewidth": (["lw", "linewidth"], 3),
        "linestyle": (["ls", "linestyle"], ":"),
    },
    "collection": {
        "facecolor": (["fc", "facecolor", "facecolors", "color"], "red"),
        "edgecolor": (["ec", "edgecolor", "edgecolors"], "lime"),
        "linewidth": (["lw", "linewidth", "linewidths"], 3),
        "alpha": (["alpha"], 0.75),
    },
    "text": {
        "color": (["c", "color"], "red"),
        "fontsize": (["size", "fontsize"], 8),
        "horizontalalignment": (["ha", "horizontalalignment"], "left"),
        "verticalalignment": (["va", "verticalalignment"], "top"),
        "fontweight": (["weight", "fontweight"], "bold"),
    },
    "image": {
        "cmap": (["cmap"], "viridis"),
        "interpolation": (["interpolation"], "bilinear"),
        "zorder": (["zorder"], 5),
        "alpha": (["alpha"], 0.75),
    },
}
CASES = [
    pytest.param(display, argument, prop, name, value, id=f"{display.__name__}-{argument}-{name}")
    for (display, argument), (artist, _) in DRAWN.items()
    for prop, (names, value) in NAMES[artist].items()
    for name in names
]


def draw(display, **options):
    if display is ExpertCountDisplay and "fold_kw" in options:
        options["show_folds"] = True
    return MAKE[display]().plot(**options)


def shown(artist, prop):
    """Return a property of an artist, colors without their alpha and of one sample."""
    value = getattr(artist, f"get_{prop}")()
    if prop.endswith("color"):
        value = value if isinstance(value, str) or np.ndim(value) < 2 else value[0]
        return to_rgba(value)[:3]
    value = getattr(value, "name", value)
    return value[0] if np.ndim(value) else value


def test_no_argument_goes_untested():
    displays = [getattr(inspection, name) for name in inspection.__all__ if "Display" in name]
    public = {(d, name) for d in displays for name in signature(d.plot).parameters}
    assert {(d, name) for d, name in public if name.endswith("_kw")} == set(DRAWN)


@pytest.mark.parametrize(("display", "argument", "prop", "name", "value"), CASES)
def test_the_users_style_wins_by_any_name(pyplot, display, argument, prop, name, value):
    find = DRAWN[display, argument][1]
    artist = find(draw(display, **{argument: {name: value}}))
    expected = to_rgba(value)[:3] if prop.endswith("color") else value
    assert shown(artist, prop) == expected


@pytest.mark.parametrize(("display", "argument"), DRAWN)
def test_the_dictionary_stays_as_it_is(pyplot, display, argument):
    names = NAMES[DRAWN[display, argument][0]].values()
    given = {aliases[0]: value for aliases, value in names}
    before = given.copy()
    draw(display, **{argument: given})
    assert given == before


def test_a_color_leaves_the_other_defaults_alone(pyplot):
    bar = draw(LoadDisplay, bar_kw={"fc": "red"}).bars_[0][0]
    assert bar.get_edgecolor() == to_rgba("white")
    points = draw(DecisionRegionDisplay, scatter_kw={"color": "red"}).points_[0]
    assert to_rgba(points.get_edgecolor()[0]) == to_rgba("black")


def test_values_may_be_mapped_to_colors(pyplot):
    points = draw(DecisionRegionDisplay, scatter_kw={"c": [0, 1, 2], "cmap": "viridis"}).points_
    assert points[0].get_array().tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("display", "argument"), [key for key, (artist, _) in DRAWN.items() if artist == "image"]
)
def test_a_norm_replaces_our_limits(pyplot, display, argument):
    norm = Normalize(-3, 3)
    image = DRAWN[display, argument][1](draw(display, **{argument: {"norm": norm}}))
    assert image.norm is norm
    assert (norm.vmin, norm.vmax) == (-3, 3)


def test_crosses_have_no_edges(pyplot):
    dots, crosses = draw(DecisionRegionDisplay, scatter_kw={"ec": "lime", "c": "red"}).points_
    assert to_rgba(crosses.get_edgecolor()[0]) == to_rgba("red")
    assert to_rgba(dots.get_edgecolor()[0]) == to_rgba("lime")
    draw(DecisionRegionDisplay, scatter_kw={"marker": "+"})


def test_two_names_of_one_property_are_refused(pyplot):
    with pytest.raises(TypeError, match="aliases of one another"):
        draw(LoadDisplay, bar_kw={"ec": "red", "edgecolor": "lime"})
