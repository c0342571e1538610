"""The only door to matplotlib, which is an optional dependency: opened when a plot is drawn."""

__all__ = [
    "as_text",
    "axes_or_new",
    "import_pyplot",
    "legend_above",
    "legend_beside",
    "legend_of_curves",
    "merge_style",
    "run_layout",
]

_FACE = {"c", "color", "facecolor"}  # no aliases, and yet each of them is the color of an area


def import_pyplot(display):
    """Return `matplotlib.pyplot`, or say what to install for this display to be drawn."""
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError(
            f"{type(display).__name__}.plot needs matplotlib. Install it with "
            "`pip install sklearn_moe[plot]`."
        ) from error
    return plt


def as_text(label):
    """Return a label as a text that is shown as it is: matplotlib reads formulas between two $."""
    return str(label).replace("$", r"\$")


def axes_or_new(display, ax, **figure_kw):
    """Return `ax`, or the axes of a new figure; the display remembers both."""
    plt = import_pyplot(display)
    if ax is None:
        _, ax = plt.subplots(layout="constrained", **figure_kw)
    display.ax_, display.figure_ = ax, ax.figure
    return ax


def merge_style(artist, ours, theirs):
    """Return keyword arguments that draw an artist in our style, but for what the user has chosen.

    Parameters
    ----------
    artist : {"collection", "image", "line", "patch", "text"}
        What is drawn, which decides what the aliases are: "lw" is the "linewidth" of a line.

    ours : dict
        Our defaults.

    theirs : dict or None
        The argument of the user, under any names that matplotlib knows. It is left as it is.

    Returns
    -------
    style : dict
        Without aliases.

    Raises
    ------
    TypeError
        If the user has named a property twice.
    """
    from matplotlib import collections, image, lines, patches, text
    from matplotlib.cbook import normalize_kwargs

    drawn = {
        "collection": collections.Collection,
        "image": image.AxesImage,
        "line": lines.Line2D,
        "patch": patches.Patch,
        "text": text.Text,
    }[artist]
    ours, theirs = (normalize_kwargs(style, drawn) for style in (ours, theirs))
    replaced = _FACE if not _FACE.isdisjoint(theirs) else set()
    if "norm" in theirs:  # it has its own limits, and imshow would refuse ours
        replaced = replaced | {"vmin", "vmax"}
    return {name: value for name, value in ours.items() if name not in replaced} | theirs


def legend_beside(ax, *, rows=16, **legend_kw):
    """Draw a legend to the right of the axes, in columns of at most `rows` entries."""
    handles = legend_kw.get("handles") or ax.get_legend_handles_labels()[0]
    options = {
        "loc": "upper left",
        "bbox_to_anchor": (1, 1),
        "borderaxespad": 0.2,
        "frameon": False,
        "ncols": -(-len(handles) // rows),
        "columnspacing": 1,
        "labelspacing": 0.5 if len(handles) <= rows // 2 else 0.3,
    }
    return ax.legend(**options | legend_kw)


def legend_of_curves(ax, handles, labels, *, most_inside=3, **legend_kw):
    """Name curves: between them if they are few, beside the axes otherwise."""
    if len(labels) <= most_inside:
        return ax.legend(handles, labels, **legend_kw)
    return legend_beside(ax, handles=handles, labels=labels, **legend_kw)


def legend_above(ax, handles, labels, **legend_kw):
    """Draw a legend above the axes, in as many columns as their width has room for."""
    run_layout(ax)
    options = {
        "loc": "lower left",
        "bbox_to_anchor": (0, 1),
        "borderaxespad": 0.2,
        "frameon": False,
        "columnspacing": 1.2,
        "alignment": "left",
    }
    legend = ax.legend(handles, labels, **options | legend_kw)
    widest = max(text.get_window_extent().width for text in legend.get_texts())
    size = legend.get_texts()[0].get_fontsize() * ax.figure.dpi / 72
    columns = int(ax.bbox.width // (widest + 4 * size))  # a handle and two gaps beside the text
    options["ncols"] = min(max(columns, 1), len(labels))
    return ax.legend(handles, labels, **options | legend_kw)


def run_layout(ax):
    """Lay the figure out, so that what is measured is what will be drawn."""
    engine = ax.figure.get_layout_engine()
    if engine is not None:
        engine.execute(ax.figure.canvas.figure)
    ax.apply_aspect()
