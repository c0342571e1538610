"""Checks of labels, indices and weights, and the table of clusters and experts they make."""

import numpy as np
from scipy.special import rel_entr
from sklearn.utils import column_or_1d

from .._validation import check_column, check_named, check_same_length, naming

__all__ = [
    "check_indices",
    "check_labels",
    "check_weights",
    "conditional_entropy",
    "contingency",
    "label_table",
]


def check_labels(experts, name="experts"):
    """Return `experts` as an array of shape (n_samples, k)."""
    experts = check_named(experts, name, dtype=None, ensure_2d=False)
    return experts.reshape(len(experts), -1)


def check_indices(experts, n_experts=None):
    """Return `experts` as indices of shape (n_samples, k), and the number of experts."""
    experts = check_labels(experts)
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


def check_weights(sample_weight):
    """Return `sample_weight` as non-negative floats, not all zero."""
    sample_weight = check_named(sample_weight, "sample_weight", dtype=np.float64, ensure_2d=False)
    sample_weight = check_column(sample_weight, "sample_weight")
    if sample_weight.min() < 0 or not sample_weight.any():
        raise ValueError(
            "sample_weight must be non-negative with at least one positive entry, got "
            f"values from {sample_weight.min():g} to {sample_weight.max():g}."
        )
    return sample_weight


def contingency(clusters, experts, n_experts, sample_weight=None):
    """Sum the weights of all samples of a cluster that an expert answers.

    `experts` are indices of shape (n_samples, k), each of which counts 1 / k. The result
    has shape (n_clusters, n_experts) and is an int array if every entry is a count.
    """
    check_same_length(clusters=clusters, experts=experts, sample_weight=sample_weight)
    with naming("clusters"):
        labels, rows = np.unique(column_or_1d(clusters), return_inverse=True)
    k = experts.shape[1]
    if sample_weight is not None:
        sample_weight = np.repeat(check_weights(sample_weight), k)
    cells = rows[:, np.newaxis] * n_experts + experts
    table = np.bincount(cells.ravel(), sample_weight, minlength=labels.size * n_experts)
    table = table.reshape(labels.size, n_experts)
    return table if k == 1 else table / k


def label_table(clusters, experts, sample_weight=None):
    """Return the contingency table of `experts` that are labels of any type."""
    experts = check_labels(experts)
    with naming("experts"):
        labels, indices = np.unique(experts, return_inverse=True)
    return contingency(clusters, indices.reshape(experts.shape), labels.size, sample_weight)


def conditional_entropy(tables):
    """Return H(row | column) of tables of shape (..., n_rows, n_columns)."""
    joint = tables / tables.sum(axis=(-2, -1), keepdims=True)
    # 0 - x, because -x would turn a perfect 0.0 into -0.0.
    return 0.0 - rel_entr(joint, joint.sum(axis=-2, keepdims=True)).sum(axis=(-2, -1))
