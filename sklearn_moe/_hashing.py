"""A share of rows that is known by what they hold, wherever and in whatever order they come."""

import numpy as np
from scipy.sparse import csr_array, issparse

from ._rows import chunks

__all__ = ["in_share"]

_STEP = np.uint64(0x9E3779B97F4A7C15)


def in_share(X, share):
    """Tell of each row of X whether it belongs to a share of all rows.

    A row always does or never does, so that it may be met again. Of rows that are equal the second
    is drawn for itself, and so on: no share is all of a frequent row.

    Parameters
    ----------
    X : ndarray, SelectedRows or CSR matrix of shape (n_samples, ...)
    share : float
        Between 0 and 1.

    Returns
    -------
    chosen : ndarray of shape (n_samples,), bool
    """
    hashes = _hash_sparse(X) if issparse(X) else np.concatenate([_hash(X[r]) for r in chunks(X)])
    drawn = _mix(hashes + _STEP * _copies_before(hashes))
    return drawn / 2.0**64 < share


def _hash(part):
    """Return sums of the 32-bit words of each row, with random factors, modulo 2^64."""
    part = np.ascontiguousarray(part).reshape(len(part), -1)
    words = part.view(np.uint8 if part.itemsize == 1 else np.uint32)
    return words.astype(np.uint64) @ _factors(words.shape[1])


def _hash_sparse(X):
    """Return the same of the values of a CSR matrix that are stored."""
    bits = X.data.view(f"u{X.data.itemsize}").astype(np.uint64)
    words = csr_array((bits ^ (bits >> np.uint64(32)), X.indices, X.indptr), shape=X.shape)
    return words @ _factors(X.shape[1])


def _factors(n):
    return np.random.default_rng(0).integers(2**64, size=n, dtype=np.uint64) | np.uint64(1)


def _copies_before(hashes):
    """Return how many of the rows before each one equal it."""
    order = np.argsort(hashes, kind="stable")
    places = np.arange(len(hashes))
    is_first = np.ones(len(hashes), dtype=bool)
    is_first[1:] = hashes[order[1:]] != hashes[order[:-1]]
    copies = np.empty(len(hashes), dtype=np.uint64)
    copies[order] = places - np.maximum.accumulate(np.where(is_first, places, 0))
    return copies


def _mix(x):
    """Make every bit depend on all bits (the finalizer of SplitMix64)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
