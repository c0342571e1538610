"""Everything about the specialization of a fitted mixture in one call."""

import math
from functools import partial

import numpy as np
from scipy.stats import entropy
from sklearn.metrics import (
    adjusted_mutual_info_score,
    adjusted_rand_score,
    normalized_mutual_info_score,
    pairwise_distances_argmin,
)
from sklearn.metrics.cluster import contingency_matrix, expected_mutual_information
from sklearn.utils import _safe_indexing, check_random_state, gen_batches, indexable
from sklearn.utils._param_validation import validate_params
from sklearn.utils.validation import _num_samples

from .._data.statistics import find_centers, rows_to_cluster
from .._linear_view import linear_view
from .._validation import Count, check_column, check_named, check_same_length, final_step
from ._agreement import mutual_information, purity, table_purity
from ._contingency import check_labels
from ._errors import mean_errors, own_other_error
from ._exchange import knock_out, swap
from ._load import dead_experts, expert_load, load_cv, usage_entropy
from ._pictures import picture_properties, quantile_bins
from ._report import ClusterAgreement, SpecializationReport
from ._router import router_margin
from ._routing import dispatch_entropy, routing_matrix
from ._significance import dispatch_entropy_test, permuted_mean
from ._split import split_information
from ._worth import judge

__all__ = ["specialization_report"]

_NEEDS = ("apply", "gate_proba", "predict")
_N_BINS = 10  # groups of a number
_AT_ONCE = 2**20  # numbers that are looked at at a time


@validate_params(
    {
        "y": ["array-like"],
        "clusters": ["array-like", None],
        "n_permutations": [Count(1)],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def specialization_report(
    estimator, X, y, clusters=None, *, n_permutations=1000, random_state=None
):
    """Judge what the experts of a fitted mixture have learned.

    Every figure comes with a null: what it would be without any specialization. Use samples
    that the mixture has not been fitted on.

    Parameters
    ----------
    estimator : estimator instance
        Fitted :class:`~sklearn_moe.MoEClassifier` or :class:`~sklearn_moe.MoERegressor`, or a
        fitted :class:`~sklearn.pipeline.Pipeline` that ends in one.

    X : array-like of shape (n_samples, ...)
        Samples, as `estimator` takes them. Of pictures, (n_samples, n_channels, height, width), the
        report also says what the split follows: the class, brightness, color, or nothing.

    y : array-like of shape (n_samples,), (n_samples, n_labels) or (n_samples, n_outputs)
        The true class labels, zeros and ones of several labels, or numbers.

    clusters : array-like of shape (n_samples,), default=None
        The true cluster of every sample, labels of any type. If None, the report says what can
        be said without them.

    n_permutations : int, default=1000
        How often clusters, and the properties of pictures, are shuffled for the null. What a split
        follows takes a hundred at least to be told from chance.

    random_state : int, RandomState instance or None, default=None
        Source of the shuffles, of the bootstrap and of the k-means centers. Pass an int for
        the same result in every call.

    Returns
    -------
    report : SpecializationReport
        All figures as attributes; `print(report)` explains them and `report.to_frame()` makes
        a table of them.

    Raises
    ------
    TypeError
        If the estimator is not a mixture of experts: it needs the methods `apply`, `gate_proba`,
        `predict`, and `expert_proba` or `expert_predict`.

    ValueError
        If the lengths differ, there are no samples, or they are numbers that are all the same.

    See Also
    --------
    sklearn_moe.inspection.RoutingDisplay : The routing matrix as a picture.
    split_information : What any property of the samples tells about the expert.

    Notes
    -----
    Answers to classes are scored by their accuracy, to several labels by the share of right ones
    and to numbers by R2; the latter's errors are mean squared errors in units of the variance of
    all of `y`.

    The k-means column answers the question whether the router found more than the geometry of
    the inputs gives away. It replaces the router by as many k-means centers as there are
    experts, found among the given samples as a linear router without a trunk sees them: the
    standardized and encoded columns of 2-D X, the sum over the patches of 3-D X, the sum over the
    squares of 4 x 4 pixels of 4-D X. This is what `MoEClassifier(router="kmeans")` does with the
    samples that it is fitted on.

    Examples
    --------
    >>> from sklearn_moe import MoEClassifier
    >>> from sklearn_moe.datasets import make_cluster_patches
    >>> from sklearn_moe.metrics import specialization_report
    >>> X, y, clusters = make_cluster_patches(500, return_clusters=True, random_state=0)
    >>> clf = MoEClassifier(n_experts=4, max_iter=5, tol=None, random_state=0).fit(X, y)
    >>> report = specialization_report(clf, X, y, clusters, random_state=0)
    >>> report.routing_matrix.shape
    (4, 4)
    >>> print(report)
    Specialization: 4 experts, 500 samples, 4 clusters
    ...
    """
    given = X
    estimator, X = final_step(estimator, X, _NEEDS)
    if not hasattr(estimator, "expert_predict"):
        final_step(estimator, X, (*_NEEDS, "expert_proba"))
    check_same_length(X=X, y=y, clusters=clusters)
    rng = check_random_state(random_state)
    experts = estimator.apply(X)
    gate_proba = estimator.gate_proba(X)
    judgment = judge(estimator, X, y)
    worth = judgment.worth
    n_experts = gate_proba.shape[1]
    load = expert_load(experts, n_experts=n_experts)
    swapped = swap(worth, experts)
    first_load = expert_load(check_labels(experts)[:, 0], n_experts=n_experts)
    first_score, swapped_score = _own_and_other(swapped, first_load)

    figures = {
        "n_samples": len(gate_proba),
        "n_experts": n_experts,
        "score_name": judgment.score_name,
        "score": judgment.score,
        "blind_score": judgment.blind_score,
        "load": load,
        "load_cv": load_cv(load),
        "usage_entropy": usage_entropy(load),
        "dead_experts": dead_experts(load),
        "router_margin": float(router_margin(gate_proba).mean()),
        "knock_out_score": knock_out(worth, gate_proba, experts),
        "swap_score": swapped,
        "first_score": first_score,
        "swapped_score": swapped_score,
    }
    if clusters is not None:
        matrix = routing_matrix(clusters, experts, n_experts=n_experts)
        errors = mean_errors(worth, clusters)
        own, other = own_other_error(errors, matrix)
        test = dispatch_entropy_test(
            clusters, experts, n_permutations=n_permutations, random_state=rng
        )
        figures |= {
            "cluster_labels": np.unique(check_column(clusters, "clusters")),
            "routing_matrix": matrix,
            "entropy_test": test,
            "agreement": _agreement(clusters, experts),
            "null_agreement": _null_agreement(
                clusters, experts, test.null_mean, n_permutations, rng
            ),
            "kmeans_agreement": _agreement(clusters, _kmeans_routes(estimator, X, n_experts, rng)),
            "error_matrix": errors,
            "own_error": own,
            "other_error": other,
        }
    pictures = _find_pictures(estimator, given, X)
    if pictures is not None:
        properties = _properties_of_y(y, judgment.score_name) | picture_properties(
            pictures, n_bins=_N_BINS
        )
        figures["split"] = {
            name: split_information(
                groups, experts, n_permutations=n_permutations, random_state=rng
            )
            for name, groups in properties.items()
        }
    return SpecializationReport(**figures)


def _find_pictures(estimator, given, X):
    """Return the pictures that the mixture sees, or those that features are made of, or None."""
    shape = getattr(estimator, "input_shape_", np.shape(X)[1:])
    if len(shape) == 3:
        return np.reshape(X, (len(X), *shape))
    return given if np.ndim(given) == 4 else None


def _properties_of_y(y, score_name):
    """Return the groups of what is to be predicted, by name."""
    y = np.asarray(y)
    if y.ndim == 1 or y.shape[1] == 1:
        y = check_column(y, "y")
        if score_name == "R2":
            return {"y": quantile_bins(y.astype(np.float64), _N_BINS)}
        return {"class": y}
    if score_name == "R2":
        return {}  # several outputs make no single group
    return {"labels": np.unique(y, axis=0, return_inverse=True)[1].ravel()}


def _own_and_other(swapped, first_load):
    """Return the mean score of the experts on their own samples and on those of others."""
    answers = first_load > 0
    own = swapped.diagonal()
    n_others = len(own) - 1
    other = (swapped.sum(axis=1) - own) / n_others if n_others else np.full(1, np.nan)
    return tuple(float(first_load[answers] @ mean[answers]) for mean in (own, other))


def _agreement(clusters, experts):
    """Compare a routing with the clusters."""
    first = check_labels(experts)[:, 0]
    return ClusterAgreement(
        entropy=dispatch_entropy(clusters, experts),
        normalized_entropy=dispatch_entropy(clusters, experts, normalize=True),
        mutual_information=mutual_information(clusters, experts),
        nmi=float(normalized_mutual_info_score(clusters, first)),
        ari=float(adjusted_rand_score(clusters, first)),
        ami=float(adjusted_mutual_info_score(clusters, first)),
        purity=purity(clusters, experts),
    )


def _null_agreement(clusters, experts, null_entropy, n_permutations, rng):
    """Return the mean of `_agreement` under shuffled clusters, which keep all sizes and loads."""
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
        purity=permuted_mean(clusters, experts, table_purity, n_permutations, rng),
    )


def _kmeans_routes(estimator, X, n_experts, rng):
    """Return the nearest of `n_experts` k-means centers of every sample."""
    # Mixtures of another library may not tell what their router sees.
    look = getattr(estimator, "_router_input", None) or partial(_view, estimator)
    (X,) = indexable(X)
    n_samples, n_features = _num_samples(X), look(_safe_indexing(X, [0])).shape[1]
    size = max(n_features, math.prod(getattr(estimator, "input_shape_", ())))

    def see(rows):
        """Yield what is seen of rows, part by part: a memory map is never copied as a whole."""
        for part in gen_batches(len(rows), max(1, _AT_ONCE // size)):
            yield look(_safe_indexing(X, rows[part]))

    rows = rows_to_cluster(n_samples, n_features, rng)
    centers, _ = find_centers(np.concatenate([*see(rows)]), np.ones(len(rows)), n_experts, rng)
    routes = [pairwise_distances_argmin(Z, centers) for Z in see(np.arange(n_samples))]
    return np.concatenate(routes)


def _view(estimator, X):
    """Return samples as a linear router sees them if it sees X itself."""
    dtypes = (np.float32, np.float64, np.uint8)  # bytes are a picture's, or small numbers
    X = check_named(X, "X", dtype=dtypes, allow_nd=True)
    # Rows of a table may be read as patches or pictures.
    return linear_view(X.reshape(len(X), *getattr(estimator, "input_shape_", X.shape[1:])))
