"""Columns of many categories as numbers: means of y, and slopes of numbers, in each category.

Means of y are told of numbers, too, each of whose values is a case of its own.
"""

from typing import NamedTuple

import numpy as np
from scipy.sparse import issparse

from .router import N_FOLDS
from .tables import N_ROWS_MEASURED, draw_rows, hash_rows

# Columns with more categories are read as numbers, the others as a column for each.
_MOST_ONE_HOT = 30
# Slopes are read where they differ more than by chance: in deviations of a sum of squares.
_LEAST_DIFFERENCE = 4
# Means of y differ by more than chance between neighbouring values of a number: in errors.
_LEAST_ROUGHNESS = 5
# With more columns of numbers that is looked for only where whole rows are repeated, too.
_MOST_COLUMNS = 3


class _Sums(NamedTuple):
    """Sums over the rows of each category."""

    # (n_categories + 1, 1), (n_categories + 1, n_means), and the same of squares.
    weight: np.ndarray
    y: np.ndarray
    squares: np.ndarray

    @classmethod
    def of(cls, codes, y, weight, n_categories):
        """Add up some rows, of codes up to and with `n_categories`."""
        return cls(
            *(
                np.column_stack([np.bincount(codes, v, n_categories + 1) for v in values.T])
                for values in (weight, weight * y, weight * y**2)
            )
        )

    def deviations(self, least=0):
        """Return the shrunk distances of the means from that of all rows.

        Both variances are estimated by the method of moments. Where most rows have a category of
        their own, nothing is known of either. The distances are 0 unless the squares between
        categories exceed by `least` deviations what they are by chance.
        """
        n_rows, n_categories = self.weight.sum(), np.count_nonzero(self.weight)
        if n_rows < 1.5 * n_categories:
            return np.zeros_like(self.y)
        count = np.where(self.weight > 0, self.weight, 1)
        within = (self.squares - self.y**2 / count).sum(0) / (n_rows - n_categories)
        distance = np.where(self.weight > 0, self.y / count - self.y.sum(0) / n_rows, 0)
        between = (self.weight * distance**2).sum(0) - (n_categories - 1) * within
        between[between < least * np.sqrt(2 * (n_categories - 1)) * within] = 0
        between = between.clip(0) / max(n_rows - (self.weight**2).sum() / n_rows, 1e-12)
        known = self.weight * between
        return distance * known / np.maximum(known + within, np.finfo(float).tiny)


class TargetMeans:
    """Replaces codes of categories by means of y, one for each class, label or number.

    A mean is shrunk to that of all rows, by the variances of y within and between the categories:
    rare categories are close to it. What is missing is a category of its own, and so is what is
    unknown: of both there is one mean. Training rows get the means of the other folds, which do not
    know their own y.

    Where y follows a number with another slope in each category, there are further columns: the
    differences of these slopes from that of all rows, shrunk alike, times the numbers, added up.

    Numbers of many values that are repeated, such as an hour of the week, may say of each value for
    itself what y is, where trees cut a column into bins and networks are smooth. The means of these
    values are further columns, and the numbers stay.

    Parameters
    ----------
    columns : list of int
        Of many categories.
    categorical : list of int
        All columns of categories, the others are numbers.

    Attributes
    ----------
    values : dict
        Of each column of numbers that has means: its values, ascending.
    tables : list of ndarray of shape (n_categories + 1, n_means)
        Of each column of categories, then of numbers; the last row is for missing and for unknown
        ones.
    slopes : list of dict
        Of each of these columns, of numbers without any: by the column of a number the mean of the
        number and the slopes, an ndarray of shape (n_categories + 1, 1 + n_means).
    units : dict
        Center and scale of each column of numbers.
    """

    # Of the numbers that have slopes, in standard deviations.
    bound = 3.0

    def __init__(self, columns, categorical):
        self.columns = columns
        self.categorical = categorical

    @classmethod
    def of(cls, categories):
        """Return what reads the columns of many categories."""
        if categories is None:
            return cls([], [])
        pairs = zip(categories.columns, categories.values, strict=True)
        return cls([column for column, v in pairs if len(v) > _MOST_ONE_HOT], categories.columns)

    def fit_transform(self, X, y, n_targets, weight, groups, earlier=None):
        """Learn the means, and return X with those of other folds, X itself if there are none.

        Parameters
        ----------
        X : ndarray of shape (n_samples, n_features)
            Holds the codes, NaN for a missing one.
        y : ndarray of shape (n_samples,) of int, or (n_samples, n_targets)
            As a head takes it.
        n_targets : int
            Classes, or columns of y.
        weight : ndarray of shape (n_samples,)
            For how many rows each stands.
        groups : ndarray of shape (n_samples,) or None
        earlier : TargetMeans or None, default=None
            Those of a fit that goes on: its experts read as many columns, so that the same slopes
            are learned, whether they differ by more than chance or not.
        """
        self.tables, self.slopes, found = [], [], []
        if y.ndim == 1:
            # Of two classes one says it all.
            y = np.eye(n_targets)[y][:, int(n_targets == 2) :]
        self.values = self._find_rough(X, y, weight) if earlier is None else earlier.values
        if not (self.columns or self.values):
            return X
        # Rows may be a view, of which columns cannot be read.
        X = X[:]
        # Mixtures read this module, and do without torch.
        from .statistics import describe_columns

        scales = describe_columns(X, weight, self.categorical)
        units = zip(scales.numeric, scales.center, scales.scale, strict=True)
        self.units = {column: (center, scale) for column, center, scale in units}
        weight = weight[:, np.newaxis]
        folds = _draw_folds(X, groups)[:, np.newaxis] == np.arange(N_FOLDS)
        mean = (weight * y).sum(0) / weight.sum()
        for place, column in enumerate([*self.columns, *self.values]):
            n_categories = 1 + int(np.nanmax(X[:, column], initial=0))
            if column in self.values:
                n_categories = len(self.values[column])
            codes = self._code(X, column, n_categories)
            rows = codes, weight, folds, n_categories
            table, of_rows = _find_deviations(y, *rows)
            slopes, products = {}, np.zeros(y.shape)
            numbers = self.units if earlier is None else earlier.slopes[place]
            for number in [] if column in self.values else numbers:
                z = self._standardize(X, number)
                sums = _Sums.of(codes, z, weight, n_categories)
                center = sums.y / np.where(sums.weight > 0, sums.weight, 1)
                z = z - center[codes]
                least = _LEAST_DIFFERENCE if earlier is None else 0
                differences, of_others = _find_deviations((y - mean) * z, *rows, least)
                if differences.any() or earlier is not None:
                    slopes[number] = np.column_stack([center, differences])
                    products += of_others * z
            self.tables.append(mean + table)
            self.slopes.append(slopes)
            found.append(np.column_stack([mean + of_rows, products]) if slopes else mean + of_rows)
        return self._put(X, found)

    def transform(self, X):
        """Return X with the first mean in place of a code, and the others behind all columns."""
        X, found = X[:], []
        columns = [*self.columns, *self.values]
        for column, table, slopes in zip(columns, self.tables, self.slopes, strict=True):
            places = self._code(X, column, len(table) - 1)
            parts = [table[places]]
            for number, known in slopes.items():
                z = self._standardize(X, number) - known[places, :1]
                parts.append(known[places, 1:] * z)
            found.append(np.column_stack([parts[0], sum(parts[1:])]) if slopes else parts[0])
        return self._put(X, found)

    def _find_rough(self, X, y, weight):
        """Return the values of each column of numbers that are cases of their own."""
        found = {}
        if issparse(X) or X.ndim != 2:
            return found
        from .statistics import number_measurements

        rows = draw_rows(len(y), N_ROWS_MEASURED)
        some, y, weight = X[rows], y[rows], weight[rows]
        if number_measurements(some, y, weight) is None:
            # A value that comes again among many columns marks a copy of a record, as often as not.
            if X.shape[1] > _MOST_COLUMNS:
                return found
            first = np.unique(hash_rows(some), return_index=True)[1]
            some, y, weight = some[first], y[first], (weight[first] > 0).astype(float)
        for column in sorted({*range(X.shape[1])} - {*self.categorical}):
            values, codes = np.unique(some[:, column], return_inverse=True)
            if np.isfinite(values[-1:]).all() and _is_rough(codes, y, weight):
                found[column] = np.unique(X[:][:, column]).astype(float)
        return found

    def _code(self, X, column, n_categories):
        """Return the category of each row as int, `n_categories` of what is missing or unknown."""
        codes = X[:, column]
        if column in self.values:
            values = self.values[column]
            places = np.searchsorted(values, codes).clip(max=n_categories - 1)
            return np.where(values[places] == codes, places, n_categories)
        is_known = (codes >= 0) & (codes < n_categories)
        return np.where(is_known, codes, n_categories).astype(int)

    def _standardize(self, X, column):
        """Return a column of numbers, (n_samples, 1), at 0 where it is missing."""
        center, scale = self.units[column]
        z = (X[:, [column]].astype(float) - center) / scale
        return np.nan_to_num(z).clip(-self.bound, self.bound)

    def _put(self, X, found):
        n_replaced = len(self.columns)
        more = [means[:, int(k < n_replaced) :] for k, means in enumerate(found)]
        X = np.concatenate([X, *more], axis=1, dtype=X.dtype)
        for column, means in zip(self.columns, found[:n_replaced], strict=True):
            X[:, column] = means[:, 0]
        return X


def _is_rough(codes, y, weight):
    """Tell whether means of y at neighbouring values differ as if these were categories.

    The differences are those of a value from the mean of both neighbours, of which a smooth
    function has next to none. A step counts as a few of them.
    """
    n_values, n_rows = codes.max() + 1, weight.sum()
    if n_values <= _MOST_ONE_HOT or n_rows < 2 * n_values:
        return False
    sums = _Sums(*(s[:-1] for s in _Sums.of(codes, y, weight[:, np.newaxis], n_values)))
    means, of_means = sums.y / sums.weight, 1 / sums.weight
    within = (sums.squares - sums.y * means).sum(0).clip(1e-12) / (n_rows - n_values)
    squares = np.square(means[1:-1] - (means[:-2] + means[2:]) / 2)
    by_chance = within * (of_means[1:-1] + (of_means[:-2] + of_means[2:]) / 4)
    # The mean of min(z^2, 4) for a normal z, and about the error of one of correlated z.
    least = 0.92 + _LEAST_ROUGHNESS * 1.7 / np.sqrt(n_values)
    is_clear = (squares / by_chance).clip(max=4).mean(0) > least
    # By chance alone a smooth function without noise would differ, too.
    return (is_clear & (np.median(squares, 0) > means.var(0) / 10)).any()


def _find_deviations(y, codes, weight, folds, n_categories, least=0):
    """Return the deviations of each category, and for each row those that other folds know.

    Parameters
    ----------
    y : ndarray of shape (n_samples, n_means)
    codes : ndarray of shape (n_samples,)
    weight : ndarray of shape (n_samples, 1)
    folds : ndarray of shape (n_samples, n_folds), bool
    n_categories : int
    least : float, default=0
        See `_Sums.deviations`: of all rows.
    """
    each = [_Sums.of(codes, y, weight * part[:, np.newaxis], n_categories) for part in folds.T]
    total = _Sums(*map(sum, zip(*each, strict=True)))
    of_rows = np.empty(y.shape)
    for part, fold in zip(folds.T, each, strict=True):
        others = _Sums(*(a - b for a, b in zip(total, fold, strict=True)))
        of_rows[part] = others.deviations()[codes[part]]
    return total.deviations(least), of_rows


def _draw_folds(X, groups):
    """Return a fold for each row, the same for equal rows and for those of a group."""
    if groups is not None and groups.any():
        return groups % N_FOLDS
    hashes = hash_rows(X)
    # Rows that are repeated often, as in a table of few categories, are no copies.
    if len(np.unique(hashes)) < 0.4 * len(X):
        # Made-up tables are drawn from default_rng(0): each of their values would be in one fold.
        return np.random.default_rng([*b"folds"]).integers(N_FOLDS, size=len(X))
    return (hashes * np.uint64(0x9E3779B97F4A7C15) >> np.uint64(33)) % np.uint64(N_FOLDS)
