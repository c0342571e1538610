"""How evenly the experts are used."""

from numbers import Real

import numpy as np
from scipy.stats import entropy
from sklearn.utils._param_validation import Interval, validate_params

from .._validation import Count, check_column, check_named
from ._contingency import check_indices, contingency

__all__ = ["dead_experts", "expert_load", "load_cv", "usage_entropy"]


def _check_load(load):
    """Return `load` as shares that sum to 1."""
    load = check_column(check_named(load, "load", dtype=np.float64, ensure_2d=False), "load")
    if load.min() < 0 or not load.any():
        raise ValueError(
            "load must be non-negative with at least one positive entry, got values from "
            f"{load.min():g} to {load.max():g}. Pass the shares or counts of samples per expert, "
            "such as those returned by expert_load."
        )
    return load / load.sum()


@validate_params(
    {
        "experts": ["array-like"],
        "n_experts": [Count(1), None],
        "sample_weight": ["array-like", None],
    },
    prefer_skip_nested_validation=True,
)
def expert_load(experts, *, n_experts=None, sample_weight=None):
    """Compute the share of the samples that each expert answers.

    Parameters
    ----------
    experts : array-like of int of shape (n_samples,) or (n_samples, k)
        The index of the expert that answers every sample. If k experts answer, each of
        them counts 1 / k.

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
    routing_matrix : The same, cluster by cluster.

    Examples
    --------
    >>> from sklearn_moe.metrics import expert_load
    >>> expert_load([0, 0, 0, 1], n_experts=3)
    array([0.75, 0.25, 0.  ])
    >>> expert_load([[0, 1], [0, 2]])
    array([0.5 , 0.25, 0.25])
    """
    experts, n_experts = check_indices(experts, n_experts)
    one_cluster = np.zeros(len(experts), dtype=np.intp)
    weights = contingency(one_cluster, experts, n_experts, sample_weight)[0]
    return weights / weights.sum()


@validate_params({"load": ["array-like"]}, prefer_skip_nested_validation=True)
def load_cv(load):
    """Compute the coefficient of variation of the load: standard deviation over mean.

    Parameters
    ----------
    load : array-like of shape (n_experts,)
        The share (or number) of samples of every expert, see :func:`expert_load`.

    Returns
    -------
    cv : float
        0 if all experts answer equally many samples, `sqrt(n_experts - 1)` if one expert
        answers all. If routes are drawn by lot, its square is `(n_experts - 1) / n_samples` on
        average.

    Raises
    ------
    ValueError
        If `load` is empty, has negative entries or none that is positive.

    See Also
    --------
    usage_entropy : The same question, answered in terms of information.

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


@validate_params(
    {"load": ["array-like"], "normalize": ["boolean"]}, prefer_skip_nested_validation=True
)
def usage_entropy(load, *, normalize=True):
    """Compute the entropy of the load.

    Parameters
    ----------
    load : array-like of shape (n_experts,)
        The share (or number) of samples of every expert, see :func:`expert_load`.

    normalize : bool, default=True
        Whether to divide by `log(n_experts)`, its largest value.

    Returns
    -------
    entropy : float
        In nats, or from 0 (one expert answers all) to 1 (all answer equally many) if
        normalized. A single expert is used evenly: its normalized entropy is 1.

    Raises
    ------
    ValueError
        If `load` is empty, has negative entries or none that is positive.

    See Also
    --------
    load_cv : Standard deviation over mean of the load.

    Examples
    --------
    >>> from sklearn_moe.metrics import usage_entropy
    >>> usage_entropy([0.5, 0.5, 0, 0])
    0.5
    >>> round(usage_entropy([0.5, 0.5, 0, 0], normalize=False), 4)  # log(2)
    0.6931
    """
    load = _check_load(load)
    value = float(entropy(load))
    if not normalize:
        return value
    return min(1.0, value / float(np.log(load.size))) if load.size > 1 else 1.0


@validate_params(
    {"load": ["array-like"], "threshold": [Interval(Real, 0, 1, closed="left")]},
    prefer_skip_nested_validation=True,
)
def dead_experts(load, *, threshold=0.0):
    """Find the experts that answer no sample, or hardly any.

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
    expert_load : The load; pass `n_experts`, or the last experts are missed if dead.

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
