"""Means, their intervals, and what these say about a claim."""

from math import sqrt
from typing import NamedTuple

import numpy as np
from scipy.stats import binomtest, t, ttest_ind_from_stats

LEVEL = 0.05  # below which a p value tells something
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

    def below(self, level):
        """Return whether all of it lies below a level (True) or above it (False)."""
        above = self.above(level)
        return above if above is UNDECIDED else not above

    def within(self, size, of=0):
        """Return whether all of it lies within +- size of a value (True) or outside (False)."""
        if self.low > of - size and self.high < of + size:
            return True
        outside = self.above(of + size) is True or self.above(of - size) is False
        return False if outside else UNDECIDED

    def text(self, digits):
        """Return the interval as text, or that one run tells none."""
        if np.isnan(self.low):
            return "no interval of one run"
        return f"95 % interval {self.low:.{digits}f} to {self.high:.{digits}f}"

    def with_mean(self, digits, unit="", sign=""):
        """Return mean, unit and interval as text."""
        return f"{self.mean:{sign}.{digits}f}{unit and f' {unit}'} ({self.text(digits)})"

    def exp(self):
        """Return the interval of a geometric mean, if this is that of the mean of logarithms."""
        return Interval(*np.exp(self))


def mean_interval(values):
    """Return the :class:`Interval` of the mean of independent values."""
    values = np.asarray(values, dtype=float)
    n, mean = len(values), float(values.mean()) if len(values) else np.nan
    if n < 2:
        return Interval(mean, np.nan, np.nan)
    half = float(t.ppf(0.975, n - 1) * values.std(ddof=1) / sqrt(n))
    return Interval(mean, mean - half, mean + half)


def p_value(values, level=0.0):
    """Return the p value, of both sides, of the t-test that independent values average a level.

    It is 1 where there are fewer than two values.
    """
    values = np.asarray(values, dtype=float)
    n, gap = len(values), abs(values.mean() - level)
    error = values.std(ddof=1) / sqrt(n) if n > 1 else np.nan
    return float(2 * t.sf(gap / error, n - 1)) if error > 0 else float(n < 2 or gap == 0)


def welch(values, mean, std, n):
    """Return the p value of Welch's test of values against `n` others of this mean and std.

    That std is one of `np.std`, as in the authors' notebooks: it divides by n. 1 where there are
    fewer than two values.
    """
    if len(values) < 2:
        return 1.0
    ours = np.mean(values), np.std(values, ddof=1), len(values)
    theirs = mean, std * sqrt(n / (n - 1)), n
    return float(ttest_ind_from_stats(*ours, *theirs, equal_var=False).pvalue)


def welch_interval(values, mean, std, n):
    """Return by what values exceed `n` others as in :func:`welch`: :class:`Interval` of the mean.

    NaN where there are fewer than two values.
    """
    values = np.asarray(values, dtype=float)
    gap = float(values.mean() - mean)
    if len(values) < 2:
        return Interval(gap, np.nan, np.nan)
    ours, theirs = values.var(ddof=1) / len(values), std**2 / (n - 1)
    freedom = (ours + theirs) ** 2 / (ours**2 / (len(values) - 1) + theirs**2 / (n - 1))
    half = float(t.ppf(0.975, freedom) * sqrt(ours + theirs))
    return Interval(gap, gap - half, gap + half)


def holm(p_values):
    """Return p values corrected for their number, by Holm: the least of n is multiplied by n.

    The next one is multiplied by n - 1, and so on; none is less than a smaller one before it.
    """
    p = np.array([*p_values], dtype=float)
    order = p.argsort()
    corrected = np.empty_like(p)
    corrected[order] = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)).clip(max=1)
    return corrected.tolist()


def p_text(p):
    """Return a p value as text; a tiny one is not written as 0."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def share_interval(count, n):
    """Return the share of `n` independent cases with its 95 % Wilson interval."""
    low, high = binomtest(int(count), n).proportion_ci(method="wilson")
    return Interval(count / n, float(low), float(high))


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
