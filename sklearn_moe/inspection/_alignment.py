"""A plot of what router and experts have aligned with, and the weights that it reads."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from . import _plotting as plotting

_ROWS = {"router": ("Router", r"\theta_m"), "expert": ("Experts", "w_m")}
_COLUMNS = {"features": "v_k", "centers": "c_k"}
_NOT_LINEAR = (
    "Only a linear router has one direction per expert, a weight of shape (n_experts, patch_size); "
    "the router's network is a {}. Use samples of shape (n_patches, patch_size)."
)
_NO_FILTERS = (
    "Only patch experts have filters, a weight of shape (n_outputs, width, patch_size); an expert "
    "is a {}. Use expert='patch'."
)


class AlignmentDisplay:
    """Matrices of inner products: router and experts with features and centers of the clusters.

    The theory of the mixture [1]_ is about four families of inner products. In the end, the
    router's direction theta_m should be aligned with the centers c_k of the clusters that it
    sends to expert m, and a filter w_m of the expert with their features v_k; the two other
    products should stay small. Rows are clusters and columns experts.

    It is recommended to use :meth:`from_estimator` or :meth:`from_trace` to create a display.
    All parameters are stored as attributes.

    Parameters
    ----------
    router_features, router_centers : ndarray of shape (n_experts, n_clusters)
        Inner products of theta_m with v_k and with c_k.

    expert_features, expert_centers : ndarray of shape (n_experts, n_filters, n_clusters)
        Inner products of the filters w_m of expert m with v_k and with c_k.

    display_labels : array-like of shape (n_clusters,), default=None
        Names of the clusters. If None, they are numbered from 0 on.

    Attributes
    ----------
    im_ : ndarray of shape (2, 2), dtype=matplotlib AxesImage
        The images: router above experts, features left of centers.

    text_ : ndarray of shape (2, 2), dtype=object
        For each image its numbers, an ndarray of shape (n_clusters, n_experts) of matplotlib
        Text, or None if there are none.

    axes_ : ndarray of shape (2, 2), dtype=matplotlib Axes
        Axes with the images.

    figure_ : matplotlib Figure
        Figure that contains the axes.

    See Also
    --------
    RoutingDisplay : Which clusters are routed to which experts in consequence.
    sklearn_moe.datasets.make_cluster_patches : Data whose features and centers are known.

    Notes
    -----
    For every expert and cluster, the largest product of all filters in absolute value is shown,
    with its sign. An expert has filters for each of its outputs, and those for different classes
    may point in opposite directions. The products are not normalized by the lengths of the vectors.
    The two images of a row have the same color scale, and numbers that round to 0 are written as 0.

    References
    ----------
    .. [1] Z. Chen, Y. Deng, Y. Wu, Q. Gu, Y. Li, "Towards Understanding the
       Mixture-of-Experts Layer in Deep Learning", NeurIPS 2022.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_moe.inspection import AlignmentDisplay
    >>> theta = np.array([[0.0, 0.1], [0.1, 0.0]]), np.array([[2.0, -1.0], [-1.0, 2.0]])
    >>> filters = np.array([[[1.0, 0.1], [-3.0, 0.2]], [[0.3, 2.0], [0.1, -1.0]]])
    >>> display = AlignmentDisplay(*theta, filters, 0.1 * filters)
    >>> display.plot()
    <...>
    >>> display.im_[1, 0].get_array().data
    array([[-3. ,  0.3],
           [ 0.2,  2. ]])
    """

    def __init__(
        self,
        router_features: ArrayLike,
        router_centers: ArrayLike,
        expert_features: ArrayLike,
        expert_centers: ArrayLike,
        *,
        display_labels: ArrayLike | None = None,
    ):
        self.router_features = router_features
        self.router_centers = router_centers
        self.expert_features = expert_features
        self.expert_centers = expert_centers
        self.display_labels = display_labels

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        dictionary: tuple[np.ndarray, np.ndarray],
        *,
        display_labels: ArrayLike | None = None,
        **plot_options: Any,
    ) -> "AlignmentDisplay":
        """Plot what router and experts of a fitted estimator have aligned with.

        Parameters
        ----------
        estimator : estimator instance
            Fitted mixture of patch experts with a linear router, or a fitted
            :class:`~sklearn.pipeline.Pipeline` in which it is the last step. The dictionary is
            then that of the samples as the mixture takes them.

        dictionary : tuple of two ndarrays of shape (n_clusters, patch_size)
            Features v_k and centers c_k, as :func:`~sklearn_moe.datasets.make_cluster_patches`
            returns them with `return_dictionary=True`.

        display_labels : array-like of shape (n_clusters,), default=None
            Names of the clusters. If None, they are numbered from 0 on.

        **plot_options : dict
            Arguments of :meth:`plot`: `axes`, `cmap`, `include_values`, `colorbar`, `im_kw` and
            `text_kw`.

        Returns
        -------
        display : AlignmentDisplay

        Raises
        ------
        TypeError
            If the estimator is not such a mixture, or has only one expert and so no router.

        ValueError
            If the vectors of the dictionary do not have the size of a patch.

        See Also
        --------
        from_trace : Plot what was recorded during a fit.

        Examples
        --------
        >>> from sklearn_moe import MoEClassifier
        >>> from sklearn_moe.datasets import make_cluster_patches
        >>> from sklearn_moe.inspection import AlignmentDisplay
        >>> X, y, dictionary = make_cluster_patches(500, return_dictionary=True, random_state=0)
        >>> clf = MoEClassifier(n_experts=4, max_iter=5, tol=None, random_state=0).fit(X, y)
        >>> AlignmentDisplay.from_estimator(clf, dictionary)
        <...>
        """
        theta, filters = _read_weights(estimator)
        products = [
            weights @ vectors.T
            for weights in (theta, filters)
            for vectors in _check_dictionary(dictionary, theta.shape[-1])
        ]
        return cls(*products, display_labels=display_labels).plot(**plot_options)

    @classmethod
    def from_trace(
        cls,
        trace: Any,
        index: int = -1,
        *,
        display_labels: ArrayLike | None = None,
        **plot_options: Any,
    ) -> "AlignmentDisplay":
        """Plot inner products that were recorded during a fit.

        Parameters
        ----------
        trace : object
            With attributes `router_features_` and `router_centers_` of shape (n_records,
            n_experts, n_clusters), `expert_features_` and `expert_centers_` of shape (n_records,
            n_experts, n_filters, n_clusters), such as a finished
            :class:`~sklearn_moe.callbacks.RoutingTrace` with a dictionary.

        index : int, default=-1
            Which record, by default the last.

        display_labels : array-like of shape (n_clusters,), default=None
            Names of the clusters. If None, they are numbered from 0 on.

        **plot_options : dict
            Arguments of :meth:`plot`: `axes`, `cmap`, `include_values`, `colorbar`, `im_kw` and
            `text_kw`.

        Returns
        -------
        display : AlignmentDisplay

        Raises
        ------
        TypeError
            If the trace lacks one of the attributes.

        See Also
        --------
        from_estimator : Plot from a fitted estimator.
        """
        names = [f"{row}_{column}_" for row in _ROWS for column in _COLUMNS]
        missing = [name for name in names if getattr(trace, name, None) is None]
        if missing:
            raise TypeError(
                f"{cls.__name__}.from_trace reads the attributes {', '.join(names)}; "
                f"{type(trace).__name__} has no {', '.join(missing)}. Pass a finished trace that "
                "was given the dictionary of the data."
            )
        products = [np.asarray(getattr(trace, name))[index] for name in names]
        return cls(*products, display_labels=display_labels).plot(**plot_options)

    def plot(
        self,
        *,
        axes: ArrayLike | None = None,
        cmap: Any = "RdBu_r",
        include_values: bool | str = "auto",
        colorbar: bool = True,
        im_kw: dict | None = None,
        text_kw: dict | None = None,
    ) -> "AlignmentDisplay":
        """Plot the matrices.

        Parameters
        ----------
        axes : ndarray of shape (2, 2), dtype=matplotlib Axes, default=None
            Axes to plot on. If None, a new figure is created.

        cmap : str or matplotlib Colormap, default="RdBu_r"
            Diverging colormap; its middle is 0.

        include_values : bool or "auto", default="auto"
            Whether to write the numbers into the cells. "auto" writes them where they fit.

        colorbar : bool, default=True
            Whether to add a color bar to each row.

        im_kw : dict, default=None
            Keyword arguments of `matplotlib.axes.Axes.imshow`.

        text_kw : dict, default=None
            Keyword arguments of `matplotlib.axes.Axes.text`.

        Returns
        -------
        display : AlignmentDisplay
            This object, with the attributes that end in an underscore.

        Raises
        ------
        ImportError
            If matplotlib is not installed.

        ValueError
            If the arrays or `axes` are not of the shapes above.
        """
        plt = plotting.import_pyplot(self)
        matrices = self._matrices()
        n_clusters, n_experts = matrices[0][0].shape
        names = plotting.cluster_names(self.display_labels, n_clusters)
        if axes is None:
            _, axes = plt.subplots(
                2, 2, sharex=True, sharey=True, figsize=(9, 5.5), layout="constrained"
            )
        axes = np.asarray(axes)
        if axes.shape != (2, 2):
            raise ValueError(
                "axes must be an array of 2 x 2 matplotlib Axes, such as those of "
                f"plt.subplots(2, 2), got shape {axes.shape}."
            )
        self.axes_, self.figure_ = axes, axes[0, 0].figure
        self.im_, self.text_, texts = np.empty((3, 2, 2), dtype=object)
        for row, (part, weight) in enumerate(_ROWS.values()):
            limit = np.abs(matrices[row]).max()
            # The middle of the colors is 0; a row of zeros needs a range, too.
            style = {"cmap": cmap, "aspect": "auto", "vmin": -(limit or 1), "vmax": limit or 1}
            style = plotting.merge_style("image", style, im_kw)
            for column, (of_data, vector) in enumerate(_COLUMNS.items()):
                ax, matrix = axes[row, column], matrices[row][column]
                self.im_[row, column] = ax.imshow(matrix, **style)
                title = rf"{part} and {of_data}, $\langle {weight}, {vector}\rangle$"
                ax.set_title(title, fontsize="medium")
                texts[row, column] = np.vectorize(_format, otypes=[object])(matrix, limit)
            if colorbar:
                image = self.im_[row, 0]
                self.figure_.colorbar(image, ax=list(axes[row]), label="Inner product")
        plt.setp(axes[1], xlabel="Expert $m$")
        plt.setp(axes[:, 0], ylabel="Cluster $k$")
        for ax in axes.flat:
            plotting.label_cells(ax, names, range(n_experts))
        if include_values:  # in all images or, unless they are forced, in none
            longest = max((text for cells in texts.flat for text in cells.flat), key=len)
            options = {"force": include_values is True, "text_kw": text_kw, "longest": longest}
            for place, cells in np.ndenumerate(texts):
                self.text_[place] = plotting.write_values(self.im_[place], cells, **options)
        return self

    def _matrices(self):
        """Return four matrices (n_clusters, n_experts), with the largest products of filters."""
        router = [np.asarray(self.router_features), np.asarray(self.router_centers)]
        experts = [np.asarray(self.expert_features), np.asarray(self.expert_centers)]
        shapes = [array.shape for array in (*router, *experts)]
        (n_experts, n_filters, n_clusters) = shapes[2] if len(shapes[2]) == 3 else (0, 0, 0)
        if not n_filters or shapes != 2 * [(n_experts, n_clusters)] + 2 * [shapes[2]]:
            raise ValueError(
                "AlignmentDisplay needs router products of shape (n_experts, n_clusters) and "
                "expert products of shape (n_experts, n_filters, n_clusters), got "
                f"{shapes[0]}, {shapes[1]} and {shapes[2]}, {shapes[3]}."
            )
        return [m.T for m in router], [_strongest(m).T for m in experts]


def _check_dictionary(dictionary, patch_size):
    """Return features and centers as two arrays (n_clusters, patch_size)."""
    arrays = [np.asarray(vectors, dtype=float) for vectors in dictionary]
    shapes = [array.shape for array in arrays]
    if len(arrays) != 2 or shapes != 2 * [(*shapes[0][:1], patch_size)]:
        raise ValueError(
            f"dictionary must be (features, centers), both of shape (n_clusters, {patch_size}) as "
            f"patches have {patch_size} entries, got arrays of shapes {shapes}. Pass the "
            "dictionary of the data, of make_cluster_patches with return_dictionary=True."
        )
    return arrays


def _strongest(products):
    """Return the products (n_experts, n_clusters) of largest absolute value over the filters."""
    index = np.abs(products).argmax(axis=1, keepdims=True)
    return np.take_along_axis(products, index, axis=1)[:, 0]


def _format(value, limit):
    """Format with as many decimals as give the largest number of the row two digits."""
    if limit == 0:
        return "0"
    decimals = max(0, int(1 - np.floor(np.log10(limit))))
    text = f"{value:.{decimals}f}" if decimals <= 3 else f"{value:.0e}"
    return text if float(text) else "0"


def _read_weights(estimator):
    """Return the directions theta_m of the router and the filters of the experts.

    Arrays of shapes (n_experts, patch_size) and (n_experts, n_filters, patch_size).
    """
    if isinstance(estimator, Pipeline):
        estimator = estimator[-1]
    if hasattr(estimator, "fit"):
        check_is_fitted(estimator)
    module = getattr(estimator, "module_", None)
    if not hasattr(module, "experts"):
        raise TypeError(
            "The weights are read from `module_.router` and `module_.experts` of a fitted "
            f"mixture, which {type(estimator).__name__} does not have. Of a search, "
            "pass `best_estimator_`."
        )
    if getattr(module, "router", None) is None:
        raise TypeError(
            "The estimator has no router: with a single expert there is nothing to align. Use "
            "n_experts >= 2."
        )
    theta = _read_weight(getattr(module.router, "network", module.router), 2, _NOT_LINEAR)
    filters = [_read_weight(expert, 3, _NO_FILTERS) for expert in module.experts]
    shapes = sorted({weight.shape for weight in filters})
    if len(shapes) > 1:
        raise TypeError(f"All experts must have as many filters, got weights of shapes {shapes}.")
    return theta, np.stack(filters).reshape(len(filters), -1, theta.shape[1])


def _read_weight(owner, n_axes, refusal):
    """Return `owner.weight`, of so many axes, as an array of floats."""
    weight = getattr(owner, "weight", None)
    if np.ndim(weight) != n_axes or hasattr(owner, "hidden"):
        found = "no weight" if weight is None else f"a weight of shape {tuple(weight.shape)}"
        raise TypeError(refusal.format(f"{type(owner).__name__} with {found}"))
    return weight.detach().cpu().numpy().astype(float)
