"""A plot of how many samples are routed to each expert."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .._validation import final_step
from ..metrics import dead_experts, expert_load, routing_matrix
from ..metrics._merged import MergedExperts
from . import _plotting as plotting

_MOST_NAMES = 32  # clusters with different colors


class LoadDisplay:
    """Bars of the share of samples that are routed to each expert, and a line at an equal share.

    It is recommended to use :meth:`from_estimator` or :meth:`from_predictions` to create a
    display. All parameters are stored as attributes.

    Parameters
    ----------
    load : ndarray of shape (n_experts,) or (n_clusters, n_experts)
        Share of all samples that are routed to each expert, see
        :func:`sklearn_moe.metrics.expert_load`. Of two dimensions, it is split by cluster and
        the bars are stacked.

    display_labels : array-like of shape (n_clusters,), default=None
        Names of the clusters. If None, they are numbered from 0 on.

    expert_names : array-like of shape (n_experts,), default=None
        Names of the experts. If None, they are numbered from 0 on.

    Attributes
    ----------
    bars_ : list of matplotlib BarContainer
        The bars, one container per cluster, the first at the bottom; a single one without
        clusters.

    uniform_ : matplotlib Line2D
        The line of the equal share, 1 / n_experts.

    dead_ : matplotlib Line2D or None
        The marks of the experts that receive no sample, None if there are none.

    ax_ : matplotlib Axes
        Axes with the bars.

    figure_ : matplotlib Figure
        Figure that contains the axes.

    See Also
    --------
    RoutingDisplay : Which clusters are routed to which experts, as a matrix.
    sklearn_moe.metrics.expert_load : The numbers shown.

    Examples
    --------
    >>> from sklearn_moe.inspection import LoadDisplay
    >>> display = LoadDisplay.from_predictions([0, 0, 0, 2], n_experts=4)
    >>> display.load
    array([0.75, 0.  , 0.25, 0.  ])
    >>> LoadDisplay.from_predictions([0, 0, 0, 2], ["cat", "cat", "dog", "dog"]).load
    array([[0.5 , 0.  , 0.  ],
           [0.25, 0.  , 0.25]])
    """

    def __init__(
        self,
        load: ArrayLike,
        *,
        display_labels: ArrayLike | None = None,
        expert_names: ArrayLike | None = None,
    ):
        self.load = load
        self.display_labels = display_labels
        self.expert_names = expert_names

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        clusters: ArrayLike | None = None,
        *,
        sample_weight: ArrayLike | None = None,
        display_labels: ArrayLike | None = None,
        **plot_options: Any,
    ) -> "LoadDisplay":
        """Plot how many samples a fitted estimator routes to each expert.

        Of an ensemble, whose weights do not depend on the sample, these are the weights. In a pool
        of several kinds, experts of one kind with equal weights are one.

        Parameters
        ----------
        estimator : estimator instance
            Fitted mixture of experts, with a method `apply`, or a fitted
            :class:`~sklearn.pipeline.Pipeline` in which it is the last step.

        X : array-like of shape (n_samples, ...)
            Samples.

        clusters : array-like of shape (n_samples,), default=None
            Cluster of every sample, labels of any type, by which the bars are split. If None,
            they are not.

        sample_weight : array-like of shape (n_samples,), default=None
            Weight of every sample. If None, all weigh the same.

        display_labels : array-like of shape (n_clusters,), default=None
            Names of the clusters, in the order of the sorted distinct labels. If None, those
            labels.

        **plot_options : dict
            Arguments of :meth:`plot`: `ax`, `bar_kw` and `line_kw`.

        Returns
        -------
        display : LoadDisplay

        Raises
        ------
        TypeError
            If the estimator has no method `apply`.

        See Also
        --------
        from_predictions : Plot from the experts.

        Examples
        --------
        >>> from sklearn_moe import MoEClassifier
        >>> from sklearn_moe.datasets import make_cluster_patches
        >>> from sklearn_moe.inspection import LoadDisplay
        >>> X, y, clusters = make_cluster_patches(500, return_clusters=True, random_state=0)
        >>> clf = MoEClassifier(n_experts=4, max_iter=5, tol=None, random_state=0).fit(X, y)
        >>> LoadDisplay.from_estimator(clf, X, clusters)
        <...>
        """
        merged = MergedExperts(*final_step(estimator, X))
        if clusters is not None and display_labels is None:
            display_labels = np.unique(clusters)
        load, names = merged.load(clusters, sample_weight), merged.names
        display: Any = cls(load, display_labels=display_labels, expert_names=names)
        display.plot(**plot_options)
        if merged.ensemble:
            display.ax_.set_ylabel("Mean weight")
        return display

    @classmethod
    def from_predictions(
        cls,
        experts: ArrayLike,
        clusters: ArrayLike | None = None,
        *,
        n_experts: int | None = None,
        sample_weight: ArrayLike | None = None,
        display_labels: ArrayLike | None = None,
        **plot_options: Any,
    ) -> "LoadDisplay":
        """Plot how many samples are routed to each expert.

        Parameters
        ----------
        experts : array-like of int of shape (n_samples,) or (n_samples, k)
            Index of the expert that every sample is routed to. If several are selected, each of
            the k experts counts 1 / k.

        clusters : array-like of shape (n_samples,), default=None
            Cluster of every sample, labels of any type, by which the bars are split. If None,
            they are not.

        n_experts : int, default=None
            Number of bars. If None, one more than the largest index in `experts`: pass it to
            see all experts that receive no sample.

        sample_weight : array-like of shape (n_samples,), default=None
            Weight of every sample. If None, all weigh the same.

        display_labels : array-like of shape (n_clusters,), default=None
            Names of the clusters, in the order of the sorted distinct labels. If None, those
            labels.

        **plot_options : dict
            Arguments of :meth:`plot`: `ax`, `bar_kw` and `line_kw`.

        Returns
        -------
        display : LoadDisplay

        See Also
        --------
        from_estimator : Plot from a fitted estimator.

        Examples
        --------
        >>> from sklearn_moe.inspection import LoadDisplay
        >>> LoadDisplay.from_predictions([0, 0, 0, 2], n_experts=4)
        <...>
        """
        options = {"n_experts": n_experts, "sample_weight": sample_weight}
        if clusters is None:
            return cls(expert_load(experts, **options)).plot(**plot_options)
        load = routing_matrix(clusters, experts, normalize="all", **options)
        names = np.unique(clusters) if display_labels is None else display_labels
        return cls(load, display_labels=names).plot(**plot_options)

    def plot(
        self, *, ax: Any = None, bar_kw: dict | None = None, line_kw: dict | None = None
    ) -> "LoadDisplay":
        """Plot the bars.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to plot on. If None, a new figure is created.

        bar_kw : dict, default=None
            Keyword arguments of `matplotlib.axes.Axes.bar`.

        line_kw : dict, default=None
            Keyword arguments of `matplotlib.axes.Axes.axhline`, for the equal share.

        Returns
        -------
        display : LoadDisplay
            This object, with the attributes that end in an underscore.

        Raises
        ------
        ImportError
            If matplotlib is not installed.

        ValueError
            If the number of `display_labels` is not the number of clusters.

        Notes
        -----
        More than 32 clusters are not named in the legend, because there are only 32 colors.
        """
        by_cluster = np.atleast_2d(self.load)
        n_clusters, n_experts = by_cluster.shape
        names = None
        if np.ndim(self.load) == 2:
            names = plotting.cluster_names(self.display_labels, n_clusters)
        ax = plotting.axes_or_new(self, ax, figsize=(np.clip(0.27 * n_experts, 6.4, 12), 4))
        ax.grid(False, axis="x")
        self.bars_, bottom = [], np.zeros(n_experts)
        for share, color in zip(by_cluster, plotting.expert_colors(n_clusters), strict=True):
            style = {"color": color, "width": 0.8}
            if n_clusters > 1:
                style |= {"edgecolor": "white", "linewidth": 0.5}
            style = plotting.merge_style("patch", style, bar_kw)
            self.bars_.append(ax.bar(range(n_experts), share, bottom=bottom, **style))
            bottom = bottom + share
        style = {"color": "0.3", "linestyle": "--", "linewidth": 1.2}
        self.uniform_ = ax.axhline(1 / n_experts, **plotting.merge_style("line", style, line_kw))
        dead = dead_experts(bottom)
        self.dead_ = None
        if len(dead):
            style = {"marker": "x", "markersize": 5, "color": "#D55E00", "linestyle": "none"}
            height = np.full(len(dead), 0.02)  # of the axes: just above the line
            (self.dead_,) = ax.plot(dead, height, transform=ax.get_xaxis_transform(), **style)
        ax.set(xlabel="Expert", ylabel="Share of the samples", xlim=(-0.6, n_experts - 0.4))
        ax.set_ylim(0, 1.05 * max(bottom.max(), 1 / n_experts))
        self._explain(names)
        labels = plotting.expert_labels(self.expert_names, n_experts)
        ax.set_xticks(range(n_experts), labels)
        plotting.thin_out(ax.xaxis, labels, plotting.cell_size(ax)[0])
        return self

    def _explain(self, names):
        """Draw the legend, the clusters in the order in which they are stacked."""
        entries = [(self.uniform_, f"equal share, 1/{len(self.bars_[0])}")]
        if self.dead_ is not None:
            entries.append((self.dead_, "receives no sample"))
        draw_legend = plotting.legend_above
        if names is not None and len(names) <= _MOST_NAMES:
            stacked = zip(self.bars_, names, strict=True)
            entries += [(bar, f"cluster {plotting.as_text(name)}") for bar, name in stacked][::-1]
            draw_legend = plotting.legend_beside
        draw_legend(self.ax_, *zip(*entries, strict=True))
