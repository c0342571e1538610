"""The plane that samples lie in, and the surface behind them: a class, or an expert, per pixel."""

import numpy as np
from scipy.sparse import issparse
from sklearn.neighbors import KNeighborsClassifier

__all__ = ["as_plane", "frame_of", "like", "nearest_surface", "pixels_of"]

_MARGIN = 0.05  # around the samples, of their range


def as_plane(X):
    """Return samples of two numbers as points, and the names of the axes; None for others."""
    if issparse(X) or np.ndim(X) != 2 or np.shape(X)[1] != 2:
        return None
    points = np.asarray(X)
    if points.dtype.kind not in "fiu" or not np.isfinite(points).all():
        return None
    names = getattr(X, "columns", ("Feature 0", "Feature 1"))
    return points.astype(float), tuple(str(name) for name in names)


def like(X, points):
    """Return points as samples of the kind of X, a frame or an array."""
    if hasattr(X, "columns"):
        return type(X)(dict(zip(X.columns, points.T, strict=True)))
    return points


def frame_of(points):
    """Return the lower corner of the plane around the points, and its size."""
    low, high = points.min(axis=0), points.max(axis=0)
    margin = _MARGIN * np.where(high > low, high - low, 1)
    return low - margin, high - low + 2 * margin


def pixels_of(points, resolution):
    """Return the centers of the pixels, (resolution, resolution, 2), rows from below."""
    low, size = frame_of(points)
    steps = (np.arange(resolution) + 0.5) / resolution
    return low + size * np.stack(np.meshgrid(steps, steps), axis=-1)


def nearest_surface(points, regions, n_neighbors, resolution):
    """Return the region of each pixel by the nearest points."""
    low, size = frame_of(points)  # both axes count the same, whatever their units
    knn = KNeighborsClassifier(n_neighbors).fit((points - low) / size, regions)
    pixels = (pixels_of(points, resolution) - low) / size
    return knn.predict(pixels.reshape(-1, 2)).reshape(resolution, resolution)
