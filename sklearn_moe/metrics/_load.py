"""How even the load of the experts is."""

import numpy as np
from numpy.typing import ArrayLike

from .._validation import Count
from ._routing import check_indices, check_weights, contingency, validated


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
def dead_experts(load: ArrayLike) -> np.ndarray:
    """Find the experts that receive no sample.

    Parameters
    ----------
    load : array-like of shape (n_experts,)
        The share (or number) of samples of every expert, see :func:`expert_load`.

    Returns
    -------
    indices : ndarray of shape (n_dead,), int
        Their places, in increasing order.

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
    """
    return np.flatnonzero(_check_load(load) == 0)
