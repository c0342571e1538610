"""What counts as pictures: anything but (n_samples, n_channels, height, width) is named at once."""

import numpy as np

from ._validation import check_named

__all__ = ["check_images"]

_CHANNELS = (1, 3, 4)  # grey, RGB, RGBA


def _hint(shape, name):
    """Return what to do about an array of this shape."""
    if len(shape) == 4:
        return f"Channels come first: pass {name}.transpose(0, 3, 1, 2)."
    if len(shape) == 3 and shape[-1] in _CHANNELS:
        return f"Of a single picture, channels last, pass {name}.transpose(2, 0, 1)[np.newaxis]."
    if len(shape) == 3:
        return (
            f"Of pictures without a channel axis pass {name}[:, np.newaxis], of a single picture, "
            f"channels first, {name}[np.newaxis]."
        )
    return f"Pass rows of pixels as {name}.reshape(len({name}), n_channels, height, width)."


def _check_shape(shape, name, caller):
    """Refuse what has not four axes, or has its channels at the end."""
    # (n, 64, 3, 3) may be feature maps; (n, 32, 32, 3) is hardly 32 channels of 32 x 3 pixels.
    channels_last = len(shape) == 4 and shape[3] in _CHANNELS and min(shape[1:3]) > max(_CHANNELS)
    if len(shape) != 4 or channels_last:
        raise ValueError(
            f"{caller} takes pictures of shape (n_samples, n_channels, height, width), got {name} "
            f"of shape {shape}. {_hint(shape, name)}"
        )
    if not min(shape):
        raise ValueError(
            f"{name} of shape {shape} has no pixels: n_channels, height and width must be at "
            "least 1."
        )


def _dtype(dtype, name):
    """Return the type in which pictures are worked on: their own, or float32 of other floats."""
    if dtype == np.uint8:
        return np.uint8
    if dtype.kind != "f":
        raise ValueError(
            f"Pictures are uint8 in [0, 255] or floats, got {dtype}. Convert them: "
            f"{name}.astype(np.uint8) if the values are bytes, {name}.astype(np.float32) otherwise."
        )
    return np.float64 if dtype.itemsize >= 8 else np.float32


def check_images(images, *, name, caller):
    """Return pictures as an array of uint8, float32 or float64, a copy only where it must be.

    Parameters
    ----------
    images : array-like
        What should be pictures.

    name : str
        The parameter that they were passed as, for messages.

    caller : str
        The function or class that takes them, for messages.

    Returns
    -------
    images : ndarray of shape (n_samples, n_channels, height, width)
        The pictures in native byte order; float16 becomes float32. Strides may be negative.

    Raises
    ------
    ValueError
        If this is no four-dimensional array of uint8 or finite floats, channels first.
    """
    images = check_named(
        images, name, allow_nd=True, ensure_2d=False, dtype="numeric", estimator=caller
    )
    _check_shape(images.shape, name, caller)
    return images.astype(_dtype(images.dtype, name), copy=False)
