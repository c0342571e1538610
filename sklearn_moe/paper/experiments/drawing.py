"""What the figures of the experiments are made of."""

import numpy as np

from .._statistics import mean_interval

# Okabe and Ito's, but for the yellow, which is too pale for a line, and a gray.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C8C8C")
MARKERS = "os^vDPX*"
AXES = {  # by measure
    "accuracy": "test accuracy (%)",
    "entropy": "dispatch entropy (nats)",
    "hard_accuracy": "accuracy on the hard half (%)",
}

# Of theta_m of the router and w_m of the experts with features v_k and centers c_k.
_INNER_PRODUCTS = {
    "router_features": r"Router and features, $\langle \theta_m, v_k\rangle$",
    "router_centers": r"Router and centers, $\langle \theta_m, c_k\rangle$",
    "expert_features": r"Experts and features, $\langle w_m, v_k\rangle$",
    "expert_centers": r"Experts and centers, $\langle w_m, c_k\rangle$",
}


def panels(n_rows, n_columns, size, grid=None, **options):
    """Return a figure and its axes, of shape (n_rows, n_columns); `grid` is "x" or "both"."""
    from matplotlib.figure import Figure

    # A figure of our own, not pyplot's: no window, no backend to choose.
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(n_rows, n_columns, squeeze=False, **options)
    for ax in axes.flat if grid else ():
        ax.grid(axis=grid, color="0.9")
    return figure, axes


def log_scale(ax, ticks, text, **options):
    """Take the logarithm of x, with these ticks only; `text` writes one of them."""
    ax.set_xscale("log")
    ax.set_xticks(ticks, [text(tick) for tick in ticks], **options)
    ax.minorticks_off()


def draw_band(ax, x, intervals, line="-", alpha=0.15, most=np.inf, **style):
    """Draw means as a line, and their intervals, up to `most`, as a band."""
    mean, low, high = np.transpose(intervals)
    (drawn,) = ax.plot(x, mean, line, **style)
    shade = {"color": drawn.get_color(), "alpha": alpha, "lw": 0, "zorder": style.get("zorder")}
    ax.fill_between(x, low, np.minimum(high, most), **shade)


def draw_curves(ax, x, groups, **options):
    """Draw a band for each of some groups; a group is a list of values by x, of all runs."""
    for (label, values), color, marker in zip(groups.items(), COLORS, MARKERS, strict=False):
        style = {"color": color, "marker": marker, "ms": 5, "label": label}
        draw_band(ax, x, list(map(mean_interval, values)), **style | options)


def draw_runs(ax, steps, values, line="-", **style):
    """Draw the mean of runs, of values (n_runs, n_records), and its interval as a band."""
    draw_band(ax, steps, list(map(mean_interval, values.T)), line, alpha=0.25, **style)


def by_setting(results, **labels):
    """Return the cells by setting and by model, for rows."""
    return {f"setting {s}": results.by("model", setting=s, **labels) for s in results.settings}


def draw_rows(ax, groups, measure):
    """Draw a row for each cell: runs as dots, their mean as a bar.

    Each of the groups maps names of rows to cells, and has a color of its own.
    """
    rows = list(dict.fromkeys(name for cells in groups.values() for name in cells))
    for i, ((label, cells), color) in enumerate(zip(groups.items(), COLORS, strict=False)):
        shift = 0.7 * ((i + 0.5) / len(groups) - 0.5)
        for name, cell in cells.items():
            y = rows.index(name) + shift
            runs = cell.values(measure)
            ax.plot(runs, np.full(len(runs), y), ".", color=color, alpha=0.5)
            ax.plot(runs.mean(), y, "|", color=color, ms=12, mew=2)
        ax.plot([], [], "|", color=color, ms=12, mew=2, label=label)
    ax.set_yticks(range(len(rows)), list(map(str, rows)), fontsize=9)
    ax.set(ylim=(len(rows) - 0.5, -0.5), xlabel=AXES[measure])
    ax.grid(axis="x", color="0.9")


def draw_all_rows(columns, size=(10, 4), limits=None):
    """Return a figure of rows of runs; columns are titles, groups and measures.

    `limits` has a value of some measures, which is a line.
    """
    figure, axes = panels(1, len(columns), size, sharey=True)
    for ax, (title, groups, measure) in zip(axes[0], columns, strict=True):
        draw_rows(ax, groups, measure)
        ax.set_title(title)
        if limits:
            ax.axvline(limits[measure], color="black", lw=1)
    return legend(figure, labelled(axes[0, 0]), title="dots: runs, bars: their mean")


def draw_largest_entropy(ax, n_clusters):
    """Draw and name the largest dispatch entropy of clusters of equal size."""
    largest, color = np.log(n_clusters), "0.3"
    ax.axhline(largest, color=color, ls="--", lw=1.2)
    text = f"maximum, log {n_clusters} = {largest:.3f}"
    # The right end of the axes, four points to the left and three above the line.
    place = {"xycoords": ax.get_yaxis_transform(), "textcoords": "offset points"}
    ax.annotate(text, (1, largest), (-4, 3), ha="right", color=color, **place)
    ax.set_ylim(0, 1.12 * largest)


def draw_inner_products(axes, products):
    """Draw matrices of inner products: router above experts, features left of centers.

    `products` has matrices of shape (n_experts, n_clusters) by the names of `_INNER_PRODUCTS`.
    Both images of a row have the same colors.
    """
    for row, names in zip(axes, np.reshape([*_INNER_PRODUCTS], (2, 2)), strict=True):
        matrices = [np.transpose(products[name]) for name in names]
        limit = np.abs(matrices).max() or 1
        for ax, name, matrix in zip(row, names, matrices, strict=True):
            image = ax.imshow(matrix, cmap="RdBu_r", vmin=-limit, vmax=limit, aspect="auto")
            ax.set_title(_INNER_PRODUCTS[name], fontsize="medium")
            ax.set(xlabel="Expert $m$", ylabel="Cluster $k$")
            ax.set(xticks=range(matrix.shape[1]), yticks=range(len(matrix)))
        row[0].figure.colorbar(image, ax=list(row), label="Inner product")
    for ax in axes.flat:
        ax.label_outer()


def draw_dispatch(ax, cell):
    """Draw the share of each cluster that the first run sends to each expert."""
    counts = np.array(cell.runs[0]["dispatch"], dtype=float)
    shares = counts / np.maximum(1, counts.sum(1, keepdims=True))
    ax.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for (cluster, expert), share in np.ndenumerate(shares):
        color = "white" if share > 0.625 else "black"
        ax.text(expert, cluster, f"{share:.2f}", ha="center", va="center", color=color)
    ax.set(xlabel="Expert", ylabel="Cluster")
    ax.set(xticks=range(shares.shape[1]), yticks=range(len(shares)))


def mark(label, **style):
    """Return what stands for a group of lines in a legend."""
    from matplotlib.lines import Line2D

    return Line2D([], [], label=label, **style)


def labelled(ax):
    """Return what has a label in some axes."""
    return ax.get_legend_handles_labels()[0]


def legend(figure, handles, place="lower center", **options):
    """Draw the legend of a figure beside its axes, and return the figure."""
    options = {"ncols": len(handles), "frameon": False} | options
    figure.legend(handles=handles, loc=f"outside {place}", **options)
    return figure
