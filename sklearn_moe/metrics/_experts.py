"""What the outputs of the experts score, sample by sample, and whether the experts differ."""

import numpy as np
from scipy.sparse.csgraph import connected_components

from .._validation import check_column, check_named, check_same_length
from ._routing import encode


def evaluate(view, y):
    """Score a mixture and its experts.

    Training samples of a stack count by models, and a gate, that were not fitted to them.

    Parameters
    ----------
    view : ExpertView
    y : array-like
        True targets.

    Returns
    -------
    figures : dict
        The attributes of a `SpecializationReport` that are scores of the mixture.
    scores : ndarray of shape (n_samples, n_experts)
        The score of every expert on every sample.
    first : ndarray of int of shape (n_samples,)
        The expert of each sample.
    """
    mixture, classes = view.mixture, view.classes
    outputs, first = view.outputs, view.experts[:, 0]
    if view.out_of_fold is None:
        predicted = mixture.predict(view.X)
    else:
        gates, outputs = view.out_of_fold
        # Samples in no fold have no such prediction.
        known = ~np.isnan(outputs).reshape(len(outputs), -1).any(axis=1)
        gates, outputs, y = gates[known], outputs[known], np.asarray(y)[known]
        first = gates.argmax(axis=1)
        predicted = np.einsum("nk,nk...->n...", gates, outputs)
        if classes is not None:
            predicted = classes[predicted.argmax(axis=1)]
    # The mixture is scored as if it were a single expert.
    predicted = np.asarray(predicted)[:, np.newaxis]
    if classes is None:
        name, chance = "R2", 0.0
        scores = _regression_scores(y, outputs)
        of_mixture = _regression_scores(y, predicted)
    else:
        scores = class_scores(y, outputs, classes)
        y = np.asarray(y)
        if _is_multilabel(y):
            name = "right labels"
            chance = np.maximum(y.mean(axis=0), 1 - y.mean(axis=0)).mean()
        else:
            y = check_column(y, "y")
            name = "accuracy"
            chance = np.unique(y, return_counts=True)[1].max() / len(y)
        of_mixture = _share_right(y, predicted)
    score = float(of_mixture.mean())
    return {"score_name": name, "score": score, "chance_score": float(chance)}, scores, first


def compare_experts(scores, first, gain):
    """Return the attributes `specialized` and `regimes` of a report, by the rule that it states.

    Parameters
    ----------
    scores : ndarray of shape (n_samples, n_experts)
    first : ndarray of int of shape (n_samples,)
        The expert of each sample.
    gain : float
        What the mixture, by these experts, scores above chance.
    """
    n_experts = scores.shape[1]
    least = max(gain, 0) / 10
    # What is lost if another expert computes a sample.
    loss = scores[np.arange(len(first)), first, np.newaxis] - scores
    mean = _group_means(loss, first, n_experts)
    n_samples = np.bincount(first, minlength=n_experts)
    variance = np.maximum(_group_means(loss**2, first, n_experts) - mean**2, 0)
    # An expert without samples has NaN, which is never worse.
    variance /= n_samples[:, np.newaxis]
    is_worse = mean - 2 * np.sqrt(variance) > least
    # An even share of many experts may be below 5 %.
    counts = n_samples >= min(0.05, 0.5 / n_experts) * len(first)
    # Experts that do not differ are of one regime, directly or through others.
    alike = ~(is_worse & is_worse.T)[np.ix_(counts, counts)]
    regimes = np.full(n_experts, -1)
    regimes[counts] = connected_components(alike)[1]
    by_others = loss[:, counts].sum(axis=1) / max(counts.sum() - 1, 1)
    bound = by_others.mean() - 2 * by_others.std() / np.sqrt(len(loss))
    return {"specialized": bool(bound > least), "regimes": regimes}


def class_scores(y, expert_proba, classes):
    """Return 1 for the right class and 0 for a wrong one, (n_samples, n_experts).

    With several labels per sample it is the share of right ones.
    """
    y = check_named(y, "y", dtype=None, ensure_2d=False)
    n_classes = expert_proba.shape[2]
    if _is_multilabel(y):
        if y.shape[1] != n_classes or not np.isin(y, (0, 1)).all():
            raise ValueError(
                f"y must hold {n_classes} columns of zeros and ones, as the model was fitted on, "
                f"got shape {y.shape} and entries {np.unique(y)[:5].tolist()}."
            )
        return _share_right(y, expert_proba > 0.5)
    y = check_column(y, "y")
    if not np.isin(y, classes).any():
        raise ValueError(
            f"y has no label in common with the classes {classes.tolist()}, got "
            f"{encode(y, 'y')[0][:5].tolist()}. Pass the labels that the model was fitted on."
        )
    return _share_right(y, np.asarray(classes)[expert_proba.argmax(axis=2)])


def _regression_scores(y, predicted):
    """Return 1 minus the squared error in units of the variance of y, (n_samples, n_experts).

    The mean over the samples is R2. Of several outputs it is the mean, without those that are
    constant in y, whose variance is 0. `predicted` has shape (n_samples, n_experts) or (n_samples,
    n_experts, n_outputs).
    """
    y = check_named(y, "y", dtype=np.float64, ensure_2d=False)
    y = y.reshape(len(y), 1, -1)
    check_same_length(y=y, X=predicted)
    predicted = predicted.astype(np.float64)
    predicted = predicted.reshape(*predicted.shape[:2], -1)
    if predicted.shape[2] != y.shape[2]:
        raise ValueError(
            f"y must have as many outputs as the model was fitted on, {predicted.shape[2]}, got "
            f"{y.shape[2]}."
        )
    # An output that is constant in y has no unit to measure errors in.
    varies = np.ptp(y, axis=(0, 1)) > 0
    if not varies.any():
        raise ValueError(
            "Errors are measured in units of the variance of y, and y is constant. Pass samples "
            "of more than one value."
        )
    errors = (predicted - y)[..., varies] / y[..., varies].std(axis=0)
    return 1 - np.square(errors).mean(axis=2)


def _is_multilabel(y):
    return y.ndim == 2 and y.shape[1] > 1


def _share_right(y, predicted):
    """Compare classes (n_samples, n_experts), or labels (n_samples, n_experts, n_labels)."""
    right = predicted == y[:, np.newaxis]
    return right.reshape(*right.shape[:2], -1).mean(axis=2)


def _group_means(scores, groups, n_groups):
    """Return the mean score of every expert on every group, (n_groups, n_experts)."""
    sums = np.stack([np.bincount(groups, score, n_groups) for score in scores.T], axis=1)
    total = np.bincount(groups, minlength=n_groups)[:, np.newaxis]
    return np.divide(sums, total, out=np.full(sums.shape, np.nan), where=total > 0)
