"""Clusters and experts: the table of the two, and the numbers that summarize it."""

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import rel_entr
from sklearn.utils._param_validation import validate_params

from .._validation import Count, check_column, check_named, check_same_length, name_in_errors


def validated(arrays, **others):
    """Return a decorator that checks the parameters of a public function.

    `arrays` are names separated by spaces; the constraints of `others` are those of scikit-learn.
    """
    constraints = {name: ["array-like"] for name in arrays.split()}
    return validate_params(constraints | others, prefer_skip_nested_validation=True)


def check_labels(experts):
    """Return `experts` as an array of shape (n_samples, k)."""
    experts = check_named(experts, "experts", dtype=None, ensure_2d=False)
    if experts.dtype.kind == "f" and (experts % 1).any():
        raise ValueError(
            f"experts must be labels, got the number {experts[experts % 1 > 0][0]:.4g}. Pass the "
            "experts that are selected, as MoEClassifier.apply returns them, in place of their "
            "gate values."
        )
    return experts.reshape(len(experts), -1)


def encode(labels, name):
    """Return the distinct labels, and for each entry its index among them."""
    # Labels of several types, or missing ones, have no order.
    with name_in_errors(name):
        distinct, indices = np.unique(labels, return_inverse=True)
    return distinct, indices.reshape(labels.shape)


def contingency(clusters, experts, n_experts):
    """Count the samples of each cluster that are routed to each expert.

    `experts` are indices of shape (n_samples, k), each of which counts 1 / k. The result
    has shape (n_clusters, n_experts) and is an int array if every entry is a count.
    """
    check_same_length(clusters=clusters, experts=experts)
    labels, rows = encode(check_column(clusters, "clusters"), "clusters")
    k = experts.shape[1]
    cells = rows[:, np.newaxis] * n_experts + experts
    table = np.bincount(cells.ravel(), minlength=labels.size * n_experts)
    table = table.reshape(labels.size, n_experts)
    # Counts of one expert per sample stay integers.
    return table if k == 1 else table / k


@validated("clusters experts")
def dispatch_entropy(clusters: ArrayLike, experts: ArrayLike) -> float:
    """Compute the entropy of the cluster given the expert.

    With `n_m` of the `n` samples routed to expert `m`, a share `p_km` of them from
    cluster `k`, the dispatch entropy [1]_ is::

        H(cluster | expert) = -sum_m n_m / n * sum_k p_km * log(p_km)

    It is 0 if every expert receives samples of one cluster only, even if several experts share
    a cluster, and at most the entropy of the clusters, `log(K)` for K clusters of the same size,
    which it reaches if experts and clusters are independent.

    Parameters
    ----------
    clusters : array-like of shape (n_samples,)
        The true cluster of every sample, labels of any type.

    experts : array-like of shape (n_samples,) or (n_samples, k)
        The expert that every sample is routed to, labels of any type. If several are selected,
        each of the k experts counts 1 / k.

    Returns
    -------
    entropy : float
        The dispatch entropy in nats (natural logarithm).

    Raises
    ------
    ValueError
        If the lengths differ, there are no samples, or `experts` are numbers that are no integers:
        gate values are no labels.

    See Also
    --------
    routing_matrix : The counts behind the entropy.
    sklearn.metrics.homogeneity_score : 1 minus the share of it in the entropy of the clusters.

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
    labels, indices = encode(check_labels(experts), "experts")
    table = contingency(clusters, indices, labels.size)
    joint = table / table.sum()
    # 0 - x, because -x would turn a perfect 0.0 into -0.0.
    return float(0.0 - rel_entr(joint, joint.sum(axis=0)).sum())


@validated("clusters experts", n_experts=[Count(1), None])
def routing_matrix(
    clusters: ArrayLike, experts: ArrayLike, *, n_experts: int | None = None
) -> np.ndarray:
    """Count how many samples of every cluster are routed to each expert.

    It reads like :func:`sklearn.metrics.confusion_matrix`: the true clusters are the
    rows, the experts are the columns.

    Parameters
    ----------
    clusters : array-like of shape (n_samples,)
        The true cluster of every sample, labels of any type.

    experts : array-like of int of shape (n_samples,) or (n_samples, k)
        The index of the expert that every sample is routed to. If several are selected, each
        of the k experts counts 1 / k.

    n_experts : int, default=None
        The number of columns. If None, one more than the largest index in `experts`;
        pass the number of experts of the model to see those that receive no sample.

    Returns
    -------
    matrix : ndarray of shape (n_clusters, n_experts)
        Row i stands for the i-th of the sorted distinct labels of `clusters`, column j
        for expert j. The entries are int for one expert per sample, otherwise float.

    Raises
    ------
    ValueError
        If the lengths differ, there are no samples, or `experts` are not indices from 0 to
        `n_experts - 1`.

    See Also
    --------
    dispatch_entropy : The matrix summarized in one number.

    Examples
    --------
    >>> from sklearn_moe.metrics import routing_matrix
    >>> clusters = ["cat", "cat", "dog", "dog"]
    >>> routing_matrix(clusters, [0, 0, 0, 1], n_experts=3)
    array([[2, 0, 0],
           [1, 1, 0]])
    """
    experts = check_labels(experts)
    if experts.dtype.kind not in "iu":
        raise ValueError(
            f"experts must be integer indices, got dtype {experts.dtype}. Pass the indices "
            "of the selected experts, such as those returned by MoEClassifier.apply."
        )
    if experts.min() < 0:
        raise ValueError(
            f"experts must be indices from 0 on, got {experts.min()}. Leave such samples out."
        )
    least = int(experts.max()) + 1
    n_experts = least if n_experts is None else n_experts
    if n_experts < least:
        raise ValueError(
            f"experts must be smaller than n_experts={n_experts}, got {least - 1}. "
            f"Use n_experts >= {least} or None."
        )
    return contingency(clusters, experts.astype(np.intp, copy=False), n_experts)
