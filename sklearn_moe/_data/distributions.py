"""Quantiles of mixtures of distributions, and draws from probabilities."""

import numpy as np

from .._validation import check_named

_HALVINGS = 45  # of the range that a quantile lies in


def check_quantiles(q):
    """Return probabilities above 0 and below 1, (n_quantiles,)."""
    q = check_named(np.atleast_1d(q), "q", ensure_2d=False, dtype=np.float64)
    if q.ndim > 1 or q.min() <= 0 or q.max() >= 1:
        raise ValueError(f"q must be quantiles between 0 and 1, (n_quantiles,), got {q!r}.")
    return q


def find_quantiles(share_below, q, low, high):
    """Return where a distribution function reaches q, between bounds, (n_samples, n_quantiles)."""
    for _ in range(0 if np.array_equal(low, high) else _HALVINGS):
        middle = (low + high) / 2
        is_low = share_below(middle) < q
        low, high = np.where(is_low, middle, low), np.where(is_low, high, middle)
    return high


def draw_indices(proba, n_samples, random_state):
    """Draw indices, (n, n_samples), from the probabilities in each row of (n, n_indices)."""
    places = random_state.uniform(size=(len(proba), n_samples, 1))
    sums = proba.cumsum(axis=1, dtype=np.float64)
    return (places > (sums / sums[:, -1:])[:, np.newaxis, :-1]).sum(axis=2)
