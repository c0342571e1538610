"""What an answer is worth: 1 if it could not be better, and less the worse it is."""

from typing import NamedTuple

import numpy as np

from .._validation import check_column, check_named, check_same_length, naming
from ._contingency import check_indices, check_weights

__all__ = [
    "Judgment",
    "first_experts",
    "group_means",
    "judge",
    "weights_or_ones",
    "worth_of_numbers",
    "worth_of_proba",
]


class Judgment(NamedTuple):
    """What the answers of a mixture and of its experts are worth.

    Attributes
    ----------
    score_name : {"accuracy", "right labels", "R2"}
        What the mean worth of many samples is called.
    score : float
        That of the mixture.
    blind_score : float
        That of the best answer that is the same for all samples.
    worth : ndarray of shape (n_samples, n_experts)
        Of the answer of every expert to every sample.
    """

    score_name: str
    score: float
    blind_score: float
    worth: np.ndarray


def judge(estimator, X, y):
    """Judge a mixture of experts by what it says: `expert_predict` or `expert_proba`."""
    predicted = np.asarray(estimator.predict(X))[:, np.newaxis]  # as if by one expert
    if hasattr(estimator, "expert_predict"):
        worth = worth_of_numbers(y, estimator.expert_predict(X))
        return Judgment("R2", float(worth_of_numbers(y, predicted).mean()), 0.0, worth)
    worth = worth_of_proba(y, estimator.expert_proba(X), estimator.classes_)
    y = np.asarray(y)
    if _has_labels(y):
        name, blind = "right labels", np.maximum(y.mean(axis=0), 1 - y.mean(axis=0)).mean()
    else:
        y = check_column(y, "y")
        name, blind = "accuracy", np.unique(y, return_counts=True)[1].max() / len(y)
    return Judgment(name, float(_share_right(y, predicted).mean()), float(blind), worth)


def worth_of_proba(y, expert_proba, classes):
    """Return 1 for the right class and 0 for another; of several labels the share of right ones.

    The result has shape (n_samples, n_experts).
    """
    y = check_named(y, "y", dtype=None, ensure_2d=False)
    y = y if _has_labels(y) else check_column(y, "y")
    expert_proba = check_named(
        expert_proba, "expert_proba", dtype=None, ensure_2d=False, allow_nd=True
    )
    if expert_proba.ndim != 3:
        raise ValueError(
            "expert_proba must have shape (n_samples, n_experts, n_classes), got "
            f"{expert_proba.shape}. Pass, for instance, MoEClassifier.expert_proba(X)."
        )
    check_same_length(y=y, expert_proba=expert_proba)
    n_classes = expert_proba.shape[2]
    if y.ndim == 2:
        if y.shape[1] != n_classes or not np.isin(y, (0, 1)).all():
            raise ValueError(
                f"expert_proba is about {n_classes} labels: y must hold as many columns of zeros "
                f"and ones, or a single class per sample, got shape {y.shape} and entries "
                f"{np.unique(y)[:5].tolist()}."
            )
        return _share_right(y, expert_proba > 0.5)
    with naming("y"):
        labels = np.unique(y)
    classes = labels if classes is None else check_column(classes, "classes")
    if len(classes) != n_classes:
        raise ValueError(
            f"expert_proba is about {n_classes} classes, got {len(classes)}: "
            f"{classes.tolist()}. Pass classes=clf.classes_, in the order of the last axis."
        )
    if not np.isin(y, classes).any():
        raise ValueError(
            f"y has no label in common with the classes {classes.tolist()}, got "
            f"{labels[:5].tolist()}. Pass the labels that the model was fitted on."
        )
    return _share_right(y, classes[expert_proba.argmax(axis=2)])


def worth_of_numbers(y, answers):
    """Return 1 minus the squared error in units of the variance of y, (n_samples, n_experts).

    The mean over the samples is R2. Of several outputs it is the mean; those that are constant
    in y have no such unit, and are left out. `answers` have shape (n_samples, n_experts) or
    (n_samples, n_experts, n_outputs).
    """
    y = check_named(y, "y", dtype=np.float64, ensure_2d=False)
    y = y.reshape(len(y), 1, -1)
    answers = np.asarray(answers, dtype=np.float64)
    check_same_length(y=y, X=answers)
    answers = answers.reshape(*answers.shape[:2], -1)
    if answers.shape[2] != y.shape[2]:
        raise ValueError(
            f"y must have as many outputs as the model was fitted on, {answers.shape[2]}, got "
            f"{y.shape[2]}."
        )
    varies = np.ptp(y, axis=(0, 1)) > 0
    if not varies.any():
        raise ValueError(
            "Errors are measured in units of the variance of y, and y is constant. Pass samples "
            "of more than one value."
        )
    y, answers = y[..., varies], answers[..., varies]
    return 1 - np.square((answers - y) / y.std(axis=0)).mean(axis=2)


def _has_labels(y):
    return y.ndim == 2 and y.shape[1] > 1


def _share_right(y, answers):
    """Compare classes (n_samples, n_experts), or labels (n_samples, n_experts, n_labels)."""
    right = answers == y[:, np.newaxis]
    return right.reshape(*right.shape[:2], -1).mean(axis=2)


def weights_or_ones(sample_weight, n_samples):
    """Return the weight of every sample."""
    weight = np.ones(n_samples) if sample_weight is None else check_weights(sample_weight)
    if len(weight) != n_samples:
        raise ValueError(f"sample_weight must have {n_samples} entries, got {len(weight)}.")
    return weight


def first_experts(experts, worth):
    """Return the index of the expert that answers each sample, the first of several."""
    experts, _ = check_indices(experts, worth.shape[1])
    check_same_length(experts=experts, expert_proba=worth)
    return experts[:, 0]


def group_means(worth, groups, n_groups, sample_weight):
    """Return the mean worth of every expert on every group, (n_groups, n_experts)."""
    weight = weights_or_ones(sample_weight, len(worth))
    sums = np.stack([np.bincount(groups, weight * own, n_groups) for own in worth.T], axis=1)
    total = np.bincount(groups, weight, n_groups)[:, np.newaxis]
    return np.divide(sums, total, out=np.full(sums.shape, np.nan), where=total > 0)
