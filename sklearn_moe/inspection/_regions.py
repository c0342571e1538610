"""Samples, their experts and the predicted classes in the plane, as a picture."""

import numpy as np
from sklearn.utils import check_consistent_length, column_or_1d

from .._validation import count_experts, final_step
from ._colors import expert_colors
from ._embedding import embed
from ._matplotlib import (
    as_text,
    axes_or_new,
    import_pyplot,
    legend_above,
    legend_beside,
    merge_style,
    run_layout,
)
from ._plane import as_plane, frame_of, like, nearest_surface, pixels_of

__all__ = ["DecisionRegionDisplay"]

_MARKERS = "oxs^vDP*<>ph"  # as many classes can be told apart
_MOST_COLORS = 8  # experts that colors alone can tell apart
_PALE = 0.35  # of an expert's color is in its region
_FLAT = {"interpolation": "nearest", "aspect": "auto", "zorder": 0}


class DecisionRegionDisplay:
    """Samples in the plane: color is the expert, marker the class, background the prediction.

    It is the picture of Figure 1 of [1]_. Samples of two features are shown as they are, and the
    background is what the model predicts there. Of others the plane is an embedding, and the
    background is colored by the class that a nearest-neighbor classifier of the *predictions*, in
    the plane, gives each point: it is a picture of how the predictions lie in the embedding, not
    the boundary of the model itself, which lives in the space of the samples.

    Numbers, and several labels of a sample, are no classes: the background shows the regions of
    the experts then, in paler colors of theirs.

    It is recommended to use :meth:`from_estimator` or :meth:`from_predictions` to create a
    display. All parameters are stored as attributes.

    Parameters
    ----------
    embedding : ndarray of shape (n_samples, 2)
        The samples as points in the plane.

    y : array-like of shape (n_samples,) or None
        Class of every sample, shown by its marker. If None, the predicted one is, if any.

    experts : array-like of int of shape (n_samples,) or (n_samples, k)
        Index of the expert that answers every sample, shown by its color; the first one if
        there are several.

    y_pred : array-like of shape (n_samples,) or None
        Predicted class of every sample, shown by the background. If None, it shows the expert of
        the nearest sample.

    n_experts : int, default=None
        Number of experts of the model, told in the title of the legend. If None, it is not.

    axis_labels : tuple of two str, default=("Dimension 1", "Dimension 2")
        Names of the two axes.

    surface : array-like of shape (resolution, resolution), default=None
        What the model says at the pixels of the plane, rows from below: the class, or without
        `y_pred` the expert. If None, the nearest samples tell.

    Attributes
    ----------
    points_ : list of matplotlib PathCollection
        The samples, one collection per class; a single one without classes.

    background_ : matplotlib AxesImage
        The regions, an image of the index of the class or, without predicted classes, of the
        expert.

    text_ : list of matplotlib Text
        The numbers of the experts at their samples; empty if there are none.

    ax_ : matplotlib Axes
        Axes with the picture.

    figure_ : matplotlib Figure
        Figure that contains the axes.

    See Also
    --------
    RoutingDisplay : The experts of each cluster in numbers.
    expert_colors : The colors of the experts.
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
        embedding,
        y,
        experts,
        y_pred,
        *,
        n_experts=None,
        axis_labels=("Dimension 1", "Dimension 2"),
        surface=None,
    ):
        self.embedding = embedding
        self.y = y
        self.experts = experts
        self.y_pred = y_pred
        self.n_experts = n_experts
        self.axis_labels = axis_labels
        self.surface = surface

    @classmethod
    def from_estimator(
        cls,
        estimator,
        X,
        y=None,
        *,
        embedding="auto",
        random_state=None,
        ax=None,
        n_neighbors=1,
        grid_resolution=200,
        numbers="auto",
        scatter_kw=None,
        region_kw=None,
    ):
        """Plot the samples, their experts and the classes that a fitted estimator predicts.

        Parameters
        ----------
        estimator : estimator instance
            Fitted mixture of experts, with methods `apply` and `predict`, or a fitted
            :class:`~sklearn.pipeline.Pipeline` in which it is the last step.

        X : array-like of shape (n_samples, ...)
            Samples; some hundreds make a clear picture.

        y : array-like of shape (n_samples,), default=None
            Their classes, shown by the markers. If None, the predicted ones are. Numbers, and
            several labels of a sample, are not shown.

        embedding : {"auto", "pca", "tsne"} or array-like of shape (n_samples, 2), default="auto"
            How the samples become points: by :class:`~sklearn.decomposition.PCA` or
            :class:`~sklearn.manifold.TSNE`, or the points themselves. "auto" takes samples of two
            numbers for points, with the model's own boundary behind them, and "pca" of others.
            Rows of other tables are compared as a router sees them, by their standardized and
            encoded columns, and bags of patches by the sums of their patches. Pictures are
            flattened.

        random_state : int, RandomState instance or None, default=None
            Randomness of the embedding. Pass an int for the same picture every time.

        ax : matplotlib Axes, default=None
            Axes to plot on. If None, a new figure is created.

        n_neighbors : int, default=1
            Neighbors that vote on the color of a point of the background, in an embedding.

        grid_resolution : int, default=200
            Points of the background per axis.

        numbers : bool or "auto", default="auto"
            Whether to write the experts' numbers to their samples, where they do not overlap.
            "auto" does so for more than 8 experts.

        scatter_kw : dict, default=None
            Keyword arguments of `matplotlib.axes.Axes.scatter`.

        region_kw : dict, default=None
            Keyword arguments of `matplotlib.axes.Axes.imshow`, for the background.

        Returns
        -------
        display : DecisionRegionDisplay

        Raises
        ------
        TypeError
            If the estimator has no method `apply` or `predict`.

        See Also
        --------
        from_predictions : Plot from points, experts and predictions.

        Examples
        --------
        >>> from sklearn_moe import MoEClassifier
        >>> from sklearn_moe.datasets import make_cluster_patches
        >>> from sklearn_moe.inspection import DecisionRegionDisplay
        >>> X, y = make_cluster_patches(500, random_state=0)
        >>> clf = MoEClassifier(n_experts=4, max_iter=5, tol=None, random_state=0).fit(X, y)
        >>> DecisionRegionDisplay.from_estimator(clf, X, y)
        <...>
        """
        whole, samples = estimator, X
        estimator, X = final_step(estimator, X, needs=("apply", "predict"))
        experts, y_pred = estimator.apply(X), estimator.predict(X)
        if hasattr(estimator, "expert_predict") or np.ndim(y_pred) > 1:
            y = y_pred = None  # no classes
        is_auto = isinstance(embedding, str) and embedding == "auto"
        # Between the codes of categories there is nothing that could be predicted.
        has_plane = is_auto and not (samples is X and _has_categories(estimator))
        plane, surface = as_plane(samples) if has_plane else None, None
        if plane is not None:
            points, axis_labels = plane
            pixels = like(samples, pixels_of(points, grid_resolution).reshape(-1, 2))
            surface = _first_experts(whole, pixels) if y_pred is None else whole.predict(pixels)
            surface = surface.reshape(grid_resolution, grid_resolution)
        else:
            method = "pca" if is_auto else embedding
            points, axis_labels = embed(estimator, X, method, random_state=random_state)
        return cls(
            points,
            y,
            experts,
            y_pred,
            n_experts=count_experts(estimator, X),
            axis_labels=axis_labels,
            surface=surface,
        ).plot(
            ax=ax,
            n_neighbors=n_neighbors,
            grid_resolution=grid_resolution,
            numbers=numbers,
            scatter_kw=scatter_kw,
            region_kw=region_kw,
        )

    @classmethod
    def from_predictions(
        cls,
        embedding,
        y,
        experts,
        y_pred,
        *,
        n_experts=None,
        axis_labels=("Dimension 1", "Dimension 2"),
        ax=None,
        n_neighbors=1,
        grid_resolution=200,
        numbers="auto",
        scatter_kw=None,
        region_kw=None,
    ):
        """Plot points, the experts that answer them and the predictions.

        Parameters
        ----------
        embedding : array-like of shape (n_samples, 2)
            The samples as points in the plane.

        y : array-like of shape (n_samples,) or None
            Class of every sample, shown by its marker. If None, the predicted one is, if any.

        experts : array-like of int of shape (n_samples,) or (n_samples, k)
            Index of the expert that answers every sample, shown by its color; the first one if
            there are several.

        y_pred : array-like of shape (n_samples,) or None
            Predicted class of every sample, shown by the background. If None, it shows the
            expert of the nearest sample.

        n_experts : int, default=None
            Number of experts of the model, told in the title of the legend. If None, it is not.

        axis_labels : tuple of two str, default=("Dimension 1", "Dimension 2")
            Names of the two axes.

        ax : matplotlib Axes, default=None
            Axes to plot on. If None, a new figure is created.

        n_neighbors : int, default=1
            Neighbors that vote on the color of a point of the background.

        grid_resolution : int, default=200
            Points of the background per axis.

        numbers : bool or "auto", default="auto"
            Whether to write the experts' numbers to their samples, where they do not overlap.
            "auto" does so for more than 8 experts.

        scatter_kw : dict, default=None
            Keyword arguments of `matplotlib.axes.Axes.scatter`.

        region_kw : dict, default=None
            Keyword arguments of `matplotlib.axes.Axes.imshow`, for the background.

        Returns
        -------
        display : DecisionRegionDisplay

        See Also
        --------
        from_estimator : Plot from a fitted estimator.
        """
        return cls(
            embedding, y, experts, y_pred, n_experts=n_experts, axis_labels=axis_labels
        ).plot(
            ax=ax,
            n_neighbors=n_neighbors,
            grid_resolution=grid_resolution,
            numbers=numbers,
            scatter_kw=scatter_kw,
            region_kw=region_kw,
        )

    def plot(
        self,
        *,
        ax=None,
        n_neighbors=1,
        grid_resolution=200,
        numbers="auto",
        scatter_kw=None,
        region_kw=None,
    ):
        """Plot the samples on their background.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to plot on. If None, a new figure is created.

        n_neighbors : int, default=1
            Neighbors that vote on the color of a point of the background.

        grid_resolution : int, default=200
            Points of the background per axis.

        numbers : bool or "auto", default="auto"
            Whether to write the experts' numbers to their samples, where they do not overlap.
            "auto" does so for more than 8 experts.

        scatter_kw : dict, default=None
            Keyword arguments of `matplotlib.axes.Axes.scatter`.

        region_kw : dict, default=None
            Keyword arguments of `matplotlib.axes.Axes.imshow`, for the background.

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
        import_pyplot(self)
        from matplotlib.markers import MarkerStyle

        points, shown, predicted, experts = self._checked()
        if self.surface is None:
            regions = experts if predicted is None else predicted
            surface = nearest_surface(points, regions, n_neighbors, grid_resolution)
        else:
            surface = np.asarray(self.surface)
        if predicted is None:
            classes = np.unique(shown)
            colors = expert_colors(max(experts.max(), surface.max()) + 1)
            style = _expert_style(colors)
        else:
            classes = np.unique(np.concatenate([shown, predicted, surface.ravel()]))
            colors = expert_colors(experts.max() + 1)
            surface, style = np.searchsorted(classes, surface), _class_style(len(classes))
        ax = axes_or_new(self, ax)
        ax.grid(False)
        self._draw_background(points, surface, merge_style("image", style, region_kw))
        self.points_ = []
        for index, label in enumerate(classes):
            rows = np.flatnonzero(shown == label)
            style = _point_style(index, len(classes), len(points))
            style |= {"facecolor": colors[experts[rows]], "zorder": 2}
            style = merge_style("collection", style, scatter_kw)
            if not MarkerStyle(style["marker"]).is_filled():
                style.pop("edgecolor", None)  # matplotlib would warn: a cross has but one color
            self.points_.append(ax.scatter(*points[rows].T, **style))
        ax.set(xlabel=as_text(self.axis_labels[0]), ylabel=as_text(self.axis_labels[1]))
        self._explain(classes, np.unique(experts), colors)
        answering = len(np.unique(experts))
        write = answering > _MOST_COLORS if numbers == "auto" else numbers
        self.text_ = self._write_numbers(points, experts) if write else []
        return self

    def _checked(self):
        """Return points, classes to mark, predictions or None and first experts as arrays."""
        points, experts = np.asarray(self.embedding, dtype=float), np.asarray(self.experts)
        if points.ndim != 2 or points.shape[1] != 2:
            raise ValueError(
                "embedding must place every sample in the plane, an array of shape (n_samples, "
                f"2), got shape {points.shape}."
            )
        if experts.dtype.kind not in "iu" or experts.min() < 0:
            raise ValueError(
                "experts must be indices from 0 on, such as those returned by "
                f"MoEClassifier.apply, got dtype {experts.dtype}, smallest {experts.min()}."
            )
        y, predicted = _check_classes(self.y, "y"), _check_classes(self.y_pred, "y_pred")
        check_consistent_length(points, experts, y, predicted)
        shown = predicted if y is None else y
        if shown is None:
            shown = np.zeros(len(points), dtype=int)  # one marker for all
        return points, shown, predicted, experts.reshape(len(experts), -1)[:, 0]

    def _draw_background(self, points, surface, style):
        """Color the plane by its surface, and draw lines between the regions."""
        low, size = frame_of(points)
        extent = (low[0], low[0] + size[0], low[1], low[1] + size[1])
        self.background_ = self.ax_.imshow(surface, origin="lower", extent=extent, **style)
        boundary = {"colors": "0.45", "linewidths": 0.8, "zorder": 1}
        centers = pixels_of(points, len(surface))
        x, y = centers[0, :, 0], centers[:, 0, 1]
        for index in np.unique(surface)[1:]:
            self.ax_.contour(x, y, surface >= index, [0.5], **boundary)

    def _explain(self, classes, answering, colors):
        """Draw the legends: experts beside the axes, classes above."""
        from matplotlib.lines import Line2D
        from matplotlib.patches import Patch

        dots = [
            Line2D([], [], marker="o", linestyle="none", color=colors[expert], markersize=7)
            for expert in answering
        ]
        title = "Expert"
        if self.n_experts is not None and len(answering) < self.n_experts:
            title = f"{len(answering)} of {self.n_experts} experts"
        experts = legend_beside(self.ax_, handles=dots, labels=list(answering), title=title)
        no_classes = self.y is None and self.y_pred is None
        if no_classes or len(classes) > len(_MARKERS):
            return
        self.ax_.add_artist(experts)
        experts.set_clip_on(False)  # outside of the axes, and yet part of the layout
        image, labels = self.background_, [as_text(label) for label in classes]
        entries = [
            Line2D([], [], marker=marker, linestyle="none", color="0.3")
            for marker in _MARKERS[: len(classes)]
        ]
        title = "Class"
        if self.y_pred is not None:
            fills = image.cmap(image.norm(np.arange(len(classes))))
            patches = [Patch(facecolor=fill, edgecolor="0.45") for fill in fills]
            entries = list(zip(patches, entries, strict=True))
            shown = "marker and background" if self.y is None else "background"
            title = f"Class (predicted: {shown})"
        legend_above(self.ax_, entries, labels, title=title, handleheight=1.3)

    def _write_numbers(self, points, experts):
        """Write each expert's number to the middle of its samples, those with most first."""
        from matplotlib.patheffects import withStroke

        run_layout(self.ax_)
        halo = [withStroke(linewidth=2.5, foreground="white")]
        texts, taken = [], []
        numbers, counts = np.unique(experts, return_counts=True)
        for expert in numbers[np.argsort(-counts, kind="stable")]:
            own = points[experts == expert]
            # A sample, not the mean: those of an expert may lie in several places.
            middle = own[np.abs(own - np.median(own, axis=0)).sum(axis=1).argmin()]
            text = self.ax_.annotate(
                str(expert), middle, ha="center", va="center", weight="bold", path_effects=halo
            )
            box = text.get_window_extent()
            if any(box.overlaps(other) for other in taken):
                text.remove()
            else:
                texts.append(text)
                taken.append(box)
        return texts


def _has_categories(estimator):
    """Tell whether a fitted mixture takes columns of its table for categories."""
    encoder = getattr(getattr(estimator, "module_", None), "encoder", None)
    return len(getattr(encoder, "categories", ())) > 0


def _first_experts(estimator, X):
    """Return the expert that answers each sample, of several the first."""
    mixture, samples = final_step(estimator, X)
    return mixture.apply(samples).reshape(len(X), -1)[:, 0]


def _check_classes(y, name):
    """Return classes as an array; None stays None, and numbers are refused."""
    if y is None:
        return None
    y = column_or_1d(y)
    if y.dtype.kind == "f" and (y != np.round(y)).any():
        raise ValueError(
            f"{name} must hold classes, which markers and regions can show, got numbers such as "
            f"{y[y != np.round(y)][0]:.4g}. Pass y=None and y_pred=None for the regions of the "
            "experts."
        )
    return y


def _class_style(n_classes):
    """Return how the regions of classes look: greys."""
    return {"cmap": "Greys", "vmin": 0, "vmax": 4 * max(n_classes - 1, 1), **_FLAT}


def _expert_style(colors):
    """Return how the regions of experts look: their colors, but paler."""
    from matplotlib.colors import ListedColormap

    pale = 1 - _PALE * (1 - colors)
    return {"cmap": ListedColormap(pale), "vmin": -0.5, "vmax": len(colors) - 0.5, **_FLAT}


def _point_style(index, n_classes, n_points):
    """Return marker, size and edge of the points of a class."""
    marker = _MARKERS[index] if n_classes <= len(_MARKERS) else "o"
    size = float(np.clip(8000 / n_points, 8, 36))
    if marker == "x":
        return {"marker": marker, "s": size, "linewidths": 1.2}
    return {"marker": marker, "s": size, "linewidths": 0.3, "edgecolors": "black"}
