"""The k-means baseline of a learned router, by sample weights."""

import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state

__all__ = ["find_centers", "rows_to_cluster"]

_STARTS = 10  # a single one may end in a poor optimum: what the null finds would be luck
_MOST = 2**23  # numbers that are clustered, of which a few copies are made


def rows_to_cluster(n_samples, n_features, seed):
    """Return the indices of all rows or, of more than 8 million numbers, of a random sample."""
    size = max(1, _MOST // n_features)
    if n_samples <= size:
        return np.arange(n_samples)
    return np.sort(check_random_state(seed).choice(n_samples, size, replace=False))


def find_centers(Z, weight, n_centers, seed):
    """Cluster rows by k-means.

    Equal rows are put together first, so that a row of weight 2 is exactly the row twice and the
    order of the rows does not matter, in the random start as well.

    Parameters
    ----------
    Z : ndarray of shape (n_samples, n_features)
    weight : ndarray of shape (n_samples,)
    n_centers : int
    seed : int or RandomState instance

    Returns
    -------
    centers : ndarray of shape (n_centers, n_features)
        With fewer distinct rows than centers the last ones repeat the first, which is nearest
        before they are.
    spread : float
        Mean squared distance to the nearest center, positive.
    """
    from sklearn.cluster import KMeans  # imports half of scikit-learn, for one router of many

    rows, inverse = np.unique(Z, axis=0, return_inverse=True)
    weight = np.bincount(inverse.ravel(), weight)
    n_found = min(n_centers, len(rows))
    kmeans = KMeans(n_found, n_init=_STARTS, random_state=seed)
    with warnings.catch_warnings():
        # Rows that differ by rounding only are one row to KMeans, which complains of it.
        warnings.simplefilter("ignore", ConvergenceWarning)
        kmeans.fit(rows, sample_weight=weight)
    missing = np.repeat(kmeans.cluster_centers_[:1], n_centers - n_found, axis=0)
    spread = kmeans.inertia_ / weight.sum()
    return np.concatenate([kmeans.cluster_centers_, missing]), spread or 1.0
