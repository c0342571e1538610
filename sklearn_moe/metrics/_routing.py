"""Which expert answers which cluster: the matrix, and its entropy."""

import numpy as np
from scipy.stats import entropy
from sklearn.utils._param_validation import StrOptions, validate_params

from .._validation import Count
from ._contingency import check_indices, conditional_entropy, contingency, label_table

__all__ = ["dispatch_entropy", "routing_matrix"]


@validate_params(
    {
        "clusters": ["array-like"],
        "experts": ["array-like"],
        "normalize": ["boolean"],
        "sample_weight": ["array-like", None],
    },
    prefer_skip_nested_validation=True,
)
def dispatch_entropy(clusters, experts, *, normalize=False, sample_weight=None):
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

    normalize : bool, default=False
        Whether to divide by the entropy of the clusters: 0 is perfect, 1 is independent,
        whatever the number of clusters. It is 0 if there is only one cluster.

    sample_weight : array-like of shape (n_samples,), default=None
        The weight of every sample, non-negative. If None, all weigh the same.

    Returns
    -------
    entropy : float
        The dispatch entropy in nats (natural logarithm), or from 0 to 1 if normalized.

    Raises
    ------
    ValueError
        If the lengths differ, there are no samples or the weights are not valid.

    See Also
    --------
    routing_matrix : The counts behind the entropy.
    dispatch_entropy_test : Whether it is smaller than chance explains.
    mutual_information : What remains of the entropy of the clusters.

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
    >>> dispatch_entropy(clusters, [0, 1, 0, 1], normalize=True)
    1.0
    """
    table = label_table(clusters, experts, sample_weight)
    value = float(conditional_entropy(table))
    if not normalize or value == 0:
        return value
    return min(1.0, value / float(entropy(table.sum(axis=1))))


@validate_params(
    {
        "clusters": ["array-like"],
        "experts": ["array-like"],
        "n_experts": [Count(1), None],
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
    experts, n_experts = check_indices(experts, n_experts)
    matrix = contingency(clusters, experts, n_experts, sample_weight)
    if normalize is None:
        return matrix
    axis = {"true": 1, "pred": 0, "all": None}[normalize]
    total = matrix.sum(axis=axis, keepdims=True)
    return matrix / np.where(total > 0, total, 1)
