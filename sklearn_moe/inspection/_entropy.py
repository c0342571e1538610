"""A plot of the dispatch entropy during training."""

from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import stdtrit

from . import _plotting as plotting

_LEVEL = 0.95
_CURVE, _MAXIMUM = "dispatch entropy", "maximum of the dispatch entropy"  # marks on the lines


class DispatchEntropyDisplay:
    """Curve of the dispatch entropy against epochs, mean and 95 % interval over runs.

    The interval is that of the mean of independent runs by Student's t distribution: mean
    +/- t s / sqrt(n_runs), with s the standard deviation over the runs (n_runs - 1 degrees of
    freedom). A single run has none.

    Parameters
    ----------
    epochs : array-like of shape (n_records,)
        Epochs after which the entropy was recorded.

    entropies : array-like of shape (n_records,) or (n_runs, n_records)
        Dispatch entropies in nats, see :func:`sklearn_moe.metrics.dispatch_entropy`, of one run
        or of several.

    n_clusters : int, default=None
        Number of clusters, K. The largest dispatch entropy of K clusters of equal size, log K, is
        drawn as a line. If None, it is not.

    Attributes
    ----------
    line_ : matplotlib Line2D
        The mean.

    band_ : matplotlib PolyCollection or None
        The interval, None for a single run.

    maximum_ : matplotlib Line2D or None
        The line of the largest entropy, None if `n_clusters` is None or the axes already have
        the same line.

    ax_ : matplotlib Axes
        Axes with the curve.

    figure_ : matplotlib Figure
        Figure that contains the axes.

    See Also
    --------
    sklearn_moe.metrics.dispatch_entropy : The number shown.
    RoutingDisplay : The routes at one time.

    Notes
    -----
    The axis starts at 0, the smallest entropy there is; an interval that reaches below it is cut.

    Examples
    --------
    >>> from sklearn_moe.inspection import DispatchEntropyDisplay
    >>> runs = [[1.386, 0.7, 0.1], [1.386, 0.9, 0.2], [1.386, 0.5, 0.0]]
    >>> display = DispatchEntropyDisplay([0, 10, 20], runs, n_clusters=4)
    >>> display.plot(name="nonlinear")
    <...>
    >>> display.line_.get_ydata().round(3)
    array([1.386, 0.7  , 0.1  ])

    A second curve goes on the same axes:

    >>> other = DispatchEntropyDisplay([0, 10, 20], [1.386, 1.2, 1.3], n_clusters=4)
    >>> other.plot(ax=display.ax_, name="linear")
    <...>
    """

    def __init__(self, epochs: ArrayLike, entropies: ArrayLike, *, n_clusters: int | None = None):
        self.epochs = epochs
        self.entropies = entropies
        self.n_clusters = n_clusters

    @classmethod
    def from_traces(
        cls, traces: Any, *, n_clusters: int | None = None, **plot_options: Any
    ) -> "DispatchEntropyDisplay":
        """Plot what was recorded during one or several fits.

        Parameters
        ----------
        traces : object or sequence of objects
            One per run, each with attributes `epochs_` and `dispatch_entropy_` of shape
            (n_records,), such as a finished :class:`~sklearn_moe.callbacks.RoutingTrace`.

        n_clusters : int, default=None
            Number of clusters, K, for the line at log K. If None, it is counted in the attribute
            `clusters` of the first trace; without that there is no line.

        **plot_options : dict
            Arguments of :meth:`plot`: `ax`, `name`, `line_kw`, `band_kw` and `maximum_kw`.

        Returns
        -------
        display : DispatchEntropyDisplay

        Raises
        ------
        TypeError
            If a trace lacks the attributes.

        ValueError
            If there is no trace, or none of the epochs was recorded by all of them.

        Notes
        -----
        The curve has the epochs that all traces have recorded: a mean over the longest runs only
        would be biased. Fit with `tol=None` to have runs of equal length.

        Examples
        --------
        >>> from types import SimpleNamespace
        >>> from sklearn_moe.inspection import DispatchEntropyDisplay
        >>> short = SimpleNamespace(epochs_=[0, 1], dispatch_entropy_=[1.386, 0.5])
        >>> long = SimpleNamespace(epochs_=[0, 1, 2], dispatch_entropy_=[1.386, 0.7, 0.1])
        >>> display = DispatchEntropyDisplay.from_traces([short, long], n_clusters=4)
        >>> display.epochs
        array([0, 1])
        """
        traces = list(traces) if hasattr(traces, "__iter__") else [traces]
        if not traces:
            raise ValueError(f"{cls.__name__}.from_traces needs at least one trace, got none.")
        for trace in traces:
            _check_trace(cls, trace)
        epochs = reduce(np.intersect1d, [trace.epochs_ for trace in traces])
        if not len(epochs):
            raise ValueError(
                f"The {len(traces)} traces have no recorded epoch in common. Record the same "
                "epochs in every run, or plot each run by itself."
            )
        if n_clusters is None and getattr(traces[0], "clusters", None) is not None:
            n_clusters = len(np.unique(traces[0].clusters))
        entropies = [
            np.asarray(trace.dispatch_entropy_, dtype=float)[np.isin(trace.epochs_, epochs)]
            for trace in traces
        ]
        return cls(epochs, np.stack(entropies), n_clusters=n_clusters).plot(**plot_options)

    def plot(
        self,
        *,
        ax: Any = None,
        name: str | None = None,
        line_kw: dict | None = None,
        band_kw: dict | None = None,
        maximum_kw: dict | None = None,
    ) -> "DispatchEntropyDisplay":
        """Plot the curve.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to plot on, those of another curve to compare with it. If None, a new figure is
            created.

        name : str, default=None
            Name of the curve in the legend. If None, it has no entry.

        line_kw : dict, default=None
            Keyword arguments of `matplotlib.axes.Axes.plot`, for the mean.

        band_kw : dict, default=None
            Keyword arguments of `matplotlib.axes.Axes.fill_between`, for the interval.

        maximum_kw : dict, default=None
            Keyword arguments of `matplotlib.axes.Axes.axhline`, for the largest entropy.

        Returns
        -------
        display : DispatchEntropyDisplay
            This object, with the attributes that end in an underscore.

        Raises
        ------
        ImportError
            If matplotlib is not installed.

        ValueError
            If `epochs` and `entropies` are not of the shapes above.
        """
        epochs = np.asarray(self.epochs)
        entropies = np.atleast_2d(np.asarray(self.entropies, dtype=float))
        n_runs = len(entropies)
        if epochs.ndim != 1 or entropies.shape != (n_runs, len(epochs)):
            raise ValueError(
                "entropies must be of shape (n_records,) or (n_runs, n_records) with one record "
                f"per epoch, got shape {np.shape(self.entropies)} for epochs of shape "
                f"{epochs.shape}."
            )
        ax = plotting.axes_or_new(self, ax)
        before = [line for line in ax.lines if line.get_gid() == _CURVE]
        color = plotting.expert_colors(len(before) + 1)[-1]
        style = {"color": color, "label": name and plotting.as_text(name)}
        if len(epochs) == 1:
            style["marker"] = "o"
        style = plotting.merge_style("line", style, line_kw)
        mean = entropies.mean(axis=0)
        (self.line_,) = ax.plot(epochs, mean, gid=_CURVE, **style)
        self.band_ = None
        if n_runs > 1:
            half = stdtrit(n_runs - 1, (1 + _LEVEL) / 2) * entropies.std(axis=0, ddof=1)
            half /= np.sqrt(n_runs)
            color = self.line_.get_color()
            style = {"facecolor": color, "edgecolor": color, "alpha": 0.25, "linewidth": 0}
            style = plotting.merge_style("collection", style, band_kw)
            self.band_ = ax.fill_between(epochs, mean - half, mean + half, gid=_CURVE, **style)
        self._draw_maximum(maximum_kw)
        ax.set(xlabel="Epoch", ylabel="Dispatch entropy (nats)")
        ax.set_ylim(bottom=0)
        curves, names = ax.get_legend_handles_labels()
        if names:
            has_bands = any(band.get_gid() == _CURVE for band in ax.collections)
            title = f"mean, {_LEVEL:.0%} t interval" if has_bands else None
            plotting.legend_of_curves(ax, curves, names, title=title)
        return self

    def _draw_maximum(self, maximum_kw):
        """Draw and name log K, once per K and axes, with some space above it."""
        self.maximum_ = None
        if self.n_clusters is None:
            return
        ax, largest = self.ax_, np.log(self.n_clusters)
        before = [line for line in ax.lines if line.get_gid() == _MAXIMUM]
        if any(line.get_ydata()[0] == largest for line in before):
            return
        style = {"color": "0.3", "linestyle": "--", "linewidth": 1.2}
        style = plotting.merge_style("line", style, maximum_kw)
        self.maximum_ = ax.axhline(largest, gid=_MAXIMUM, **style)
        name = f"maximum, log {self.n_clusters} = {largest:.3f}"
        style = {"ha": "right", "color": self.maximum_.get_color()}
        axes, points = ax.get_yaxis_transform(), "offset points"
        ax.annotate(name, (1, largest), (-4, 3), xycoords=axes, textcoords=points, **style)
        ax.set_ylim(top=max(1.12 * largest, ax.get_ylim()[1]))


def _check_trace(cls, trace):
    missing = [name for name in ("epochs_", "dispatch_entropy_") if not hasattr(trace, name)]
    if missing:
        raise TypeError(
            f"{cls.__name__}.from_traces reads the attributes epochs_ and dispatch_entropy_ of "
            f"every trace, {type(trace).__name__} has no {' and no '.join(missing)}. Pass the "
            "callbacks of finished fits, or give the numbers to the constructor."
        )
    entropies = np.asarray(trace.dispatch_entropy_, dtype=float)
    if entropies.shape != np.shape(trace.epochs_) or np.isnan(entropies).any():
        raise ValueError(
            "A trace must hold one dispatch entropy per epoch, got shape "
            f"{entropies.shape} for {len(trace.epochs_)} epochs, {np.isnan(entropies).sum()} of "
            "them NaN. Record it with clusters."
        )
