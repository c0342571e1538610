"""Everything about the specialization of a fitted mixture in one call."""

import math
from functools import partial

import numpy as np
from scipy.stats import entropy
from sklearn import metrics
from sklearn.metrics.cluster import contingency_matrix, expected_mutual_information
from sklearn.utils import _safe_indexing, check_random_state, gen_batches, indexable
from sklearn.utils.validation import _num_samples

from .._data.statistics import find_centers, rows_to_cluster
from .._validation import Count, check_column, check_named, check_same_length, final_step
from ._experts import ablation, cross_evaluation, evaluate, mean_errors, own_other_error
from ._report import ClusterAgreement, SpecializationReport
from ._router import dead_experts, expert_load, load_cv, router_margin, usage_entropy
from ._routing import (
    check_labels,
    dispatch_entropy,
    mutual_information,
    purity,
    routing_matrix,
    table_purity,
    validated,
)
from ._significance import dispatch_entropy_test, permuted_mean
from ._split import image_properties, quantile_bins, split_information

_NEEDS = ("apply", "gate_proba", "predict")
_N_BINS = 10  # groups of a property
_VALUES_AT_ONCE = 2**20  # of the router inputs: bounds the memory
_SIDE = 4  # pixels of a square patch of an image, as in nn.routers


@validated("y", "clusters", n_permutations=[Count(1)], random_state=["random_state"])
def specialization_report(
    estimator, X, y, clusters=None, *, n_permutations=1000, random_state=None
):
    """Measure the specialization of the experts of a fitted mixture.

    Every figure comes with a null: its value without any specialization. Use samples that the
    mixture has not been fitted on.

    Parameters
    ----------
    estimator : estimator instance
        Fitted :class:`~sklearn_moe.MoEClassifier` or :class:`~sklearn_moe.MoERegressor`, or a
        fitted :class:`~sklearn.pipeline.Pipeline` that ends in one.

    X : array-like of shape (n_samples, ...)
        Samples, as `estimator` takes them. For images, (n_samples, n_channels, height, width), the
        report also shows what the split follows: the class, brightness, color, or nothing.

    y : array-like of shape (n_samples,), (n_samples, n_labels) or (n_samples, n_outputs)
        The true class labels, zeros and ones of several labels, or targets of a regression.

    clusters : array-like of shape (n_samples,), default=None
        The true cluster of every sample, labels of any type. If None, the report leaves out
        what needs them.

    n_permutations : int, default=1000
        How often clusters, and the properties of images, are shuffled for the null. At least a
        hundred are needed to find what a split follows.

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
        If the estimator is not a mixture of experts: it needs the methods `apply`, `gate_proba`,
        `predict`, and `expert_proba` or `expert_predict`.

    ValueError
        If the lengths differ, there are no samples, or the targets of a regression are constant.

    See Also
    --------
    sklearn_moe.inspection.RoutingDisplay : A plot of the routing matrix.
    split_information : The mutual information of any property of the samples and the expert.

    Notes
    -----
    The score of classes is the accuracy, of several labels the share of right ones, of a regression
    R2; errors of a regression are mean squared errors in units of the variance of all of `y`.

    The k-means column shows what the geometry of the inputs alone is worth: it replaces the router
    by as many k-means centers as there are experts. They are found among the router inputs of the
    given samples, of a linear router without a trunk: the standardized and encoded columns of 2-D
    X, the sum over the patches of 3-D X, the sum over the patches of 4 x 4 pixels of 4-D X.
    `MoEClassifier(router="kmeans")` does the same with the samples that it is fitted on.

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
    options = {"n_permutations": n_permutations, "random_state": check_random_state(random_state)}
    experts, gate_proba = estimator.apply(X), estimator.gate_proba(X)
    score_name, score, chance_score, scores = evaluate(estimator, X, y)
    n_samples, n_experts = gate_proba.shape
    load = expert_load(experts, n_experts=n_experts)
    crossed = cross_evaluation(scores, experts)
    first_load = expert_load(check_labels(experts)[:, 0], n_experts=n_experts)
    first_score, other_score = _own_and_other(crossed, first_load)
    parts = {}
    if clusters is not None:
        parts = _compare_with_clusters(estimator, X, clusters, experts, scores, options)
    images = _find_images(estimator, given, X)
    if images is not None:
        groups = _target_groups(y, score_name) | image_properties(images, n_bins=_N_BINS)
        parts["split"] = {
            name: split_information(labels, experts, **options) for name, labels in groups.items()
        }
    return SpecializationReport(
        n_samples=n_samples,
        n_experts=n_experts,
        score_name=score_name,
        score=score,
        chance_score=chance_score,
        load=load,
        load_cv=load_cv(load),
        usage_entropy=usage_entropy(load),
        dead_experts=dead_experts(load),
        router_margin=float(router_margin(gate_proba).mean()),
        ablation_scores=ablation(scores, gate_proba, experts),
        cross_evaluation_scores=crossed,
        first_score=first_score,
        other_score=other_score,
        **parts,
    )


def _own_and_other(crossed, first_load):
    """Return the mean score of the experts on their own samples, and that of the others on them."""
    is_alive = first_load > 0
    own = crossed.diagonal()
    n_others = len(own) - 1
    other = (crossed.sum(axis=1) - own) / n_others if n_others else np.full(1, np.nan)
    return tuple(float(first_load[is_alive] @ mean[is_alive]) for mean in (own, other))


def _compare_with_clusters(estimator, X, clusters, experts, scores, options):
    """Return the attributes of the report that need clusters."""
    n_experts, rng = scores.shape[1], options["random_state"]
    matrix = routing_matrix(clusters, experts, n_experts=n_experts)
    errors = mean_errors(scores, clusters)
    own, other = own_other_error(errors, matrix)
    test = dispatch_entropy_test(clusters, experts, **options)
    return {
        "cluster_labels": np.unique(check_column(clusters, "clusters")),
        "routing_matrix": matrix,
        "entropy_test": test,
        "agreement": _agreement(clusters, experts),
        "null_agreement": _null_agreement(clusters, experts, test.null_mean, options),
        "kmeans_agreement": _agreement(clusters, _kmeans_routes(estimator, X, n_experts, rng)),
        "error_matrix": errors,
        "own_error": own,
        "other_error": other,
    }


def _find_images(estimator, given, X):
    """Return the images that the mixture is given, or those at the start of a pipeline, or None."""
    shape = getattr(estimator, "input_shape_", np.shape(X)[1:])
    if len(shape) == 3:
        return np.reshape(X, (len(X), *shape))
    return given if np.ndim(given) == 4 else None


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
    # Mixtures of other libraries do not have this method.
    router_input = getattr(estimator, "_router_input", partial(_default_router_input, estimator))
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


def _default_router_input(estimator, X):
    """Return samples as a linear router without trunk and encoding reads them."""
    X = check_named(X, "X", dtype=(np.float32, np.float64, np.uint8), allow_nd=True)
    # Rows of a table may be read as patches or images.
    return sum_patches(X.reshape(len(X), *getattr(estimator, "input_shape_", X.shape[1:])))


def sum_patches(X):
    """Return the sum of the patches of each sample, (n_samples, patch_size).

    A linear router adds the scores of all patches, so it depends on their sum only. This is
    `pool` of `nn.routers` without torch: vectors are returned as they are, not copied; images are
    cut into patches of 4 x 4 pixels, without incomplete ones at the end, and uint8 is scaled to
    0 ... 1.
    """
    if X.ndim != 4:
        return X.sum(axis=1) if X.ndim == 3 else X.reshape(len(X), -1)
    side = min(_SIDE, *X.shape[2:])
    rows, columns = (length // side for length in X.shape[2:])
    patches = X[:, :, : rows * side, : columns * side]
    patches = patches.reshape(*X.shape[:2], rows, side, columns, side)
    total = patches.sum(axis=(2, 4)).reshape(len(X), -1)  # of uint8 exact: NumPy adds in uint64
    return total / 255 if X.dtype == np.uint8 else total
