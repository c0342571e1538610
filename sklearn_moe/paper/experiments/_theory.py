"""What the experiments on the paper's theorems share: intervals, and how they draw."""

from math import comb, sqrt

import numpy as np
from scipy.stats import t

__all__ = [
    "COLORS",
    "covered_by_chance",
    "expected_covered",
    "mean_interval",
    "power_law",
    "standard_error",
]

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")  # Okabe-Ito


def standard_error(percent, n):
    """Return the binomial standard error, in points, of a share of `n` samples."""
    return sqrt(percent * (100 - percent) / n)


def mean_interval(values):
    """Return (mean, low, high) of independent values: the 95 % t-interval of their mean.

    NaN is left out. Fewer than two values have no interval: low and high are NaN.
    """
    values = np.asarray(values, dtype=float)
    values = values[~np.isnan(values)]
    n = len(values)
    if n < 2:
        return (float(values[0]) if n else np.nan), np.nan, np.nan
    half = t.ppf(0.975, n - 1) * values.std(ddof=1) / sqrt(n)
    return float(values.mean()), float(values.mean() - half), float(values.mean() + half)


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
        (exponent, low, high) by factor, with 95 % intervals; NaN where there is too little to fit.
    """
    y = np.asarray(y, dtype=float)
    known = ~np.isnan(y)
    logs = [np.log(np.asarray(x, dtype=float)[known]) for x in factors.values()]
    design = np.column_stack([np.ones(known.sum()), *logs])
    n, p = design.shape
    if n <= p or np.linalg.matrix_rank(design) < p:
        return dict.fromkeys(factors, (np.nan, np.nan, np.nan))
    inverse = np.linalg.inv(design.T @ design)
    target = np.log(y[known])
    coefficients = inverse @ design.T @ target
    residual = target - design @ coefficients
    errors = np.sqrt(np.diag(inverse) * (residual @ residual) / (n - p))
    half = t.ppf(0.975, n - p) * errors
    return {
        name: (float(b), float(b - h), float(b + h))
        for name, b, h in zip(factors, coefficients[1:], half[1:], strict=True)
    }


def covered_by_chance(n_clusters, n_experts):
    """Return the probability that experts which commit at random cover all clusters.

    The coupon collector's, by inclusion and exclusion.
    """
    return sum(
        (-1) ** j * comb(n_clusters, j) * (1 - j / n_clusters) ** n_experts
        for j in range(n_clusters + 1)
    )


def expected_covered(n_clusters, n_experts):
    """Return how many clusters experts that commit at random cover on average."""
    return n_clusters * (1 - (1 - 1 / n_clusters) ** n_experts)
