"""What the columns of a table are like: center and scale, what is missing, categories."""

import numpy as np
from scipy.sparse import issparse
from sklearn.utils.sparsefuncs import mean_variance_axis, min_max_axis

from ._checks import refuse_overflow
from ._rows import chunks
from .nn import Columns

__all__ = ["describe_columns", "repeats_itself"]

_FEW = 5  # distinct rows


def describe_columns(X, weight, categorical=()):
    """Return the `Columns` of a table X, (n_samples, n_features), an array or sparse matrix.

    A column is centered at its mean and measured in its standard deviation, both by weight; one
    of two values by the lower of them and their difference, and one of a single value in 1.

    Parameters
    ----------
    X : ndarray or CSR matrix
        May hold NaN, which counts as missing.
    weight : (n_samples,)
        All positive.
    categorical : sequence of int
        Columns that hold codes 0, 1, ... of categories.
    """
    moments = _sparse_moments if issparse(X) else _moments
    with np.errstate(over="ignore", invalid="ignore"):
        mean, variance, low, high, missing = moments(X, weight)
    refuse_overflow("X", mean, variance)
    # Only two values are as far from their mean as that (Bhatia and Davis 2000).
    spread = high - low
    distance = np.abs(variance - (high - mean) * (mean - low))
    two_values = (spread == 0) | (distance <= 1e-9 * spread**2)
    scale = np.where(two_values, spread, np.sqrt(np.maximum(variance, 0)))
    categorical = np.asarray(categorical, dtype=int)
    numbers = np.setdiff1d(np.arange(X.shape[1]), categorical)
    n_categories = np.nan_to_num(high[categorical], nan=-1).astype(int) + 1
    columns = Columns(
        numbers=numbers,
        mean=np.where(two_values, low, mean)[numbers],
        scale=np.where(scale > 0, scale, 1)[numbers],
        with_missing=np.flatnonzero(missing[numbers]),
        categories=categorical,
        n_categories=n_categories,
    )
    return Columns(*(tuple(values.tolist()) for values in columns))


def repeats_itself(X):
    """Tell whether the rows of a table, (n_samples, n_features), are alike by nature.

    They are if no column has more distinct values than the root of the number of distinct rows,
    or if there are fewer than five of these: a row to come will be one of them, too. That does not
    change if rows are repeated.
    """
    most = 0
    for column in X.T:
        most = max(most, len(np.unique(column)))
        if most >= _FEW and most**2 > len(X):  # as most tables, by their first column of numbers
            return False
    distinct = len(np.unique(X, axis=0))
    return distinct < _FEW or most**2 <= distinct


def _moments(X, weight):
    """Return mean, variance, minimum, maximum and whether something is missing, by column.

    A column without any value has mean, minimum and maximum 0.
    """
    n_columns = X.shape[1]
    total, mean, squares = (np.zeros(n_columns) for _ in range(3))
    low, high = np.full(n_columns, np.inf), np.full(n_columns, -np.inf)
    missing = np.zeros(n_columns, dtype=bool)
    for rows in chunks(X):
        part = np.array(X[rows], dtype=np.float64)  # a copy
        w = np.asarray(weight[rows], dtype=np.float64)
        absent = np.isnan(part)
        if absent.any():
            missing |= absent.any(axis=0)
            low = np.minimum(low, np.where(absent, np.inf, part).min(axis=0))
            high = np.maximum(high, np.where(absent, -np.inf, part).max(axis=0))
            present = w @ ~absent
            part = np.where(absent, 0, part)
        else:
            low, high = np.minimum(low, part.min(axis=0)), np.maximum(high, part.max(axis=0))
            present = np.full(n_columns, w.sum())
        # Chunks are merged about their own means: squares about 0 would cancel out.
        known = np.where(present > 0, present, 1)
        chunk_mean = w @ part / known
        part -= chunk_mean
        if absent.any():
            part[absent] = 0
        step, both = chunk_mean - mean, np.where(total + present > 0, total + present, 1)
        squares += w @ np.square(part, out=part) + step**2 * total * present / both
        mean += step * present / both
        total += present
    empty = total == 0
    low[empty] = high[empty] = 0
    return mean, squares / np.where(empty, 1, total), low, high, missing


def _sparse_moments(X, weight):
    """Return the same of a sparse matrix, of which nothing is missing."""
    X = X.astype(np.float64)
    mean, variance = mean_variance_axis(X, axis=0, weights=weight.astype(np.float64))
    low, high = min_max_axis(X, axis=0)
    return mean, variance, low, high, np.zeros(X.shape[1], dtype=bool)
