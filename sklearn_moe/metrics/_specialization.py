"""Everything about the specialization of a fitted mixture in one call."""

import heapq
import math
import warnings
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import entropy
from sklearn import metrics
from sklearn.metrics.cluster import contingency_matrix, expected_mutual_information
from sklearn.utils import _safe_indexing, check_random_state, gen_batches, indexable
from sklearn.utils.validation import _num_samples

from .._data.rows import draw_rows
from .._data.statistics import find_centers, rows_to_cluster
from .._validation import Count, check_column, check_same_length, final_step
from ..exceptions import WorseThanNullWarning
from ._columns import as_dense, encode_table
from ._conditions import Table, find_parts, find_words
from ._experts import (
    ablation,
    compare_experts,
    cross_evaluation,
    evaluate,
    mean_errors,
    own_other_error,
)
from ._merged import MergedExperts
from ._report import ClusterAgreement, SpecializationReport
from ._router import dead_experts, load_cv, router_margin, usage_entropy
from ._routing import (
    check_labels,
    dispatch_entropy,
    encode,
    mutual_information,
    purity,
    routing_matrix,
    table_purity,
    validated,
)
from ._significance import dispatch_entropy_test, permuted_mean
from ._split import column_groups, image_properties, quantile_bins, split_information

_NEEDS = ("apply", "gate_proba", "predict")
_N_BINS = 10  # groups of a property
_MOST_COLUMNS, _MOST_ROWS = 8, 10_000  # of a table, of which the split is tested
_MOST_CONDITIONS = 3  # in words
_VALUES_AT_ONCE = 2**20  # of the router inputs: bounds the memory


@validated("y", "clusters", n_permutations=[Count(1)], random_state=["random_state"])
def specialization_report(
    estimator: Any,
    X: Any,
    y: ArrayLike,
    clusters: ArrayLike | None = None,
    *,
    stability: Any = None,
    n_permutations: int = 1000,
    random_state: int | np.random.RandomState | None = None,
) -> SpecializationReport:
    """Measure the specialization of the experts of a fitted mixture.

    The report begins with a verdict in one sentence: whether this is an ensemble, with which
    weights; experts that differ by region; or regimes, how many, and what splits them. Every figure
    comes with a baseline: its value without any specialization. Use samples that the mixture has
    not been fitted on.

    Parameters
    ----------
    estimator : estimator instance
        Fitted mixture of experts, such as :class:`~sklearn_moe.MoEClassifier` and
        :class:`~sklearn_moe.MoERegressor`, or a fitted :class:`~sklearn.pipeline.Pipeline` that
        ends in one.

    X : array-like of shape (n_samples, ...)
        Samples, as `estimator` takes them: arrays, sparse matrices, or data frames with categories
        and missing values. For tables, and images of shape (n_samples, n_channels, height, width),
        the report also shows what the split follows: the class, a column, brightness, color, or
        nothing.

    y : array-like of shape (n_samples,), (n_samples, n_labels) or (n_samples, n_outputs)
        The true class labels, zeros and ones of several labels, or targets of a regression.

    clusters : array-like of shape (n_samples,), default=None
        The true cluster of every sample, labels of any type. If None, the report leaves out
        what needs them.

    stability : RoutingStability, default=None
        Result of :func:`~sklearn_moe.inspection.routing_stability`. The verdict then says how many
        refits agree.

    n_permutations : int, default=1000
        How often clusters, columns and the properties of images are shuffled for the baselines. At
        least two hundred are needed to find what a split follows.

    random_state : int, RandomState instance or None, default=None
        Source of the shuffles, of the bootstrap and of the k-means centers. Pass an int for
        the same result in every call.

    Returns
    -------
    report : SpecializationReport
        All figures as attributes; `print(report)` explains them and `report.to_frame()` returns
        a table.

    Raises
    ------
    TypeError
        If the estimator is not a mixture of experts, which needs the methods `apply`, `gate_proba`,
        `predict`, and `expert_proba` or `expert_predict`; or `stability` is something else.

    ValueError
        If the lengths differ, there are no samples, or the targets of a regression are constant.

    Warns
    -----
    WorseThanNullWarning
        If the score or the log loss is worse than its baseline. The report says so, too.

    See Also
    --------
    sklearn_moe.inspection.RoutingDisplay : A plot of the routing matrix.
    split_information : The mutual information of any property of the samples and the expert.

    Notes
    -----
    The score is the accuracy for classes, the share of right labels for several labels, and R2 for
    regression; errors of a regression are mean squared errors in units of the variance of all `y`.

    In a pool of several kinds of experts, those of one kind with equal gates count as one expert,
    whose gate is the sum of theirs and whose output is the mean.

    Where all experts handle each sample, with gates that do not depend on it, the mixture is an
    ensemble. That is all that the report says of it: with no split there is nothing to compare. It
    is also one if the gates depend on the sample, but less than 5 % of the predictions' variance
    comes from that, `gate_share`. This does not hold if there are regimes, by the rule below, or if
    a single expert has more than 95 % of the weight.

    The rule behind any other verdict: every sample belongs to its first expert. An expert is
    *worse* on the samples of another one if its mean score there is lower by more than a tenth of
    `first_score - chance_score`, at two standard errors of the paired differences. Two experts
    *differ* if each is worse on the samples of the other. Experts that do not differ, directly or
    through others, are one regime. Experts with less than 5 % of the samples, and less than half of
    an even share, do not count. Then the first of these sentences that is true is the verdict:

    - `score` is not above `chance_score`: the model is no better than that, no regimes found;
    - a single expert counts: it handles nearly everything, no regimes found; of a pool: experts
      differ by region, and it has the largest weight nearly everywhere;
    - there is one regime, but with another expert in place of that of the sample, the mean score
      falls by more than the same tenth, at two standard errors: experts differ by region, but there
      are no clear regimes. Rules may change gradually, or one expert knows those of others, too.
      Of a table the verdict says in words where the experts of the largest loads are used;
    - there is one regime: the experts are interchangeable, an ensemble;
    - there are several regimes. They are split by the column or property of the largest share of at
      least 10 % in `split`, and a second one of at least half as much; otherwise by the clusters,
      if these are known and less than half of their entropy remains.

    With few samples the verdict finds fewer regimes, rather than more. A mixture that is forced to
    divide a smooth function into pieces has regimes in this sense; whether they are the same in a
    refit is what `stability` tells.

    What the split of a table follows is tested on the columns, numbers in ten groups of equal size,
    and on 10,000 samples at most, drawn at random. Of more than eight columns, half of the samples
    choose the eight that agree best with the experts, and the other half tests them.

    The k-means column shows what the geometry of the inputs alone achieves: it replaces the router
    by as many k-means centers as there are experts. They are found among the router inputs of the
    given samples, of a linear router without a trunk: the standardized and encoded columns of 2-D
    X, the sum over the patches of 3-D X, the sum over the patches of 4 x 4 pixels of 4-D X. Of
    mixtures of other libraries, they are the columns, with missing numbers replaced by the median,
    standardized or one-hot encoded.

    Examples
    --------
    >>> from sklearn_moe import MoEClassifier
    >>> from sklearn_moe.datasets import make_cluster_patches
    >>> from sklearn_moe.metrics import specialization_report
    >>> X, y, clusters = make_cluster_patches(500, return_clusters=True, random_state=0)
    >>> clf = MoEClassifier(n_experts=4, max_iter=20, tol=None, random_state=0).fit(X, y)
    >>> report = specialization_report(clf, X, y, clusters, random_state=0)
    >>> report.routing_matrix.shape
    (4, 4)
    >>> print(report)
    Experts differ by region; ...
    """
    given = X
    estimator, X = final_step(estimator, X, _NEEDS)
    if not hasattr(estimator, "expert_predict"):
        final_step(estimator, X, (*_NEEDS, "expert_proba"))
    check_same_length(X=X, y=y, clusters=clusters)
    if not (stability is None or hasattr(stability, "n_agree")):
        raise TypeError(
            "stability must be what inspection.routing_stability returns, or None, got "
            f"{type(stability).__name__}."
        )
    options = {"n_permutations": n_permutations, "random_state": check_random_state(random_state)}
    merged = MergedExperts(estimator, X)
    experts, gate_proba = merged.experts, merged.gates
    figures, scores = evaluate(merged, X, y)
    n_samples, n_experts = gate_proba.shape
    own = scores[np.arange(n_samples), experts[:, 0]]
    others = (scores.sum(axis=1) - own) / max(n_experts - 1, 1)
    first_score, other_score = float(own.mean()), float(others.mean()) if n_experts > 1 else np.nan
    parts = compare_experts(scores, experts, first_score - figures["chance_score"])
    merged.ensemble = ensemble = merged.ensemble and parts["regimes"].max() < 1
    if ensemble:
        parts["regimes"] = np.full(n_experts, -1)
    top_k, load = n_experts if ensemble else experts.shape[1], merged.load()
    if clusters is not None:
        parts |= _compare_with_clusters(merged, X, clusters, experts, scores, options)
    if not ensemble and parts["specialized"] and parts["regimes"].max() == 0:
        parts["where"] = _find_words(merged, given, X, experts[:, 0])
    groups = _target_groups(y, figures["score_name"])
    parts["split"] = _find_split(merged, given, X, groups, experts, options)
    report = SpecializationReport(
        n_samples=n_samples,
        n_experts=n_experts,
        ensemble=ensemble,
        top_k=top_k,
        load=load,
        load_cv=load_cv(load),
        usage_entropy=usage_entropy(load),
        dead_experts=dead_experts(merged.gates.mean(axis=0) if merged.is_pool else load),
        router_margin=float(router_margin(gate_proba).mean()),
        ablation_scores=ablation(scores, gate_proba, experts),
        cross_evaluation_scores=cross_evaluation(scores, experts),
        first_score=first_score,
        other_score=other_score,
        expert_names=tuple(merged.names),
        gate_share=merged.gate_share,
        stability=stability,
        **figures,
        **parts,
    )
    for sentence in report.warnings:
        warnings.warn(sentence, WorseThanNullWarning, stacklevel=3)  # a decorator is between
    return report


def _compare_with_clusters(estimator, X, clusters, experts, scores, options):
    """Return the attributes of the report that need clusters."""
    n_experts, rng = scores.shape[1], options["random_state"]
    # Indices in place of labels: scikit-learn warns of labels that are no whole numbers.
    labels, clusters = encode(check_column(clusters, "clusters"), "clusters")
    matrix = routing_matrix(clusters, experts, n_experts=n_experts)
    errors = mean_errors(scores, clusters)
    own, other = own_other_error(errors, matrix)
    test = dispatch_entropy_test(clusters, experts, **options)
    return {
        "cluster_labels": labels,
        "routing_matrix": matrix,
        "entropy_test": test,
        "agreement": _agreement(clusters, experts),
        "null_agreement": _null_agreement(clusters, experts, test.null_mean, options),
        "kmeans_agreement": _agreement(clusters, _kmeans_routes(estimator, X, n_experts, rng)),
        "error_matrix": errors,
        "own_error": own,
        "other_error": other,
    }


def _find_split(estimator, given, X, groups, experts, options):
    """Return what the split follows of some groups, which are those of the target, and others.

    These are properties of images or columns of a table, as they are given to the mixture or to the
    pipeline that ends in it. Of other samples, return None.
    """
    first, shape = check_labels(experts)[:, 0], getattr(estimator, "input_shape_", np.shape(X)[1:])
    if len(shape) == 3 or np.ndim(given) == 4:
        images = np.reshape(X, (len(X), *shape)) if len(shape) == 3 else given
        groups, tested = groups | image_properties(images, n_bins=_N_BINS), slice(None)
    elif len(shape) == 1:
        (table,) = indexable(given if np.ndim(given) == 2 else X)
        rows, tested = options["random_state"].permutation(len(first))[:_MOST_ROWS], slice(None)
        first, columns = first[rows], column_groups(_safe_indexing(table, rows), _N_BINS)
        half = len(rows) // 2
        if np.shape(table)[1] > _MOST_COLUMNS and half:  # it chooses, and the other half tests
            agreement, tested = metrics.adjusted_mutual_info_score, slice(half, None)
            columns = heapq.nlargest(
                _MOST_COLUMNS, columns, key=lambda column: agreement(column[1][:half], first[:half])
            )
        groups = {name: labels[rows] for name, labels in groups.items()} | dict(columns)
    else:
        return None
    return {
        name: split_information(labels[tested], first[tested], **options)
        for name, labels in groups.items()
    }


def _find_words(estimator, given, X, experts):
    """Return where each expert is used in words, of the same tables; of other samples None."""
    if len(getattr(estimator, "input_shape_", np.shape(X)[1:])) != 1 or np.ndim(given) == 4:
        return None
    (table,) = indexable(given if np.ndim(given) == 2 else X)
    rows = draw_rows(len(experts), _MOST_ROWS)
    categorical = None if given is not X else getattr(estimator, "categorical_features", None)
    table = Table(_safe_indexing(table, rows), categorical)
    n_experts = estimator.n_experts
    parts, _ = find_parts(table, experts[rows], n_experts, None, _MOST_CONDITIONS)
    return find_words(table, parts, n_experts)


def _target_groups(y, score_name):
    """Return the groups of samples by their target, by the name of the target."""
    y = np.asarray(y)
    if y.ndim == 2 and y.shape[1] > 1:
        if score_name == "R2":  # several outputs of a regression do not give groups
            return {}
        return {"labels": np.unique(y, axis=0, return_inverse=True)[1].ravel()}
    y = check_column(y, "y")
    if score_name == "R2":
        return {"y": quantile_bins(y.astype(np.float64), _N_BINS)}
    return {"class": y}


def _agreement(clusters, experts):
    """Compare routes with clusters."""
    first = check_labels(experts)[:, 0]
    return ClusterAgreement(
        entropy=dispatch_entropy(clusters, experts),
        normalized_entropy=dispatch_entropy(clusters, experts, normalize=True),
        mutual_information=mutual_information(clusters, experts),
        nmi=float(metrics.normalized_mutual_info_score(clusters, first)),
        ari=float(metrics.adjusted_rand_score(clusters, first)),
        ami=float(metrics.adjusted_mutual_info_score(clusters, first)),
        purity=purity(clusters, experts),
    )


def _null_agreement(clusters, experts, null_entropy, options):
    """Return the mean of `_agreement` for shuffled clusters, with the same sizes and loads."""
    if len(np.unique(clusters)) == 1 or len(np.unique(experts)) == 1:
        return _agreement(clusters, experts)  # a shuffle changes nothing
    table = contingency_matrix(clusters, check_labels(experts)[:, 0])
    of_clusters, of_experts = entropy(table.sum(axis=1)), entropy(table.sum(axis=0))
    information = expected_mutual_information(table, table.sum())
    return ClusterAgreement(
        entropy=null_entropy,
        normalized_entropy=null_entropy / float(of_clusters),
        mutual_information=float(of_clusters) - null_entropy,
        nmi=float(2 * information / (of_clusters + of_experts)),
        ari=0.0,  # adjusted: 0 by construction
        ami=0.0,
        purity=permuted_mean(clusters, experts, table_purity, **options),
    )


def _kmeans_routes(estimator, X, n_experts, rng):
    """Return the nearest of `n_experts` k-means centers of every sample."""
    if hasattr(estimator, "_router_input"):
        router_input = estimator._router_input
    else:  # a mixture of another library
        X = X if np.ndim(X) == 2 else np.reshape(X, (len(X), -1))
        X, router_input = encode_table(X), as_dense
    (X,) = indexable(X)
    n_samples, n_features = _num_samples(X), router_input(_safe_indexing(X, [0])).shape[1]
    size = max(n_features, math.prod(getattr(estimator, "input_shape_", ())))

    def inputs(rows):
        """Yield router inputs batch by batch, so that a memory map is never copied as a whole."""
        for batch in gen_batches(len(rows), max(1, _VALUES_AT_ONCE // size)):
            yield router_input(_safe_indexing(X, rows[batch]))

    rows = rows_to_cluster(n_samples, n_features, rng)
    centers, _ = find_centers(np.concatenate([*inputs(rows)]), np.ones(len(rows)), n_experts, rng)
    routes = [metrics.pairwise_distances_argmin(Z, centers) for Z in inputs(np.arange(n_samples))]
    return np.concatenate(routes)
