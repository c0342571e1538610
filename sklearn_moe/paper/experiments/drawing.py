"""What the figures of the experiments are made of."""

import numpy as np

from ...inspection import RoutingDisplay
from .._statistics import mean_interval

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")  # Okabe-Ito
AXES = {"accuracy": "test accuracy (%)", "entropy": "dispatch entropy (nats)"}  # by measure

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
    from matplotlib.ticker import NullLocator

    ax.set_xscale("log")
    ax.set_xticks(ticks, [text(tick) for tick in ticks], **options)
    ax.xaxis.set_minor_locator(NullLocator())


def draw_band(ax, x, intervals, line="-", alpha=0.15, most=np.inf, **style):
    """Draw means as a line, and their intervals, up to `most`, as a band."""
    mean, low, high = np.transpose(intervals)
    (drawn,) = ax.plot(x, mean, line, **style)
    shade = {"color": drawn.get_color(), "alpha": alpha, "lw": 0, "zorder": style.get("zorder")}
    ax.fill_between(x, low, np.minimum(high, most), **shade)


def draw_runs(ax, steps, values, line="-", **style):
    """Draw the mean of runs, of values (n_runs, n_records), and its interval as a band."""
    intervals = [mean_interval(column) for column in values.T]
    draw_band(ax, steps, intervals, line, alpha=0.25, **style)


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
        decimals = max(0, int(1 - np.floor(np.log10(limit))))
        for ax, name, matrix in zip(row, names, matrices, strict=True):
            image = ax.imshow(matrix, cmap="RdBu_r", vmin=-limit, vmax=limit, aspect="auto")
            ax.set_title(_INNER_PRODUCTS[name], fontsize="medium")
            ax.set(xlabel="Expert $m$", ylabel="Cluster $k$")
            ax.set(xticks=range(matrix.shape[1]), yticks=range(len(matrix)))
            for (k, m), value in np.ndenumerate(matrix):
                color = "white" if abs(value) > 0.6 * limit else "black"
                # Zeros without decimals: most of a row is near 0, and the others should be seen.
                text = f"{value:.{decimals}f}" if round(value, decimals) else "0"
                ax.text(m, k, text, ha="center", va="center", color=color)
        row[0].figure.colorbar(image, ax=list(row), label="Inner product")
    for ax in axes.flat:
        ax.label_outer()


def draw_learning_curves(ax, results, measure, styles, ours=None, most=np.inf, **labels):
    """Draw the mean of every model over the training samples, its interval as a band."""
    for model, (color, marker) in styles.items():
        cells = results.by("n_train", model=model, **labels)
        intervals = [cell.interval(measure) for cell in cells.values()]
        style = {"color": color, "marker": marker, "label": model}
        style |= {"lw": 2.5, "ms": 6} if model == ours else {"lw": 1.3, "ms": 5}
        zorder = 3 if model == ours else 2
        draw_band(ax, list(cells), intervals, most=most, zorder=zorder, **style)
    log_scale(ax, list(cells), "{:,}".format, rotation=45 * (len(cells) > 7))
    ax.set_xlabel("training samples")
    ax.grid(color="0.9")


def draw_level(ax, y, **style):
    """Draw a dashed line across the axes, below all others."""
    ax.axhline(y, **{"color": "0.5", "lw": 0.8, "ls": "--", "zorder": 0} | style)


def draw_never(ax, x, color):
    """Draw crosses at the upper end, for what has no y."""
    ax.plot(x, np.full(len(x), 0.96), "x", color=color, transform=ax.get_xaxis_transform())


def draw_dispatch(ax, cell, **options):
    """Draw the share of each cluster that the first run sends to each expert."""
    counts = np.array(cell.runs[0]["dispatch"], dtype=float)
    shares = counts / np.maximum(1, counts.sum(1, keepdims=True))
    RoutingDisplay(shares, normalize="true", **options).plot(ax=ax, colorbar=False)


def mark(label, **style):
    """Return what stands for a group of lines in a legend."""
    from matplotlib.lines import Line2D

    return Line2D([], [], label=label, **style)


def labelled(ax):
    """Return what has a label in some axes."""
    return ax.get_legend_handles_labels()[0]


def legend(figure, handles, place="lower center", **options):
    """Draw the legend of a figure beside its axes."""
    options = {"ncols": len(handles), "frameon": False} | options
    figure.legend(handles=handles, loc=f"outside {place}", **options)
