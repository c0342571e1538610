"""A plot of samples in the plane: their experts, their classes and the predicted regions."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import csr_matrix, issparse
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from sklearn.utils import check_consistent_length, column_or_1d
from sklearn.utils._indexing import _get_column_indices

from .._validation import count_experts, final_step, name_in_errors
from ..metrics._columns import as_dense, encode_table, read_columns, typical_values
from ..metrics._routing import check_indices
from . import _plotting as plotting

_MARKERS = "oxs^vDP*<>ph"  # as many classes can be distinguished
_MOST_COLORS = 8  # experts that can be distinguished by color alone
_PALE = 0.35  # the share of an expert's color in its region; the rest is white
_FLAT = {"interpolation": "nearest", "aspect": "auto", "zorder": 0}
_MARGIN = 0.05  # around the samples, of their range
_STEPS = 15  # from the lowest to the highest value of a column
_PERPLEXITY = 30  # scikit-learn's default; fewer samples have fewer neighbors


class DecisionRegionDisplay:
    """Samples in the plane: color is the expert, marker the class, background the prediction.

    It is the plot of Figure 1 of [1]_. Samples of two features are shown as they are, and the
    background is the prediction of the model there. Two columns of a larger table can be chosen;
    in the background the others are held at a typical value. For other samples the plane is an
    embedding, and the background is the class that a nearest-neighbor classifier, fitted on points
    and *predictions*, gives each point: it shows where the predictions lie in the embedding, not
    the boundary of the model itself, which lies in the space of the samples.

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

    n_experts : int, default=None
        Number of experts of the model, shown in the title of the legend. If None, it is not.

    axis_labels : tuple of two str, default=("Dimension 1", "Dimension 2")
        Names of the two axes.

    surface : array-like of shape (resolution, resolution), default=None
        The prediction of the model at the pixels of the plane, rows from below: the class, or
        without `y_pred` the expert. If None, that of the nearest samples.

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
        Axes with the plot.

    figure_ : matplotlib Figure
        Figure that contains the axes.

    See Also
    --------
    RoutingDisplay : The routing matrix of experts and clusters.
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
        embedding: ArrayLike,
        y: ArrayLike | None,
        experts: ArrayLike,
        y_pred: ArrayLike | None,
        *,
        n_experts: int | None = None,
        axis_labels: tuple[str, str] = ("Dimension 1", "Dimension 2"),
        surface: Any = None,
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
        estimator: Any,
        X: Any,
        y: ArrayLike | None = None,
        *,
        columns: tuple[str | int, str | int] | None = None,
        embedding: ArrayLike = "auto",
        random_state: int | np.random.RandomState | None = None,
        grid_resolution: int = 200,
        **plot_options: Any,
    ) -> "DecisionRegionDisplay":
        """Plot samples, their experts and the classes that a fitted estimator predicts.

        Parameters
        ----------
        estimator : estimator instance
            Fitted mixture of experts, with methods `apply` and `predict`, or a fitted
            :class:`~sklearn.pipeline.Pipeline` in which it is the last step.

        X : array-like of shape (n_samples, ...)
            Samples; a few hundred give a clear plot.

        y : array-like of shape (n_samples,), default=None
            Their classes, shown by the markers. If None, the predicted ones are. Targets of a
            regression, and several labels per sample, are not shown.

        columns : tuple of two str or int, default=None
            Two columns of a table X, of numbers, that are the axes, such as `("temperature",
            "load")`: names of a pandas or polars frame, or indices. The background is the
            prediction of the model where all other columns are held at the median of X, or at the
            most frequent category. It may differ from that of a sample, which has other values
            there. Samples with a missing value in one of the two are not shown, and `embedding` has
            no effect. If None, `embedding` decides.

        embedding : {"auto", "pca", "tsne"} or array-like of shape (n_samples, 2), default="auto"
            How the samples become points without `columns`: by
            :class:`~sklearn.decomposition.PCA` or :class:`~sklearn.manifold.TSNE`, or the points
            themselves. "auto" shows a table by two columns of numbers: those that change the gate
            most if the others are held as above, or the prediction if the gate is the same for all
            rows. For patches and images, and where there are no two such columns, it is "pca". PCA
            and TSNE are given the standardized and encoded columns of tables, the sums of the
            patches of 3-D X, and flattened images.

        random_state : int, RandomState instance or None, default=None
            Randomness of the embedding. Pass an int for the same plot every time.

        grid_resolution : int, default=200
            Points of the background per axis.

        **plot_options : dict
            Arguments of :meth:`plot`: `ax`, `n_neighbors`, `numbers`, `scatter_kw` and `region_kw`.

        Returns
        -------
        display : DecisionRegionDisplay

        Raises
        ------
        TypeError
            If the estimator has no method `apply` or `predict`.

        ValueError
            If `columns` are not two columns of numbers.

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
        is_auto, surface = isinstance(embedding, str) and embedding == "auto", None
        if columns is None and is_auto and np.ndim(samples) == 2:
            columns = _most_used(whole, samples)
        if columns is not None:
            points, axis_labels, samples_at = _choose(samples, columns)
            known = np.isfinite(points).all(axis=1)
            points, experts = points[known], experts[known]
            y, y_pred = (part if part is None else np.asarray(part)[known] for part in (y, y_pred))
            pixels = samples_at(_pixels(points, grid_resolution))
            if y_pred is None:
                mixture, pixels = final_step(whole, pixels)
                surface = mixture.apply(pixels).reshape(grid_resolution**2, -1)[:, 0]
            else:
                surface = whole.predict(pixels)
            surface = surface.reshape(grid_resolution, grid_resolution)
        else:
            method = "pca" if is_auto else embedding
            points, axis_labels = _embed(estimator, X, method, random_state)
        options = {"n_experts": count_experts(estimator, X), "axis_labels": axis_labels}
        display = cls(points, y, experts, y_pred, surface=surface, **options)
        return display.plot(grid_resolution=grid_resolution, **plot_options)

    @classmethod
    def from_predictions(
        cls,
        embedding: ArrayLike,
        y: ArrayLike | None,
        experts: ArrayLike,
        y_pred: ArrayLike | None,
        *,
        n_experts: int | None = None,
        axis_labels: tuple[str, str] = ("Dimension 1", "Dimension 2"),
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

        n_experts : int, default=None
            Number of experts of the model, shown in the title of the legend. If None, it is not.

        axis_labels : tuple of two str, default=("Dimension 1", "Dimension 2")
            Names of the two axes.

        **plot_options : dict
            Arguments of :meth:`plot`: `ax`, `n_neighbors`, `grid_resolution`, `numbers`,
            `scatter_kw` and `region_kw`.

        Returns
        -------
        display : DecisionRegionDisplay

        See Also
        --------
        from_estimator : Plot from a fitted estimator.
        """
        display = cls(embedding, y, experts, y_pred, n_experts=n_experts, axis_labels=axis_labels)
        return display.plot(**plot_options)

    def plot(
        self,
        *,
        ax: Any = None,
        n_neighbors: int = 1,
        grid_resolution: int = 200,
        numbers: bool | str = "auto",
        scatter_kw: dict | None = None,
        region_kw: dict | None = None,
    ) -> "DecisionRegionDisplay":
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
        plotting.import_pyplot(self)
        from matplotlib.colors import ListedColormap
        from matplotlib.markers import MarkerStyle

        points, shown, predicted, experts = self._checked()
        surface, regions = self.surface, experts if predicted is None else predicted
        if surface is None:
            surface = _nearest_regions(points, regions, n_neighbors, grid_resolution)
        surface = np.asarray(surface)
        if predicted is None:
            classes = np.unique(shown)
            colors = plotting.expert_colors(max(experts.max(), surface.max()) + 1)
            cmap = ListedColormap(1 - _PALE * (1 - colors))
            style = {"cmap": cmap, "vmin": -0.5, "vmax": len(colors) - 0.5, **_FLAT}
        else:
            classes = np.unique(np.concatenate([shown, predicted, surface.ravel()]))
            colors = plotting.expert_colors(experts.max() + 1)
            surface = np.searchsorted(classes, surface)
            style = {"cmap": "Greys", "vmin": 0, "vmax": 4 * max(len(classes) - 1, 1), **_FLAT}
        ax = plotting.axes_or_new(self, ax)
        ax.grid(False)
        self._draw_background(points, surface, plotting.merge_style("image", style, region_kw))
        self.points_ = []
        size = float(np.clip(8000 / len(points), 8, 36))
        for index, label in enumerate(classes):
            marker = _MARKERS[index] if len(classes) <= len(_MARKERS) else "o"
            edge = {"linewidths": 1.2} if marker == "x" else {"linewidths": 0.3, "ec": "black"}
            rows = np.flatnonzero(shown == label)
            style = {"marker": marker, "s": size, "facecolor": colors[experts[rows]], "zorder": 2}
            style = plotting.merge_style("collection", style | edge, scatter_kw)
            if not MarkerStyle(style["marker"]).is_filled():
                style.pop("edgecolor", None)  # matplotlib warns, because a cross has only one color
            self.points_.append(ax.scatter(*points[rows].T, **style))
        x_label, y_label = map(plotting.as_text, self.axis_labels)
        ax.set(xlabel=x_label, ylabel=y_label)
        numbers_shown = np.unique(experts)
        self._draw_legends(classes, numbers_shown, colors)
        write = len(numbers_shown) > _MOST_COLORS if numbers == "auto" else numbers
        self.text_ = self._write_numbers(points, experts) if write else []
        return self

    def _checked(self):
        """Return points, classes to mark, predictions or None and first experts as arrays."""
        points, experts = np.asarray(self.embedding, dtype=float), check_indices(self.experts)[0]
        if points.ndim != 2 or points.shape[1] != 2:
            raise ValueError(
                f"embedding must be an array of shape (n_samples, 2), got shape {points.shape}."
            )
        y, predicted = _check_classes(self.y, "y"), _check_classes(self.y_pred, "y_pred")
        check_consistent_length(points, experts, y, predicted)
        shown = predicted if y is None else y
        if shown is None:
            shown = np.zeros(len(points), dtype=int)  # one marker for all
        return points, shown, predicted, experts[:, 0]

    def _draw_background(self, points, surface, style):
        """Color the plane by its surface, and draw lines between the regions."""
        low, size = _frame(points)
        extent = (low[0], low[0] + size[0], low[1], low[1] + size[1])
        self.background_ = self.ax_.imshow(surface, origin="lower", extent=extent, **style)
        boundary = {"colors": "0.45", "linewidths": 0.8, "zorder": 1}
        for index in np.unique(surface)[1:]:
            is_above = surface >= index
            self.ax_.contour(is_above, [0.5], origin="lower", extent=extent, **boundary)

    def _draw_legends(self, classes, experts, colors):
        """Draw the legends: experts beside the axes, classes above."""
        from matplotlib.lines import Line2D
        from matplotlib.patches import Patch

        def mark(marker, color, **style):
            return Line2D([], [], marker=marker, linestyle="none", color=color, **style)

        dots = [mark("o", colors[expert], markersize=7) for expert in experts]
        title = "Expert"
        if self.n_experts is not None and len(experts) < self.n_experts:
            title = f"{len(experts)} of {self.n_experts} experts"
        beside = plotting.legend_beside(self.ax_, dots, list(experts), title=title)
        no_classes = self.y is None and self.y_pred is None
        if no_classes or len(classes) > len(_MARKERS):
            return
        self.ax_.add_artist(beside)
        beside.set_clip_on(False)  # outside of the axes, and yet part of the layout
        entries = [mark(marker, "0.3") for marker in _MARKERS[: len(classes)]]
        title = "Class"
        if self.y_pred is not None:
            image = self.background_
            fills = image.cmap(image.norm(np.arange(len(classes))))
            patches = [Patch(facecolor=fill, edgecolor="0.45") for fill in fills]
            entries = list(zip(patches, entries, strict=True))
            shown = "marker and background" if self.y is None else "background"
            title = f"Class (predicted: {shown})"
        labels = [plotting.as_text(label) for label in classes]
        plotting.legend_above(self.ax_, entries, labels, title=title, handleheight=1.3)

    def _write_numbers(self, points, experts):
        """Write each expert's number at one of its samples, unless it overlaps larger experts."""
        from matplotlib.patheffects import withStroke

        plotting.run_layout(self.ax_)
        style = {"ha": "center", "va": "center", "weight": "bold"}
        style["path_effects"] = [withStroke(linewidth=2.5, foreground="white")]
        texts = []
        numbers, counts = np.unique(experts, return_counts=True)
        for expert in numbers[np.argsort(-counts, kind="stable")]:
            own = points[experts == expert]
            # The sample nearest to the median: the mean may lie among samples of others.
            middle = own[np.abs(own - np.median(own, axis=0)).sum(axis=1).argmin()]
            text = self.ax_.annotate(str(expert), middle, **style)
            box = text.get_window_extent()
            if any(box.overlaps(other.get_window_extent()) for other in texts):
                text.remove()
            else:
                texts.append(text)
        return texts


def _most_used(estimator, X):
    """Return the two columns of numbers that change the gate most, or else the prediction, or None.

    Each is moved from its lowest to its highest value, while the others are held.
    """
    mixture, seen = final_step(estimator, X)
    if len(getattr(mixture, "input_shape_", (1,))) > 1:
        return None  # patches or images
    encoder = getattr(getattr(mixture, "module_", None), "encoder", None)
    # Between the codes of categories there is nothing to predict.
    codes = getattr(encoder, "categories", ()) if seen is X else ()
    columns, codes = [*read_columns(X)], {int(code) for code in codes}
    numbers = {
        index: values[np.isfinite(values)]
        for index, (_, values, coded) in enumerate(columns)
        if not coded and index not in codes
    }
    if len(columns) == 2:
        is_whole = len(numbers) == 2 and all(np.isfinite(values).all() for _, values, _ in columns)
        return (0, 1) if is_whole else None
    numbers = {index: values for index, values in numbers.items() if values.size and np.ptp(values)}
    if len(numbers) < 2 or not hasattr(mixture, "gate_proba"):
        return None
    ask = getattr(mixture, "predict_proba", mixture.predict)
    changes = []
    for index, values in numbers.items():
        grid = np.quantile(values, np.linspace(0, 1, _STEPS))[:, np.newaxis]
        rows = final_step(estimator, _rows_at(X, [index])(grid))[1]
        changes.append([np.std(of(rows), axis=0).sum() for of in (mixture.gate_proba, ask)])
    of_gate, of_prediction = np.transpose(changes)
    change = of_gate if of_gate.any() else of_prediction
    first, second = np.argsort(-change, kind="stable")[:2]
    return tuple(np.array([*numbers])[[first, second]].tolist()) if change[first] > 0 else None


def _check_classes(y, name):
    """Return classes as an array; None stays None, and fractions are refused."""
    if y is None:
        return None
    y = column_or_1d(y)
    if y.dtype.kind == "f" and (y != np.round(y)).any():
        raise ValueError(
            f"{name} must hold classes, got numbers such as {y[y != np.round(y)][0]:.4g}. Pass "
            "y=None and y_pred=None for the regions of the experts."
        )
    return y


def _choose(X, columns):
    """Return two columns of a table as points, their names, and what makes samples of points."""
    with name_in_errors("columns"):
        chosen = _get_column_indices(X, list(columns))
    table = [*read_columns(X)] if np.ndim(X) == 2 else []
    if len(chosen) != 2 or not table or any(table[index][2] for index in chosen):
        raise ValueError(f"columns must be two columns of numbers of a table, got {columns!r}.")
    names, values, _ = zip(*(table[index] for index in chosen), strict=True)
    return np.column_stack(values), names, _rows_at(X, chosen)


def _rows_at(X, chosen):
    """Return a function that makes rows of values of some columns, with typical ones elsewhere."""
    typical = typical_values(X)

    def rows_at(points):
        columns = [[value] * len(points) for value in typical]
        for index, axis in zip(chosen, points.T, strict=True):
            columns[index] = axis
        if hasattr(X, "columns"):
            rows = type(X)(dict(zip(X.columns, columns, strict=True)))
            kept = {name: X[name].dtype for k, name in enumerate(X.columns) if k not in chosen}
            return rows.astype(kept) if hasattr(rows, "astype") else rows.cast(kept)
        rows = np.array(columns, dtype=np.result_type(float, getattr(X, "dtype", float))).T
        return csr_matrix(rows) if issparse(X) else rows

    return rows_at


def _frame(points):
    """Return the lower corner of the plane around the points, and its size."""
    low, high = points.min(axis=0), points.max(axis=0)
    margin = _MARGIN * np.where(high > low, high - low, 1)
    return low - margin, high - low + 2 * margin


def _pixels(points, resolution):
    """Return the centers of the pixels, (resolution ** 2, 2), row by row from below."""
    low, size = _frame(points)
    steps = (np.arange(resolution) + 0.5) / resolution
    return low + size * np.stack(np.meshgrid(steps, steps), axis=-1).reshape(-1, 2)


def _nearest_regions(points, regions, n_neighbors, resolution):
    """Return the region of each pixel by the nearest points."""
    # Both axes have the same weight, whatever their units.
    knn = make_pipeline(MinMaxScaler(), KNeighborsClassifier(n_neighbors)).fit(points, regions)
    return knn.predict(_pixels(points, resolution)).reshape(resolution, resolution)


def _embed(estimator, X, method, random_state):
    """Return points of shape (n_samples, 2) and the names of the two axes.

    `method` is "pca", "tsne" or the points themselves.
    """
    if not isinstance(method, str):
        return np.asarray(method), ("Dimension 1", "Dimension 2")
    if method not in ("pca", "tsne"):
        raise ValueError(
            f'embedding must be "pca", "tsne" or an array of shape (n_samples, 2), got {method!r}.'
        )
    features = _features(estimator, X)
    if min(features.shape) < 2:
        raise ValueError(
            f"An embedding needs at least 2 samples of 2 features, got shape {features.shape}. "
            "Pass the points themselves as `embedding`."
        )
    if method == "tsne":
        perplexity = min(_PERPLEXITY, (len(features) - 1) / 3)
        tsne = TSNE(perplexity=perplexity, init="pca", random_state=random_state)
        return tsne.fit_transform(features), ("t-SNE 1", "t-SNE 2")
    pca = PCA(2, random_state=random_state)
    points = pca.fit_transform(features)
    first, second = pca.explained_variance_ratio_
    name = "Principal component {} ({:.0%} of variance)"
    return points, (name.format(1, first), name.format(2, second))


def _features(estimator, X):
    """Return samples as vectors that can be compared, (n_samples, n_features).

    Columns of a table are standardized and encoded, because they may have any unit, and hold
    categories and missing values. Patches, of shape (n_patches, patch_size), have no order and are
    summed, as a linear router does. Images keep all pixels.
    """
    shape = getattr(estimator, "input_shape_", np.shape(X)[1:])
    if len(shape) > 1:
        X = np.reshape(X, (len(X), *shape))
        return X.sum(axis=1) if X.ndim == 3 else X.reshape(len(X), -1)
    features = as_dense(getattr(estimator, "_router_input", encode_table)(X))
    scale = features.std(axis=0)
    # Indicators of categories have no unit: scaled, rare ones would have the largest effect.
    scale[(scale == 0) | np.isin(features, (0, 1)).all(axis=0)] = 1
    return features / scale
