"""Means, their intervals, and what these say about a claim."""

from math import sqrt
from typing import NamedTuple

import numpy as np
from scipy.stats import t

UNDECIDED = "undecided"


class Interval(NamedTuple):
    """Mean and 95 % t-interval of the mean; NaN where fewer than two values tell none."""

    mean: float
    low: float
    high: float

    def above(self, level):
        """Return whether all of the interval lies above a level (True) or below it (False).

        `UNDECIDED` where it contains the level, or where there is no interval.
        """
        if self.low > level:
            return True
        return False if self.high < level else UNDECIDED

    def within(self, size):
        """Return whether all of the interval lies within +- size (True) or outside (False)."""
        if self.low > -size and self.high < size:
            return True
        outside = self.above(size) is True or self.above(-size) is False
        return False if outside else UNDECIDED

    def text(self, digits):
        """Return the interval as text, or that one run tells none."""
        if np.isnan(self.low):
            return "no interval of one run"
        return f"95 % interval {self.low:.{digits}f} to {self.high:.{digits}f}"


def mean_interval(values):
    """Return the :class:`Interval` of the mean of independent values."""
    values = np.asarray(values, dtype=float)
    n, mean = len(values), float(values.mean()) if len(values) else np.nan
    if n < 2:
        return Interval(mean, np.nan, np.nan)
    half = float(t.ppf(0.975, n - 1) * values.std(ddof=1) / sqrt(n))
    return Interval(mean, mean - half, mean + half)


def standard_error(percent, n):
    """Return the binomial standard error, in points, of a share of `n` samples."""
    return sqrt(percent * (100 - percent) / n)


def power_law(y, **factors):
    """Fit y = c prod_i x_i ** b_i by least squares of the logarithms.

    Parameters
    ----------
    y : array-like of shape (n,)
        Rows that are NaN are left out.
    **factors : array-like of shape (n,)

    Returns
    -------
    exponents : dict
        Exponent by factor; NaN where there is too little to fit.
    """
    y = np.asarray(y, dtype=float)
    known = ~np.isnan(y)
    logs = [np.log(np.asarray(x, dtype=float)[known]) for x in factors.values()]
    design = np.column_stack([np.ones(known.sum()), *logs])
    n, p = design.shape
    if n < p or np.linalg.matrix_rank(design) < p:
        return dict.fromkeys(factors, np.nan)
    coefficients = np.linalg.lstsq(design, np.log(y[known]), rcond=None)[0]
    return dict(zip(factors, coefficients[1:].tolist(), strict=True))


def crossing(steps, values, level):
    """Return when a curve first reaches a level, linear between two records; NaN if never."""
    steps, values = np.asarray(steps, dtype=float), np.asarray(values, dtype=float)
    above = values >= level
    if not above.any():
        return np.nan
    i = int(above.argmax())
    if i == 0:
        return float(steps[0])
    return float(np.interp(level, values[i - 1 : i + 1], steps[i - 1 : i + 1]))
