"""The picture of tables.py: errors of all models on every table, beside the MLP's."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, NullLocator
from tables_models import MLP, MODELS, MOE

from sklearn_moe.inspection import expert_colors

__all__ = ["draw"]

MARKERS = "oDsPv^Xh<>*"
TICKS = (0.1, 0.2, 0.3, 0.5, 0.7, 1, 1.5, 2, 3, 5, 10, 20, 50)
TITLES = {
    "classification": "log loss / log loss of MLP",
    "regression": "(1 - R2) / (1 - R2) of MLP",
}
BAND = "0.94"  # behind the first half


def styles():
    """Return color and marker of every model but the MLP, the same in all pictures."""
    names = [name for name in MODELS["classification"] if name != MLP]
    colors = np.delete(expert_colors(len(names) + 1), 6, axis=0)  # no yellow: too pale for a dot
    return {
        name: {"color": color, "marker": marker}
        for name, color, marker in zip(names, colors, MARKERS, strict=False)
    }


def ordered(results, ratios):
    """Return the tables from below: first half, then second, each from worst ratio to best."""
    by = ratios[MOE] if MOE in ratios else ratios.min(axis=1)
    names = by.sort_values(ascending=False, kind="stable").index
    return sorted(names, key=lambda name: name not in results.first_half)


def draw_kind(ax, results):
    """Draw a row per table and a dot per model."""
    errors = results.means("error")
    ratios = errors.div(errors[MLP], axis=0)
    names = ordered(results, ratios)
    heights = np.arange(len(names))
    ax.axvline(1, color="0.3", linewidth=1.2, label=MLP)
    for model, style in styles().items():
        if model in ratios:
            size, z = (75, 4) if model == MOE else (38, 3)
            edge = {"edgecolors": "white", "linewidths": 0.6}
            ax.scatter(ratios[model][names], heights, size, label=model, zorder=z, **style, **edge)
    n_first = sum(name in results.first_half for name in names)
    if n_first:
        ax.axhspan(-0.6, n_first - 0.5, color=BAND, zorder=0)
    ax.set_ylim(-0.6, len(names) - 0.4)
    ax.set_yticks(heights, names, fontsize=9)
    ax.tick_params(axis="y", length=0)
    ax.grid(color="0.87", linewidth=0.7)
    ax.set_axisbelow(True)
    ax.set_title(TITLES[results.kind], fontsize=10)


def draw(found):
    """Return the picture of all results, for the width of a page."""
    found = [results for results in found if MLP in results.models]
    rows = [results.frame["table"].nunique() for results in found]
    figure = Figure(figsize=(8, 1.2 + 0.25 * sum(rows) + 0.6 * len(rows)), layout="constrained")
    heights = {"height_ratios": [n + 0.2 for n in rows]}
    axes = figure.subplots(len(found), sharex=True, squeeze=False, gridspec_kw=heights)[:, 0]
    handles = {}
    for ax, results in zip(axes, found, strict=True):
        draw_kind(ax, results)
        of_kind, names = ax.get_legend_handles_labels()
        handles |= dict(zip(names, of_kind, strict=True))
    handles["first half of the tables"] = Patch(color=BAND)
    axes[-1].set_xscale("log")
    axes[-1].xaxis.set_major_locator(FixedLocator(TICKS))
    axes[-1].xaxis.set_major_formatter("{x:g}")
    axes[-1].xaxis.set_minor_locator(NullLocator())

    where = {"loc": "outside upper center", "ncols": 5, "fontsize": 9, "frameon": False}
    figure.legend(handles.values(), handles, **where)
    return figure
