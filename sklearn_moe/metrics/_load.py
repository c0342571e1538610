"""How even the load of the experts is, and how stable the routes are."""

from numbers import Real

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import linear_sum_assignment
from sklearn.utils._param_validation import Interval

from .._validation import Count, check_same_length
from ._routing import (
    check_indices,
    check_labels,
    check_weights,
    contingency,
    encode,
    label_table,
    validated,
)


@validated("experts", "sample_weight", n_experts=[Count(1), None])
def expert_load(
    experts: ArrayLike, *, n_experts: int | None = None, sample_weight: ArrayLike | None = None
) -> np.ndarray:
    """Compute the share of the samples that are routed to each expert.

    Parameters
    ----------
    experts : array-like of int of shape (n_samples,) or (n_samples, k)
        The index of the expert that every sample is routed to. If several are selected, each
        of the k experts counts 1 / k.

    n_experts : int, default=None
        The number of experts. If None, one more than the largest index in `experts`.

    sample_weight : array-like of shape (n_samples,), default=None
        The weight of every sample, non-negative. If None, all weigh the same.

    Returns
    -------
    load : ndarray of shape (n_experts,)
        The share of every expert; the shares sum to 1.

    Raises
    ------
    ValueError
        If the lengths differ, there are no samples, `experts` are not indices from 0 to
        `n_experts - 1` or the weights are not valid.

    See Also
    --------
    routing_matrix : The same for each cluster separately.

    Examples
    --------
    >>> from sklearn_moe.metrics import expert_load
    >>> expert_load([0, 0, 0, 1], n_experts=3)
    array([0.75, 0.25, 0.  ])
    >>> expert_load([[0, 1], [0, 2]])
    array([0.5 , 0.25, 0.25])
    """
    experts, n_experts = check_indices(experts, n_experts)
    # All samples are one cluster.
    one_cluster = np.zeros(len(experts), dtype=np.intp)
    weights = contingency(one_cluster, experts, n_experts, sample_weight)[0]
    return weights / weights.sum()


def _check_load(load):
    """Return `load` as shares that sum to 1."""
    advice = " Pass the shares or counts of samples per expert, such as those of expert_load."
    load = check_weights(load, "load", advice)
    return load / load.sum()


@validated("load")
def load_cv(load: ArrayLike) -> float:
    """Compute the coefficient of variation of the load: standard deviation over mean.

    Parameters
    ----------
    load : array-like of shape (n_experts,)
        The share (or number) of samples of every expert, see :func:`expert_load`.

    Returns
    -------
    cv : float
        0 if all experts receive equally many samples, `sqrt(n_experts - 1)` if one expert
        receives all. If routes are random, its square is `(n_experts - 1) / n_samples` on average.

    Raises
    ------
    ValueError
        If `load` is empty, has negative entries or none that is positive.

    See Also
    --------
    max_violation : By how much the largest load exceeds the mean one.

    Examples
    --------
    >>> from sklearn_moe.metrics import load_cv
    >>> load_cv([0.25, 0.25, 0.25, 0.25])
    0.0
    >>> load_cv([1, 0])
    1.0
    """
    load = _check_load(load)
    return float(load.std() / load.mean())


@validated("load")
def max_violation(load: ArrayLike) -> float:
    """Compute by how much the largest load exceeds the mean one: max / mean - 1.

    MaxVio of [1]_: what the most used expert has to compute in addition, for others wait for it.

    Parameters
    ----------
    load : array-like of shape (n_experts,)
        The share (or number) of samples of every expert, see :func:`expert_load`.

    Returns
    -------
    violation : float
        0 if all experts receive equally many samples, `n_experts - 1` if one expert receives all.

    Raises
    ------
    ValueError
        If `load` is empty, has negative entries or none that is positive.

    See Also
    --------
    load_cv : Standard deviation over mean of the load.

    References
    ----------
    .. [1] L. Wang et al., "Auxiliary-Loss-Free Load Balancing Strategy for Mixture-of-Experts",
       2024 (arXiv 2408.15664), section 2.2.

    Examples
    --------
    >>> from sklearn_moe.metrics import max_violation
    >>> max_violation([0.5, 0.25, 0.25, 0])
    1.0
    """
    load = _check_load(load)
    return float(load.max() / load.mean() - 1)


@validated("load", threshold=[Interval(Real, 0, 1, closed="left")])
def dead_experts(load: ArrayLike, *, threshold: float = 0.0) -> np.ndarray:
    """Find the experts that receive no sample, or hardly any.

    Parameters
    ----------
    load : array-like of shape (n_experts,)
        The share (or number) of samples of every expert, see :func:`expert_load`.

    threshold : float, default=0.0
        The largest share of the samples, from 0 to 1, with which an expert counts as dead.

    Returns
    -------
    indices : ndarray of shape (n_dead,), int
        The experts whose share is not above `threshold`, in increasing order.

    Raises
    ------
    ValueError
        If `load` is empty, has negative entries or none that is positive.

    See Also
    --------
    expert_load : The load; pass `n_experts`, otherwise dead experts at the end are missed.

    Examples
    --------
    >>> from sklearn_moe.metrics import dead_experts, expert_load
    >>> load = expert_load([0, 0, 0, 2], n_experts=4)
    >>> dead_experts(load)
    array([1, 3])
    >>> dead_experts(load, threshold=0.25)
    array([1, 2, 3])
    """
    return np.flatnonzero(_check_load(load) <= threshold)


@validated("first second", "sample_weight")
def routing_agreement(
    first: ArrayLike, second: ArrayLike, *, sample_weight: ArrayLike | None = None
) -> float:
    """Compute the share of samples that two routings send to the same expert.

    The experts of two models are numbered in different orders. So the experts of one are matched
    one-to-one to those of the other such that the agreement is largest (Hungarian method).

    Parameters
    ----------
    first : array-like of shape (n_samples,) or (n_samples, k)
        The expert that every sample is routed to by one model, labels of any type. If several are
        selected, the first one counts.

    second : array-like of shape (n_samples,) or (n_samples, k)
        The same for another model, a later epoch or another seed, on the same samples. The
        number of experts may differ; samples of experts without a partner do not agree.

    sample_weight : array-like of shape (n_samples,), default=None
        The weight of every sample, non-negative. If None, all weigh the same.

    Returns
    -------
    agreement : float
        1 if the routings are the same up to the numbering of the experts. It does not go down
        to 0: the best matching of two random routings still agrees on about one sample in
        `n_experts`.

    Raises
    ------
    ValueError
        If the lengths differ, there are no samples or the weights are not valid.

    See Also
    --------
    sklearn.metrics.adjusted_rand_score : Corrected for chance, without a matching.
    sklearn_moe.callbacks.RoutingTrace : When each sample changed its expert for the last time.

    Examples
    --------
    >>> from sklearn_moe.metrics import routing_agreement
    >>> routing_agreement([0, 0, 1, 1], [7, 7, 3, 3])
    1.0
    >>> routing_agreement([0, 0, 1, 1], [7, 7, 3, 4])
    0.75
    """
    check_same_length(first=first, second=second)
    rows = encode(check_labels(first, "first")[:, 0], "first")[1]
    columns = encode(check_labels(second, "second")[:, 0], "second")[1]
    table = label_table(rows, columns, sample_weight)
    # The numbers of the experts of two models have nothing in common.
    matched = table[linear_sum_assignment(table, maximize=True)].sum()
    return float(matched / table.sum())
