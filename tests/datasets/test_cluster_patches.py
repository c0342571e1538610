"""The statistics of make_cluster_patches, part by part of Definition 3.1."""

import inspect
from functools import partial
from hashlib import sha256
from typing import NamedTuple

import numpy as np
import pytest
from helpers import names, refuses
from scipy import stats

from sklearn_moe.datasets import PAPER_SETTINGS, make_cluster_patches, make_paper_patches

N, K, P, D = 20_000, 4, 5, 20
ALPHA, BETA, GAMMA, SIGMA, SCALE = (0.5, 2), (1, 2), (0.5, 3), 1.5, 10.0
# Seeds are fixed, so a test that passes always passes; a wrong distribution gives p = 0.
P_VALUE = 1e-3


class Parts(NamedTuple):
    """One array per random quantity of Definition 3.1, read off from X alone: (n, P) or `noise`."""

    feature: np.ndarray  # where the feature of the sample's cluster is
    center: np.ndarray  # where the center of the sample's cluster is
    other: np.ndarray  # where the feature of another cluster is
    index: np.ndarray  # cluster of a feature or center
    size: np.ndarray  # signed coefficient of a feature or center, unscaled
    noise: np.ndarray  # (n, P - 3, d): random noise patches, unscaled

    @property
    def signals(self):
        return self.feature, self.center, self.other


def take_apart(X, clusters, dictionary):
    n_clusters = len(dictionary[0])
    basis = np.vstack(dictionary)
    coefficients = X @ basis.T / SCALE  # (n, P, 2K)
    outside = np.linalg.norm(X / SCALE - coefficients @ basis, axis=-1)
    largest = np.abs(coefficients).argmax(axis=-1)
    is_noise, index = outside > 1e-6, largest % n_clusters
    is_own = index == clusters[:, np.newaxis]
    is_feature = (largest < n_clusters) & ~is_noise
    size = np.take_along_axis(coefficients, largest[..., np.newaxis], axis=-1)[..., 0]
    # A signal patch is a multiple of ONE vector of the dictionary.
    rest = np.linalg.norm(coefficients, axis=-1) - np.abs(size)
    np.testing.assert_allclose(rest[~is_noise], 0, atol=1e-6)
    noise = X[is_noise].reshape(len(X), -1, X.shape[-1]) / SCALE
    center = (largest >= n_clusters) & ~is_noise & is_own
    return Parts(is_feature & is_own, center, is_feature & ~is_own, index, size, noise)


def draw(n_samples=N, **params):
    defaults = {"n_clusters": K, "n_patches": P, "patch_size": D, "dtype": np.float64}
    returned = {"return_clusters": True, "return_dictionary": True}
    return make_cluster_patches(n_samples, **defaults | returned | {"random_state": 0} | params)


@pytest.fixture(scope="module")
def sample():
    return draw(alpha=ALPHA, beta=BETA, gamma=GAMMA, sigma=SIGMA, scale=SCALE)


@pytest.fixture(scope="module")
def parts(sample):
    return take_apart(sample[0], *sample[2:])


def assert_uniform_over_cells(*codes, n_cells):
    _, counts = np.unique(np.column_stack(codes), axis=0, return_counts=True)
    assert len(counts) == n_cells
    assert stats.chisquare(counts).pvalue > P_VALUE


def test_dictionary_is_orthonormal_and_uniform(sample):
    basis = np.vstack(sample[-1])
    assert np.shape(sample[-1]) == (2, K, D)
    np.testing.assert_allclose(basis @ basis.T, np.eye(2 * K), atol=1e-12)
    options = {"n_clusters": 2, "n_patches": 3, "patch_size": 4}
    draws = np.array([draw(1, random_state=seed, **options)[-1] for seed in range(400)])
    # An entry of a uniform orthogonal matrix has mean 0 and variance 1 / size.
    np.testing.assert_allclose(draws.mean(axis=0), 0, atol=5 / np.sqrt(4 * 400))
    np.testing.assert_allclose((draws**2).mean(axis=0), 1 / 4, atol=0.06)


def test_each_sample_has_one_patch_of_each_signal_of_uniform_independent_size(sample, parts):
    _, y, clusters, _ = sample
    for mask in parts.signals:
        np.testing.assert_array_equal(mask.sum(axis=1), 1)
    np.testing.assert_array_equal(np.sign(parts.size[parts.feature]), 2 * y - 1)
    assert (parts.size[parts.center] > 0).all()
    sizes = [np.abs(parts.size[mask]) for mask in parts.signals]
    for size, (low, high) in zip(sizes, (ALPHA, BETA, GAMMA), strict=True):
        assert low <= size.min() + 1e-9
        assert size.max() <= high + 1e-9
        assert stats.kstest(size, stats.uniform(low, high - low).cdf).pvalue > P_VALUE
    correlation = np.corrcoef([*sizes, y, clusters, parts.feature.argmax(axis=1)])
    np.testing.assert_allclose(correlation, np.eye(6), atol=4 / np.sqrt(N))


def test_signs_clusters_and_orders_are_uniform_and_independent(sample, parts):
    _, y, clusters, _ = sample
    eps, other = np.sign(parts.size[parts.other]), parts.index[parts.other]
    assert_uniform_over_cells(clusters, other, y, eps, n_cells=4 * K * (K - 1))
    order = [mask.argmax(axis=1) for mask in parts.signals]
    # Random noise patches look alike; the order tells nothing of the class.
    assert_uniform_over_cells(*order, y, n_cells=2 * P * (P - 1) * (P - 2))


def test_random_noise_is_gaussian(parts):
    assert parts.noise.shape == (N, P - 3, D)
    std = SIGMA / np.sqrt(D)
    assert stats.kstest(parts.noise.ravel(), stats.norm(0, std).cdf).pvalue > P_VALUE
    # White in all coordinates of all noise patches of a sample together.
    covariance = np.cov(parts.noise.reshape(N, -1), rowvar=False)
    np.testing.assert_allclose(covariance / std**2, np.eye((P - 3) * D), atol=0.06)


def test_orthogonal_noise_is_uniform_on_a_sphere_off_the_dictionary():
    X, _, *known = draw(noise="orthogonal", sigma=SIGMA)
    noise, basis = take_apart(X, *known).noise.reshape(-1, D), np.vstack(known[1])
    np.testing.assert_allclose(np.linalg.norm(noise, axis=1), SIGMA, rtol=1e-12)
    np.testing.assert_allclose(noise @ basis.T, 0, atol=1e-12)
    np.testing.assert_allclose(noise.mean(axis=0), 0, atol=0.02)
    expected = SIGMA**2 / (D - 2 * K) * (np.eye(D) - basis.T @ basis)
    np.testing.assert_allclose(np.cov(noise, rowvar=False), expected, atol=0.01)


def test_other_numbers_of_patches_and_clusters_and_constant_sizes():
    X = make_cluster_patches(50, n_patches=6, sigma=0, random_state=0)[0]
    np.testing.assert_array_equal((np.linalg.norm(X, axis=-1) == 0).sum(axis=1), 3)
    X, _, *known = draw(100, n_clusters=2, n_patches=3, patch_size=4)
    parts = take_apart(X, *known)
    assert X.shape == (100, 3, 4)
    np.testing.assert_array_equal(parts.other.sum(axis=1), 1)
    assert parts.noise.size == 0

    for bounds in (1.5, [1.5, 1.5], np.array([1.5, 1.5])):  # a single number is a constant size
        X, _, *known = draw(50, n_patches=3, alpha=bounds, beta=bounds, gamma=bounds)
        np.testing.assert_allclose(np.abs(take_apart(X, *known).size), 1.5)


def test_scale_flatten_and_what_is_returned():
    X, y = make_cluster_patches(20, scale=1, dtype=np.float64, random_state=0)
    X_new, y_new = make_cluster_patches(20, scale=7, flatten=True, dtype=np.float64, random_state=0)
    np.testing.assert_allclose(X_new, 7 * X.reshape(20, 200))
    np.testing.assert_array_equal(y_new, y)
    assert make_cluster_patches(5, random_state=0)[0].dtype == np.float32
    assert make_cluster_patches(5, return_clusters=True, random_state=0)[2].shape == (5,)


def test_types_and_the_seed_that_determines_everything():
    for noise, dtype in [("gaussian", "float64"), ("orthogonal", np.dtype("float32"))]:
        states = (0, np.random.RandomState(0), 1)
        first, second, other = (
            draw(200, noise=noise, dtype=dtype, random_state=state) for state in states
        )
        for a, b, c in zip(first, second, other, strict=True):
            np.testing.assert_array_equal(a, b)
            assert not np.array_equal(a, c)
        X, y, clusters, dictionary = first
        assert X.shape == (200, P, D)
        assert X.dtype == dictionary[0].dtype == dictionary[1].dtype == np.dtype(dtype)
        assert y.dtype.kind == clusters.dtype.kind == "i"
        np.testing.assert_array_equal(np.unique(y), [0, 1])
        np.testing.assert_array_equal(np.unique(clusters), [0, 1, 2, 3])


def test_dictionary_draws_more_of_the_same_problem():
    *_, dictionary = make_cluster_patches(5, return_dictionary=True, random_state=0)
    *_, of_more = make_cluster_patches(50, return_dictionary=True, random_state=0)
    np.testing.assert_array_equal(np.stack(of_more), np.stack(dictionary))
    options = {"n_patches": 3, "patch_size": 50, "dictionary": dictionary, "random_state": 1}
    for dtype in (np.float32, np.float64):
        X, y, clusters, reused = draw(500, dtype=dtype, **options)
        np.testing.assert_array_equal(np.stack(reused), np.stack(dictionary))
        parts = take_apart(X.astype(np.float64), clusters, np.stack(dictionary).astype(float))
        np.testing.assert_array_equal(np.sign(parts.size[parts.feature]), 2 * y - 1)


def test_paper_settings_are_the_table_of_the_paper():
    columns = ("alpha", "beta", "gamma", "sigma")
    expected = {
        1: ((0.5, 2), (1, 2), (0.5, 3), 1),
        2: ((0.5, 2), (1, 2), (0.5, 3), 2),
        3: ((0.5, 2), (1, 2), (0.5, 2), 1),
        4: ((0.5, 2), (1, 2), (0.5, 2), 2),
        "verify": ((1, 2), (1, 2), (1, 2), 1),
        "visualization": (1, (1.2, 2), (1, 2), 3),
    }
    assert PAPER_SETTINGS.keys() == expected.keys()
    for name, setting in PAPER_SETTINGS.items():
        rest = {"noise": "orthogonal"} if name == "visualization" else {}
        assert setting == dict(zip(columns, expected[name], strict=True)) | rest
        assert make_cluster_patches(10, random_state=0, **setting)[0].shape == (10, 4, 50)
    for wrong in (PAPER_SETTINGS, PAPER_SETTINGS[1]):
        with pytest.raises(TypeError):
            wrong["sigma"] = 0
    parameters = inspect.signature(make_cluster_patches).parameters  # the defaults are setting 1
    paper = {"n_clusters": 4, "n_patches": 4, "patch_size": 50, "scale": 10, **PAPER_SETTINGS[1]}
    assert {name: parameters[name].default for name in paper} == paper


# Of features, centers, labels and clusters in the files of github.com/uclaml/MoE.
HASHES = {1: "683452c85867 2cad37b28e0a 49b2e0d043a4 350f9adf5a8c"} | dict.fromkeys(
    (2, 3, 4), "3cb6e95839ba 1a0af7608e8a 1c65b9ce6ef4 92d707e7b884"
)


@pytest.mark.parametrize("setting", HASHES)
def test_paper_patches_are_those_of_the_authors(setting):
    X, y, clusters, dictionary = make_paper_patches(
        setting, return_clusters=True, return_dictionary=True
    )
    files = *(10 * part for part in dictionary), *(a.astype("i1") for a in (y, clusters))
    assert [sha256(a.tobytes()).hexdigest()[:12] for a in files] == HASHES[setting].split()
    assert (X.shape, X.dtype, y.dtype) == ((32_000, 4, 50), np.float32, int)
    parts = take_apart(X.astype(float), clusters, np.array(dictionary, dtype=float))
    columns = zip(parts.signals, ("alpha", "beta", "gamma"), (2 * y - 1, 1, 0), strict=True)
    for where, name, sign in columns:
        size, (low, high) = parts.size[where], PAPER_SETTINGS[setting][name]
        size = size * sign if name != "gamma" else np.abs(size)
        assert low <= size.min() < low + 0.001 < high - 0.001 < size.max() <= high
    norm = (parts.noise**2).sum(axis=2).mean() ** 0.5
    assert norm == pytest.approx(PAPER_SETTINGS[setting]["sigma"], rel=0.01)


ROWS = np.eye(50)
DICTIONARIES = [(ROWS[:4],), (ROWS[:3], ROWS[4:8]), (ROWS[:4], ROWS[4:8, :40])]
DICTIONARIES += [(ROWS[0], ROWS[4:8]), (ROWS[:4] * np.nan, ROWS[4:8]), (ROWS[:4], ROWS[:4])]
DICTIONARIES += [(10 * ROWS[:4], 10 * ROWS[4:8]), (1.001 * ROWS[:4], ROWS[4:8])]
WRONG = {
    "scale": [1e300],
    "dtype": [np.float16, "nonsense"],
    "alpha": [(2, 1), (1, np.nan), (1, 2, 3)],
    "beta": [(0, 1)],
    "gamma": [(1, np.inf), (1, [2, 3])],
    "dictionary": DICTIONARIES,
}


def test_wrong_parameters_are_explained():
    make = partial(make_cluster_patches, random_state=0)
    for name, values in WRONG.items():
        for value in values:
            names(name, value, make, **{name: value})
    refuses("5 clusters", "Use patch_size >= 10", make, n_clusters=5, patch_size=9)
    refuses("orthogonal", "Use patch_size >= 9", make, patch_size=8, noise="orthogonal")
    make(patch_size=8)
    make(patch_size=9, noise="orthogonal")
