"""What router and experts have aligned with, as a picture."""

import numpy as np

from ._cells import label_cells, write_values
from ._matplotlib import import_pyplot, merge_style
from ._weights import expert_filters, router_directions

__all__ = ["AlignmentDisplay"]

_ROWS, _COLUMNS = ("router", "expert"), ("features", "centers")
_TITLES = (
    ("Router and features", "Router and centers"),
    ("Experts and features", "Experts and centers"),
)
_PRODUCTS = (
    (r"$\langle\theta_m, v_k\rangle$", r"$\langle\theta_m, c_k\rangle$"),
    (r"$\langle w_m, v_k\rangle$", r"$\langle w_m, c_k\rangle$"),
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
    RoutingDisplay : Which clusters the experts answer in consequence.
    sklearn_moe.datasets.make_cluster_patches : Data whose features and centers are known.

    Notes
    -----
    Of the filters of an expert, the one of largest absolute product is shown, for every cluster
    by itself and with its sign. Filters are shown as they are: an expert has filters for each of
    its outputs, and those for different classes may point in opposite directions. The products
    are not normalized by the lengths of the vectors; the two images of a row share their colors,
    and the number 0 is written for all that round to it.

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
        router_features,
        router_centers,
        expert_features,
        expert_centers,
        *,
        display_labels=None,
    ):
        self.router_features = router_features
        self.router_centers = router_centers
        self.expert_features = expert_features
        self.expert_centers = expert_centers
        self.display_labels = display_labels

    @classmethod
    def from_estimator(
        cls,
        estimator,
        dictionary,
        *,
        display_labels=None,
        axes=None,
        cmap="RdBu_r",
        include_values="auto",
        colorbar=True,
        im_kw=None,
        text_kw=None,
    ):
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

        Raises
        ------
        TypeError
            If the estimator is not such a mixture, or there is no router because there is only
            one expert.

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
        theta, filters = router_directions(estimator), expert_filters(estimator)
        products = [
            weights @ vectors.T
            for weights in (theta, filters)
            for vectors in _check_dictionary(dictionary, theta.shape[-1])
        ]
        return cls(*products, display_labels=display_labels).plot(
            axes=axes,
            cmap=cmap,
            include_values=include_values,
            colorbar=colorbar,
            im_kw=im_kw,
            text_kw=text_kw,
        )

    @classmethod
    def from_trace(
        cls,
        trace,
        index=-1,
        *,
        display_labels=None,
        axes=None,
        cmap="RdBu_r",
        include_values="auto",
        colorbar=True,
        im_kw=None,
        text_kw=None,
    ):
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
        return cls(*products, display_labels=display_labels).plot(
            axes=axes,
            cmap=cmap,
            include_values=include_values,
            colorbar=colorbar,
            im_kw=im_kw,
            text_kw=text_kw,
        )

    def plot(
        self,
        *,
        axes=None,
        cmap="RdBu_r",
        include_values="auto",
        colorbar=True,
        im_kw=None,
        text_kw=None,
    ):
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
        plt = import_pyplot(self)
        matrices = self._matrices()
        n_clusters, n_experts = matrices[0][0].shape
        labels = range(n_clusters) if self.display_labels is None else self.display_labels
        if len(labels) != n_clusters:
            raise ValueError(
                f"display_labels must name the {n_clusters} clusters, got {len(labels)} labels."
            )
        if axes is None:
            size = (9, 5.5)
            _, axes = plt.subplots(
                2, 2, sharex=True, sharey=True, figsize=size, layout="constrained"
            )
        axes = np.asarray(axes)
        if axes.shape != (2, 2):
            raise ValueError(
                "axes must be an array of 2 x 2 matplotlib Axes, such as those of "
                f"plt.subplots(2, 2), got shape {axes.shape}."
            )
        self.axes_, self.figure_ = axes, axes[0, 0].figure
        self.im_ = np.empty((2, 2), dtype=object)
        self.text_ = np.empty((2, 2), dtype=object)
        for row in range(2):
            # Zero is white; a row of zeros needs some range, too.
            limit = max(np.abs(matrix).max() for matrix in matrices[row]) or 1
            style = {"cmap": cmap, "aspect": "auto", "vmin": -limit, "vmax": limit}
            style = merge_style("image", style, im_kw)
            for column in range(2):
                ax = axes[row, column]
                self.im_[row, column] = ax.imshow(matrices[row][column], **style)
                ax.set_title(f"{_TITLES[row][column]}, {_PRODUCTS[row][column]}", fontsize="medium")
            if colorbar:
                image = self.im_[row, 0]
                self.figure_.colorbar(image, ax=list(axes[row]), label="Inner product")
        for ax in axes[1]:
            ax.set_xlabel("Expert $m$")
        for ax in axes[:, 0]:
            ax.set_ylabel("Cluster $k$")
        for ax in axes.flat:
            label_cells(ax, labels, range(n_experts))
        if include_values:
            self._write(matrices, include_values is True, text_kw)
        return self

    def _matrices(self):
        """Return the four matrices (n_clusters, n_experts), the strongest filter of each."""
        router = [np.asarray(self.router_features), np.asarray(self.router_centers)]
        experts = [np.asarray(self.expert_features), np.asarray(self.expert_centers)]
        shapes = [array.shape for array in (*router, *experts)]
        fits = router[0].ndim == 2 and experts[0].ndim == 3 and experts[0].shape[1] > 0
        if not fits or shapes[0] != shapes[1] or shapes[2] != shapes[3]:
            fits = False
        if not fits or shapes[0] != (shapes[2][0], shapes[2][2]):
            raise ValueError(
                "AlignmentDisplay needs router products of shape (n_experts, n_clusters) and "
                "expert products of shape (n_experts, n_filters, n_clusters), got "
                f"{shapes[0]}, {shapes[1]} and {shapes[2]}, {shapes[3]}."
            )
        return [m.T for m in router], [_strongest(m).T for m in experts]

    def _write(self, matrices, force, text_kw):
        """Write the numbers into all images or, unless forced, into none."""
        texts = np.empty((2, 2), dtype=object)
        for row, pair in enumerate(matrices):
            limit = max(np.abs(matrix).max() for matrix in pair)
            for column, matrix in enumerate(pair):
                shown = [[_format(value, limit) for value in line] for line in matrix]
                texts[row, column] = np.array(shown, dtype=object)
        longest = max((text for cells in texts.flat for text in cells.flat), key=len)
        for place, cells in np.ndenumerate(texts):
            self.text_[place] = write_values(
                self.im_[place], cells, force=force, text_kw=text_kw, longest=longest
            )


def _check_dictionary(dictionary, patch_size):
    """Return features and centers as two arrays (n_clusters, patch_size)."""
    arrays = [np.asarray(vectors, dtype=float) for vectors in dictionary]
    shapes = [array.shape for array in arrays]
    expected = (len(arrays[0]), patch_size) if arrays and arrays[0].ndim else None
    if len(arrays) != 2 or any(shape != expected for shape in shapes):
        raise ValueError(
            f"dictionary must be (features, centers), both of shape (n_clusters, {patch_size}) as "
            f"the estimator's patches have {patch_size} entries, got arrays of shapes {shapes}. "
            "Pass what make_cluster_patches returns with return_dictionary=True for the data of "
            "the fit."
        )
    return arrays


def _strongest(products):
    """Return of (n_experts, n_filters, n_clusters) the entry of largest magnitude per filter."""
    index = np.abs(products).argmax(axis=1, keepdims=True)
    return np.take_along_axis(products, index, axis=1)[:, 0]


def _format(value, limit):
    """Format with as many decimals as give the largest number of the row two digits."""
    if limit == 0:
        return "0"
    decimals = max(0, int(1 - np.floor(np.log10(limit))))
    text = f"{value:.{decimals}f}" if decimals <= 3 else f"{value:.0e}"
    return text if float(text) else "0"
