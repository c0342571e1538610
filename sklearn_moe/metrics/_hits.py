"""Which expert is right about which sample."""

import numpy as np
from sklearn.utils import check_array, check_consistent_length, column_or_1d

from ._contingency import check_indices, check_weights

__all__ = ["check_hits", "first_experts", "group_accuracy", "weights_or_ones"]


def check_hits(y, expert_proba, classes):
    """Return whether each expert is right about each sample, (n_samples, n_experts), 0 or 1."""
    y = column_or_1d(y)
    expert_proba = check_array(
        expert_proba, dtype=None, ensure_2d=False, allow_nd=True, input_name="expert_proba"
    )
    if expert_proba.ndim != 3:
        raise ValueError(
            "expert_proba must have shape (n_samples, n_experts, n_classes), got "
            f"{expert_proba.shape}. Pass, for instance, MoEClassifier.expert_proba(X)."
        )
    check_consistent_length(y, expert_proba)
    classes = np.unique(y) if classes is None else column_or_1d(classes)
    if len(classes) != expert_proba.shape[2]:
        raise ValueError(
            f"expert_proba is about {expert_proba.shape[2]} classes, got {len(classes)}: "
            f"{classes.tolist()}. Pass classes=clf.classes_, in the order of the last axis."
        )
    if not np.isin(y, classes).any():
        raise ValueError(
            f"y has no label in common with the classes {classes.tolist()}, got "
            f"{np.unique(y)[:5].tolist()}. Pass the labels that the model was fitted on."
        )
    return (classes[expert_proba.argmax(axis=2)] == y[:, np.newaxis]).astype(np.float64)


def weights_or_ones(sample_weight, n_samples):
    """Return the weight of every sample."""
    weight = np.ones(n_samples) if sample_weight is None else check_weights(sample_weight)
    if len(weight) != n_samples:
        raise ValueError(f"sample_weight must have {n_samples} entries, got {len(weight)}.")
    return weight


def first_experts(experts, hits):
    """Return the index of the expert that answers each sample, the first of several."""
    experts, _ = check_indices(experts, hits.shape[1])
    check_consistent_length(experts, hits)
    return experts[:, 0]


def group_accuracy(hits, groups, n_groups, sample_weight):
    """Return the accuracy of every expert on every group, (n_groups, n_experts)."""
    weight = weights_or_ones(sample_weight, len(hits))
    right = np.stack([np.bincount(groups, weight * hit, n_groups) for hit in hits.T], axis=1)
    total = np.bincount(groups, weight, n_groups)[:, np.newaxis]
    return np.divide(right, total, out=np.full(right.shape, np.nan), where=total > 0)
