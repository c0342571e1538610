"""A plot of which clusters are routed to which experts."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .._validation import final_step
from ..metrics import dispatch_entropy, routing_matrix
from . import _plotting as plotting

# More labels of experts, or of clusters, would overlap.
_MOST_LABELS = 16


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
        None, counts. For "true" and "pred" colors range from 0 to 1, so that two plots can be
        compared.

    entropy : float, default=None
        Dispatch entropy, see :func:`sklearn_moe.metrics.dispatch_entropy`, shown in the title.

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
    ):
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
        normalize: str | None = "true",
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

        normalize : {"true", "pred", "all"} or None, default="true"
            Whether to divide the counts by the sum over each cluster, over each expert or
            over all samples.

        **plot_options : dict
            Arguments of :meth:`plot`: `ax`.

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
        mixture, X = final_step(estimator, X, ("apply",))
        if hasattr(mixture, "gate_proba"):
            plot_options["n_experts"] = np.shape(mixture.gate_proba(X))[1]
        plot_options["normalize"] = normalize
        return cls.from_predictions(clusters, mixture.apply(X), **plot_options)

    @classmethod
    def from_predictions(
        cls,
        clusters: ArrayLike,
        experts: ArrayLike,
        *,
        n_experts: int | None = None,
        normalize: str | None = "true",
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

        normalize : {"true", "pred", "all"} or None, default="true"
            Whether to divide the counts by the sum over each cluster, over each expert or
            over all samples.

        **plot_options : dict
            Arguments of :meth:`plot`: `ax`.

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
        display = cls(
            routing_matrix(clusters, experts, n_experts=n_experts, normalize=normalize),
            display_labels=np.unique(clusters),
            normalize=normalize,
            entropy=dispatch_entropy(clusters, experts),
        )
        return display.plot(**plot_options)

    def plot(self, *, ax: Any = None) -> "RoutingDisplay":
        """Plot the matrix, with its numbers if they fit.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to plot on. If None, a new figure is created. A title that the axes already
            have stays.

        Returns
        -------
        display : RoutingDisplay
            This object, with the attributes that end in an underscore.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        matrix = np.asarray(self.routing_matrix)
        n_clusters, n_experts = matrix.shape
        clusters: Any = range(n_clusters) if self.display_labels is None else self.display_labels
        ax = plotting.axes_or_new(self, ax)
        # Shares have the same colors in all plots, so that two of them can be compared.
        largest = 1 if self.normalize in ("true", "pred") else None
        self.im_ = ax.imshow(matrix, cmap="Blues", aspect="auto", vmin=0, vmax=largest)
        ax.set(xlabel="Expert", ylabel="Cluster")
        if self.entropy is not None and not ax.get_title():
            ax.set_title(f"Dispatch entropy {self.entropy:.3f}")
        for axis, labels in ((ax.xaxis, range(n_experts)), (ax.yaxis, clusters)):
            step = -(-len(labels) // _MOST_LABELS)
            names = [plotting.as_text(name) for name in labels[::step]]
            axis.set_ticks(range(0, len(labels), step), names)
        write = "{:.0f}".format if matrix.dtype.kind in "iu" else "{:.2f}".format
        texts = np.vectorize(write, otypes=[object])(matrix)
        # A character is about 0.6 of the font size wide; the longest number fills 85 % of its cell.
        width, height = np.divide(ax.bbox.size * 72 / ax.figure.dpi, (n_experts, n_clusters))
        fitting = 0.85 * width / (0.6 * max(map(len, texts.flat)))
        font_size = min(ax.xaxis.label.get_fontsize(), fitting, 0.7 * height)
        self.text_ = None
        # In points: smaller numbers are not legible.
        if font_size >= 7:
            self.text_ = np.empty(matrix.shape, dtype=object)
            lightness = self.im_.to_rgba(matrix)[..., :3] @ [0.299, 0.587, 0.114]
            style = {"ha": "center", "va": "center", "fontsize": font_size}
            for (row, column), text in np.ndenumerate(texts):
                style["color"] = "black" if lightness[row, column] > 0.5 else "white"
                self.text_[row, column] = ax.text(column, row, text, **style)
        return self
