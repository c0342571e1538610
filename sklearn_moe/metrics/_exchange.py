"""Whether it matters which expert answers."""

import numpy as np
from sklearn.utils._param_validation import validate_params

from .._validation import check_named
from ._worth import first_experts, group_means, weights_or_ones, worth_of_proba

__all__ = ["expert_swap_accuracy", "knock_out", "knock_out_accuracy", "swap"]


@validate_params(
    {
        "y": ["array-like"],
        "gate_proba": ["array-like"],
        "expert_proba": ["array-like"],
        "experts": ["array-like", None],
        "classes": ["array-like", None],
        "sample_weight": ["array-like", None],
    },
    prefer_skip_nested_validation=True,
)
def knock_out_accuracy(
    y, gate_proba, expert_proba, *, experts=None, classes=None, sample_weight=None
):
    """Compute the accuracy that remains if an expert is removed.

    Its samples go to the best of the others by `gate_proba`. Every sample is judged by one
    expert: where several answer, by the first.

    Parameters
    ----------
    y : array-like of shape (n_samples,) or (n_samples, n_labels)
        The true class labels; or several labels, as zeros and ones.

    gate_proba : array-like of shape (n_samples, n_experts)
        The router's distribution over the experts, such as `MoEClassifier.gate_proba`.

    expert_proba : array-like of shape (n_samples, n_experts, n_classes)
        What every expert says, such as `MoEClassifier.expert_proba`.

    experts : array-like of int of shape (n_samples,) or (n_samples, k), default=None
        The index of the expert that answers every sample, such as `MoEClassifier.apply`. If
        None, the one of highest `gate_proba`.

    classes : array-like of shape (n_classes,), default=None
        The labels of the last axis of `expert_proba`, such as `MoEClassifier.classes_`. If
        None, the sorted distinct labels of `y`, which must then contain every class.

    sample_weight : array-like of shape (n_samples,), default=None
        The weight of every sample, non-negative. If None, all weigh the same.

    Returns
    -------
    accuracy : ndarray of shape (n_experts,)
        The accuracy without each expert. It is the usual one without an expert that answers
        no sample, and NaN if there is no other expert. Of several labels it is the share of right
        ones.

    Raises
    ------
    ValueError
        If lengths or shapes do not fit each other, or the number of classes is not that of
        `expert_proba`.

    See Also
    --------
    expert_swap_accuracy : All experts on the samples of each, not only the next best.

    Examples
    --------
    >>> from sklearn_moe.metrics import knock_out_accuracy
    >>> yes, no = [0, 1], [1, 0]
    >>> gate_proba = [[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.2, 0.8]]
    >>> expert_proba = [[yes, yes], [yes, no], [yes, no], [yes, no]]
    >>> knock_out_accuracy([1, 1, 0, 0], gate_proba, expert_proba)
    array([0.75, 0.5 ])
    """
    worth = worth_of_proba(y, expert_proba, classes)
    return knock_out(worth, gate_proba, experts, sample_weight)


def knock_out(worth, gate_proba, experts=None, sample_weight=None):
    """Return the mean worth of the answers without each expert, (n_experts,)."""
    others = check_named(gate_proba, "gate_proba", dtype=np.float64, copy=True)
    if others.shape != worth.shape:
        raise ValueError(
            f"gate_proba must have shape (n_samples, n_experts) = {worth.shape}, as expert_proba, "
            f"got {others.shape}."
        )
    n_samples, n_experts = worth.shape
    weight = weights_or_ones(sample_weight, n_samples)
    first = others.argmax(axis=1) if experts is None else first_experts(experts, worth)
    if n_experts == 1:
        return np.full(1, np.nan)
    rows = np.arange(n_samples)
    others[rows, first] = -np.inf
    change = weight * (worth[rows, others.argmax(axis=1)] - worth[rows, first])
    total = np.sum(weight * worth[rows, first]) + np.bincount(first, change, n_experts)
    return total / weight.sum()


@validate_params(
    {
        "y": ["array-like"],
        "experts": ["array-like"],
        "expert_proba": ["array-like"],
        "classes": ["array-like", None],
        "sample_weight": ["array-like", None],
    },
    prefer_skip_nested_validation=True,
)
def expert_swap_accuracy(y, experts, expert_proba, *, classes=None, sample_weight=None):
    """Compute how well every expert does on the samples of every other.

    Every sample belongs to one expert: where several answer, to the first.

    Parameters
    ----------
    y : array-like of shape (n_samples,) or (n_samples, n_labels)
        The true class labels; or several labels, as zeros and ones.

    experts : array-like of int of shape (n_samples,) or (n_samples, k)
        The index of the expert that answers every sample, such as `MoEClassifier.apply`.

    expert_proba : array-like of shape (n_samples, n_experts, n_classes)
        What every expert says, such as `MoEClassifier.expert_proba`.

    classes : array-like of shape (n_classes,), default=None
        The labels of the last axis of `expert_proba`, such as `MoEClassifier.classes_`. If
        None, the sorted distinct labels of `y`, which must then contain every class.

    sample_weight : array-like of shape (n_samples,), default=None
        The weight of every sample, non-negative. If None, all weigh the same.

    Returns
    -------
    accuracy : ndarray of shape (n_experts, n_experts)
        Entry (i, j) is the accuracy of expert j on the samples that expert i answers; the
        diagonal is the experts at their own work. A row is NaN if the expert answers none. Of
        several labels it is the share of right ones.

    Raises
    ------
    ValueError
        If lengths or shapes do not fit each other, `experts` are not indices of experts, or
        the number of classes is not that of `expert_proba`.

    See Also
    --------
    knock_out_accuracy : The accuracy of the whole without an expert.

    Examples
    --------
    >>> from sklearn_moe.metrics import expert_swap_accuracy
    >>> yes, no = [0, 1], [1, 0]
    >>> expert_proba = [[yes, yes], [yes, no], [yes, no], [yes, no]]
    >>> expert_swap_accuracy([1, 1, 0, 0], [0, 0, 1, 1], expert_proba)
    array([[1. , 0.5],
           [0. , 1. ]])
    """
    return swap(worth_of_proba(y, expert_proba, classes), experts, sample_weight)


def swap(worth, experts, sample_weight=None):
    """Return the mean worth of expert j on the samples of expert i, (n_experts, n_experts)."""
    return group_means(worth, first_experts(experts, worth), worth.shape[1], sample_weight)
