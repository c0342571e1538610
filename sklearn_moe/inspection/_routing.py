"""A plot of which clusters are routed to which experts."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .._validation import final_step
from ..metrics import dispatch_entropy, routing_matrix
from ..metrics._merged import MergedExperts
from . import _plotting as plotting

_ENTRIES = {
    "true": "Share of the cluster",
    "pred": "Share of the expert",
    "all": "Share of all samples",
    None: "Samples",
}


class RoutingDisplay:
    """Matrix of clusters (rows) and the experts that they are routed to (columns).

    It is recommended to use :meth:`from_estimator` or :meth:`from_predictions` to create a
    display. All parameters are stored as attributes.

    Parameters
    ----------
    routing_matrix : ndarray of shape (n_clusters, n_experts)
        The matrix, see :func:`sklearn_moe.metrics.routing_matrix`.

    display_labels : array-like of shape (n_clusters,), default=None
        Names of the clusters. If None, they are numbered from 0 on.

    normalize : {"true", "pred", "all"}, default=None
        What the entries are: shares of the cluster, of the expert or of all samples, or, if
        None, counts. It decides the label of the color bar, and for "true" and "pred" colors
        range from 0 to 1, so that two plots can be compared.

    entropy : float, default=None
        Dispatch entropy, see :func:`sklearn_moe.metrics.dispatch_entropy`, shown in the title.

    expert_names : array-like of shape (n_experts,), default=None
        Names of the experts. If None, they are numbered from 0 on.

    Attributes
    ----------
    im_ : matplotlib AxesImage
        The image of the matrix.

    text_ : ndarray of shape (n_clusters, n_experts), dtype=matplotlib Text, or None
        The numbers in the cells, None if there are none.

    ax_ : matplotlib Axes
        Axes with the matrix.

    figure_ : matplotlib Figure
        Figure that contains the axes.

    See Also
    --------
    sklearn_moe.metrics.routing_matrix : The numbers shown.
    sklearn.metrics.ConfusionMatrixDisplay : The same for classes and predictions.

    Examples
    --------
    >>> from sklearn_moe.inspection import RoutingDisplay
    >>> clusters, experts = ["cat", "cat", "dog", "dog"], [0, 0, 2, 1]
    >>> display = RoutingDisplay.from_predictions(clusters, experts, n_experts=4)
    >>> display.routing_matrix
    array([[1. , 0. , 0. , 0. ],
           [0. , 0.5, 0.5, 0. ]])
    >>> display.entropy
    0.0
    """

    def __init__(
        self,
        routing_matrix: ArrayLike,
        *,
        display_labels: ArrayLike | None = None,
        normalize: str | None = None,
        entropy: float | None = None,
        expert_names: ArrayLike | None = None,
    ):
        self.expert_names = expert_names
        self.routing_matrix = routing_matrix
        self.display_labels = display_labels
        self.normalize = normalize
        self.entropy = entropy

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        clusters: ArrayLike,
        *,
        sample_weight: ArrayLike | None = None,
        normalize: str | None = "true",
        display_labels: ArrayLike | None = None,
        **plot_options: Any,
    ) -> "RoutingDisplay":
        """Plot which clusters a fitted estimator routes to which experts.

        Parameters
        ----------
        estimator : estimator instance
            Fitted mixture of experts, with a method `apply`, or a fitted
            :class:`~sklearn.pipeline.Pipeline` in which it is the last step.

        X : array-like of shape (n_samples, ...)
            Samples.

        clusters : array-like of shape (n_samples,)
            Cluster of every sample, labels of any type.

        sample_weight : array-like of shape (n_samples,), default=None
            Weight of every sample. If None, all weigh the same.

        normalize : {"true", "pred", "all"} or None, default="true"
            Whether to divide the counts by the sum over each cluster, over each expert or
            over all samples.

        display_labels : array-like of shape (n_clusters,), default=None
            Names of the clusters, in the order of the sorted distinct labels. If None, those
            labels.

        **plot_options : dict
            Arguments of :meth:`plot`: `ax`, `cmap`, `include_values`, `values_format`, `colorbar`,
            `im_kw` and `text_kw`.

        Returns
        -------
        display : RoutingDisplay

        Raises
        ------
        TypeError
            If the estimator has no method `apply`.

        See Also
        --------
        from_predictions : Plot from clusters and experts.

        Examples
        --------
        >>> from sklearn_moe import MoEClassifier
        >>> from sklearn_moe.datasets import make_cluster_patches
        >>> from sklearn_moe.inspection import RoutingDisplay
        >>> X, y, clusters = make_cluster_patches(500, return_clusters=True, random_state=0)
        >>> clf = MoEClassifier(n_experts=4, max_iter=5, tol=None, random_state=0).fit(X, y)
        >>> RoutingDisplay.from_estimator(clf, X, clusters)
        <...>
        """
        merged = MergedExperts(*final_step(estimator, X))
        display = cls(
            merged.load(clusters, sample_weight, normalize),
            display_labels=np.unique(clusters) if display_labels is None else display_labels,
            normalize=normalize,
            entropy=dispatch_entropy(clusters, merged.experts, sample_weight=sample_weight),
            expert_names=merged.names,
        )
        return display.plot(**plot_options)

    @classmethod
    def from_predictions(
        cls,
        clusters: ArrayLike,
        experts: ArrayLike,
        *,
        n_experts: int | None = None,
        sample_weight: ArrayLike | None = None,
        normalize: str | None = "true",
        display_labels: ArrayLike | None = None,
        **plot_options: Any,
    ) -> "RoutingDisplay":
        """Plot which clusters are routed to which experts.

        Parameters
        ----------
        clusters : array-like of shape (n_samples,)
            Cluster of every sample, labels of any type.

        experts : array-like of int of shape (n_samples,) or (n_samples, k)
            Index of the expert that every sample is routed to. If several are selected, each of
            the k experts counts 1 / k.

        n_experts : int, default=None
            Number of columns. If None, one more than the largest index in `experts`.

        sample_weight : array-like of shape (n_samples,), default=None
            Weight of every sample. If None, all weigh the same.

        normalize : {"true", "pred", "all"} or None, default="true"
            Whether to divide the counts by the sum over each cluster, over each expert or
            over all samples.

        display_labels : array-like of shape (n_clusters,), default=None
            Names of the clusters, in the order of the sorted distinct labels. If None, those
            labels.

        **plot_options : dict
            Arguments of :meth:`plot`: `ax`, `cmap`, `include_values`, `values_format`, `colorbar`,
            `im_kw` and `text_kw`.

        Returns
        -------
        display : RoutingDisplay

        See Also
        --------
        from_estimator : Plot from a fitted estimator.

        Examples
        --------
        >>> from sklearn_moe.inspection import RoutingDisplay
        >>> RoutingDisplay.from_predictions(["cat", "cat", "dog"], [0, 0, 1], normalize=None)
        <...>
        """
        options = {"normalize": normalize, "sample_weight": sample_weight}
        matrix = routing_matrix(clusters, experts, n_experts=n_experts, **options)
        entropy = dispatch_entropy(clusters, experts, sample_weight=sample_weight)
        names = np.unique(clusters) if display_labels is None else display_labels
        display = cls(matrix, display_labels=names, normalize=normalize, entropy=entropy)
        return display.plot(**plot_options)

    def plot(
        self,
        *,
        ax: Any = None,
        cmap: Any = "Blues",
        include_values: bool | str = "auto",
        values_format: str | None = None,
        colorbar: bool = True,
        im_kw: dict | None = None,
        text_kw: dict | None = None,
    ) -> "RoutingDisplay":
        """Plot the matrix.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to plot on. If None, a new figure is created. A title that the axes already
            have stays.

        cmap : str or matplotlib Colormap, default="Blues"
            Colormap.

        include_values : bool or "auto", default="auto"
            Whether to write the numbers into the cells. "auto" writes them where they fit.

        values_format : str, default=None
            Format of the numbers. If None, "d" for counts and ".2f" otherwise, an exact
            zero being "0".

        colorbar : bool, default=True
            Whether to add a color bar.

        im_kw : dict, default=None
            Keyword arguments of `matplotlib.axes.Axes.imshow`.

        text_kw : dict, default=None
            Keyword arguments of `matplotlib.axes.Axes.text`.

        Returns
        -------
        display : RoutingDisplay
            This object, with the attributes that end in an underscore.

        Raises
        ------
        ImportError
            If matplotlib is not installed.

        ValueError
            If the number of `display_labels` is not the number of rows of the matrix.
        """
        matrix = np.asarray(self.routing_matrix)
        n_clusters, n_experts = matrix.shape
        names = plotting.cluster_names(self.display_labels, n_clusters)
        ax = plotting.axes_or_new(self, ax)
        largest = 1 if self.normalize in ("true", "pred") else None
        style = {"cmap": cmap, "aspect": "auto", "vmin": 0, "vmax": largest}
        self.im_ = ax.imshow(matrix, **plotting.merge_style("image", style, im_kw))
        if colorbar:
            ax.figure.colorbar(self.im_, ax=ax, label=_ENTRIES[self.normalize])
        ax.set(xlabel="Expert", ylabel="Cluster")
        if self.entropy is not None and not ax.get_title():
            ax.set_title(f"Dispatch entropy {self.entropy:.3f}")
        columns = plotting.expert_labels(self.expert_names, n_experts)
        plotting.label_cells(ax, names, columns)
        self.text_ = None
        if include_values:
            texts = np.vectorize(_format, otypes=[object])(matrix, values_format)
            options = {"force": include_values is True, "text_kw": text_kw}
            self.text_ = plotting.write_values(self.im_, texts, **options)
        return self


def _format(value, values_format):
    if values_format is not None:
        return format(value, values_format)
    if value == 0:
        return "0"
    return format(value, "d" if np.issubdtype(type(value), np.integer) else ".2f")
