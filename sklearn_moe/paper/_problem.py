"""The data of an experiment: a setting of the paper, and how many samples of it."""

from dataclasses import asdict, dataclass
from typing import NamedTuple

import numpy as np

from ..datasets import PAPER_SETTINGS, make_cluster_patches

__all__ = ["DATA_SEEDS", "Problem", "Samples"]

DATA_SEEDS = {1: 12, 2: 11, 3: 11, 4: 11, "verify": 11, "visualization": 11}  # of the notebooks


class Samples(NamedTuple):
    """Samples of one problem: the first `n_train` are for training, the others for the test.

    Attributes
    ----------
    X : ndarray of shape (n_samples, n_patches, patch_size)
    y : ndarray of shape (n_samples,)
    clusters : ndarray of shape (n_samples,)
    hard : ndarray of shape (n_samples,)
        1. where the feature noise says the opposite of the label (y eps = -1), else 0.
    dictionary : tuple (features, centers)
    """

    X: np.ndarray
    y: np.ndarray
    clusters: np.ndarray
    hard: np.ndarray
    dictionary: tuple


@dataclass(frozen=True)
class Problem:
    """A setting of the paper and how it is drawn.

    Parameters
    ----------
    setting : int or str, default=1
        A key of `PAPER_SETTINGS`.
    n_train, n_test : int, default=16_000
    data_seed : int, default=None
        The same data for every run, as in the authors' notebooks (their seeds: `DATA_SEEDS`).
        None: every run has a problem of its own.
    """

    setting: int | str = 1
    n_train: int = 16_000
    n_test: int = 16_000
    data_seed: int | None = None

    @property
    def settings(self):
        """Return what identifies the problem, as plain values."""
        return asdict(self)

    def draw(self, seed):
        """Return the samples of the run with this seed."""
        X, y, clusters, dictionary = make_cluster_patches(
            self.n_train + self.n_test,
            return_clusters=True,
            return_dictionary=True,
            random_state=seed if self.data_seed is None else self.data_seed,
            **PAPER_SETTINGS[self.setting],
        )
        return Samples(X, y, clusters, _misled(X, y, clusters, dictionary), dictionary)


def _misled(X, y, clusters, dictionary):
    """Return 1. where the feature noise eps gamma v_k' says the opposite of the label, else 0."""
    coefficients = X @ np.vstack(dictionary).T  # (n, P, 2K)
    energy = (X**2).sum(2)
    # Signals lie in the span of the dictionary, random noise does not.
    noise = energy - (coefficients**2).sum(2) > 1e-3 * energy
    coefficients[noise] = 0
    signals = coefficients[..., : len(dictionary[0])].sum(1)  # of the features, (n, K)
    np.put_along_axis(signals, clusters[:, None], 0, axis=1)
    return ((signals.sum(1) > 0) != (y == 1)).astype(float)
