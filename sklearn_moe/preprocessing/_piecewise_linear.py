"""PiecewiseLinearEncoder: numbers as how far they have come through each of their bins."""

from typing import ClassVar

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin, _fit_context
from sklearn.utils import gen_batches
from sklearn.utils.validation import (
    _check_feature_names_in,
    _check_sample_weight,
    check_is_fitted,
    validate_data,
)

from .._checks import Count, naming

__all__ = ["PiecewiseLinearEncoder"]

_CHUNK = 1024  # rows whose columns stay in the cache
_TIE = 1e-12  # rounding of a sum of weights, relative
_ALWAYS_ZERO = np.array([[0.0], [1.0], [0.0], [0.0]])  # a column, see _columns


def _check_weight(sample_weight, X):
    """Return the weights as floats: none is negative, one is positive."""
    with naming("sample_weight"):
        weight = _check_sample_weight(sample_weight, X, dtype=np.float64)
    if weight.min() < 0 or not weight.any():
        raise ValueError(
            "sample_weight must be non-negative with at least one positive entry, got "
            f"values from {weight.min():g} to {weight.max():g}."
        )
    return weight


def _quantile_edges(x, weight, n_bins):
    """Return the quantiles k / n_bins of x, ascending and each one once.

    The quantile is the smallest value up to which there is k / n_bins of the weight, NumPy's
    "inverted_cdf": of all definitions the one whose edges are values of x, and that cannot tell a
    weight of 2 from two rows.
    """
    if not len(x):
        return np.empty(0)
    order = np.argsort(x)
    reached = np.cumsum(weight[order])
    # A weight that is reached but for rounding is reached.
    wanted = (np.arange(1, n_bins) / n_bins - _TIE) * reached[-1]
    inner = np.searchsorted(reached, wanted)
    return np.unique(x[order[[0, *inner, -1]]]).astype(np.float64)


def _columns(edges, missing):
    """Return the columns of a feature, (4, n_columns): start, width, lower and upper limit."""
    start, end = edges[:-1], edges[1:]
    lower, upper = start.copy(), end.copy()
    lower[:1], upper[-1:] = -np.inf, np.inf
    values = np.stack([start, end - start, lower, upper]) if start.size else _ALWAYS_ZERO
    return np.hstack([values, _ALWAYS_ZERO]) if missing else values


class PiecewiseLinearEncoder(TransformerMixin, BaseEstimator):
    """Encode each number by how far it has come through each bin of its feature.

    The piecewise linear encoding of [1]_: a feature x with the edges b_0 < ... < b_T becomes the T
    columns, t = 1 ... T, ::

        e_t = clip((x - b_{t-1}) / (b_t - b_{t-1}), 0, 1)

    which are 1 for the bins that x has passed, 0 for those it has not reached, and a fraction in
    the one where it is. A linear function of them is a piecewise linear function of x, with a slope
    of its own in every bin.

    The first column is not clipped from below and the last one not from above. Numbers beyond the
    edges are told apart as well, and a linear model goes on there with the slope of the outermost
    bin.

    The edges are quantiles, so that about as many samples lie in each bin and the scale of a
    feature does not matter. Equal ones are merged: a feature of few distinct values has fewer
    bins.

    Parameters
    ----------
    n_bins : int, default=8
        Largest number of bins of a feature, at least 1. A single one maps its range to [0, 1].

    Attributes
    ----------
    bin_edges_ : list of n_features ndarrays of shape (n_edges,)
        Edges of each feature, ascending: values seen in `fit`, from the lowest to the highest. A
        constant feature has one, a feature that is always missing none.

    missing_ : ndarray of bool of shape (n_features,)
        Which features had a missing value in `fit`.

    n_features_in_ : int
        Number of features seen in `fit`.

    feature_names_in_ : ndarray of str of shape (n_features,)
        Names of the features, where `fit` was given names, all of them strings.

    See Also
    --------
    sklearn.preprocessing.KBinsDiscretizer : Says only in which bin a number is.
    sklearn.preprocessing.SplineTransformer : Piecewise polynomials, which are smooth at the edges.

    Notes
    -----
    A missing value, NaN, is 0 in all columns of its feature. Where `fit` met one, a further column
    is 1 for the missing values and 0 else. Without it, a missing value looks like the lowest edge.

    A feature without bins, because it is constant or always missing, has one column of zeros, so
    that every feature has a column.

    References
    ----------
    .. [1] Y. Gorishniy, I. Rubachev, A. Babenko, "On Embeddings for Numerical Features in Tabular
       Deep Learning", NeurIPS 2022, arXiv:2203.05556, section 3.2.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_moe.preprocessing import PiecewiseLinearEncoder
    >>> X = np.array([[0.0], [1.0], [2.0], [4.0], [np.nan]])
    >>> encoder = PiecewiseLinearEncoder(n_bins=2).fit(X)
    >>> encoder.bin_edges_
    [array([0., 1., 4.])]
    >>> encoder.get_feature_names_out(["age"])
    array(['age_0', 'age_1', 'age_missing'], dtype=object)
    >>> encoder.transform([[0.5], [2.5], [7.0], [-1.0], [np.nan]])
    array([[ 0.5,  0. ,  0. ],
           [ 1. ,  0.5,  0. ],
           [ 1. ,  2. ,  0. ],
           [-1. ,  0. ,  0. ],
           [ 0. ,  0. ,  1. ]])

    With a linear model:

    >>> from sklearn.datasets import make_moons
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> X, y = make_moons(500, noise=0.1, random_state=0)
    >>> LogisticRegression().fit(X, y).score(X, y)
    0.87...
    >>> make_pipeline(PiecewiseLinearEncoder(), LogisticRegression()).fit(X, y).score(X, y)
    0.99...
    """

    _parameter_constraints: ClassVar[dict] = {"n_bins": [Count(1)]}

    def __init__(self, n_bins=8):
        self.n_bins = n_bins

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None, sample_weight=None):
        """Find the edges of the bins, and which features have missing values.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Numbers, NaN where they are missing.

        y : None
            Not used.

        sample_weight : array-like of shape (n_samples,), default=None
            Weights. A row of weight 2 counts as the row twice, one of weight 0 not at all. None:
            all count the same.

        Returns
        -------
        self : object
            The fitted encoder.

        Raises
        ------
        ValueError
            If X is malformed or holds an infinite number, a weight is negative, or none is
            positive.
        """
        X = self._check(X, reset=True)
        if sample_weight is None:
            weight = np.ones(len(X))
        else:
            weight = _check_weight(sample_weight, X)
            X, weight = X[weight > 0], weight[weight > 0]
        absent = np.isnan(X)
        self.missing_ = absent.any(axis=0)
        self.bin_edges_ = [
            _quantile_edges(x[there], weight[there], self.n_bins)
            for x, there in zip(X.T, ~absent.T, strict=True)
        ]
        return self

    def transform(self, X):
        """Encode numbers.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Numbers, NaN where they are missing.

        Returns
        -------
        X_new : ndarray of shape (n_samples, n_columns)
            The columns of the first feature, then those of the second, and so on; of each the bins
            in ascending order, then whether the value is missing. float32 of float32, else
            float64.

        Raises
        ------
        ValueError
            If X is malformed, holds an infinite number, or has other features than in `fit`.
        """
        check_is_fitted(self)
        X = self._check(X, reset=False)
        features = [_columns(*f) for f in zip(self.bin_edges_, self.missing_, strict=True)]
        start, width, lower, upper = np.hstack(features)
        sizes = [columns.shape[1] for columns in features]
        source = np.repeat(np.arange(len(sizes)), sizes)
        # The encoding of the lowest edge is all zeros: a missing value takes its place.
        lowest = np.array([edges[0] if edges.size else 0.0 for edges in self.bin_edges_])
        absent = np.isnan(X)

        X_new = np.empty((len(X), len(source)), dtype=X.dtype)
        for rows in gen_batches(len(X), _CHUNK):
            # In float64: edges that float64 tells apart may be equal in float32.
            part = np.where(absent[rows], lowest, X[rows]).take(source, axis=1)
            # x is clipped, not the fraction: far from x even a tiny bin does not overflow.
            np.clip(part, lower, upper, out=part)
            part -= start
            part /= width
            X_new[rows] = part
        X_new[:, (np.cumsum(sizes) - 1)[self.missing_]] = absent[:, self.missing_]
        return X_new

    def get_feature_names_out(self, input_features=None):
        """Return the names of the columns: of the feature `age`, `age_0` ... and `age_missing`.

        Parameters
        ----------
        input_features : array-like of str of shape (n_features,), default=None
            Names of the features. None: those seen in `fit`, or x0, x1, ... if there were none.

        Returns
        -------
        names : ndarray of str of shape (n_columns,)
            A name for each column.

        Raises
        ------
        ValueError
            If `input_features` are others than those seen in `fit`.
        """
        check_is_fitted(self)
        features = _check_feature_names_in(self, input_features)
        names = []
        for feature, edges, missing in zip(features, self.bin_edges_, self.missing_, strict=True):
            names += [f"{feature}_{k}" for k in range(max(len(edges) - 1, 1))]
            names += [f"{feature}_missing"] if missing else []
        return np.array(names, dtype=object)

    def _check(self, X, *, reset):
        """Return X as float32 or float64, NaN where numbers are missing."""
        dtype = (np.float64, np.float32)
        with naming("X"):
            return validate_data(self, X, reset=reset, dtype=dtype, ensure_all_finite="allow-nan")

    def __sklearn_tags__(self):
        """Say that NaN is taken and float32 stays float32."""
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags
