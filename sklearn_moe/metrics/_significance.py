"""Whether a dispatch entropy is smaller than by chance, and its confidence interval."""

from dataclasses import dataclass
from numbers import Real

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import entropy, random_table
from sklearn.utils import check_random_state, gen_batches
from sklearn.utils._param_validation import Interval

from .._validation import Count
from ._routing import check_labels, conditional_entropy, contingency, encode, validated

# It bounds the memory of the drawn tables, to 32 MiB.
_CELLS_AT_ONCE = 2**22
# Permuted tables have equal entropy up to rounding.
_ROUNDING = 1e-12


@dataclass(frozen=True)
class DispatchEntropyTest:
    """Result of :func:`dispatch_entropy_test`.

    Attributes
    ----------
    entropy : float
        The dispatch entropy.

    null_mean, null_low, null_high : float
        Mean and interval of the entropy if clusters and experts are independent.

    p_value : float
        The probability that chance alone gives an entropy as small.

    low, high : float
        Bootstrap confidence interval of the entropy.

    confidence_level : float
        Level of both intervals.
    """

    entropy: float
    null_mean: float
    null_low: float
    null_high: float
    p_value: float
    low: float
    high: float
    confidence_level: float


@validated(
    "clusters experts",
    n_permutations=[Count(1)],
    n_bootstraps=[Count(1)],
    confidence_level=[Interval(Real, 0, 1, closed="neither")],
    random_state=["random_state"],
)
def dispatch_entropy_test(
    clusters: ArrayLike,
    experts: ArrayLike,
    *,
    n_permutations: int = 1000,
    n_bootstraps: int = 1000,
    confidence_level: float = 0.95,
    random_state: int | np.random.RandomState | None = None,
) -> DispatchEntropyTest:
    """Test whether the dispatch entropy is smaller than if experts and clusters are independent.

    Parameters
    ----------
    clusters : array-like of shape (n_samples,)
        The true cluster of every sample, labels of any type.

    experts : array-like of shape (n_samples,) or (n_samples, k)
        The expert that every sample is routed to, labels of any type. If several are selected,
        each of the k experts counts 1 / k.

    n_permutations : int, default=1000
        How often the clusters are shuffled among the samples. The smallest possible p-value
        is `1 / (1 + n_permutations)`.

    n_bootstraps : int, default=1000
        How often the samples are drawn with replacement.

    confidence_level : float, default=0.95
        Level of the interval of the null and of the confidence interval.

    random_state : int, RandomState instance or None, default=None
        Source of the shuffles and draws. Pass an int for the same result in every call.

    Returns
    -------
    test : DispatchEntropyTest
        With `entropy`; `null_mean`, `null_low` and `null_high`; `p_value`; and the confidence
        interval from `low` to `high`.

    Raises
    ------
    ValueError
        If the lengths differ or there are no samples.

    See Also
    --------
    dispatch_entropy : The entropy itself.

    Notes
    -----
    The entropy of a finite sample is too small on average, by about
    `n_experts * (n_clusters - 1) / (2 * n_samples)`: with few samples it indicates
    specialization where there is none. Compare it with the mean of the null, which has the same
    bias, rather than with the entropy of the clusters. The confidence interval is that of the
    basic bootstrap [1]_, which corrects the bias and may therefore lie above the entropy. It
    is rough where an expert has few samples, and a single point if the entropy is exactly 0.

    A shuffle keeps the size of every cluster and the load of every expert. So dead experts, or
    a router that sends all samples to one expert, have the same effect on the null as on the
    entropy: only the *match* of experts and clusters can make the p-value small.

    References
    ----------
    .. [1] A. C. Davison, D. V. Hinkley, "Bootstrap Methods and their Application", 1997.

    Examples
    --------
    >>> from sklearn_moe.metrics import dispatch_entropy_test
    >>> clusters = ["cat", "cat", "cat", "dog", "dog", "dog"] * 5
    >>> test = dispatch_entropy_test(clusters, [0, 0, 0, 1, 2, 1] * 5, random_state=0)
    >>> test.entropy, test.p_value < 0.01
    (0.0, True)
    >>> dispatch_entropy_test(clusters, [0, 1, 2] * 10, random_state=0).p_value > 0.5
    True
    """
    rng = check_random_state(random_state)
    counts, shares = _sample_table(clusters, experts)
    value = float(conditional_entropy(counts @ shares))
    null = _permute(counts, shares, conditional_entropy, n_permutations, rng)
    boots = _bootstrap(counts, shares, n_bootstraps, rng)

    tails = np.array([1 - confidence_level, 1 + confidence_level]) / 2
    null_low, null_high = np.quantile(null, tails)
    # Basic bootstrap: the draws deviate from the sample as the sample deviates from the truth.
    high, low = 2 * value - np.quantile(boots, tails)
    low, high = np.clip([low, high], 0, entropy(counts.sum(axis=1)))
    return DispatchEntropyTest(
        entropy=value,
        null_mean=float(null.mean()),
        null_low=float(null_low),
        null_high=float(null_high),
        # The sample itself is one of the possible tables.
        p_value=float((1 + np.sum(null <= value + _ROUNDING)) / (1 + n_permutations)),
        low=float(low),
        high=float(high),
        confidence_level=confidence_level,
    )


def _sample_table(clusters, experts):
    """Count the samples of every cluster that are routed to the same set of experts.

    The k experts of a sample belong together. So the samples are counted by sets of experts,
    (n_clusters, n_sets), and the sets are shuffled and drawn as a whole. The product of counts
    and `shares`, (n_sets, n_experts), is the table of clusters and experts.
    """
    labels, indices = encode(check_labels(experts), "experts")
    sets, columns = np.unique(np.sort(indices, axis=1), axis=0, return_inverse=True)
    counts = contingency(clusters, columns.reshape(-1, 1), len(sets))
    shares = np.zeros((len(sets), labels.size))
    np.add.at(shares, (np.arange(len(sets))[:, np.newaxis], sets), 1 / sets.shape[1])
    return counts, shares


def _permute(counts, shares, statistic, size, rng):
    """Return the statistic of `size` random tables with the row and column sums of `counts`."""
    # There is nothing to shuffle, and SciPy would draw negative counts.
    if 1 in counts.shape:
        return np.full(size, statistic(counts @ shares))
    tables = random_table(counts.sum(axis=1), counts.sum(axis=0))

    def draw(size):
        return statistic(tables.rvs(size, random_state=rng) @ shares)

    return _repeat(draw, size, counts.size)


def _bootstrap(counts, shares, size, rng):
    """Return the dispatch entropy of `size` draws, with replacement, of as many samples."""
    n_samples = counts.sum()

    def draw(size):
        drawn = rng.multinomial(n_samples, counts.ravel() / n_samples, size)
        return conditional_entropy(drawn.reshape(size, *counts.shape) @ shares)

    return _repeat(draw, size, counts.size)


def _repeat(draw, size, n_cells):
    batches = gen_batches(size, max(1, _CELLS_AT_ONCE // n_cells))
    return np.concatenate([draw(batch.stop - batch.start) for batch in batches])
