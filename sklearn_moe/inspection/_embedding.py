"""Samples as points in the plane."""

import numpy as np
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

__all__ = ["embed"]

_PERPLEXITY = 30  # scikit-learn's default; fewer samples have fewer neighbors


def embed(estimator, X, method, *, random_state=None):
    """Return points of shape (n_samples, 2) and the names of the two axes.

    `method` is "pca", "tsne" or the points themselves.
    """
    if not isinstance(method, str):
        return np.asarray(method), ("Dimension 1", "Dimension 2")
    if method not in ("pca", "tsne"):
        raise ValueError(
            f'embedding must be "pca", "tsne" or an array of shape (n_samples, 2), got {method!r}.'
        )
    features = _features(estimator, X)
    if min(features.shape) < 2:
        raise ValueError(
            f"An embedding needs at least 2 samples of 2 features, got shape {features.shape}. "
            "Pass the points themselves as `embedding`."
        )
    if method == "pca":
        pca = PCA(2, random_state=random_state)
        points = pca.fit_transform(features)
        shares = pca.explained_variance_ratio_
        return points, tuple(
            f"Principal component {axis} ({share:.0%} of variance)"
            for axis, share in enumerate(shares, start=1)
        )
    perplexity = min(_PERPLEXITY, (len(features) - 1) / 3)
    tsne = TSNE(perplexity=perplexity, init="pca", random_state=random_state)
    return tsne.fit_transform(features), ("t-SNE 1", "t-SNE 2")


def _features(estimator, X):
    """Return samples as vectors that can be compared, (n_samples, n_features).

    Rows of a table are what the router sees of them, standardized and encoded: they may hold
    categories and missing values. Bags of patches, of shape (n_patches, patch_size), are summed
    over their patches, whose order means nothing: the sum is also what a router sees. Pictures keep
    their pixels, whose places mean a lot.
    """
    shape = getattr(estimator, "input_shape_", np.shape(X)[1:])
    if hasattr(estimator, "_router_input") and len(shape) < 3:
        return estimator._router_input(X)
    X = np.asarray(X)
    X = X.reshape(len(X), *shape)
    return X.sum(axis=1) if X.ndim == 3 else X.reshape(len(X), -1)
