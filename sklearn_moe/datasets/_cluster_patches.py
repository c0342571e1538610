"""The data distribution of Chen et al. (2022), Definition 3.1."""

from collections import UserDict
from collections.abc import Sequence
from numbers import Real
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, DTypeLike
from sklearn.utils import check_array, check_random_state
from sklearn.utils._param_validation import Interval, StrOptions, validate_params

from .._validation import Count, name_in_errors

# Feature, cluster center and feature noise: one patch each.
_N_SIGNALS = 3
_POSITIVE = Interval(Real, 0, None, closed="neither")


def _setting(alpha, beta, gamma, sigma, **noise):
    return MappingProxyType(dict(alpha=alpha, beta=beta, gamma=gamma, sigma=sigma, **noise))


class _Settings(UserDict):
    def __missing__(self, key):
        raise KeyError(f"There is no setting {key!r}: pass one of {[*self]}.")


# Keyword arguments of `make_cluster_patches` for the settings of Chen et al. (2022), read-only:
# 1 to 4 are those of the tables, "verify" compares activations, "visualization" is Figure 1.
PAPER_SETTINGS = MappingProxyType(
    _Settings(
        {
            1: _setting((0.5, 2), (1, 2), (0.5, 3), 1.0),
            2: _setting((0.5, 2), (1, 2), (0.5, 3), 2.0),
            3: _setting((0.5, 2), (1, 2), (0.5, 2), 1.0),
            4: _setting((0.5, 2), (1, 2), (0.5, 2), 2.0),
            "verify": _setting((1, 2), (1, 2), (1, 2), 1.0),
            "visualization": _setting(1, (1.2, 2), (1, 2), 3.0, noise="orthogonal"),
        }
    )
)


def _check_range(name, bounds):
    """Return (low, high) of a uniform distribution given as a pair or as one number."""
    if isinstance(bounds, Real):
        return bounds, bounds
    with name_in_errors(name):
        if np.shape(bounds) == (2,) and 0 < bounds[0] <= bounds[1] < np.inf:
            return tuple(bounds)
    raise ValueError(
        f"{name} must be a positive number or a pair (low, high) with 0 < low <= high < inf, got "
        f"{bounds!r}. Pass, for instance, {name}=(1, 2)."
    )


def _check_dictionary(dictionary, n_clusters, patch_size, dtype):
    """Return features and centers as arrays of `dtype`, 2K orthonormal rows together."""
    with name_in_errors("dictionary"):
        features, centers = (check_array(part, dtype=dtype) for part in dictionary)
    is_right = features.shape == centers.shape == (n_clusters, patch_size)
    if is_right:
        basis = np.vstack([features, centers])
        # The inner products are off by less than 1e-6 where only float32 rounds.
        is_right = np.abs(basis @ basis.T - np.eye(len(basis))).max() <= 1e-4
    if not is_right:
        raise ValueError(
            f"dictionary must be (features, centers), each of shape (n_clusters, patch_size) = "
            f"{(n_clusters, patch_size)}, and all rows together orthonormal; got {features.shape} "
            f"and {centers.shape}. Pass what an earlier call returned with "
            "return_dictionary=True, not multiplied by scale."
        )
    return features, centers


def _draw_dictionary(n_clusters, patch_size, dtype, random_state):
    """Draw features and centers, each (K, d): 2K orthonormal rows, uniformly distributed."""
    gaussian = random_state.standard_normal((patch_size, 2 * n_clusters))
    basis, triangle = np.linalg.qr(gaussian)
    # QR is unique, hence the basis uniform, only once the diagonal is positive.
    basis = (basis * np.sign(np.diag(triangle))).T.astype(dtype)  # (2K, d)
    return basis[:n_clusters], basis[n_clusters:]


def _draw_noise(n_samples, dictionary, sigma, noise, random_state):
    """Draw one noise patch per sample, (n_samples, d)."""
    basis = np.vstack(dictionary)
    patches = random_state.standard_normal((n_samples, basis.shape[1]))
    if noise == "gaussian":
        patches *= sigma / np.sqrt(basis.shape[1])
    else:
        # A Gaussian has no preferred direction, so neither has its projection.
        patches -= patches @ basis.T @ basis
        patches *= sigma / np.linalg.norm(patches, axis=1, keepdims=True)
    return patches


@validate_params(
    {
        "n_samples": [Count(1)],
        "n_clusters": [Count(2)],
        "n_patches": [Count(_N_SIGNALS)],
        "patch_size": [Count(4)],
        "alpha": [_POSITIVE, "array-like"],
        "beta": [_POSITIVE, "array-like"],
        "gamma": [_POSITIVE, "array-like"],
        "sigma": [Interval(Real, 0, None, closed="left")],
        "noise": [StrOptions({"gaussian", "orthogonal"})],
        "scale": [_POSITIVE],
        "flatten": ["boolean"],
        "dictionary": ["array-like", None],
        "return_clusters": ["boolean"],
        "return_dictionary": ["boolean"],
        "dtype": [type, np.dtype, str],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def make_cluster_patches(
    n_samples: int = 1000,
    *,
    n_clusters: int = 4,
    n_patches: int = 4,
    patch_size: int = 50,
    alpha: float | Sequence[float] = (0.5, 2),
    beta: float | Sequence[float] = (1, 2),
    gamma: float | Sequence[float] = (0.5, 3),
    sigma: float = 1.0,
    noise: Literal["gaussian", "orthogonal"] = "gaussian",
    scale: float = 10.0,
    flatten: bool = False,
    dictionary: tuple[ArrayLike, ArrayLike] | None = None,
    return_clusters: bool = False,
    return_dictionary: bool = False,
    dtype: DTypeLike = np.float32,
    random_state: int | np.random.RandomState | None = None,
) -> tuple[Any, ...]:
    """Generate two classes of patch samples with a hidden cluster structure.

    Every cluster `k` owns a feature vector `v_k`, whose sign tells the class, and a
    center `c_k`, which tells the cluster; these 2K vectors, the dictionary, are
    orthonormal. A sample draws two different clusters `(k, k')` and two independent
    signs `y` and `eps`, all uniformly, and consists of these patches in random order:

    - feature signal: `y * alpha * v_k`, one patch;
    - cluster-center signal: `beta * c_k`, one patch;
    - feature noise: `eps * gamma * v_k'`, one patch, the feature of another cluster;
    - random noise: the other `n_patches - 3` patches.

    All patches are multiplied by `scale` in the end. This is Definition 3.1 of [1]_.
    The defaults are its setting 1; `PAPER_SETTINGS` holds all settings.

    Parameters
    ----------
    n_samples : int, default=1000
        The number of samples.

    n_clusters : int, default=4
        The number of clusters K, at least 2.

    n_patches : int, default=4
        The number of patches per sample, at least 3; with 3 there is no random noise.

    patch_size : int, default=50
        The number of coordinates d of a patch, at least `2 * n_clusters`.

    alpha : float or pair of floats, default=(0.5, 2)
        The size of the feature signal before scaling: drawn uniformly between the two
        positive bounds (low, high), or constant if a single number.

    beta : float or pair of floats, default=(1, 2)
        The size of the cluster-center signal, given like `alpha`.

    gamma : float or pair of floats, default=(0.5, 3)
        The size of the feature noise, given like `alpha`.

    sigma : float, default=1.0
        The root mean square norm of a random noise patch before scaling; in X it is
        `scale * sigma`.

    noise : {"gaussian", "orthogonal"}, default="gaussian"
        The distribution of the random noise patches, independent of each other:

        - "gaussian": normal with variance `sigma ** 2 / patch_size` in every coordinate;
        - "orthogonal": norm exactly `sigma`, direction uniform among those orthogonal
          to the dictionary. It needs `patch_size > 2 * n_clusters`.

    scale : float, default=10.0
        The factor by which all patches, signals and noise, are multiplied in the end.

    flatten : bool, default=False
        Whether to lay the patches of a sample one after the other in a single row.

    dictionary : tuple (features, centers) of arrays of shape (n_clusters, patch_size), \
            default=None
        The vectors `v_k` and `c_k`, orthonormal and without `scale`. Pass the one of an
        earlier call to draw more samples of the same problem. If None, it is drawn
        uniformly and does not depend on `n_samples`.

    return_clusters : bool, default=False
        Whether to return the cluster of every sample.

    return_dictionary : bool, default=False
        Whether to return the dictionary.

    dtype : {numpy.float32, numpy.float64}, default=numpy.float32
        The type of X and of the dictionary.

    random_state : int, RandomState instance or None, default=None
        Determines the dictionary and the samples. Pass an int for reproducible output
        across multiple function calls.

    Returns
    -------
    X : ndarray of shape (n_samples, n_patches, patch_size)
        The samples; of shape (n_samples, n_patches * patch_size) if `flatten` is True.

    y : ndarray of int of shape (n_samples,)
        The classes: 1 if the sign of the feature signal is +1, 0 if it is -1.

    clusters : ndarray of int of shape (n_samples,)
        The cluster `k` of every sample. Only if `return_clusters` is True.

    dictionary : tuple (features, centers) of ndarrays of shape (n_clusters, patch_size)
        The vectors `v_k` and `c_k`. Only if `return_dictionary` is True.

    Raises
    ------
    ValueError
        If a parameter is out of its range, `patch_size` is too small for the dictionary,
        the bounds of a range are not positive and increasing, or the given dictionary
        has the wrong shape or is not orthonormal.

    References
    ----------
    .. [1] Z. Chen, Y. Deng, Y. Wu, Q. Gu, Y. Li, "Towards Understanding the
       Mixture-of-Experts Layer in Deep Learning", NeurIPS 2022, Definition 3.1.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_moe.datasets import PAPER_SETTINGS, make_cluster_patches
    >>> X, y, clusters, dictionary = make_cluster_patches(
    ...     100, return_clusters=True, return_dictionary=True, random_state=0
    ... )
    >>> X.shape, y.shape, clusters.shape
    ((100, 4, 50), (100,), (100,))

    The center patch reveals the cluster:

    >>> features, centers = dictionary
    >>> strength = (X @ centers.T).max(axis=1)
    >>> np.array_equal(strength.argmax(axis=1), clusters)
    True

    More samples of the same problem, and another setting of the paper:

    >>> X_test, y_test = make_cluster_patches(50, dictionary=dictionary, random_state=1)
    >>> X_flat, _ = make_cluster_patches(50, flatten=True, **PAPER_SETTINGS[2])
    >>> X_flat.shape
    (50, 200)
    """
    least = 2 * n_clusters + (noise == "orthogonal")
    if patch_size < least:
        raise ValueError(
            f"A patch of patch_size={patch_size} coordinates must hold 2 * n_clusters = "
            f"{2 * n_clusters} orthonormal vectors and, with noise='orthogonal', one direction "
            f"more. Use patch_size >= {least}, or fewer clusters."
        )
    ranges = {"alpha": alpha, "beta": beta, "gamma": gamma}
    alpha, beta, gamma = (_check_range(name, bounds) for name, bounds in ranges.items())
    with name_in_errors("dtype"):
        dtype = np.dtype(dtype)
    if dtype not in (np.float32, np.float64):
        raise ValueError(f"dtype must be float32 or float64, got {dtype}. Convert X afterwards.")
    rng = check_random_state(random_state)

    if dictionary is None:
        dictionary = _draw_dictionary(n_clusters, patch_size, dtype, rng)
    else:
        dictionary = _check_dictionary(dictionary, n_clusters, patch_size, dtype)
    features, centers = dictionary

    y = rng.randint(2, size=n_samples)
    noise_sign = 2 * rng.randint(2, size=n_samples) - 1
    clusters = rng.randint(n_clusters, size=n_samples)
    # A shift by 1 to K - 1 reaches every other cluster with the same probability.
    noise_clusters = (clusters + rng.randint(1, n_clusters, size=n_samples)) % n_clusters
    signals = (
        ((2 * y - 1) * rng.uniform(*alpha, size=n_samples), features, clusters),
        (rng.uniform(*beta, size=n_samples), centers, clusters),
        (noise_sign * rng.uniform(*gamma, size=n_samples), features, noise_clusters),
    )

    X = np.empty((n_samples, n_patches, patch_size), dtype=dtype)
    samples = np.arange(n_samples)
    # Sorting uniform numbers permutes uniformly; patch j of sample i goes to positions[j, i].
    positions = rng.uniform(size=(n_samples, n_patches)).argsort(axis=1).T
    with np.errstate(over="ignore", invalid="ignore"):
        for position, (size, vectors, index) in zip(positions[:_N_SIGNALS], signals, strict=True):
            X[samples, position] = size.astype(dtype)[:, np.newaxis] * vectors[index]
        # RandomState draws float64 only: one noise patch at a time keeps that copy small.
        for position in positions[_N_SIGNALS:]:
            X[samples, position] = _draw_noise(n_samples, dictionary, sigma, noise, rng)
        X *= scale
    if not np.isfinite(X).all():
        raise ValueError(
            f"alpha={alpha}, beta={beta}, gamma={gamma}, sigma={sigma} and scale={scale} make "
            f"patches that leave the range of {X.dtype}. Choose smaller ones."
        )

    X = X.reshape(n_samples, -1) if flatten else X
    asked = [(clusters, return_clusters), (dictionary, return_dictionary)]
    return X, y, *(result for result, is_asked in asked if is_asked)
