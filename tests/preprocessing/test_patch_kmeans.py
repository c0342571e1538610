"""PatchKMeansFeatures: its numbers beside slow ones."""

import numpy as np
import pytest
from helpers import names
from sklearn.cluster import MiniBatchKMeans

from sklearn_moe.preprocessing import PatchKMeansFeatures


def images(n_channels=2, height=11, width=13, dtype=np.uint8):
    """Blurred noise, brighter in some images: neighbors are alike."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(30, n_channels, height, width)).cumsum(axis=2).cumsum(axis=3)
    X -= X.min(axis=(1, 2, 3), keepdims=True)
    X /= X.max(axis=(1, 2, 3), keepdims=True) * rng.uniform(1, 2, size=(30, 1, 1, 1))
    return (255 * X).astype(np.uint8) if dtype == np.uint8 else X.astype(dtype)


def small(**parameters):
    options = {"n_clusters": 7, "patch_size": 4, "n_patches": 500, "random_state": 0} | parameters
    return PatchKMeansFeatures(**options)


def normalized_patches(X, size, contrast):
    """Return the patches of images in float64, (n_samples, n_rows, n_columns, n_values)."""
    X = X.astype(np.float64) / (255 if X.dtype == np.uint8 else 1)
    windows = np.lib.stride_tricks.sliding_window_view(X, (size, size), axis=(2, 3))
    p = windows.transpose(0, 2, 3, 1, 4, 5)
    p = p.reshape(*p.shape[:3], -1)
    p = p - p.mean(axis=-1, keepdims=True)
    return p / np.sqrt(p.var(axis=-1, keepdims=True) + contrast)


def white_patches(fitted, X, size):
    return (normalized_patches(X, size, fitted.contrast_) - fitted.mean_) @ fitted.whitening_


def slow_features(fitted, X, *, size, stride, pool, power):
    """Return what the documentation says, in float64."""
    white = white_patches(fitted, X, size)[:, ::stride, ::stride]
    centers = fitted.cluster_centers_.astype(np.float64).reshape(len(fitted.cluster_centers_), -1)
    z = np.linalg.norm(white[..., None, :] - centers, axis=-1)
    f = np.maximum(0, z.mean(axis=-1, keepdims=True) - z)
    cells = [
        np.sum(cell, axis=(1, 2))
        for row in np.array_split(f, pool, axis=1)
        for cell in np.array_split(row, pool, axis=2)
    ]
    return np.concatenate(cells, axis=1) ** power


# -- numbers ------------------------------------------------------------------------------


def test_transform_is_the_slow_one():
    for size, stride, pool, power, dtype in [
        *((4, 1, 2, 0.5, np.uint8), (3, 2, 3, 1, np.float32)),
        *((9, 3, 1, 0.3, np.uint8), (1, 1, 2, 1.0, np.float64)),
    ]:
        X = images(dtype=dtype)
        options = {"stride": stride, "pool": pool, "power": power}
        fitted = small(patch_size=size, **options).fit(X)
        X_new = fitted.transform(X[:6])
        assert X_new.shape == (6, 7 * pool**2)
        expected = slow_features(fitted, X[:6], size=size, **options)
        assert expected.any()
        np.testing.assert_allclose(X_new, expected, rtol=1e-4, atol=1e-4)


def test_whitening_is_zca():
    X = images()
    fitted = small(n_patches=10**6).fit(X)  # all patches
    pixels = small(n_patches=10**6, patch_size=1).fit(X)
    assert pixels.contrast_ == pytest.approx(0.0025 * (X / 255).var(), rel=1e-5)
    p = normalized_patches(X, 4, fitted.contrast_).reshape(-1, 32)
    np.testing.assert_allclose(fitted.mean_, p.mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(fitted.whitening_, fitted.whitening_.T, atol=1e-5)
    regularized = np.cov(p.T, bias=True) + 0.1 * np.eye(32)
    white = fitted.whitening_ @ regularized @ fitted.whitening_
    np.testing.assert_allclose(white, np.eye(32), atol=1e-4)


def test_centers_are_those_of_k_means():
    X = images()
    fitted = small(n_patches=10**6).fit(X)
    white = white_patches(fitted, X, 4).reshape(-1, 32)
    centers = fitted.cluster_centers_.reshape(7, -1)
    assert fitted.cluster_centers_.shape == (7, 2, 4, 4)

    def inertia(centers):
        return np.square(white[:, None] - centers).sum(axis=2).min(axis=1).mean()

    reference = MiniBatchKMeans(7, random_state=1, n_init=5).fit(white)
    assert inertia(centers) < 1.1 * inertia(reference.cluster_centers_)
    assert inertia(centers) < 0.8 * inertia(white[:7])


def test_units_do_not_matter():
    X = images(dtype=np.float64)
    expected = small().fit_transform(X)
    for scale in (1e-3, 1e4):
        X_new = small().fit_transform(scale * X + 2 * scale)
        np.testing.assert_allclose(X_new, expected, atol=0.02)
    X = images()
    fitted, floats = small().fit(X), (X / 255).astype(np.float32)
    np.testing.assert_allclose(fitted.transform(floats), fitted.transform(X), atol=1e-4)
    np.testing.assert_allclose(small().fit(floats).mean_, fitted.mean_, atol=1e-5)


def test_constant_images_are_described_by_zeros():
    X = np.full((6, 3, 8, 8), 7, dtype=np.uint8)
    fitted = small().fit(X)
    np.testing.assert_allclose(fitted.transform(X), 0, atol=0.01)  # roots of rounding
    assert np.isfinite(fitted.transform(images(n_channels=3))).all()


def test_images_of_another_size():
    fitted = small().fit(images())
    assert fitted.transform(images(height=9, width=20)).shape == (30, 28)
    with pytest.raises(ValueError, match="Images of 3 x 13 pixels have too few patches"):
        fitted.transform(images(height=3))


# -- what is refused ----------------------------------------------------------------------


WRONG = [("patch_size", {"patch_size": 12}), ("pool", {"patch_size": 10, "pool": 3})]
WRONG += [("n_clusters", {"n_clusters": 501})]
WRONG += [("n_clusters", {"n_clusters": 91, "patch_size": 11, "pool": 1})]


def test_parameters_are_checked():
    for name, parameters in WRONG:
        transformer = small(**parameters)
        names(name, parameters, transformer.fit, images())
        assert not hasattr(transformer, "cluster_centers_")
