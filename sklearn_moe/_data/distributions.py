"""Quantiles of mixtures of distributions, and draws from probabilities."""

import numpy as np
from scipy import stats

from .._validation import check_named


def check_quantiles(q):
    """Return probabilities above 0 and below 1, (n_quantiles,)."""
    q = check_named(np.atleast_1d(q), "q", ensure_2d=False, dtype=np.float64)
    if q.ndim > 1 or q.min() <= 0 or q.max() >= 1:
        raise ValueError(f"q must be quantiles between 0 and 1, (n_quantiles,), got {q!r}.")
    return q


def find_quantiles(share_below, q, low, high):
    """Return where a distribution function reaches q, between bounds, (n_samples, n_quantiles)."""
    if np.array_equal(low, high):
        return high
    # The range is halved, for as many digits as count of a float64.
    for _ in range(45):
        middle = (low + high) / 2
        is_low = share_below(middle) < q
        low = np.where(is_low, middle, low)
        high = np.where(is_low, high, middle)
    return high


class Counts:
    """Negative binomial distributions of counts: of a mean m and the variance m + dispersion m^2.

    The methods are those of the distributions of `scipy.stats`. Numbers and means are in units of
    `unit`. The logarithm is that of a probability, not of a density.
    """

    def __init__(self, unit):
        self.unit = unit

    def _of(self, means, dispersion):
        # With a mean of 0 counts would be impossible.
        means = np.maximum(means * self.unit, 1e-9)
        return 1 / dispersion, 1 / (1 + dispersion * means)

    def logpdf(self, y, means, dispersion):
        """Return the logarithm of the probabilities, of no whole number minus infinity."""
        counts = np.rint(y * self.unit)
        is_count = np.isclose(counts, y * self.unit, rtol=1e-9, atol=1e-9)
        log_proba = stats.nbinom.logpmf(counts, *self._of(means, dispersion))
        return np.where(is_count, log_proba, -np.inf)

    def cdf(self, y, means, dispersion):
        """Return the probabilities of at most y."""
        # A count was divided by the unit, which rounds by less.
        return stats.nbinom.cdf(np.floor(y * self.unit + 1e-6), *self._of(means, dispersion))

    def ppf(self, q, means, dispersion):
        """Return the least counts that are reached with probability q."""
        return stats.nbinom.ppf(q, *self._of(means, dispersion)) / self.unit


def draw_indices(proba, n_samples, random_state):
    """Draw indices, (n, n_samples), from the probabilities in each row of (n, n_indices)."""
    places = random_state.uniform(size=(len(proba), n_samples, 1))
    sums = proba.cumsum(axis=1, dtype=np.float64)
    return (places > (sums / sums[:, -1:])[:, np.newaxis, :-1]).sum(axis=2)
