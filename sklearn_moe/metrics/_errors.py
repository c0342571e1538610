"""What every expert can do, cluster by cluster."""

import numpy as np
from sklearn.utils import column_or_1d
from sklearn.utils._param_validation import validate_params

from .._validation import check_named, check_same_length, naming
from ._worth import group_means, worth_of_proba

__all__ = ["expert_error_matrix", "mean_errors", "own_other_error"]


@validate_params(
    {
        "y": ["array-like"],
        "clusters": ["array-like"],
        "expert_proba": ["array-like"],
        "classes": ["array-like", None],
        "sample_weight": ["array-like", None],
    },
    prefer_skip_nested_validation=True,
)
def expert_error_matrix(y, clusters, expert_proba, classes=None, *, sample_weight=None):
    """Compute the error rate of every expert on every cluster, whoever the router chose.

    Parameters
    ----------
    y : array-like of shape (n_samples,) or (n_samples, n_labels)
        The true class labels; or several labels, as zeros and ones.

    clusters : array-like of shape (n_samples,)
        The true cluster of every sample, labels of any type.

    expert_proba : array-like of shape (n_samples, n_experts, n_classes)
        What every expert says, such as `MoEClassifier.expert_proba`.

    classes : array-like of shape (n_classes,), default=None
        The labels of the last axis of `expert_proba`, such as `MoEClassifier.classes_`. If
        None, the sorted distinct labels of `y`, which must then contain every class.

    sample_weight : array-like of shape (n_samples,), default=None
        The weight of every sample, non-negative. If None, all weigh the same.

    Returns
    -------
    errors : ndarray of shape (n_experts, n_clusters)
        Row i stands for expert i, column j for the j-th of the sorted distinct labels of
        `clusters`. NaN if all samples of a cluster have weight 0. Of several labels it is the
        share of wrong ones.

    Raises
    ------
    ValueError
        If lengths or shapes do not fit each other, or the number of classes is not that of
        `expert_proba`.

    See Also
    --------
    own_other_error : The matrix summarized.

    Examples
    --------
    >>> from sklearn_moe.metrics import expert_error_matrix
    >>> yes, no = [0, 1], [1, 0]
    >>> expert_proba = [[yes, yes], [yes, no], [no, no], [yes, no]]  # 4 samples, 2 experts
    >>> expert_error_matrix([1, 1, 0, 0], ["cat", "cat", "dog", "dog"], expert_proba)
    array([[0. , 0.5],
           [0.5, 0. ]])
    """
    return mean_errors(worth_of_proba(y, expert_proba, classes), clusters, sample_weight)


def mean_errors(worth, clusters, sample_weight=None):
    """Return what the answers of every expert lack on every cluster, (n_experts, n_clusters)."""
    check_same_length(expert_proba=worth, clusters=clusters)
    with naming("clusters"):
        labels, groups = np.unique(column_or_1d(clusters), return_inverse=True)
    return 1 - group_means(worth, groups, labels.size, sample_weight).T


@validate_params(
    {"error_matrix": ["array-like"], "routing_matrix": ["array-like"]},
    prefer_skip_nested_validation=True,
)
def own_other_error(error_matrix, routing_matrix):
    """Compute the error of every expert on its own cluster, and on the others.

    An expert's own cluster is the one of which it answers most samples. Experts that have
    specialized are good at their own cluster and hardly better than chance at the others.

    Parameters
    ----------
    error_matrix : array-like of shape (n_experts, n_clusters)
        The error rates, see :func:`expert_error_matrix`, or mean errors of any kind.

    routing_matrix : array-like of shape (n_clusters, n_experts)
        How many samples of every cluster each expert answers, see :func:`routing_matrix`.

    Returns
    -------
    own : ndarray of shape (n_experts,)
        The error on the own cluster; NaN for an expert that answers no sample.

    other : ndarray of shape (n_experts,)
        The mean error on the other clusters; NaN for an expert that answers no sample, or if
        there is only one cluster.

    Raises
    ------
    ValueError
        If one matrix does not have the shape of the other, transposed.

    Examples
    --------
    >>> from sklearn_moe.metrics import own_other_error
    >>> own, other = own_other_error([[0, 0.5], [0.25, 0]], [[90, 10], [20, 80]])
    >>> own
    array([0., 0.])
    >>> other
    array([0.5 , 0.25])
    """
    errors = check_named(
        error_matrix, "error_matrix", dtype=np.float64, ensure_all_finite="allow-nan"
    )
    routing = check_named(routing_matrix, "routing_matrix", dtype=np.float64)
    if errors.shape != routing.shape[::-1]:
        raise ValueError(
            "error_matrix must have shape (n_experts, n_clusters) and routing_matrix "
            f"(n_clusters, n_experts), got {errors.shape} and {routing.shape}. Pass n_experts "
            "to routing_matrix."
        )
    n_experts, n_clusters = errors.shape
    own = errors[np.arange(n_experts), routing.argmax(axis=0)]
    # The others of a single cluster are none: 0 / 0.
    other = (errors.sum(axis=1) - own) / (n_clusters - 1) if n_clusters > 1 else np.nan
    answers = routing.any(axis=0)
    return np.where(answers, own, np.nan), np.where(answers, other, np.nan)
