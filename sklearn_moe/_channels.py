"""What the channels of pictures are like: mean and deviation over all pixels."""

import numpy as np
from sklearn.utils import gen_batches

from ._checks import refuse_overflow
from ._rows import chunks
from .nn import Channels

__all__ = ["channel_moments", "describe_channels"]


@np.errstate(over="ignore", invalid="ignore")
def channel_moments(X, weight=None, batch_size=None):
    """Return mean and standard deviation of each channel, in units of X, by weight.

    The deviation of a channel of a single value is exactly 0.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_channels, height, width)
    weight : (n_samples,) or None
    batch_size : int or None
        Pictures looked at at once, by default about a million numbers; it changes no result.
    """
    # Of each picture first, (n_samples, n_channels): chunks do not matter, and squares about the
    # means do not cancel out, as E[x^2] - E[x]^2 would.
    mean, variance, low, high = (np.empty(X.shape[:2]) for _ in range(4))
    for rows in chunks(X) if batch_size is None else gen_batches(len(X), batch_size):
        part = X[rows].astype(np.float64, order="C")
        mean[rows] = part.mean(axis=(2, 3))
        low[rows], high[rows] = part.min(axis=(2, 3)), part.max(axis=(2, 3))
        part -= mean[rows, :, np.newaxis, np.newaxis]
        variance[rows] = np.square(part, out=part).mean(axis=(2, 3))
    # All pictures have as many pixels: within plus between.
    center = np.average(mean, axis=0, weights=weight)
    between = np.average(np.square(mean - center), axis=0, weights=weight)
    std = np.sqrt(np.average(variance, axis=0, weights=weight) + between)
    refuse_overflow("X", std)
    std[low.min(axis=0) == high.max(axis=0)] = 0  # whatever rounding of the mean left over
    return center, std


def describe_channels(X, weight):
    """Return the `Channels` of pictures; bytes are scaled to 0 ... 1 before, as by the net."""
    unit = 255 if X.dtype == np.uint8 else 1
    mean, std = (moment / unit for moment in channel_moments(X, weight))
    return Channels(*(tuple(v.tolist()) for v in (mean, np.where(std > 0, std, 1))))
