"""The data sets that Chen et al. (2022) trained on, drawn again."""

from typing import Any

import numpy as np
from sklearn.utils._param_validation import Options, validate_params

from ._cluster_patches import PAPER_SETTINGS

_SEEDS = {1: 12, 2: 11, 3: 11, 4: 11}
_N_SAMPLES, _N_CLUSTERS, _PATCH_SIZE = 32_000, 4, 50


@validate_params(
    {
        "setting": [Options(int, set(_SEEDS))],
        "flatten": ["boolean"],
        "return_clusters": ["boolean"],
        "return_dictionary": ["boolean"],
    },
    prefer_skip_nested_validation=True,
)
def make_paper_patches(
    setting: int = 1,
    *,
    flatten: bool = False,
    return_clusters: bool = False,
    return_dictionary: bool = False,
) -> tuple[Any, ...]:
    """Return the samples on which Chen et al. (2022) trained and tested their models.

    They are of the distribution of :func:`make_cluster_patches` with
    `PAPER_SETTINGS[setting]`, 4 clusters and 4 patches of 50 coordinates, multiplied by
    10. Random numbers are drawn in the order of the authors' notebooks [1]_ from their
    seeds, so that features, centers, labels and clusters are equal to the published files,
    to the last bit. Nothing is downloaded.

    Parameters
    ----------
    setting : {1, 2, 3, 4}, default=1
        Settings 1 and 2 are those of their Table 1, 3 and 4 those of the appendix.

    flatten : bool, default=False
        Whether to lay the patches of a sample one after the other in a single row.

    return_clusters : bool, default=False
        Whether to return the cluster of every sample.

    return_dictionary : bool, default=False
        Whether to return the features and the centers.

    Returns
    -------
    X : ndarray of float32 of shape (32000, 4, 50)
        The samples, the first 16,000 for training, the others for the test; of shape
        (32000, 200) if `flatten` is True.

    y : ndarray of int of shape (32000,)
        The classes, 0 and 1.

    clusters : ndarray of int of shape (32000,)
        The cluster of every sample. Only if `return_clusters` is True.

    dictionary : tuple (features, centers) of ndarrays of shape (4, 50)
        The vectors `v_k` and `c_k`, of norm 1. Only if `return_dictionary` is True.

    See Also
    --------
    make_cluster_patches : New samples of the same distribution.

    References
    ----------
    .. [1] The authors' repository, https://github.com/uclaml/MoE, `synthetic_data_s1.ipynb` to
       `synthetic_data_s4.ipynb`.

    Examples
    --------
    >>> from sklearn_moe.datasets import make_paper_patches
    >>> X, y = make_paper_patches(1)
    >>> X_train, X_test = X[:16_000], X[16_000:]
    >>> print(X_train.shape, y[:5])
    (16000, 4, 50) [1 1 0 1 0]
    """
    options = PAPER_SETTINGS[setting]
    rng = np.random.RandomState(_SEEDS[setting])
    basis: list[np.ndarray] = []
    for _ in range(2 * _N_CLUSTERS):
        vector = rng.standard_normal(_PATCH_SIZE)
        vector /= np.linalg.norm(vector)
        for other in basis:
            vector -= vector.dot(other) * other
        basis.append(vector / np.linalg.norm(vector) if basis else vector)
    features, centers = np.split(np.asarray(basis, dtype=np.float32), 2)

    # A Gaussian number takes as many random ones as it needs: no loop but this keeps their order.
    whole, sizes = np.empty((4, _N_SAMPLES), dtype=int), np.empty((_N_SAMPLES, 3))
    noise = np.empty((_N_SAMPLES, _PATCH_SIZE))
    for i in range(_N_SAMPLES):
        label, cluster = rng.randint(2), rng.randint(_N_CLUSTERS)
        noise[i] = rng.standard_normal(_PATCH_SIZE)
        whole[:, i] = label, cluster, rng.randint(2), rng.randint(_N_CLUSTERS - 1)
        sizes[i] = rng.random_sample(3)
    low, high = np.transpose([options[name] for name in ("alpha", "beta", "gamma")])
    sizes = low + (high - low) * sizes
    y, clusters, sign, others = whole
    others += others >= clusters
    sizes[:, 0] *= 2 * y - 1
    sizes[:, 2] *= 2 * sign - 1
    signal, center, opposed = sizes.astype(np.float32).T[..., np.newaxis]
    noise *= options["sigma"] / np.sqrt(_PATCH_SIZE)
    patches = signal * features[clusters], center * centers[clusters], noise.astype(np.float32)
    X = np.stack([*patches, opposed * features[others]], axis=1)

    # The order of the patches is that of torch.randperm, whose generator is numpy's.
    order = np.tile(np.arange(4), (_N_SAMPLES, 1))
    draws = np.random.RandomState(_SEEDS[setting]).randint(2**32, size=(_N_SAMPLES, 3), dtype="u4")
    samples = np.arange(_N_SAMPLES)
    for place, draw in enumerate(draws.T):
        chosen = place + draw % (4 - place)
        order[samples, chosen], order[:, place] = order[:, place], order[samples, chosen]
    X = 10 * X[samples[:, np.newaxis], order]

    X = X.reshape(_N_SAMPLES, -1) if flatten else X
    asked = [(clusters, return_clusters), ((features, centers), return_dictionary)]
    return X, y, *(result for result, is_asked in asked if is_asked)
