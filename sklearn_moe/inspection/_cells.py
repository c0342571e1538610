"""Matrices as pictures: labels, lines and numbers that fit the cells."""

import numpy as np

from ._matplotlib import as_text, merge_style, run_layout

__all__ = ["cell_size", "draw_lines", "label_cells", "thin_out", "write_values"]

_SMALLEST_TEXT = 7  # points: smaller numbers are noise, not information
_SMALLEST_GRID = 5  # points: lines around smaller cells would hide them


def label_cells(ax, row_labels, column_labels):
    """Label and separate the cells of a matrix, as far as they have the room for it."""
    row_labels = [as_text(label) for label in row_labels]
    ax.set_xticks(range(len(column_labels)))
    ax.set_yticks(range(len(row_labels)), row_labels)
    width, height = cell_size(ax)
    draw_lines(ax, len(row_labels), len(column_labels), min(width, height) * 72 / ax.figure.dpi)
    thin_out(ax.xaxis, range(len(column_labels)), column_labels, width)
    thin_out(ax.yaxis, range(len(row_labels)), row_labels, height)


def write_values(image, texts, *, force, text_kw, longest=None):
    """Write a text into every cell of an image, dark on light colors and light on dark ones.

    Returns the array of matplotlib texts; None if they do not fit, unless `force`. `longest` is
    the text that has to fit if not the longest of this image, to treat several images alike.
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


def draw_lines(ax, n_rows, n_columns, size):
    """Separate the cells by thin lines where they are not too small, in place of any grid."""
    ax.grid(False, which="both")
    if size >= _SMALLEST_GRID:
        ax.set_xticks(np.arange(1, n_columns) - 0.5, minor=True)
        ax.set_yticks(np.arange(1, n_rows) - 0.5, minor=True)
        ax.grid(True, which="minor", color="0.85", linewidth=0.8)
        ax.tick_params(which="minor", length=0)


def thin_out(axis, positions, labels, room):
    """Label only every 2nd, 4th, 8th ... cell where the labels would touch each other."""
    side = "width" if axis.axis_name == "x" else "height"
    extents = [label.get_window_extent() for label in axis.get_ticklabels()]
    needed = 1.1 * max((getattr(extent, side) for extent in extents), default=0)
    step = 1
    while step * room < needed and step < len(positions):
        step *= 2
    axis.set_ticks(positions[::step], labels[::step])


def _fitting_size(ax, text, text_kw, width, height):
    """Return the font size at which `text` fits into a cell, at most the usual size."""
    sample = ax.text(0, 0, text, **text_kw)
    extent, size = sample.get_window_extent(), sample.get_fontsize()
    sample.remove()
    return size * min(1, 0.85 * width / extent.width, 0.85 * height / extent.height)
