"""What a split of the samples among experts follows, and whether that is more than chance."""

from dataclasses import dataclass

import numpy as np
from scipy.stats import entropy
from sklearn.utils import column_or_1d
from sklearn.utils._param_validation import validate_params

from .._validation import Count, check_same_length, naming
from ._contingency import check_labels
from ._significance import dispatch_entropy_test

__all__ = ["SplitInformation", "above_null", "split_information"]


@dataclass(frozen=True)
class SplitInformation:
    """Result of :func:`split_information`, entropies in nats.

    Attributes
    ----------
    information : float
        The :func:`mutual_information` of group and expert.

    null_mean, null_low, null_high : float
        Its mean and 95 % interval if experts had nothing to do with groups.

    p_value : float
        How often chance alone gives as much.

    expert_entropy : float
        The entropy of the experts, all that can be told about them.

    share : float
        How much of that the group tells, less what chance does: 0 by chance, 1 if the group decides
        who answers.
    """

    information: float
    null_mean: float
    null_low: float
    null_high: float
    p_value: float
    expert_entropy: float

    @property
    def share(self):
        room = self.expert_entropy - self.null_mean
        return (self.information - self.null_mean) / room if room > 1e-9 else 0.0


@validate_params(
    {
        "groups": ["array-like"],
        "experts": ["array-like"],
        "n_permutations": [Count(1)],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def split_information(groups, experts, *, n_permutations=1000, random_state=None):
    """Measure what a property of the samples tells about the expert that answers.

    It is the :func:`mutual_information` beside its null, the same after a shuffle: few samples and
    many groups look as if they told something.

    Parameters
    ----------
    groups : array-like of shape (n_samples,)
        What the split might follow: the class of every sample, or a group of
        :func:`picture_properties`. Labels of any type.

    experts : array-like of shape (n_samples,) or (n_samples, k)
        The expert that answers every sample, labels of any type. If several experts answer,
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
        `expert_entropy`; and `share`, what is told of all that there is to tell.

    Raises
    ------
    ValueError
        If the lengths differ or there are no samples.

    See Also
    --------
    picture_properties : Groups of pictures.
    specialization_report : Does this for class and properties at once.
    dispatch_entropy_test : The same of what is left unknown of the group.

    Notes
    -----
    With the same `experts`, the shares of several properties compare. A property in `n` groups of
    equal size tells `log(n)` at most, less than there is to tell if there are more experts.

    Properties go together: where dark pictures are of one class, a split by brightness tells the
    class, too. The largest share is the best name of a split, not its cause.

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
    of_groups, of_experts = (
        _entropy_of(labels, name) for labels, name in ((groups, "groups"), (first, "experts"))
    )
    test = dispatch_entropy_test(
        groups, first, n_permutations=n_permutations, n_bootstraps=1, random_state=random_state
    )
    # A shuffle changes no size: what is left unknown is all that varies.
    return SplitInformation(
        information=max(0.0, of_groups - test.entropy),
        null_mean=max(0.0, of_groups - test.null_mean),
        null_low=max(0.0, of_groups - test.null_high),
        null_high=max(0.0, of_groups - test.null_low),
        p_value=test.p_value,
        expert_entropy=of_experts,
    )


def above_null(split, level=0.05):
    """Return the names of what a split follows beyond chance, the largest share first.

    `split` maps names to `SplitInformation`. The chance to name anything where nothing is followed
    is `level` at most, however many names there are (Holm's method).
    """
    found = []
    for n_left, name in zip(
        range(len(split), 0, -1), sorted(split, key=lambda name: split[name].p_value), strict=True
    ):
        if split[name].p_value > level / n_left:
            break
        found.append(name)
    return tuple(sorted(found, key=lambda name: -split[name].share))


def _entropy_of(labels, name):
    with naming(name):
        return float(entropy(np.unique(column_or_1d(labels), return_counts=True)[1]))
