"""Shapley values of a prediction against background rows, and their standard errors."""

import numpy as np
from scipy.special import comb

# So many columns have few enough subsets that all of them are computed.
_MOST_EXACT = 5
# A variance is estimated by so many differences at least.
_LEAST_DIFFERENCES = 50


def shapley_values(predict, at_background, at_row, n_columns, rng, tol, max_permutations):
    """Return what each column adds to a prediction, averaged over the background rows.

    Each permutation puts the values of the explained row, column by column, into a background row;
    then the same is done in reverse order. Every background row has as many permutations, so that
    what is left to chance is their order alone.

    Parameters
    ----------
    predict : callable
        Returns predictions, (n,), for places of background rows, (n,), and booleans of shape
        (n, n_columns), where the value of a column is that of the explained row.
    at_background : ndarray of shape (n_background,)
        Predictions for the background rows.
    at_row : float
        The prediction for the explained row.
    n_columns : int
    rng : Generator
    tol : float
        The largest standard error, as a share of the standard deviation of predictions.
    max_permutations : int

    Returns
    -------
    parts, standard_error : ndarray of shape (n_columns,)
        The errors are 0 where all subsets were computed.
    is_rough : bool
        Whether the errors are still larger than `tol` asks.
    """
    if n_columns <= _MOST_EXACT:
        return _by_subsets(predict, at_background, at_row, n_columns), np.zeros(n_columns), False
    n_background = len(at_background)
    limit = tol * np.std(np.append(at_background, at_row))
    # Differences between permutations of the same background row tell the error.
    n_more = 2 * -(-_LEAST_DIFFERENCES // n_background)
    most = max(n_more, 2 * (max_permutations // n_background // 2))
    parts = np.empty((0, n_background, n_columns))
    while True:
        drawn = _by_permutations(predict, at_background, at_row, n_columns, rng, n_more)
        parts = np.concatenate([parts, drawn])
        variance = parts.var(axis=0, ddof=1).mean(axis=0)
        error = np.sqrt(variance / (len(parts) * n_background))
        is_rough = error.max() > limit
        n_more = min(len(parts), most - len(parts))
        if not is_rough or n_more == 0:
            return parts.mean(axis=(0, 1)), error, is_rough


def _by_subsets(predict, at_background, at_row, n_columns):
    """Return the Shapley values by their definition."""
    inside = np.arange(2**n_columns)[:, np.newaxis] >> np.arange(n_columns) & 1 == 1
    n_others = inside.sum(axis=1, keepdims=True) - inside
    weight = np.where(inside, 1, -1) / (n_columns * comb(n_columns - 1, n_others))
    n_background, n_subsets = len(at_background), len(inside) - 2
    # None of the columns, and all of them, are known.
    means = np.array([at_background.mean(), *np.zeros(n_subsets), at_row])
    if n_subsets:
        places = np.repeat(np.arange(n_background), n_subsets)
        predicted = predict(places, np.tile(inside[1:-1], (n_background, 1)))
        means[1:-1] = predicted.reshape(n_background, n_subsets).mean(axis=0)
    return means @ weight


def _by_permutations(predict, at_background, at_row, n_columns, rng, n_each):
    """Return the parts by some permutations, (n_each, n_background, n_columns)."""
    shape = n_each, len(at_background), n_columns
    # The second of two permutations is the first one, turned by half of the columns: what comes
    # early in one is in the middle of the other, so that their mean is closer than by chance.
    first = rng.permuted(np.broadcast_to(np.arange(n_columns), (n_each // 2, *shape[1:])), axis=2)
    ranks = np.concatenate([first, (first + n_columns // 2) % n_columns])
    inside = ranks[:, :, np.newaxis] < np.arange(1, n_columns)[:, np.newaxis]
    # In reverse order the columns are put in that were left out.
    both = np.stack([inside, ~inside])
    places = np.broadcast_to(np.arange(shape[1])[:, np.newaxis], both.shape[2:4])
    places = np.broadcast_to(places, both.shape[:-1]).ravel()
    forward, reverse = predict(places, both.reshape(-1, n_columns)).reshape(both.shape[:-1])
    path = np.empty((*shape[:2], n_columns + 1))
    path[:, :, 1:-1] = forward - reverse
    path[:, :, -1] = at_row - at_background
    path[:, :, 0] = -path[:, :, -1]
    return np.take_along_axis(np.diff(path) / 2, ranks, axis=2)
