"""Shapley values of a prediction against background rows, and their standard errors."""

import numpy as np
from scipy.special import comb
from sklearn.utils import gen_batches

# So many columns have few enough subsets that all of them are computed.
_MOST_EXACT = 5
# A variance is estimated by so many differences at least.
_LEAST_DIFFERENCES = 50
# Permutations are drawn until errors are below this share of the spread of predictions, and so
# many at most.
_TOLERANCE = 0.02
_MOST_PERMUTATIONS = 1000
# Smaller differences of predictions, as a share of their spread, are rounding.
_ROUNDING = 1e-6
# Numbers that are predicted from at once.
_MOST_NUMBERS = 2**22


def shapley_values(predict, at_background, at_row, n_columns, rng):
    """Return what each column adds to a prediction, averaged over the background rows.

    Each permutation puts the values of the explained row, column by column, into a background row;
    then the same is done in reverse order. Every background row has as many permutations, so that
    what is left to chance is their order alone.

    Parameters
    ----------
    predict : callable
        Returns predictions, (n, n_outputs), for places of background rows, (n,), and booleans of
        shape (n, n_columns), where the value of a column is that of the explained row.
    at_background : ndarray of shape (n_background, n_outputs)
        Predictions for the background rows.
    at_row : ndarray of shape (n_outputs,)
        The prediction for the explained row.
    n_columns : int
    rng : Generator

    Returns
    -------
    parts, standard_error : ndarray of shape (n_columns, n_outputs)
        The errors are 0 where all subsets were computed.
    """
    n_background = len(at_background)
    at_once = _MOST_NUMBERS // n_columns
    if n_columns <= _MOST_EXACT:
        parts = _by_subsets(predict, at_background, at_row, n_columns, at_once)
        return parts, np.zeros(parts.shape)
    spread = np.std([*at_background, at_row], axis=0)
    # Differences between permutations of the same background row tell the error.
    n_more = 2 * -(-_LEAST_DIFFERENCES // n_background)
    most = max(n_more, 2 * (_MOST_PERMUTATIONS // n_background // 2))
    parts = np.empty((0, n_background, n_columns, len(at_row)))
    while True:
        # The second of two permutations is the first one, turned by half of the columns: what comes
        # early in one is in the middle of the other, so that their mean is closer than by chance.
        shape = n_more // 2, n_background, n_columns
        ranks = rng.permuted(np.broadcast_to(np.arange(n_columns), shape), axis=2)
        ranks = np.concatenate([ranks, (ranks + n_columns // 2) % n_columns])
        drawn = _by_permutations(predict, at_background, at_row, ranks, at_once)
        parts = np.concatenate([parts, drawn])
        variance = parts.var(axis=0, ddof=1).mean(axis=0)
        # Few permutations show too little of a column that rarely matters; rounding is no error.
        is_exact = variance <= (_ROUNDING * spread) ** 2
        variance = np.where(is_exact, 0, variance + 0.1 * variance.mean(axis=0))
        error = np.sqrt(variance / (len(parts) * n_background))
        n_more = min(len(parts), most - len(parts))
        if n_more == 0 or (error <= _TOLERANCE * spread).all():
            return parts.mean(axis=(0, 1)), error


def _by_subsets(predict, at_background, at_row, n_columns, at_once):
    """Return the Shapley values by their definition."""
    inside = np.arange(2**n_columns)[:, np.newaxis] >> np.arange(n_columns) & 1 == 1
    n_others = inside.sum(axis=1, keepdims=True) - inside
    weight = np.where(inside, 1, -1) / (n_columns * comb(n_columns - 1, n_others))
    # None of the columns, and all of them, are known.
    means = np.tile(at_background.mean(axis=0), (len(inside), 1))
    means[-1] = at_row
    n_background = len(at_background)
    for batch in gen_batches(len(inside) - 2, max(1, at_once // n_background)):
        subsets = inside[1:-1][batch]
        places = np.tile(np.arange(n_background), len(subsets))
        found = predict(places, np.repeat(subsets, n_background, axis=0))
        means[1:-1][batch] = found.reshape(len(subsets), n_background, -1).mean(axis=1)
    return weight.T @ means


def _by_permutations(predict, at_background, at_row, ranks, at_once):
    """Return the parts by permutations and their reverses, in the shape of the ranks and outputs.

    Parameters
    ----------
    ranks : ndarray of int of shape (n_permutations, n_background, n_columns)
        When the values of each column are put in.
    """
    n_columns = ranks.shape[2]
    background = np.tile(np.arange(len(at_background)), len(ranks))
    path = np.empty((len(background), n_columns + 1, len(at_row)))
    path[:, -1] = (at_row - at_background)[background]
    path[:, 0] = -path[:, -1]
    for batch in gen_batches(len(background), max(1, at_once // (2 * n_columns))):
        orders = ranks.reshape(-1, n_columns)[batch]
        inside = orders[:, np.newaxis] < np.arange(1, n_columns)[:, np.newaxis]
        # In reverse order the columns are put in that were left out.
        inside = np.stack([inside, ~inside])
        places = np.broadcast_to(background[batch, np.newaxis], inside.shape[:-1])
        found = predict(places.ravel(), inside.reshape(-1, n_columns))
        found = found.reshape(*places.shape, -1)
        path[batch, 1:-1] = found[0] - found[1]
    parts = np.diff(path, axis=1).reshape(*ranks.shape, -1) / 2
    return np.take_along_axis(parts, ranks[..., np.newaxis], axis=2)
