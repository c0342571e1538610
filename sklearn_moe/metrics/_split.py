"""What the split of the samples among experts follows, and whether that is more than chance."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import entropy
from sklearn.utils import gen_batches

from .._validation import Count, check_column, check_named, check_same_length
from ._columns import read_columns
from ._routing import check_labels, encode, validated
from ._significance import dispatch_entropy_test

_VALUES_AT_ONCE = 2**17  # 1 MiB: bounds the memory, and stays in the cache
_DIGITS = 9  # images that differ by rounding only are the same


@dataclass(frozen=True)
class SplitInformation:
    """Result of :func:`split_information`, entropies in nats.

    Attributes
    ----------
    information : float
        The :func:`mutual_information` of group and expert.

    null_mean, null_low, null_high : float
        Its mean and 95 % interval if experts and groups are independent.

    p_value : float
        The probability that chance alone gives as much information.

    expert_entropy : float
        The entropy of the experts, the largest value that `information` can have.

    share : float
        The part of `expert_entropy` that the group explains, corrected for chance: 0 by chance, 1
        if the group determines the expert.
    """

    information: float
    null_mean: float
    null_low: float
    null_high: float
    p_value: float
    expert_entropy: float

    @property
    def share(self) -> float:
        room = self.expert_entropy - self.null_mean
        return (self.information - self.null_mean) / room if room > 1e-9 else 0.0


@validated("groups experts", n_permutations=[Count(1)], random_state=["random_state"])
def split_information(
    groups: ArrayLike,
    experts: ArrayLike,
    *,
    n_permutations: int = 1000,
    random_state: int | np.random.RandomState | None = None,
) -> SplitInformation:
    """Measure the mutual information of a property of the samples and the expert.

    It comes with its null, the same for shuffled groups: with few samples or many groups, the
    :func:`mutual_information` is far above 0 even if the two are independent.

    Parameters
    ----------
    groups : array-like of shape (n_samples,)
        What the split might follow: the class of every sample, or a group of
        :func:`image_properties`. Labels of any type.

    experts : array-like of shape (n_samples,) or (n_samples, k)
        The expert that every sample is routed to, labels of any type. If several are selected,
        the first one counts.

    n_permutations : int, default=1000
        How often the groups are shuffled among the samples. The smallest possible p-value
        is `1 / (1 + n_permutations)`.

    random_state : int, RandomState instance or None, default=None
        Source of the shuffles. Pass an int for the same result in every call.

    Returns
    -------
    split : SplitInformation
        With `information`; `null_mean`, `null_low` and `null_high`; `p_value`;
        `expert_entropy`; and `share`, the part of it that the groups explain.

    Raises
    ------
    ValueError
        If the lengths differ or there are no samples.

    See Also
    --------
    image_properties : Groups of images.
    specialization_report : Does this for class and properties at once.
    dispatch_entropy_test : A test of the dispatch entropy, the entropy that remains.

    Notes
    -----
    With the same `experts`, the shares of several properties can be compared. The information of a
    property with `n` groups of equal size is `log(n)` at most, so with more than `n` experts its
    share stays below 1.

    Properties are correlated: where dark images belong to one class, a split by brightness has
    mutual information with the class, too. The largest share describes a split best; it need not
    be its cause.

    Examples
    --------
    >>> from sklearn_moe.metrics import split_information
    >>> colors = ["red", "blue"] * 20
    >>> sizes = ["small", "small", "large", "large"] * 10
    >>> experts = [0, 1] * 20
    >>> by_color = split_information(colors, experts, random_state=0)
    >>> round(by_color.information, 4), by_color.share, by_color.p_value < 0.01  # log(2)
    (0.6931, 1.0, True)
    >>> by_size = split_information(sizes, experts, random_state=0)
    >>> by_size.information, by_size.p_value
    (0.0, 1.0)
    """
    check_same_length(groups=groups, experts=experts)
    first = check_labels(experts)[:, 0]
    of_groups = _label_entropy(check_column(groups, "groups"), "groups")
    of_experts = _label_entropy(first, "experts")
    test = dispatch_entropy_test(
        groups, first, n_permutations=n_permutations, n_bootstraps=1, random_state=random_state
    )
    # A shuffle keeps the entropy of the groups: only the dispatch entropy varies.
    return SplitInformation(
        information=max(0.0, of_groups - test.entropy),
        null_mean=max(0.0, of_groups - test.null_mean),
        null_low=max(0.0, of_groups - test.null_high),
        null_high=max(0.0, of_groups - test.null_low),
        p_value=test.p_value,
        expert_entropy=of_experts,
    )


def _label_entropy(labels, name):
    return float(entropy(np.bincount(encode(labels, name)[1])))


def above_null(split, level=0.05):
    """Return the names of the properties that a split follows beyond chance, largest share first.

    `split` maps names to `SplitInformation`. If the split follows none of them, the probability
    of returning any name is `level` at most, for any number of names (Holm's method).
    """
    found = []
    for rank, name in enumerate(sorted(split, key=lambda name: split[name].p_value)):
        if split[name].p_value > level / (len(split) - rank):
            break
        found.append(name)
    return tuple(sorted(found, key=lambda name: -split[name].share))


@validated("X", n_bins=[Count(2)])
def image_properties(X: ArrayLike, *, n_bins: int = 10) -> dict[str, np.ndarray]:
    """Group images by simple properties: brightness, contrast, edges and color.

    Each property is a number per image, and its groups are the ranges between quantiles. They have
    equal size; a value that many images have, or one of few distinct values, is a group of its own.

    - "brightness": the mean over channels and pixels;
    - "contrast": the standard deviation, over the pixels, of the mean over channels;
    - "edges (upright - level)": the mean change between neighboring pixels of a row, minus that of
      a column, divided by their sum: from -1 for horizontal to 1 for vertical stripes;
    - "color (red - blue)": the mean of red minus that of blue;
    - "color (green - magenta)": the mean of green minus that of red and blue.

    Only images with 3 channels have the two properties of color.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_channels, height, width)
        The images, uint8 or floats in any unit.

    n_bins : int, default=10
        Number of groups of a property; fewer where there are fewer distinct values.

    Returns
    -------
    properties : dict of str to ndarray of int of shape (n_samples,)
        For the name of each property, the group of every image, from 0 on.

    Raises
    ------
    ValueError
        If X has another number of axes, no pixels, or entries that are not finite.

    See Also
    --------
    split_information : The mutual information of such groups and the expert.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_moe.metrics import image_properties
    >>> black, white = np.zeros((3, 8, 8)), np.ones((3, 8, 8))
    >>> properties = image_properties([black, white, black, white], n_bins=2)
    >>> list(properties)[:2]
    ['brightness', 'contrast']
    >>> properties["brightness"]
    array([0, 1, 0, 1])
    """
    X = check_named(X, "X", dtype="numeric", ensure_2d=False, allow_nd=True)
    if X.ndim != 4 or not min(X.shape):
        raise ValueError(
            "X must be images of shape (n_samples, n_channels, height, width), each at least 1, "
            f"got {X.shape}. Pass flat images as X.reshape(len(X), n_channels, height, width)."
        )
    return {name: quantile_bins(values, n_bins) for name, values in _measure(X).items()}


def quantile_bins(values, n_bins):
    """Return for each value the index of its range, from 0 on.

    Where there are few distinct values, each is a range of its own. Otherwise those that are more
    than `1 / n_bins` of all are, and the rest is parted at its quantiles: so rare values are not
    lost in the range of a frequent one.
    """
    distinct, index, counts = np.unique(values, return_inverse=True, return_counts=True)
    if len(distinct) <= n_bins:
        return index
    is_frequent = counts * n_bins > len(index)
    last = np.cumsum(np.where(is_frequent, 0, counts)) - 1  # place of a value among the rest
    n_ranges = n_bins - is_frequent.sum()
    ranges = np.minimum(last * n_ranges // max(last[-1], 1), n_ranges - 1)
    ranges[is_frequent] = n_bins + np.flatnonzero(is_frequent)
    return np.cumsum(np.diff(ranges, prepend=ranges[:1]) != 0)[index]


def column_groups(X, n_bins):
    """Yield the name of each column of a table, and the group of every sample, (n_samples,).

    Groups are the ranges between quantiles of numbers, categories, and -1 where a number is
    missing.
    """
    for name, values, is_category in read_columns(X):
        groups = np.where(np.isnan(values), -1, values)
        if not is_category and (known := ~np.isnan(values)).any():
            groups[known] = quantile_bins(values[known], n_bins)
        yield name, groups.astype(int)


def _measure(X):
    """Return the value of every property of every image."""
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
    """Return the mean absolute difference of neighbors along an axis, (n_samples,)."""
    steps = np.abs(np.diff(grey, axis=axis))
    return steps.mean(axis=(1, 2)) if steps.size else np.zeros(len(grey))
