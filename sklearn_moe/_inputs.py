"""Checks of X, y and weights: bad input is named at once, before anything is trained."""

import math
from collections.abc import Iterator
from numbers import Integral

import numpy as np
from scipy.sparse import issparse
from sklearn.model_selection import train_test_split
from sklearn.utils import check_consistent_length
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.validation import _check_sample_weight, _check_y, validate_data

from ._categories import find_categories
from ._checks import naming
from ._rows import select
from ._warnings import warn

__all__ = ["check_samples", "check_training_data", "hold_out", "rows_of"]

_SHAPES = {2: "(n_patches, patch_size)", 3: "(n_channels, height, width)"}
_LEAST_SIDE = 4  # of pictures, in pixels
_LOOKED_AT = 2**22  # numbers by which pictures are known


def _validate(estimator, X, *, reset, sample_weight=None):
    """Return X: bytes of pictures stay bytes, the rest becomes floats."""
    _check_at_hand(X)
    if hasattr(X, "__array__") and not hasattr(X, "dtype") and not hasattr(X, "columns"):
        X = np.asarray(X)  # its type counts as that of an array would
    if not hasattr(X, "ndim") or (X.ndim == 4 and not isinstance(X, np.ndarray)):
        X = _as_pictures(X)
    is_picture = getattr(X, "ndim", 2) == 4 and isinstance(X, np.ndarray)
    if is_picture and X.dtype.kind in "iu" and X.dtype != np.uint8:
        raise ValueError(
            f"X holds pictures of type {X.dtype}. Pass bytes (uint8, 0 ... 255), which are scaled "
            "to 0 ... 1, or floats, which are not."
        )
    if not is_picture:  # rows may be read as pictures
        is_picture = estimator.sample_shape is not None and np.size(estimator.sample_shape) == 3
    is_bytes = is_picture and getattr(X, "dtype", None) == np.uint8
    # float32 first: other types become it, and float64 stays.
    dtype = np.uint8 if is_bytes else (np.float32, np.float64)
    if not reset:
        _check_channel_axis(estimator, X)
    X = _encode_categories(estimator, X, reset, sample_weight)
    options = {}
    if _is_table(estimator, X):
        finite = estimator.standardize is False or issparse(X)
        options = {"accept_sparse": "csr", "ensure_all_finite": finite or "allow-nan"}
    with naming("X"):
        return validate_data(estimator, X, reset=reset, dtype=dtype, allow_nd=True, **options)


def _check_at_hand(X):
    """Refuse what is to be read by and by, and a tensor that lies on a GPU."""
    of_torch = any(cls.__module__.startswith("torch.utils.data") for cls in type(X).__mro__)
    if of_torch or isinstance(X, Iterator):
        raise TypeError(
            f"X is {type(X).__name__}, where an array is expected. partial_fit reads batches and "
            "datasets, without y; predict batch by batch."
        )
    if not getattr(X, "is_cpu", True):
        raise ValueError(
            f"X is a tensor on {X.device}. Samples are checked on the host: pass X.cpu(). Where "
            "they are trained and predicted is up to the parameter device."
        )


def _is_table(estimator, X):
    """Tell whether rows are read as they are."""
    try:
        return estimator.sample_shape is None and np.ndim(X) == 2
    except ValueError:  # ragged: validate_data says so
        return False


def _encode_categories(estimator, X, reset, sample_weight):
    """Return a table of numbers."""
    chosen = estimator.categorical_features
    by_column = chosen is not None and not isinstance(chosen, str)
    if issparse(X) or not _is_table(estimator, X):
        if by_column or (not reset and estimator._categories is not None):
            raise ValueError(
                f"X is {type(X).__name__} of shape {getattr(X, 'shape', 'unknown')}, but "
                f"categorical_features={chosen!r} names columns of a table. Pass a data frame with "
                "the same columns as in fit, or a dense array of shape (n_samples, n_features)."
            )
        return X
    if by_column and not hasattr(X, "shape"):
        X = np.asarray(X)
    if reset:
        estimator._categories = find_categories(X, chosen, sample_weight)
        if estimator._categories is not None and estimator.standardize is False:
            raise ValueError(
                f"Columns {estimator._categories.columns} hold categories, which are encoded "
                "with standardize=True only. Leave it at 'auto', or encode them before."
            )
    return X if estimator._categories is None else estimator._categories.encode(X)


def _as_pictures(X):
    """Return nested lists or a tensor of pictures as an array, anything else as it is."""
    try:
        array = np.asarray(X)
    except (RuntimeError, TypeError, ValueError):  # ragged, for instance: validate_data says so
        return X
    return array if array.ndim == 4 else X


def _reshape(X, sample_shape):
    """Read the rows of a 2-D X as patches or pictures."""
    if sample_shape is None:
        return X
    sides = tuple(np.ravel(sample_shape).tolist())
    fits = X.ndim == 2 and len(sides) in _SHAPES
    fits = fits and all(isinstance(side, Integral) and (side > 0 or side == -1) for side in sides)
    if fits:
        known = math.prod(side for side in sides if side != -1)
        n_free, n_features = sides.count(-1), X.shape[1]
        fits = n_features % known == 0 if n_free == 1 else n_features == known and n_free == 0
    if not fits:
        raise ValueError(
            f"sample_shape={sample_shape!r} cannot be read from X of shape {X.shape}. It is "
            f"{_SHAPES[2]} or {_SHAPES[3]} of a row of a 2-D X, in integers above 0, with as many "
            "numbers as the row has; -1 stands for one side that follows from the others."
        )
    return X.reshape(len(X), *sides)


def check_samples(estimator, X):
    """Return X as the fitted experts take it."""
    X = _reshape(_validate(estimator, X, reset=False), estimator.sample_shape)
    _check_as_fitted(estimator, X)
    return X


def _check_channel_axis(estimator, X):
    """Refuse pictures without their axis of channels, which would count as bags of patches."""
    shape, fitted = getattr(X, "shape", ()), estimator.input_shape_
    if len(shape) == 3 and len(fitted) == 3:
        raise ValueError(
            f"X of shape {shape} holds bags of patches, {type(estimator).__name__} was fitted on "
            f"pictures of shape {fitted}. Of pictures without a channel axis pass "
            "X[:, np.newaxis], of a single picture X[np.newaxis]."
        )


def _warn_of_pictures(X):
    """Warn if a 3-D X looks like pictures without an axis of channels."""
    if X.ndim != 3 or X.shape[1] != X.shape[2] or X.shape[1] < _LEAST_SIDE:
        return
    some = X[: max(1, min(1000, _LOOKED_AT // X[0].size))]
    # More than 0 and 1, which may stand for anything.
    if some.min() >= 0 and some.max() > 1 and (some == np.floor(some)).all():
        warn(
            f"X of shape {X.shape} is taken as bags of {X.shape[1]} patches, but its squares of "
            "integers look like gray pictures. If so, pass X[:, np.newaxis], with an axis of "
            f"channels; if not, X.reshape(len(X), -1) and sample_shape={X.shape[1:]} say so.",
            UserWarning,
        )


def _check_as_fitted(estimator, X):
    """Refuse samples of another shape or scale than those of `fit`."""
    name = type(estimator).__name__
    if X.shape[1:] != estimator.input_shape_:
        raise ValueError(
            f"X has samples of shape {X.shape[1:]}, {name} was fitted on samples of "
            f"shape {estimator.input_shape_}."
        )
    kinds = ("floats", "bytes (uint8), which it scales to 0 ... 1")
    is_bytes = X.dtype == np.uint8
    if is_bytes != estimator._bytes:
        raise ValueError(
            f"X holds pictures of type {X.dtype}, {name} was fitted on "
            f"{kinds[estimator._bytes]}. Pass pictures of the same kind."
        )


def check_training_data(estimator, X, y, sample_weight, *, reset):
    """Return samples, targets and weights; samples of weight 0 are gone.

    Raises
    ------
    ValueError
        If an array is malformed, X has more than 4 axes, a weight is negative or none is
        positive.
    """
    if y is None:
        raise ValueError(
            f"{type(estimator).__name__} requires y to be passed, but the target y is None."
        )
    X = _validate(estimator, X, reset=reset, sample_weight=sample_weight)
    with naming("y"):
        y = estimator._check_y(_check_y(y, multi_output=True, estimator=estimator))
    with naming("X and y"):
        check_consistent_length(X, y)
    X = _reshape(X, estimator.sample_shape)
    if X.ndim > 4:
        raise ValueError(
            "X must have shape (n_samples, n_features), (n_samples, n_patches, patch_size) or "
            f"(n_samples, n_channels, height, width), got {X.shape}."
        )
    if 0 in X.shape:
        raise ValueError(f"X of shape {X.shape} is empty: every axis must be at least 1 long.")
    if reset and estimator.sample_shape is None:
        _warn_of_pictures(X)
    if not reset:
        _check_as_fitted(estimator, X)
    weight = _check_weight(estimator, X, y, sample_weight)
    positive = weight > 0
    if not positive.any():
        raise ValueError(
            "All samples have weight 0 (sample_weight times class_weight): nothing to train on."
        )
    if not positive.all():
        return rows_of((X, y, weight), np.flatnonzero(positive))
    return X, y, weight


def _check_weight(estimator, X, y, sample_weight):
    """Return the weights of the samples; multiplying all by a number changes nothing."""
    dtype = np.float64 if X.dtype == np.float64 else np.float32
    with naming("sample_weight"):
        weight = _check_sample_weight(sample_weight, X, dtype=np.float64)
    if weight.min() < 0:
        raise ValueError(f"sample_weight must not be negative, got {weight.min()}.")
    # By a power of two, which is exact: sums of huge or tiny ones would leave float32.
    if weight.max() > 0:
        weight = np.ldexp(weight, 1 - np.frexp(weight.max())[1])
    weight = weight.astype(dtype)
    class_weight = getattr(estimator, "class_weight", None)
    if isinstance(class_weight, list) and len(class_weight) != (y.shape[1] if y.ndim > 1 else 0):
        raise ValueError(
            f"class_weight={class_weight!r} is a list, which holds a dict for each of several "
            f"labels; y has shape {y.shape}. Pass one dict per column, a single dict for classes, "
            "or 'balanced'."
        )
    if class_weight is not None:
        weight = weight * compute_sample_weight(class_weight, y).astype(dtype)
    return weight


def rows_of(arrays, rows):
    """Return rows of X, y and weights; X, which may be large, is not copied."""
    X, y, weight = arrays
    return select(X, rows), y[rows], weight[rows]


def hold_out(X, y, weight, fraction, seed, *, stratify):
    """Split training data into (X, y, weight) to train and to validate on."""
    classes = y if stratify else None
    split = train_test_split(
        np.arange(len(y)), test_size=fraction, stratify=classes, random_state=seed
    )
    return tuple(rows_of((X, y, weight), rows) for rows in split)
