"""Statistics of X: of the columns of a table, of its equal rows, and of the channels of images."""

import numpy as np
from scipy.sparse import issparse
from sklearn.utils import gen_batches
from sklearn.utils.sparsefuncs import mean_variance_axis, min_max_axis

from .._validation import refuse_overflow
from ..nn.encoders import ChannelStatistics, FeatureStatistics
from .tables import N_NUMBERS_READ, N_ROWS_MEASURED, draw_rows, row_slices, select

# Distinct values of a column, as a share of the rows, beyond which it tells records apart.
_MOST_VALUES = 0.9
# The share of rows that are the only ones of their kind.
_MOST_SINGLE = 0.5
# The share of pairs of copies that differ in y; they need not if there are so many copies of each.
_LEAST_DIFFERENT, _MANY_COPIES = 0.02, 10


def describe_columns(X, weight, categorical=()):
    """Return the `FeatureStatistics` of a table X, an array or sparse matrix.

    A column is centered at its mean and measured in its standard deviation, both by weight; one of
    two values by the lower of them and their difference. Values that are far from all others, such
    as -999 for a missing one or a slip of the keyboard, count for neither, see `_find_bounds`. A
    column of a single value, or of none, has no effect: whatever it is at prediction was never
    learned.

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
        mean, variance, low, high, missing, empty = moments(X, weight)
        bounds = _find_bounds(X, weight)
        if ((low < bounds[0]) | (high > bounds[1])).any():
            mean, variance, low, high, *_ = moments(X, weight, bounds)
    refuse_overflow("X", mean, variance)
    # Only two values are as far from their mean as that (Bhatia and Davis 2000).
    spread = high - low
    distance = np.abs(variance - (high - mean) * (mean - low))
    two_values = (spread == 0) | (distance <= 1e-9 * spread**2)
    scale = np.where(two_values, spread, np.sqrt(np.maximum(variance, 0)))
    scale = np.where(scale > 0, scale, np.inf)
    center = np.where(two_values, low, mean)
    categorical = np.asarray(categorical, dtype=int)
    numbers = np.setdiff1d(np.arange(X.shape[1]), categorical)
    n_categories = np.where(empty, 0, high + 1)[categorical].astype(int)
    n_categories[(n_categories == 1) & ~missing[categorical]] = 0
    columns = dict(
        numeric=numbers,
        center=center[numbers],
        scale=scale[numbers],
        with_missing=np.flatnonzero((missing & ~empty)[numbers]),
        categories=categorical,
        n_categories=n_categories,
        missing=((mean - center) / scale)[numbers],
    )
    return FeatureStatistics(**{name: tuple(v.tolist()) for name, v in columns.items()})


def find_knots(X, weight, statistics, least_pieces):
    """Return the statistics with knots, between which each column is divided into pieces.

    The knots are quantiles by weight, of some rows of a large table, in standard deviations.
    Columns of fewer than three values, and those without effect, have none.

    Parameters
    ----------
    X : ndarray or CSR matrix
    weight : ndarray of shape (n_samples,)
    statistics : FeatureStatistics
    least_pieces : int
        Of a column, unless the table is wide.
    """
    X, weight = some_rows(X, weight, N_ROWS_MEASURED)
    # By places in `numeric`: the distinct values, and the sums of weights up to each.
    values_of = {}
    units = zip(statistics.numeric, statistics.center, statistics.scale, strict=True)
    for place, (column, center, scale) in enumerate(units):
        values = X[:, [column]].toarray()[:, 0] if issparse(X) else X[:, column]
        z = (np.asarray(values, dtype=np.float64) - center) / scale
        known = ~np.isnan(z)
        values, places = np.unique(z[known], return_inverse=True)
        if len(values) > 2:
            values_of[place] = values, np.cumsum(np.bincount(places, weight[known]))
    n_columns = max(1, len(values_of))
    # 160 pieces of all columns together, but no more than 48 of one, and 2000 of a wide table.
    n_pieces = min(max(160 // n_columns, least_pieces), 48)
    n_pieces = max(min(n_pieces, 2000 // n_columns), 2)
    shares = np.linspace(0, 1, n_pieces + 1)
    knots = [()] * len(statistics.numeric)
    for place, (values, total) in values_of.items():
        # The lowest values that reach these shares of the weight, whatever was lost in sums.
        chosen = np.unique(np.searchsorted(total, shares * total[-1] * (1 - 1e-9)))
        if len(chosen) > 2:
            knots[place] = tuple(values[chosen].tolist())
    return statistics._replace(knots=tuple(knots))


def some_rows(X, weight, n_rows):
    """Return at most so many rows, the same ones in every call, in a form with fast columns."""
    if X.shape[0] > n_rows:
        rows = draw_rows(X.shape[0], n_rows)
        X, weight = select(X, rows), weight[rows]
    return X.tocsc() if issparse(X) else X[:], weight


def _find_bounds(X, weight):
    """Return for each column the lowest and the highest value that are not far from the others.

    Far is what lies beyond the quantiles of .05 and .95 by more than five times the distance
    between them. Where these are the same value, as in a column that is nearly always 0, the
    quantiles are those of the other values. Quantiles are by weight; of a large table, those of
    some rows.
    """
    n_rows = min(N_ROWS_MEASURED, max(1000, N_NUMBERS_READ // X.shape[1]))
    X, weight = some_rows(X, weight, n_rows)
    bounds = np.empty((2, X.shape[1]))
    # Few numbers are sorted at a time, so that they stay near the processor.
    for columns in gen_batches(X.shape[1], max(1, 2**13 // X.shape[0])):
        part = X[:, columns]
        part = np.array(part.toarray() if issparse(part) else part, dtype=np.float64)
        low, high = _tails(part, weight)
        narrow = np.flatnonzero(low == high)
        if len(narrow):
            rest = np.where(part[:, narrow] == low[narrow], np.nan, part[:, narrow])
            tails = _tails(rest, weight)
            low[narrow] = np.fmin(low[narrow], tails[0])
            high[narrow] = np.fmax(high[narrow], tails[1])
        # By 18 deviations of normal values.
        reach = 5 * (high - low)
        # Columns of one value, or of NaN, have no bounds.
        is_bounded = reach > 0
        bounds[0, columns] = np.where(is_bounded, low - reach, -np.inf)
        bounds[1, columns] = np.where(is_bounded, high + reach, np.inf)
    return bounds


def _tails(part, weight):
    """Return the quantiles of .05 and .95 of each column, by weight; NaN of a column of NaN."""
    # NaN comes last.
    order = np.argsort(part, axis=0)
    part = np.take_along_axis(part, order, axis=0)
    sums = np.cumsum(np.where(np.isnan(part), 0, weight[order]), axis=0)
    shares = np.array([[[0.05]], [[1 - 0.05]]])
    indices = (sums < shares * sums[-1]).sum(axis=1)
    return np.take_along_axis(part, indices, axis=0)


def _moments(X, weight, bounds=None):
    """Return mean, variance, minimum, maximum, and what is missing and empty, by column.

    Values outside of the bounds, (2, n_features), are left out. A column without any value is empty
    and has mean, minimum and maximum 0; one of which some values are NaN has missing ones.
    """
    n_columns = X.shape[1]
    total = np.zeros(n_columns)
    mean = np.zeros(n_columns)
    squares = np.zeros(n_columns)
    low = np.full(n_columns, np.inf)
    high = np.full(n_columns, -np.inf)
    missing = np.zeros(n_columns, dtype=bool)
    for rows in row_slices(X):
        # A copy, which is changed below.
        part = np.array(X[rows], dtype=np.float64)
        w = np.asarray(weight[rows], dtype=np.float64)
        absent = np.isnan(part)
        missing |= absent.any(axis=0)
        if bounds is not None:
            absent |= (part < bounds[0]) | (part > bounds[1])
        # Of NaN these are the other number.
        part[absent] = np.nan
        low = np.fmin(low, np.fmin.reduce(part))
        high = np.fmax(high, np.fmax.reduce(part))
        present = w @ ~absent
        part[absent] = 0
        # Slices are merged about their own means: squares about 0 would cancel out.
        known = np.where(present > 0, present, 1)
        slice_mean = w @ part / known
        part -= slice_mean
        part[absent] = 0
        step = slice_mean - mean
        so_far = np.where(total + present > 0, total + present, 1)
        squares += w @ np.square(part, out=part) + step**2 * total * present / so_far
        mean += step * present / so_far
        total += present
    empty = total == 0
    low[empty] = high[empty] = 0
    return mean, squares / np.where(empty, 1, total), low, high, missing, empty


def _sparse_moments(X, weight, bounds=None):
    """Return the same of a sparse matrix, of which nothing is missing."""
    X = X.astype(np.float64)
    if bounds is not None:
        X = X.copy()
        far = (X.data < bounds[0][X.indices]) | (X.data > bounds[1][X.indices])
        # NaN is left out by scikit-learn.
        X.data[far] = np.nan
    weight = weight.astype(np.float64)
    mean, variance = mean_variance_axis(X, axis=0, weights=weight)
    low, high = min_max_axis(X, axis=0, ignore_nan=bounds is not None)
    return mean, variance, low, high, *np.zeros((2, X.shape[1]), dtype=bool)


@np.errstate(over="ignore", invalid="ignore")
def describe_channels(X, weight):
    """Return the `ChannelStatistics` of images, by weight; uint8 is scaled to 0 ... 1 before.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_channels, height, width)
    weight : ndarray of shape (n_samples,)
    """
    # Of each image first, (n_samples, n_channels): slices do not matter, and squares about the
    # means do not cancel out, as E[x^2] - E[x]^2 would.
    mean, variance, low, high = np.empty((4, *X.shape[:2]))
    for rows in row_slices(X):
        part = X[rows].astype(np.float64, order="C")
        mean[rows] = part.mean(axis=(2, 3))
        low[rows] = part.min(axis=(2, 3))
        high[rows] = part.max(axis=(2, 3))
        variance[rows] = part.var(axis=(2, 3))
    # All images have as many pixels: within plus between.
    center = np.average(mean, axis=0, weights=weight)
    between = np.average(np.square(mean - center), axis=0, weights=weight)
    std = np.sqrt(np.average(variance, axis=0, weights=weight) + between)
    refuse_overflow("X", std)
    # Rounding of the mean may have left something over.
    std[low.min(axis=0) == high.max(axis=0)] = 0
    if X.dtype == np.uint8:
        center, std = center / 255, std / 255
    return ChannelStatistics(tuple(center.tolist()), tuple(np.where(std > 0, std, 1).tolist()))


def number_measurements(X, y, weight):
    """Return a number for each row, (n_samples,), of the measurement that it is; None of records.

    Equal rows are measurements if a new row will mostly equal one of them, and if y differs
    between them: hours of a day, categories, answers to a few questions. Equal rows whose y is
    equal, too, are copies of a record, unless there are many of each.

    The share of rows that are the only ones of their kind estimates how probable it is that a new
    row is of a new kind (Good, "The population frequencies of species", 1953).

    Where all rows of X and y are repeated as often, as a weight of 2 may be written, these copies
    have one number: nothing changes by that, nor by rows of weight 0, nor by the order of rows.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
    y : ndarray of shape (n_samples,) or (n_samples, n_targets)
    weight : ndarray of shape (n_samples,)
    """
    numbers = np.zeros(len(X), dtype=np.intp)
    present = np.flatnonzero(weight)
    X, y = X[present], y[present]
    n_rows = len(present)
    kinds, counts = np.zeros(n_rows, dtype=np.intp), np.array([n_rows])
    most_values = 0
    for column in X.T:
        values, places = np.unique(column, return_inverse=True)
        most_values = max(most_values, len(values))
        kinds, counts = _split(kinds, places)
        # All of them may be repeated as often.
        repeats = int(np.gcd.reduce(counts))
        n_single = repeats * np.count_nonzero(counts == repeats)
        if repeats == 1 and (
            most_values > _MOST_VALUES * n_rows or n_single > _MOST_SINGLE * n_rows
        ):
            return None
    cells = kinds
    for column in np.atleast_2d(y.T):
        cells, of_cells = _split(cells, np.unique(column, return_inverse=True)[1])
    repeats = int(np.gcd.reduce(of_cells))
    counts, of_cells, n_rows = counts // repeats, of_cells // repeats, n_rows // repeats
    n_pairs, n_equal = (np.sum(n * (n - 1.0)) for n in (counts, of_cells))
    differs = n_pairs - n_equal > _LEAST_DIFFERENT * n_pairs
    differs = differs or _MANY_COPIES * len(counts) <= n_rows
    is_single = np.count_nonzero(counts == 1) > _MOST_SINGLE * n_rows
    if most_values > _MOST_VALUES * n_rows or is_single or not differs:
        return None
    # Equal rows with equal y in turn, as many as they are repeated.
    order = np.argsort(cells, kind="stable")
    numbers[present[order]] = np.arange(len(order)) // repeats
    return numbers


def _split(kinds, places):
    """Return kinds of rows that are alike in `places`, too, and how many rows are of each."""
    _, kinds, counts = np.unique(
        kinds * (places.max() + 1) + places, return_inverse=True, return_counts=True
    )
    return kinds, counts
