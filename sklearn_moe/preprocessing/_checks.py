"""Checks of pictures: what is not (n_samples, n_channels, height, width) is named at once."""

from numbers import Integral

import numpy as np
from sklearn.utils import check_array
from sklearn.utils.validation import validate_data

__all__ = ["as_pair", "check_images"]

_CHANNELS = (1, 3, 4)  # grey, RGB, RGBA


def _hint(shape):
    """Return what to do about an array of this shape."""
    if len(shape) == 4:
        return "Channels come first: pass X.transpose(0, 3, 1, 2)."
    if len(shape) == 3 and shape[-1] in _CHANNELS:
        return "Of a single picture, channels last, pass X.transpose(2, 0, 1)[np.newaxis]."
    if len(shape) == 3:
        return "Of pictures without a channel axis pass X[:, np.newaxis]."
    return "Pass rows of pixels as X.reshape(len(X), n_channels, height, width)."


def _check_shape(estimator, shape):
    """Refuse what has not four axes, or has its channels at the end."""
    # (n, 64, 3, 3) may be feature maps; (n, 32, 32, 3) is hardly 32 channels of 32 x 3 pixels.
    channels_last = len(shape) == 4 and shape[3] in _CHANNELS and min(shape[1:3]) > max(_CHANNELS)
    if len(shape) != 4 or channels_last:
        raise ValueError(
            f"{type(estimator).__name__} takes pictures of shape (n_samples, n_channels, height, "
            f"width), got X of shape {shape}. {_hint(shape)}"
        )
    if not min(shape):
        raise ValueError(
            f"X of shape {shape} has no pixels: n_channels, height and width must be at least 1."
        )


def _check_channels(estimator, n_channels):
    expected = getattr(estimator, "n_features_in_", n_channels)
    if n_channels != expected:
        raise ValueError(
            f"X has {n_channels} channels, {type(estimator).__name__} was fitted on pictures of "
            f"{expected}. Pass pictures of {expected} channels, or fit again."
        )


def _dtype(X):
    """Return the type in which X is worked on: its own, or float32 of other floats."""
    if X.dtype == np.uint8:
        return np.uint8
    if X.dtype.kind != "f":
        raise ValueError(
            f"Pictures are uint8 in [0, 255] or floats, got {X.dtype}. Convert them: "
            "X.astype(np.uint8) if the values are bytes, X.astype(np.float32) otherwise."
        )
    return np.float64 if X.dtype.itemsize >= 8 else np.float32


def check_images(estimator, X, *, reset):
    """Return X as an array of uint8, float32 or float64, a copy only where it must be.

    Raises
    ------
    ValueError
        If X is not a four-dimensional array of uint8 or finite floats, channels first, or has
        not the channels seen in `fit`.
    """
    X = check_array(
        X, allow_nd=True, ensure_2d=False, dtype="numeric", estimator=estimator, input_name="X"
    )
    _check_shape(estimator, X.shape)
    if not reset:
        _check_channels(estimator, X.shape[1])
    # Remembers n_features_in_, here the number of channels.
    validate_data(estimator, X, reset=reset, skip_check_array=True)
    return X.astype(_dtype(X), copy=False)


def as_pair(name, value):
    """Return (height, width) of a size given as one or two positive integers."""
    pair = (value, value) if isinstance(value, Integral) else tuple(value)
    if len(pair) != 2 or not all(isinstance(side, Integral) and side >= 1 for side in pair):
        raise ValueError(
            f"{name} must be a positive integer or a pair (height, width) of them, got {value!r}."
        )
    return pair
