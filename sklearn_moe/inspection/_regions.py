"""A plot of samples in the plane: their experts, their classes and the predicted regions."""

from itertools import cycle
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.spatial import KDTree
from sklearn.utils import check_consistent_length, column_or_1d
from sklearn.utils.multiclass import check_classification_targets

from ..metrics._routing import check_indices
from . import _plotting as plotting

# Of the classes; from the thirteenth on they repeat.
_MARKERS = "oxs^vDP*<>ph"


class DecisionRegionDisplay:
    """Samples in the plane: color is the expert, marker the class, background the prediction.

    It is the plot of Figure 1 of [1]_. The samples are points in the plane: two columns of a table,
    or of patches and images for example those of :class:`~sklearn.manifold.TSNE`. The background is
    the prediction for the nearest sample: it shows where the predictions lie among the points, not
    the boundary of the model itself, which lies in the space of the samples.

    For regression, and for several labels per sample, there are no classes: the background shows
    the regions of the experts, in pale colors.

    It is recommended to use :meth:`from_predictions` to create a display. All parameters are stored
    as attributes.

    Parameters
    ----------
    embedding : array-like or data frame of shape (n_samples, 2)
        The samples as points in the plane. Names of columns are those of the axes.

    y : array-like of shape (n_samples,) or None
        Class of every sample, shown by its marker. If None, the predicted one is, if any.

    experts : array-like of int of shape (n_samples,) or (n_samples, k)
        Index of the expert that every sample is routed to, shown by its color; the first one if
        several are selected.

    y_pred : array-like of shape (n_samples,) or None
        Predicted class of every sample, shown by the background. If None, it shows the expert of
        the nearest sample.

    Attributes
    ----------
    points_ : list of matplotlib PathCollection
        The samples, one collection per class; a single one without classes.

    background_ : matplotlib AxesImage
        The regions, an image of the index of the class or, without predicted classes, of the
        expert.

    ax_ : matplotlib Axes
        Axes with the plot.

    figure_ : matplotlib Figure
        Figure that contains the axes.

    See Also
    --------
    RoutingDisplay : The routing matrix of experts and clusters.
    sklearn.inspection.DecisionBoundaryDisplay : The boundary itself, for two features.

    References
    ----------
    .. [1] Z. Chen, Y. Deng, Y. Wu, Q. Gu, Y. Li, "Towards Understanding the
       Mixture-of-Experts Layer in Deep Learning", NeurIPS 2022.

    Examples
    --------
    >>> from sklearn_moe.inspection import DecisionRegionDisplay
    >>> points = [[0, 0], [0, 1], [1, 0], [1, 1]]
    >>> display = DecisionRegionDisplay.from_predictions(
    ...     points, ["cat", "dog", "cat", "dog"], [0, 0, 1, 1], ["cat", "dog", "cat", "cat"])
    >>> [len(points.get_offsets()) for points in display.points_]
    [2, 2]
    """

    def __init__(
        self,
        embedding: ArrayLike,
        y: ArrayLike | None,
        experts: ArrayLike,
        y_pred: ArrayLike | None,
    ):
        self.embedding = embedding
        self.y = y
        self.experts = experts
        self.y_pred = y_pred

    @classmethod
    def from_predictions(
        cls,
        embedding: ArrayLike,
        y: ArrayLike | None,
        experts: ArrayLike,
        y_pred: ArrayLike | None,
        **plot_options: Any,
    ) -> "DecisionRegionDisplay":
        """Plot points, the experts that they are routed to and the predictions.

        Parameters
        ----------
        embedding : array-like or data frame of shape (n_samples, 2)
            The samples as points in the plane. Names of columns are those of the axes.

        y : array-like of shape (n_samples,) or None
            Class of every sample, shown by its marker. If None, the predicted one is, if any.

        experts : array-like of int of shape (n_samples,) or (n_samples, k)
            Index of the expert that every sample is routed to, shown by its color; the first one
            if several are selected.

        y_pred : array-like of shape (n_samples,) or None
            Predicted class of every sample, shown by the background. If None, it shows the
            expert of the nearest sample.

        **plot_options : dict
            Arguments of :meth:`plot`: `ax` and `grid_resolution`.

        Returns
        -------
        display : DecisionRegionDisplay
        """
        return cls(embedding, y, experts, y_pred).plot(**plot_options)

    def plot(self, *, ax: Any = None, grid_resolution: int = 200) -> "DecisionRegionDisplay":
        """Plot the samples on their background.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to plot on. If None, a new figure is created.

        grid_resolution : int, default=200
            Points of the background per axis.

        Returns
        -------
        display : DecisionRegionDisplay
            This object, with the attributes that end in an underscore.

        Raises
        ------
        ImportError
            If matplotlib is not installed.

        ValueError
            If the arrays are not of the shapes above.
        """
        points, y, y_pred, experts = self._checked()
        ax = plotting.axes_or_new(self, ax)
        from matplotlib.colors import ListedColormap

        # Both axes have the same weight, whatever their units.
        corners = _corners(points)
        size = np.ptp(corners, axis=0)
        steps = (np.arange(grid_resolution) + 0.5) / grid_resolution
        pixels = corners[0] + size * np.stack(np.meshgrid(steps, steps), axis=-1)
        nearest = KDTree(points / size).query(pixels / size)[1]
        surface = (experts if y_pred is None else y_pred)[nearest]
        n_experts = experts.max() + 1
        if y_pred is None:
            classes = np.unique(y)
            # Pale: a third of the color of each expert, the rest is white.
            cmap = ListedColormap(1 - 0.35 * (1 - plotting.expert_colors(n_experts)))
            style = {"cmap": cmap, "vmin": -0.5, "vmax": n_experts - 0.5}
        else:
            classes = np.unique(np.concatenate([y, y_pred]))
            surface = np.searchsorted(classes, surface)
            style = {"cmap": "Greys", "vmin": 0, "vmax": 4 * max(len(classes) - 1, 1)}
        colors = plotting.expert_colors(n_experts)
        ax.grid(False)
        place = {"origin": "lower", "extent": corners.T.ravel()}
        style |= {"interpolation": "nearest", "aspect": "auto", "zorder": 0}
        self.background_ = ax.imshow(surface, **place, **style)
        line = {"colors": "0.45", "linewidths": 0.8, "zorder": 1}
        for index in np.unique(surface)[1:]:
            ax.contour(surface >= index, [0.5], **place, **line)
        dots = {"s": float(np.clip(8000 / len(points), 8, 36)), "linewidths": 1.2, "zorder": 2}
        self.points_ = [
            ax.scatter(*points[y == label].T, c=colors[experts[y == label]], marker=marker, **dots)
            for label, marker in zip(classes, cycle(_MARKERS))
        ]
        names = getattr(self.embedding, "columns", ("Dimension 1", "Dimension 2"))
        names = [plotting.as_text(name) for name in names]
        ax.set(xlabel=names[0], ylabel=names[1])
        self._draw_legends(classes, np.unique(experts), colors)
        return self

    def _checked(self):
        """Return points, classes to mark, predictions or None, and first experts."""
        points = np.asarray(self.embedding, dtype=float)
        if points.ndim != 2 or points.shape[1] != 2:
            raise ValueError(
                f"embedding must be an array of shape (n_samples, 2), got shape {points.shape}."
            )
        experts = check_indices(self.experts)[0][:, 0]
        y_pred = None if self.y_pred is None else column_or_1d(self.y_pred)
        y = y_pred if self.y is None else column_or_1d(self.y)
        # Without classes all samples have the same marker.
        y = np.zeros(len(points), dtype=int) if y is None else y
        for classes in (y, y_pred):
            if classes is not None:
                check_classification_targets(classes)
        check_consistent_length(points, experts, y, y_pred)
        return points, y, y_pred, experts

    def _draw_legends(self, classes, experts, colors):
        """Draw the legends: experts beside the axes, classes above."""
        from matplotlib.lines import Line2D
        from matplotlib.patches import Patch

        dots = [Line2D([], [], marker="o", ls="none", color=colors[m], ms=7) for m in experts]
        place = {"loc": "upper left", "bbox_to_anchor": (1, 1), "borderaxespad": 0.2}
        style = {"title": "Expert", "frameon": False, "columnspacing": 1, "labelspacing": 0.3}
        # At most 16 rows.
        style["ncols"] = -(-len(experts) // 16)
        beside = self.ax_.legend(dots, experts, **place, **style)
        if self.y is None and self.y_pred is None:
            return
        # A second legend would replace the first one, which so becomes an artist of the axes.
        # It is outside of them, and yet part of the layout.
        self.ax_.add_artist(beside)
        beside.set_clip_on(False)
        markers = zip(classes, cycle(_MARKERS))
        entries = [Line2D([], [], marker=mark, ls="none", color="0.3") for _, mark in markers]
        title = "Class"
        if self.y_pred is not None:
            title = "Class (predicted: background)"
            fills = self.background_.to_rgba(np.arange(len(classes)))
            patches = [Patch(facecolor=fill, edgecolor="0.45") for fill in fills]
            entries = list(zip(patches, entries, strict=True))
        labels = [plotting.as_text(label) for label in classes]
        place = {"loc": "lower left", "bbox_to_anchor": (0, 1), "borderaxespad": 0.2}
        style = {"title": title, "frameon": False, "columnspacing": 1.2, "handleheight": 1.3}
        self.ax_.legend(entries, labels, ncols=3, alignment="left", **place, **style)


def _corners(points):
    """Return the lower and the upper corner of the plane around the points."""
    low = points.min(axis=0)
    high = points.max(axis=0)
    margin = 0.05 * np.where(high > low, high - low, 1)
    return np.array([low - margin, high + margin])
