"""A plot of samples in the plane: their experts, their classes and the predicted regions."""

from collections.abc import Sequence
from itertools import cycle
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import csr_matrix, issparse
from scipy.spatial import KDTree
from sklearn.utils import check_consistent_length, column_or_1d
from sklearn.utils._indexing import _get_column_indices
from sklearn.utils.multiclass import check_classification_targets

from .._validation import final_step, name_in_errors
from ..metrics._routing import check_indices
from ..metrics._words import find_regions
from . import _plotting as plotting
from ._linear import open_table

# Of the classes; from the thirteenth on they repeat.
_MARKERS = "oxs^vDP*<>ph"


class DecisionRegionDisplay:
    """Samples in the plane: color is the expert, marker the class, background the prediction.

    It is the plot of Figure 1 of [1]_. A table is shown by two of its columns, those that the gate
    uses. The background is the prediction of the model there, with all other columns held at a
    typical value. Patches and images need points in the plane, for example those of
    :class:`~sklearn.manifold.TSNE`. The background is then the prediction for the nearest sample:
    it shows where the predictions lie among the points, not the boundary of the model itself, which
    lies in the space of the samples.

    For regression, and for several labels per sample, there are no classes: the background shows
    the regions of the experts, in pale colors.

    It is recommended to use :meth:`from_estimator` or :meth:`from_predictions` to create a
    display. All parameters are stored as attributes.

    Parameters
    ----------
    embedding : ndarray of shape (n_samples, 2)
        The samples as points in the plane.

    y : array-like of shape (n_samples,) or None
        Class of every sample, shown by its marker. If None, the predicted one is, if any.

    experts : array-like of int of shape (n_samples,) or (n_samples, k)
        Index of the expert that every sample is routed to, shown by its color; the first one if
        several are selected.

    y_pred : array-like of shape (n_samples,) or None
        Predicted class of every sample, shown by the background. If None, it shows the expert of
        the nearest sample.

    axis_labels : sequence of two str, default=("Dimension 1", "Dimension 2")
        Names of the two axes.

    surface : array-like of shape (resolution, resolution), default=None
        The prediction of the model at the pixels of the plane, rows from below: the class, or
        without `y_pred` the expert. If None, that of the nearest samples.

    expert_names : sequence of str, default=None
        Names of the experts in the legend. If None, their numbers.

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
        *,
        axis_labels: Sequence[str] = ("Dimension 1", "Dimension 2"),
        surface: Any = None,
        expert_names: Sequence[str] | None = None,
    ):
        self.embedding = embedding
        self.y = y
        self.experts = experts
        self.y_pred = y_pred
        self.axis_labels = axis_labels
        self.surface = surface
        self.expert_names = expert_names

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: ArrayLike | None = None,
        *,
        columns: Sequence[str | int] | None = None,
        grid_resolution: int = 200,
        **plot_options: Any,
    ) -> "DecisionRegionDisplay":
        """Plot samples, their experts and the classes that a fitted estimator predicts.

        Parameters
        ----------
        estimator : estimator instance
            Fitted mixture of experts, with methods `apply` and `predict`, or a fitted
            :class:`~sklearn.pipeline.Pipeline` in which it is the last step.

        X : array-like of shape (n_samples, n_features)
            Rows of a table; a few hundred give a clear plot.

        y : array-like of shape (n_samples,), default=None
            Their classes, shown by the markers. If None, the predicted ones are. Targets of a
            regression, and several labels per sample, are not shown.

        columns : sequence of two str or int, default=None
            Two columns of a table X, of numbers, that are the axes, such as `("temperature",
            "load")`: names of a pandas or polars frame, or indices. The background is the
            prediction of the model where all other columns are held at the median of X, or at the
            most frequent category. It may differ from that of a sample, which has other values
            there. Samples with a missing value in one of the axes are not shown. If None, they are
            the columns that the words of :func:`region_rules` name first, or of an ensemble those
            that words about its predictions would; where these are fewer than two of numbers, other
            ones are taken.

        grid_resolution : int, default=200
            Points of the background per axis.

        **plot_options : dict
            Arguments of :meth:`plot`: `ax`.

        Returns
        -------
        display : DecisionRegionDisplay

        Raises
        ------
        TypeError
            If the estimator has no method `apply` or `predict`.

        ValueError
            If `columns` are not two columns of numbers, or X has no two columns of numbers.

        See Also
        --------
        from_predictions : Plot from points, experts and predictions, of patches and images, too.

        Examples
        --------
        >>> from sklearn.datasets import make_moons
        >>> from sklearn_moe import MoEClassifier
        >>> from sklearn_moe.inspection import DecisionRegionDisplay
        >>> X, y = make_moons(200, noise=0.1, random_state=0)
        >>> clf = MoEClassifier(n_experts=4, expert="mlp", max_iter=5, random_state=0).fit(X, y)
        >>> DecisionRegionDisplay.from_estimator(clf, X, y, grid_resolution=50)
        <...>
        """
        numbers = []
        if np.ndim(X) == 2:
            view, table = open_table(estimator, X)
            # Rows that are read as patches or images have no columns.
            if len(view.input_shape) < 2:
                numbers = [column.place for column in table.columns if column.is_numeric]
        if len(numbers) < 2:
            raise ValueError(
                f"The axes are two columns of numbers, and X of shape {np.shape(X)} has "
                f"{len(numbers)} of them. For patches, images and other samples use "
                "from_predictions with points of your own, such as those of sklearn.manifold.TSNE."
            )
        if columns is None:
            axes = _columns_that_decide(view, table, numbers)
        else:
            with name_in_errors("columns"):
                axes = _get_column_indices(X, list(columns))
        if len(axes) != 2 or not {*axes} <= {*numbers}:
            raise ValueError(f"columns must be two columns of numbers, got {columns!r}.")
        # Times are days, which is what matplotlib takes dates for; bools are numbers.
        points = np.column_stack(
            [table.columns[p].as_floats() if table[p].labels else table[p].values for p in axes]
        ).astype(float)
        known = np.isfinite(points).all(axis=1)
        predict, y_pred = view.mixture.predict, view.mixture.predict(view.X)
        # Numbers, and several labels per sample, are no classes.
        if view.predicts_numbers or np.ndim(y_pred) > 1:
            predict, y, y_pred = view.mixture.apply, None, None
        shown: list[Any] = [
            None if values is None else np.asarray(values)[known]
            for values in (y, view.experts[:, 0], y_pred)
        ]
        pixels = _pixels(points[known], grid_resolution)
        rows = _rows_at(table, dict(zip(axes, pixels.T, strict=True)))
        surface = predict(final_step(estimator, rows)[1])
        display: Any = cls(
            points[known],
            *shown,
            axis_labels=[table[place].name for place in axes],
            surface=surface.reshape(grid_resolution, grid_resolution, -1)[..., 0],
            expert_names=view.names if view.are_kinds else None,
        ).plot(**plot_options)
        for place, axis in zip(axes, (display.ax_.xaxis, display.ax_.yaxis), strict=True):
            if table.columns[place].typed.dtype.kind == "M":
                axis.axis_date()
        return display

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
        embedding : array-like of shape (n_samples, 2)
            The samples as points in the plane.

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

        See Also
        --------
        from_estimator : Plot a table by two of its columns.
        """
        return cls(embedding, y, experts, y_pred).plot(**plot_options)

    def plot(self, *, ax: Any = None, grid_resolution: int = 200) -> "DecisionRegionDisplay":
        """Plot the samples on their background.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to plot on. If None, a new figure is created.

        grid_resolution : int, default=200
            Points of the background per axis, if it is not the `surface` of the display.

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

        surface = self.surface
        if surface is None:
            # Both axes have the same weight, whatever their units.
            size = np.ptp(_frame(points), axis=0)
            nearest = KDTree(points / size).query(_pixels(points, grid_resolution) / size)[1]
            surface = (experts if y_pred is None else y_pred)[nearest]
            surface = surface.reshape(grid_resolution, grid_resolution)
        n_experts = experts.max() + 1
        if y_pred is None:
            classes = np.unique(y)
            n_experts = max(n_experts, surface.max() + 1)
            # Pale: a third of the color of each expert, the rest is white.
            cmap = ListedColormap(1 - 0.35 * (1 - plotting.expert_colors(n_experts)))
            style = {"cmap": cmap, "vmin": -0.5, "vmax": n_experts - 0.5}
        else:
            classes = np.unique(np.concatenate([y, y_pred, surface.ravel()]))
            surface = np.searchsorted(classes, surface)
            style = {"cmap": "Greys", "vmin": 0, "vmax": 4 * max(len(classes) - 1, 1)}
        colors = plotting.expert_colors(n_experts)
        ax.grid(False)
        place = {"origin": "lower", "extent": np.transpose(_frame(points)).ravel()}
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
        names = [plotting.as_text(name) for name in self.axis_labels]
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
        names = [m if self.expert_names is None else self.expert_names[m] for m in experts]
        beside = self.ax_.legend(dots, names, **place, **style)
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


def _columns_that_decide(view, table, numbers):
    """Return two columns of numbers, those that the words about the largest parts name.

    These are the parts of experts, or of predictions where all rows are of one expert.
    """
    parts = view.experts[:, 0]
    if (parts == parts[0]).all():
        predicted = np.asarray(view.mixture.predict(view.X)).reshape(len(parts), -1)[:, 0]
        if view.predicts_numbers:
            predicted = predicted > np.median(predicted)
        parts = np.unique(predicted, return_inverse=True)[1]
    regions = find_regions(table, parts, parts.max() + 1)
    named = [place for _, part in regions.parts for place, _ in part]
    # Numbers that are codes of categories, and bools, come last.
    others = sorted(numbers, key=lambda place: bool(table[place].labels))
    axes = [place for place in named if place in numbers and not table[place].labels]
    return sorted([*dict.fromkeys([*axes, *others])][:2])


def _rows_at(table, given):
    """Return rows of the type of X: values of columns, given by place, and typical others.

    These are the median, or the most frequent category, as X has it.
    """
    X = table.X
    columns = []
    for place in range(table.n_columns):
        values = table[place].values
        # The most frequent category has code 0. Missing numbers are sorted to the end.
        order = np.argsort(values, kind="stable")
        row = order[0 if table[place].labels else (np.isfinite(values).sum() - 1) // 2]
        kind = table.columns[place].typed.dtype.kind
        if place in given and kind in "mM":
            times = (86_400e6 * given[place]).astype("m8[us]")
            given[place] = times if kind == "m" else np.datetime64(0, "us") + times
        typical = [table.columns[place].values[row]] * len(next(iter(given.values())))
        columns.append(given.get(place, typical))
    if hasattr(X, "columns"):
        rows = type(X)(dict(zip(X.columns, columns, strict=True)))
        # Numbers of the axes are between those of X, and times have the unit of X.
        numbers = {place for place in given if table.columns[place].typed.dtype.kind not in "mM"}
        kept = {name: X[name].dtype for k, name in enumerate(X.columns) if k not in numbers}
        return rows.astype(kept) if hasattr(rows, "astype") else rows.cast(kept)
    rows = np.array(columns, dtype=np.result_type(float, getattr(X, "dtype", float))).T
    return csr_matrix(rows) if issparse(X) else rows


def _frame(points):
    """Return the lower and the upper corner of the plane around the points."""
    low = points.min(axis=0)
    high = points.max(axis=0)
    margin = 0.05 * np.where(high > low, high - low, 1)
    return low - margin, high + margin


def _pixels(points, resolution):
    """Return the centers of the pixels, (resolution ** 2, 2), row by row from below."""
    low, high = _frame(points)
    steps = (np.arange(resolution) + 0.5) / resolution
    return low + (high - low) * np.stack(np.meshgrid(steps, steps), axis=-1).reshape(-1, 2)
