"""What the outputs of the experts score: sample by sample, on other samples, without an expert."""

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse.csgraph import connected_components

from .._validation import check_column, check_named, check_same_length
from ._routing import check_indices, check_weights, encode, validated


def evaluate(estimator, X, y):
    """Score a mixture and its experts, by `expert_predict` or `expert_proba`.

    Returns
    -------
    figures : dict
        The attributes of a `SpecializationReport` that are scores of the mixture.
    scores : ndarray of shape (n_samples, n_experts)
        The score of every expert on every sample.
    """
    predicted = np.asarray(estimator.predict(X))[:, np.newaxis]  # as if by one expert
    if hasattr(estimator, "expert_predict"):
        scores, own = (_regression_scores(y, p) for p in (estimator.expert_predict(X), predicted))
        name, chance, log_losses = "R2", 0.0, (np.nan, np.nan)
    else:
        scores = _class_scores(y, estimator.expert_proba(X), estimator.classes_)
        y = np.asarray(y)
        if _is_multilabel(y):
            name, chance = "right labels", np.maximum(y.mean(axis=0), 1 - y.mean(axis=0)).mean()
        else:
            y = check_column(y, "y")
            name, chance = "accuracy", np.unique(y, return_counts=True)[1].max() / len(y)
        own, log_losses = _share_right(y, predicted), _log_losses(estimator, X, y)
    names = ("score_name", "score", "chance_score", "log_loss", "chance_log_loss")
    values = (name, float(own.mean()), float(chance), *log_losses)
    return dict(zip(names, values, strict=True)), scores


def _log_losses(estimator, X, y):
    """Return the log loss of a classifier, and that of the shares of the classes, or labels, in y.

    Classes that the model does not know are left out. NaN if there are no probabilities.
    """
    if not hasattr(estimator, "predict_proba"):
        return np.nan, np.nan
    proba, is_multilabel = np.asarray(estimator.predict_proba(X), np.float64), _is_multilabel(y)
    truth = y == 1 if is_multilabel else y[:, np.newaxis] == estimator.classes_
    both = np.stack([proba, np.broadcast_to(truth.mean(axis=0), proba.shape)])
    given = np.where(truth, both, 1 - both).reshape(2, -1) if is_multilabel else both[:, truth]
    return -np.log(np.maximum(given, np.finfo(np.float64).eps)).mean(axis=1)


def compare_experts(scores, experts, gain):
    """Return the attributes `specialized` and `regimes` of a report, by the rule that it states.

    `gain` is what the mixture, by its first experts, scores above chance.
    """
    first, n_experts = _first_experts(experts, scores), scores.shape[1]
    loss = scores[np.arange(len(first)), first, np.newaxis] - scores  # by another expert
    mean, square = (_group_means(part, first, n_experts, None) for part in (loss, loss**2))
    n_samples = np.bincount(first, minlength=n_experts)
    variance = np.maximum(square - mean**2, 0) / np.maximum(n_samples, 1)[:, np.newaxis]
    # False of NaN: an expert without samples.
    is_worse = mean - 2 * np.sqrt(variance) > max(gain, 0) / 10
    counts = n_samples >= min(0.05, 0.5 / n_experts) * len(first)
    alike = ~(is_worse & is_worse.T)[np.ix_(counts, counts)]
    regimes = np.full(n_experts, -1)
    regimes[counts] = connected_components(alike)[1]
    loss = loss[:, counts].sum(axis=1) / max(counts.sum() - 1, 1)  # by the others, on average
    bound = loss.mean() - 2 * loss.std() / np.sqrt(len(loss))
    return {"specialized": bool(bound > max(gain, 0) / 10), "regimes": regimes}


def _class_scores(y, expert_proba, classes):
    """Return 1 for the right class and 0 for a wrong one, (n_samples, n_experts).

    With several labels per sample it is the share of right ones.
    """
    y = check_named(y, "y", dtype=None, ensure_2d=False)
    y = y if _is_multilabel(y) else check_column(y, "y")
    expert_proba = check_named(expert_proba, "expert_proba", axes="n_samples, n_experts, n_classes")
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
    labels, _ = encode(y, "y")
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


def _regression_scores(y, predicted):
    """Return 1 minus the squared error in units of the variance of y, (n_samples, n_experts).

    The mean over the samples is R2. Of several outputs it is the mean, without those that are
    constant in y, whose variance is 0. `predicted` has shape (n_samples, n_experts) or (n_samples,
    n_experts, n_outputs).
    """
    y = check_named(y, "y", dtype=np.float64, ensure_2d=False)
    y = y.reshape(len(y), 1, -1)
    predicted = np.asarray(predicted, dtype=np.float64)
    check_same_length(y=y, X=predicted)
    predicted = predicted.reshape(*predicted.shape[:2], -1)
    if predicted.shape[2] != y.shape[2]:
        raise ValueError(
            f"y must have as many outputs as the model was fitted on, {predicted.shape[2]}, got "
            f"{y.shape[2]}."
        )
    varies = np.ptp(y, axis=(0, 1)) > 0
    if not varies.any():
        raise ValueError(
            "Errors are measured in units of the variance of y, and y is constant. Pass samples "
            "of more than one value."
        )
    y, predicted = y[..., varies], predicted[..., varies]
    return 1 - np.square((predicted - y) / y.std(axis=0)).mean(axis=2)


def _is_multilabel(y):
    return y.ndim == 2 and y.shape[1] > 1


def _share_right(y, predicted):
    """Compare classes (n_samples, n_experts), or labels (n_samples, n_experts, n_labels)."""
    right = predicted == y[:, np.newaxis]
    return right.reshape(*right.shape[:2], -1).mean(axis=2)


def _weights_or_ones(sample_weight, scores):
    """Return the weight of every sample."""
    if sample_weight is None:
        return np.ones(len(scores))
    check_same_length(expert_proba=scores, sample_weight=sample_weight)
    return check_weights(sample_weight, "sample_weight")


def _first_experts(experts, scores):
    """Return the index of the first expert that each sample is routed to."""
    experts, _ = check_indices(experts, scores.shape[1])
    check_same_length(experts=experts, expert_proba=scores)
    return experts[:, 0]


def _group_means(scores, groups, n_groups, sample_weight):
    """Return the mean score of every expert on every group, (n_groups, n_experts)."""
    weight = _weights_or_ones(sample_weight, scores)
    sums = np.stack([np.bincount(groups, weight * own, n_groups) for own in scores.T], axis=1)
    total = np.bincount(groups, weight, n_groups)[:, np.newaxis]
    return np.divide(sums, total, out=np.full(sums.shape, np.nan), where=total > 0)


@validated("y clusters expert_proba", "classes sample_weight")
def expert_error_matrix(
    y: ArrayLike,
    clusters: ArrayLike,
    expert_proba: ArrayLike,
    classes: ArrayLike | None = None,
    *,
    sample_weight: ArrayLike | None = None,
) -> np.ndarray:
    """Compute the error rate of every expert on every cluster, for all samples of the cluster.

    Parameters
    ----------
    y : array-like of shape (n_samples,) or (n_samples, n_labels)
        The true class labels; or several labels, as zeros and ones.

    clusters : array-like of shape (n_samples,)
        The true cluster of every sample, labels of any type.

    expert_proba : array-like of shape (n_samples, n_experts, n_classes)
        The output of every expert, such as `MoEClassifier.expert_proba`.

    classes : array-like of shape (n_classes,), default=None
        The labels of the last axis of `expert_proba`, such as `MoEClassifier.classes_`. If
        None, the sorted distinct labels of `y`, which must then contain every class.

    sample_weight : array-like of shape (n_samples,), default=None
        The weight of every sample, non-negative. If None, all weigh the same.

    Returns
    -------
    errors : ndarray of shape (n_experts, n_clusters)
        Row i stands for expert i, column j for the j-th of the sorted distinct labels of
        `clusters`. NaN if all samples of a cluster have weight 0. With several labels it is the
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
    return mean_errors(_class_scores(y, expert_proba, classes), clusters, sample_weight)


def mean_errors(scores, clusters, sample_weight=None):
    """Return 1 - the mean score of every expert on every cluster, (n_experts, n_clusters)."""
    check_same_length(expert_proba=scores, clusters=clusters)
    labels, groups = encode(check_column(clusters, "clusters"), "clusters")
    return 1 - _group_means(scores, groups, labels.size, sample_weight).T


@validated("error_matrix routing_matrix")
def own_other_error(
    error_matrix: ArrayLike, routing_matrix: ArrayLike
) -> tuple[np.ndarray, np.ndarray]:
    """Compute the error of every expert on its own cluster, and on the others.

    An expert's own cluster is the one of which it receives most samples. Experts that have
    specialized have small errors on their own cluster and errors near chance on the others.

    Parameters
    ----------
    error_matrix : array-like of shape (n_experts, n_clusters)
        The error rates, see :func:`expert_error_matrix`, or mean errors of any kind.

    routing_matrix : array-like of shape (n_clusters, n_experts)
        How many samples of every cluster are routed to each expert, see
        :func:`routing_matrix`.

    Returns
    -------
    own : ndarray of shape (n_experts,)
        The error on the clusters of the expert itself; NaN for an expert that receives no sample.

    other : ndarray of shape (n_experts,)
        The mean error on the other clusters, without those whose error is NaN; NaN for an expert
        that receives no sample, or if there are no other clusters.

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
    options = {"axes": "n_experts, n_clusters", "ensure_all_finite": "allow-nan"}
    errors = check_named(error_matrix, "error_matrix", dtype=np.float64, **options)
    options = {"axes": "n_clusters, n_experts", "dtype": np.float64}
    routing = check_named(routing_matrix, "routing_matrix", **options)
    if errors.shape != routing.shape[::-1]:
        raise ValueError(
            "error_matrix must have shape (n_experts, n_clusters) and routing_matrix "
            f"(n_clusters, n_experts), got {errors.shape} and {routing.shape}. Pass n_experts "
            "to routing_matrix."
        )
    cells = np.arange(len(errors)), routing.argmax(axis=0)
    own, others = errors[cells], errors.copy()
    others[cells] = np.nan
    other = np.ma.masked_invalid(others).mean(axis=1).filled(np.nan)  # NaN if there are none
    is_alive = routing.any(axis=0)
    return np.where(is_alive, own, np.nan), np.where(is_alive, other, np.nan)


@validated("y gate_proba expert_proba", "experts classes sample_weight")
def ablation_accuracy(
    y: ArrayLike,
    gate_proba: ArrayLike,
    expert_proba: ArrayLike,
    *,
    experts: ArrayLike | None = None,
    classes: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
) -> np.ndarray:
    """Compute the accuracy that remains if an expert is removed.

    Its samples go to the best of the others by `gate_proba`. Every sample is predicted by one
    expert: where several are selected, by the first.

    Parameters
    ----------
    y : array-like of shape (n_samples,) or (n_samples, n_labels)
        The true class labels; or several labels, as zeros and ones.

    gate_proba : array-like of shape (n_samples, n_experts)
        The router's distribution over the experts, such as `MoEClassifier.gate_proba`.

    expert_proba : array-like of shape (n_samples, n_experts, n_classes)
        The output of every expert, such as `MoEClassifier.expert_proba`.

    experts : array-like of int of shape (n_samples,) or (n_samples, k), default=None
        The index of the expert that every sample is routed to, such as `MoEClassifier.apply`. If
        None, the one of highest `gate_proba`.

    classes : array-like of shape (n_classes,), default=None
        The labels of the last axis of `expert_proba`, such as `MoEClassifier.classes_`. If
        None, the sorted distinct labels of `y`, which must then contain every class.

    sample_weight : array-like of shape (n_samples,), default=None
        The weight of every sample, non-negative. If None, all weigh the same.

    Returns
    -------
    accuracy : ndarray of shape (n_experts,)
        The accuracy without each expert. It is unchanged for an expert that receives no sample,
        and NaN if there is no other expert. With several labels it is the share of right ones.

    Raises
    ------
    ValueError
        If lengths or shapes do not fit each other, or the number of classes is not that of
        `expert_proba`.

    See Also
    --------
    cross_evaluation_accuracy : Every expert on the samples of every other.

    Examples
    --------
    >>> from sklearn_moe.metrics import ablation_accuracy
    >>> yes, no = [0, 1], [1, 0]
    >>> gate_proba = [[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.2, 0.8]]
    >>> expert_proba = [[yes, yes], [yes, no], [yes, no], [yes, no]]
    >>> ablation_accuracy([1, 1, 0, 0], gate_proba, expert_proba)
    array([0.75, 0.5 ])
    """
    return ablation(_class_scores(y, expert_proba, classes), gate_proba, experts, sample_weight)


def ablation(scores, gate_proba, experts=None, sample_weight=None):
    """Return the mean score without each expert, (n_experts,)."""
    options = {"axes": "n_samples, n_experts", "dtype": np.float64, "copy": True}
    others = check_named(gate_proba, "gate_proba", **options)
    if others.shape != scores.shape:
        raise ValueError(
            f"gate_proba must have shape (n_samples, n_experts) = {scores.shape}, as expert_proba, "
            f"got {others.shape}."
        )
    n_samples, n_experts = scores.shape
    weight = _weights_or_ones(sample_weight, scores)
    first = others.argmax(axis=1) if experts is None else _first_experts(experts, scores)
    if n_experts == 1:
        return np.full(1, np.nan)
    rows = np.arange(n_samples)
    others[rows, first] = -np.inf
    change = weight * (scores[rows, others.argmax(axis=1)] - scores[rows, first])
    total = np.sum(weight * scores[rows, first]) + np.bincount(first, change, n_experts)
    return total / weight.sum()


@validated("y experts expert_proba", "classes sample_weight")
def cross_evaluation_accuracy(
    y: ArrayLike,
    experts: ArrayLike,
    expert_proba: ArrayLike,
    *,
    classes: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
) -> np.ndarray:
    """Compute the accuracy of every expert on the samples of every other.

    Every sample belongs to one expert: where several are selected, to the first.

    Parameters
    ----------
    y : array-like of shape (n_samples,) or (n_samples, n_labels)
        The true class labels; or several labels, as zeros and ones.

    experts : array-like of int of shape (n_samples,) or (n_samples, k)
        The index of the expert that every sample is routed to, such as `MoEClassifier.apply`.

    expert_proba : array-like of shape (n_samples, n_experts, n_classes)
        The output of every expert, such as `MoEClassifier.expert_proba`.

    classes : array-like of shape (n_classes,), default=None
        The labels of the last axis of `expert_proba`, such as `MoEClassifier.classes_`. If
        None, the sorted distinct labels of `y`, which must then contain every class.

    sample_weight : array-like of shape (n_samples,), default=None
        The weight of every sample, non-negative. If None, all weigh the same.

    Returns
    -------
    accuracy : ndarray of shape (n_experts, n_experts)
        Entry (i, j) is the accuracy of expert j on the samples that are routed to expert i; on
        the diagonal, experts predict their own samples. A row is NaN if the expert receives no
        sample. With several labels it is the share of right ones.

    Raises
    ------
    ValueError
        If lengths or shapes do not fit each other, `experts` are not indices of experts, or
        the number of classes is not that of `expert_proba`.

    See Also
    --------
    ablation_accuracy : The accuracy of the mixture without an expert.

    Examples
    --------
    >>> from sklearn_moe.metrics import cross_evaluation_accuracy
    >>> yes, no = [0, 1], [1, 0]
    >>> expert_proba = [[yes, yes], [yes, no], [yes, no], [yes, no]]
    >>> cross_evaluation_accuracy([1, 1, 0, 0], [0, 0, 1, 1], expert_proba)
    array([[1. , 0.5],
           [0. , 1. ]])
    """
    return cross_evaluation(_class_scores(y, expert_proba, classes), experts, sample_weight)


def cross_evaluation(scores, experts, sample_weight=None):
    """Return the mean score of expert j on the samples of expert i, (n_experts, n_experts)."""
    return _group_means(scores, _first_experts(experts, scores), scores.shape[1], sample_weight)
