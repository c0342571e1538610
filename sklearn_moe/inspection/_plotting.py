"""What all displays share: matplotlib, which is optional, cells of matrices, legends, colors."""

import math

import numpy as np
from sklearn.utils._optional_dependencies import check_matplotlib_support
from sklearn.utils._param_validation import validate_params

from .._validation import Count

_SMALLEST_TEXT = 7  # points: smaller numbers are not legible
_SMALLEST_GRID = 5  # points: lines around smaller cells would hide them
_MOST_ROWS, _MOST_INSIDE = 16, 3  # entries in a column of a legend, and in one inside of the axes
_OUTSIDE = {"borderaxespad": 0.2, "frameon": False}  # legends outside of the axes
_FACE = {"c", "color", "facecolor"}  # not aliases, but each of them is the color of an area

# The eight colors of Okabe and Ito, then each the farthest from all before it in OKLab, for normal
# vision, protanopia and deuteranopia (Machado et al. 2009), without white and the darkest quarter.
_COLORS = """
    0072B2 E69F00 56B4E9 D55E00 009E73 CC79A7 F0E442 000000
    78005A 7800FF 5A4B00 00F0C3 001EC3 8778FF C31E96 964B5A
    D2C3FF 96B487 FFC396 4B2D87 F00FD2 FF2D69 A5D25A E1A5B4
    FF78D2 00693C C30F3C 692D2D 005A78 4B3CD2 009600 782DA5
""".split()


def import_pyplot(display):
    """Return `matplotlib.pyplot`; the error names the display and what to install."""
    check_matplotlib_support(f"{type(display).__name__}.plot")
    import matplotlib.pyplot as plt

    return plt


def as_text(label):
    """Return a label as text, with $ escaped, because matplotlib reads $...$ as a formula."""
    return str(label).replace("$", r"\$")


def axes_or_new(display, ax, **figure_kw):
    """Return `ax`, or the axes of a new figure, and store both in the display."""
    plt = import_pyplot(display)
    if ax is None:
        _, ax = plt.subplots(layout="constrained", **figure_kw)
    display.ax_, display.figure_ = ax, ax.figure
    return ax


def merge_style(artist, ours, theirs):
    """Return the keyword arguments of an artist: the defaults, replaced by those of the user.

    Parameters
    ----------
    artist : {"collection", "image", "line", "patch", "text"}
        The kind of artist, which decides the aliases: "lw" is the "linewidth" of a line.

    ours : dict
        The defaults.

    theirs : dict or None
        The argument of the user, with any names that matplotlib knows. It is not changed.

    Returns
    -------
    style : dict
        By full names, without aliases.

    Raises
    ------
    TypeError
        If the user has named a property twice.
    """
    from matplotlib import cbook, collections, image, lines, patches, text

    kinds = {"collection": collections.Collection, "image": image.AxesImage, "line": lines.Line2D}
    kinds |= {"patch": patches.Patch, "text": text.Text}
    ours, theirs = (cbook.normalize_kwargs(style, kinds[artist]) for style in (ours, theirs))
    replaced = _FACE if not _FACE.isdisjoint(theirs) else set()
    if "norm" in theirs:  # it has its own limits, and imshow accepts only one of the two
        replaced = replaced | {"vmin", "vmax"}
    return {name: value for name, value in ours.items() if name not in replaced} | theirs


def legend_beside(ax, handles, labels, **legend_kw):
    """Draw a legend to the right of the axes, in as many columns as it needs."""
    options = {"loc": "upper left", "bbox_to_anchor": (1, 1), "columnspacing": 1}
    options["ncols"] = math.ceil(len(labels) / _MOST_ROWS)
    options["labelspacing"] = 0.5 if len(labels) <= _MOST_ROWS // 2 else 0.3
    return ax.legend(handles, labels, **_OUTSIDE | options | legend_kw)


def legend_of_curves(ax, handles, labels, **legend_kw):
    """Draw a legend of curves: inside the axes if they are few, beside them otherwise."""
    if len(labels) <= _MOST_INSIDE:
        return ax.legend(handles, labels, **legend_kw)
    return legend_beside(ax, handles, labels, **legend_kw)


def legend_above(ax, handles, labels, **legend_kw):
    """Draw a legend above the axes, in as many columns as fit their width."""
    run_layout(ax)
    options = {"loc": "lower left", "bbox_to_anchor": (0, 1), "columnspacing": 1.2}
    options = _OUTSIDE | options | {"alignment": "left"} | legend_kw
    legend = ax.legend(handles, labels, **options)
    widest = max(text.get_window_extent().width for text in legend.get_texts())
    size = legend.get_texts()[0].get_fontsize() * ax.figure.dpi / 72
    n_columns = int(ax.bbox.width // (widest + 4 * size))  # a handle and two gaps beside the text
    options["ncols"] = min(max(n_columns, 1), len(labels))
    return ax.legend(handles, labels, **options)


def run_layout(ax):
    """Lay the figure out, so that sizes can be measured as they will be drawn."""
    engine = ax.figure.get_layout_engine()
    if engine is not None:
        engine.execute(ax.figure.canvas.figure)
    ax.apply_aspect()


def cluster_names(display_labels, n_clusters):
    """Return the names of the clusters, numbers by default."""
    names = range(n_clusters) if display_labels is None else display_labels
    if len(names) != n_clusters:
        raise ValueError(
            f"display_labels must name the {n_clusters} clusters, got {len(names)} labels."
        )
    return names


def expert_labels(names, n_experts):
    """Return the labels of experts on an axis that is called so."""
    return range(n_experts) if names is None else [name.removeprefix("expert ") for name in names]


def label_cells(ax, row_labels, column_labels):
    """Label and separate the cells of a matrix, as far as they are large enough."""
    row_labels, n_columns = [as_text(label) for label in row_labels], len(column_labels)
    ax.set_xticks(range(n_columns), column_labels)
    ax.set_yticks(range(len(row_labels)), row_labels)
    width, height = cell_size(ax)
    ax.grid(False, which="both")
    if min(width, height) * 72 / ax.figure.dpi >= _SMALLEST_GRID:
        ax.set_xticks(np.arange(1, n_columns) - 0.5, minor=True)
        ax.set_yticks(np.arange(1, len(row_labels)) - 0.5, minor=True)
        ax.grid(True, which="minor", color="0.85", linewidth=0.8)
        ax.tick_params(which="minor", length=0)
    thin_out(ax.xaxis, column_labels, width)
    thin_out(ax.yaxis, row_labels, height)


def write_values(image, texts, *, force, text_kw, longest=None):
    """Write a text into every cell of an image, black on light colors and white on dark ones.

    Returns the array of matplotlib texts; None if they do not fit, unless `force`. `longest` is
    the longest text of several images, if all of them are to be written in the same way.
    """
    ax = image.axes
    text_kw = merge_style("text", {}, text_kw)
    longest = max(texts.flat, key=len) if longest is None else longest
    size = _fitting_size(ax, longest, text_kw, *cell_size(ax))
    if not force and size < _SMALLEST_TEXT:
        return None
    text_kw = {"fontsize": max(size, _SMALLEST_TEXT), **text_kw}
    shown = np.empty(texts.shape, dtype=object)
    for (row, column), text in np.ndenumerate(texts):
        red, green, blue, _ = image.cmap(image.norm(image.get_array()[row, column]))
        is_light = 0.299 * red + 0.587 * green + 0.114 * blue > 0.5
        style = {"ha": "center", "va": "center", "color": "black" if is_light else "white"}
        shown[row, column] = ax.text(column, row, text, **merge_style("text", style, text_kw))
    return shown


def cell_size(ax):
    """Return width and height of a cell in pixels, as the axes will be drawn."""
    run_layout(ax)
    origin, corner = ax.transData.transform([(0, 0), (1, 1)])
    return np.abs(corner - origin)


def thin_out(axis, labels, room):
    """Label only every 2nd, 4th, 8th ... cell if the labels would overlap."""
    side = "width" if axis.axis_name == "x" else "height"
    extents = [label.get_window_extent() for label in axis.get_ticklabels()]
    needed = 1.1 * max((getattr(extent, side) for extent in extents), default=0)
    step = 1
    while step * room < needed and step < len(labels):
        step *= 2
    axis.set_ticks(range(0, len(labels), step), labels[::step])


def _fitting_size(ax, text, text_kw, width, height):
    """Return the font size at which `text` fits into a cell, at most the usual size."""
    sample = ax.text(0, 0, text, **text_kw)
    extent, size = sample.get_window_extent(), sample.get_fontsize()
    sample.remove()
    return size * min(1, 0.85 * width / extent.width, 0.85 * height / extent.height)


@validate_params({"n_colors": [Count(1)]}, prefer_skip_nested_validation=True)
def expert_colors(n_colors: int) -> np.ndarray:
    """Return one color per expert, the same for expert m in every plot.

    The first eight are those of Okabe and Ito, for every kind of color vision. Up to 32 can be told
    apart with normal vision and, less easily, with red-green blindness; from expert 32 on they
    repeat. With more than eight experts, do not show them by color alone.

    Parameters
    ----------
    n_colors : int
        Number of colors.

    Returns
    -------
    colors : ndarray of shape (n_colors, 3)
        Red, green and blue, from 0 to 1, as matplotlib takes them.

    See Also
    --------
    DecisionRegionDisplay : Samples in the colors of their experts.

    Examples
    --------
    >>> from sklearn_moe.inspection import expert_colors
    >>> expert_colors(3).round(2)
    array([[0.  , 0.45, 0.7 ],
           [0.9 , 0.62, 0.  ],
           [0.34, 0.71, 0.91]])
    """
    table = np.array([[int(color[i : i + 2], 16) for i in (0, 2, 4)] for color in _COLORS])
    return table[np.arange(n_colors) % len(table)] / 255
