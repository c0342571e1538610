"""What pictures are like at first sight: properties that a router might go by."""

import numpy as np
from sklearn.utils import gen_batches
from sklearn.utils._param_validation import validate_params

from .._validation import Count, check_named

__all__ = ["picture_properties", "quantile_bins"]

_VALUES_AT_ONCE = 2**17  # 1 MiB: bounds the memory, and stays in the cache
_DIGITS = 9  # pictures that differ by rounding only are the same


@validate_params(
    {"X": ["array-like"], "n_bins": [Count(2)]},
    prefer_skip_nested_validation=True,
)
def picture_properties(X, *, n_bins=10):
    """Group pictures by what they look like at first sight.

    Each property is a number per picture, and its groups are the ranges between quantiles: as many
    pictures in each as equal numbers allow.

    - "brightness": the mean over channels and pixels;
    - "contrast": the standard deviation, over the pixels, of the mean over channels;
    - "edges (upright - level)": how much the mean over channels changes between neighbors in a row,
      less that in a column, over their sum: from -1, stripes that lie, to 1, stripes that stand;
    - "color (red - blue)": the mean of red less that of blue;
    - "color (green - magenta)": the mean of green less that of red and blue.

    Colors are those of pictures with 3 channels; others have none.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_channels, height, width)
        The pictures, bytes or floats in any unit.

    n_bins : int, default=10
        Number of groups of a property; fewer where many pictures have the same value.

    Returns
    -------
    properties : dict of str to ndarray of int of shape (n_samples,)
        The group of every picture, from 0, by the name of the property.

    Raises
    ------
    ValueError
        If X has another number of axes, no pixels, or entries that are not finite.

    See Also
    --------
    split_information : What such groups tell about the expert that answers.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_moe.metrics import picture_properties
    >>> black, white = np.zeros((3, 8, 8)), np.ones((3, 8, 8))
    >>> properties = picture_properties([black, white, black, white], n_bins=2)
    >>> list(properties)[:2]
    ['brightness', 'contrast']
    >>> properties["brightness"]
    array([0, 1, 0, 1])
    """
    X = check_named(X, "X", dtype="numeric", ensure_2d=False, allow_nd=True)
    if X.ndim != 4 or not min(X.shape):
        raise ValueError(
            "X must be pictures of shape (n_samples, n_channels, height, width), each at least 1, "
            f"got {X.shape}. Of rows of pixels pass X.reshape(len(X), n_channels, height, width)."
        )
    return {name: quantile_bins(values, n_bins) for name, values in _measure(X).items()}


def quantile_bins(values, n_bins):
    """Return the number, from 0, of the range between quantiles that each value lies in."""
    edges = np.quantile(values, np.arange(1, n_bins) / n_bins, method="higher")
    return np.searchsorted(edges, values, side="right")


def _measure(X):
    """Return the value of every property of every picture."""
    channels, contrast, edges = np.empty(X.shape[:2]), np.empty(len(X)), np.empty(len(X))
    for rows in gen_batches(len(X), max(1, _VALUES_AT_ONCE // X[0].size)):
        part = X[rows].astype(np.float64, order="C")
        channels[rows] = part.reshape(*part.shape[:2], -1).mean(axis=2)
        grey = part.mean(axis=1)
        contrast[rows] = grey.std(axis=(1, 2))
        across, down = _mean_step(grey, 2), _mean_step(grey, 1)
        total = across + down
        edges[rows] = np.divide(across - down, total, out=np.zeros_like(total), where=total > 0)
    scale = max(np.abs(channels).max(), contrast.max()) or 1.0
    values = {"brightness": channels.mean(axis=1) / scale, "contrast": contrast / scale}
    values["edges (upright - level)"] = edges
    if X.shape[1] == 3:
        red, green, blue = channels.T / scale
        values["color (red - blue)"] = red - blue
        values["color (green - magenta)"] = green - (red + blue) / 2
    return {name: value.round(_DIGITS) for name, value in values.items()}


def _mean_step(grey, axis):
    """Return the mean difference of neighbors along an axis, (n_samples,)."""
    steps = np.abs(np.diff(grey, axis=axis))
    return steps.mean(axis=(1, 2)) if steps.size else np.zeros(len(grey))
