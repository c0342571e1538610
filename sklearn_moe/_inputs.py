"""Checks of X, y and weights: bad input is named at once, before anything is trained."""

import numpy as np
from sklearn.model_selection import train_test_split
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, validate_data

__all__ = ["check_samples", "check_training_data", "encode", "hold_out"]


def _validate(estimator, X, *y, reset):
    """Return X, and y where it is given: bytes of pictures stay bytes, the rest becomes floats."""
    if not hasattr(X, "ndim") or (X.ndim == 4 and not isinstance(X, np.ndarray)):
        X = _as_pictures(X)
    is_picture = getattr(X, "ndim", 2) == 4
    if is_picture and X.dtype.kind in "iu" and X.dtype != np.uint8:
        raise ValueError(
            f"X holds pictures of type {X.dtype}. Pass bytes (uint8, 0 ... 255), which are scaled "
            "to 0 ... 1, or floats, which are not."
        )
    is_bytes = is_picture and X.dtype == np.uint8
    # float32 first: other types become it, and float64 stays.
    dtype = np.uint8 if is_bytes else (np.float32, np.float64)
    return validate_data(estimator, X, *y, reset=reset, dtype=dtype, allow_nd=True)


def _as_pictures(X):
    """Return nested lists or a tensor of pictures as an array, anything else as it is."""
    try:
        array = np.asarray(X)
    except (TypeError, ValueError):  # ragged, for instance: validate_data says so
        return X
    return array if array.ndim == 4 else X


def _as_patches(X, n_patches):
    """Cut the rows of a 2-D X into `n_patches` patches."""
    if n_patches is None:
        return X
    if X.ndim != 2 or X.shape[1] % n_patches:
        raise ValueError(
            f"n_patches={n_patches} cuts the rows of a 2-D X into equal patches, got X of shape "
            f"{X.shape}. Pass 2-D X whose number of features is a multiple of n_patches, or "
            "n_patches=None."
        )
    return X.reshape(len(X), n_patches, -1)


def check_samples(estimator, X):
    """Return X as the fitted experts take it."""
    X = _as_patches(_validate(estimator, X, reset=False), estimator.n_patches)
    _check_as_fitted(estimator, X)
    return X


def _check_as_fitted(estimator, X):
    """Refuse samples of another shape or scale than those of `fit`."""
    if X.shape[1:] != estimator.input_shape_:
        raise ValueError(
            f"X has samples of shape {X.shape[1:]}, MoEClassifier was fitted on samples of "
            f"shape {estimator.input_shape_}."
        )
    kinds = ("floats", "bytes (uint8), which it scales to 0 ... 1")
    is_bytes = X.dtype == np.uint8
    if is_bytes != estimator._bytes:
        raise ValueError(
            f"X holds pictures of type {X.dtype}, MoEClassifier was fitted on "
            f"{kinds[estimator._bytes]}. Pass pictures of the same kind."
        )


def check_training_data(estimator, X, y, sample_weight, *, reset):
    """Return samples, labels and weights; samples of weight 0 are gone.

    Raises
    ------
    ValueError
        If an array is malformed, X has more than 4 axes, a weight is negative or none is
        positive.
    """
    X, y = _validate(estimator, X, y, reset=reset)
    check_classification_targets(y)
    X = _as_patches(X, estimator.n_patches)
    if X.ndim > 4:
        raise ValueError(
            "X must have shape (n_samples, n_features), (n_samples, n_patches, patch_size) or "
            f"(n_samples, n_channels, height, width), got {X.shape}."
        )
    if not reset:
        _check_as_fitted(estimator, X)
    dtype = np.float64 if X.dtype == np.float64 else np.float32
    weight = _check_sample_weight(sample_weight, X, dtype=dtype)
    if weight.min() < 0:
        raise ValueError(f"sample_weight must not be negative, got {weight.min()}.")
    if estimator.class_weight is not None:
        weight = weight * compute_sample_weight(estimator.class_weight, y).astype(dtype)
    positive = weight > 0
    if not positive.any():
        raise ValueError(
            "All samples have weight 0 (sample_weight times class_weight): nothing to train on."
        )
    if not positive.all():
        X, y, weight = X[positive], y[positive], weight[positive]
    return X, y, weight


def encode(y, classes):
    """Return the index of each label in `classes`, which are sorted."""
    codes = np.searchsorted(classes, y).clip(max=len(classes) - 1)
    unseen = classes[codes] != y
    if unseen.any():
        raise ValueError(
            f"y contains labels {np.unique(y[unseen]).tolist()} that are not among the classes "
            f"{classes.tolist()}. Name all classes in the first call of partial_fit."
        )
    return codes


def hold_out(X, y, weight, fraction, seed):
    """Split training data into (X, y, weight) to train and to validate on, stratified."""
    split = train_test_split(X, y, weight, test_size=fraction, stratify=y, random_state=seed)
    return split[::2], split[1::2]
