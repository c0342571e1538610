"""How experts share the samples, and how well that follows known clusters."""

from numbers import Integral

import numpy as np
from sklearn.utils import check_array, check_consistent_length, column_or_1d
from sklearn.utils._param_validation import Interval, StrOptions, validate_params

__all__ = ["dispatch_entropy", "expert_load", "routing_matrix"]


def _check_labels(experts):
    """Return `experts` as an array of shape (n_samples, k)."""
    experts = check_array(experts, dtype=None, ensure_2d=False, input_name="experts")
    return experts.reshape(len(experts), -1)


def _check_indices(experts, n_experts):
    """Return `experts` as indices of shape (n_samples, k), and the number of experts."""
    experts = _check_labels(experts)
    if experts.dtype.kind not in "iu":
        raise ValueError(
            f"experts must be integer indices, got dtype {experts.dtype}. Pass the indices "
            "of the experts that answer, such as those returned by MoEClassifier.apply."
        )
    low, high = experts.min(), experts.max()
    if low < 0:
        raise ValueError(f"experts must be indices from 0 on, got {low}. Leave such samples out.")
    if n_experts is None:
        n_experts = int(high) + 1
    elif high >= n_experts:
        raise ValueError(
            f"experts must be smaller than n_experts={n_experts}, got {high}. "
            f"Use n_experts >= {high + 1} or None."
        )
    return experts.astype(np.intp, copy=False), n_experts


def _check_weights(sample_weight):
    """Return `sample_weight` as non-negative floats, not all zero."""
    sample_weight = column_or_1d(
        check_array(sample_weight, dtype=np.float64, ensure_2d=False, input_name="sample_weight")
    )
    if sample_weight.min() < 0 or not sample_weight.any():
        raise ValueError(
            "sample_weight must be non-negative with at least one positive entry, got "
            f"values from {sample_weight.min():g} to {sample_weight.max():g}."
        )
    return sample_weight


def _contingency(clusters, experts, n_experts, sample_weight):
    """Sum the weights of all samples of a cluster that an expert answers.

    `experts` are indices of shape (n_samples, k), each of which counts 1 / k. The result
    has shape (n_clusters, n_experts) and is an int array if every entry is a count.
    """
    check_consistent_length(clusters, experts, sample_weight)
    labels, rows = np.unique(column_or_1d(clusters), return_inverse=True)
    k = experts.shape[1]
    if sample_weight is not None:
        sample_weight = np.repeat(_check_weights(sample_weight), k)
    cells = rows[:, np.newaxis] * n_experts + experts
    table = np.bincount(cells.ravel(), sample_weight, minlength=labels.size * n_experts)
    table = table.reshape(labels.size, n_experts)
    return table if k == 1 else table / k


@validate_params(
    {"clusters": ["array-like"], "experts": ["array-like"], "sample_weight": ["array-like", None]},
    prefer_skip_nested_validation=True,
)
def dispatch_entropy(clusters, experts, *, sample_weight=None):
    """Compute the entropy of the cluster given the expert that answers.

    With `n_m` of the `n` samples answered by expert `m`, a share `p_km` of them from
    cluster `k`, the dispatch entropy [1]_ is::

        H(cluster | expert) = -sum_m n_m / n * sum_k p_km * log(p_km)

    It is 0 if every expert answers samples of one cluster only, several experts per
    cluster being welcome, and at most the entropy of the clusters, `log(K)` for K
    clusters of the same size, which it reaches if experts and clusters are independent.

    Parameters
    ----------
    clusters : array-like of shape (n_samples,)
        The true cluster of every sample, labels of any type.

    experts : array-like of shape (n_samples,) or (n_samples, k)
        The expert that answers every sample, labels of any type. If k experts answer,
        each of them counts 1 / k.

    sample_weight : array-like of shape (n_samples,), default=None
        The weight of every sample, non-negative. If None, all weigh the same.

    Returns
    -------
    entropy : float
        The dispatch entropy in nats (natural logarithm).

    Raises
    ------
    ValueError
        If the lengths differ, there are no samples or the weights are not valid.

    See Also
    --------
    routing_matrix : The counts behind the entropy.

    References
    ----------
    .. [1] Z. Chen, Y. Deng, Y. Wu, Q. Gu, Y. Li, "Towards Understanding the
       Mixture-of-Experts Layer in Deep Learning", NeurIPS 2022.

    Examples
    --------
    >>> from sklearn_moe.metrics import dispatch_entropy
    >>> clusters = ["cat", "cat", "dog", "dog"]
    >>> dispatch_entropy(clusters, [3, 1, 0, 0])
    0.0
    >>> round(dispatch_entropy(clusters, [0, 1, 0, 1]), 4)  # log(2)
    0.6931
    """
    experts = _check_labels(experts)
    labels, indices = np.unique(experts, return_inverse=True)
    weights = _contingency(clusters, indices.reshape(experts.shape), labels.size, sample_weight)
    joint = weights / weights.sum()
    load = joint.sum(axis=0)
    cluster, expert = np.nonzero(joint)  # 0 * log(0) = 0
    share = joint[cluster, expert]
    return float(np.sum(share * np.log(load[expert] / share)))


@validate_params(
    {
        "clusters": ["array-like"],
        "experts": ["array-like"],
        "n_experts": [Interval(Integral, 1, None, closed="left"), None],
        "normalize": [StrOptions({"true", "pred", "all"}), None],
        "sample_weight": ["array-like", None],
    },
    prefer_skip_nested_validation=True,
)
def routing_matrix(clusters, experts, *, n_experts=None, normalize=None, sample_weight=None):
    """Count how many samples of every cluster each expert answers.

    It reads like :func:`sklearn.metrics.confusion_matrix`: the true clusters are the
    rows and the experts, the choice of the router, are the columns.

    Parameters
    ----------
    clusters : array-like of shape (n_samples,)
        The true cluster of every sample, labels of any type.

    experts : array-like of int of shape (n_samples,) or (n_samples, k)
        The index of the expert that answers every sample. If k experts answer, each of
        them counts 1 / k.

    n_experts : int, default=None
        The number of columns. If None, one more than the largest index in `experts`;
        pass the number of experts of the model to see those that answer no sample.

    normalize : {"true", "pred", "all"}, default=None
        Whether to divide by the sum over each true cluster (rows), over each expert
        (columns) or over all samples. A row or column without samples stays 0. If None,
        the counts are not divided.

    sample_weight : array-like of shape (n_samples,), default=None
        The weight of every sample, non-negative. If None, all weigh 1.

    Returns
    -------
    matrix : ndarray of shape (n_clusters, n_experts)
        Row i stands for the i-th of the sorted distinct labels of `clusters`, column j
        for expert j. The entries are int if they are counts: without `sample_weight`
        and `normalize`, one expert per sample. Otherwise they are float.

    Raises
    ------
    ValueError
        If the lengths differ, there are no samples, `experts` are not indices from 0 to
        `n_experts - 1` or the weights are not valid.

    See Also
    --------
    dispatch_entropy : The matrix summarized in one number.
    expert_load : The share of samples of every expert, all clusters together.

    Examples
    --------
    >>> from sklearn_moe.metrics import routing_matrix
    >>> clusters = ["cat", "cat", "dog", "dog"]
    >>> routing_matrix(clusters, [0, 0, 0, 1], n_experts=3)
    array([[2, 0, 0],
           [1, 1, 0]])
    >>> routing_matrix(clusters, [0, 0, 0, 1], normalize="true")
    array([[1. , 0. ],
           [0.5, 0.5]])
    """
    experts, n_experts = _check_indices(experts, n_experts)
    matrix = _contingency(clusters, experts, n_experts, sample_weight)
    if normalize is None:
        return matrix
    axis = {"true": 1, "pred": 0, "all": None}[normalize]
    total = matrix.sum(axis=axis, keepdims=True)
    return matrix / np.where(total > 0, total, 1)


@validate_params(
    {
        "experts": ["array-like"],
        "n_experts": [Interval(Integral, 1, None, closed="left"), None],
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
    experts, n_experts = _check_indices(experts, n_experts)
    one_cluster = np.zeros(len(experts), dtype=np.intp)
    weights = _contingency(one_cluster, experts, n_experts, sample_weight)[0]
    return weights / weights.sum()
