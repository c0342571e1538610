"""Scorers of routes, for `cross_validate`, `GridSearchCV` and their like."""

from typing import Any

from numpy.typing import ArrayLike
from sklearn.utils.metadata_routing import MetadataRequest

from .._validation import final_step
from ._routing import dispatch_entropy


# A scorer of `make_scorer` calls `predict` and never sees the routes.
def neg_dispatch_entropy_scorer(
    estimator: Any, X: Any, y: Any = None, *, clusters: ArrayLike
) -> float:
    """Score the routes of a fitted mixture by minus the dispatch entropy; larger is better.

    It is for `scoring` of scikit-learn's functions. In a cross-validation it gets the clusters of
    each fold by metadata routing, for which it asks by itself.

    Parameters
    ----------
    estimator : estimator instance
        Fitted mixture of experts with `apply`, or a pipeline that ends in one.

    X : array-like of shape (n_samples, ...)
        Samples.

    y : array-like, default=None
        Not used.

    clusters : array-like of shape (n_samples,)
        The true cluster of every sample, labels of any type.

    Returns
    -------
    score : float
        At most 0, which means that every expert has samples of one cluster only.

    Examples
    --------
    >>> import sklearn
    >>> from sklearn.model_selection import cross_val_score
    >>> from sklearn_moe import MoEClassifier
    >>> from sklearn_moe.datasets import make_cluster_patches
    >>> from sklearn_moe.metrics import neg_dispatch_entropy_scorer
    >>> X, y, clusters = make_cluster_patches(100, return_clusters=True, random_state=0)
    >>> clf = MoEClassifier(n_experts=2, max_iter=2, tol=None, random_state=0)
    >>> with sklearn.config_context(enable_metadata_routing=True):
    ...     scores = cross_val_score(
    ...         clf, X, y, cv=2, scoring=neg_dispatch_entropy_scorer, params={"clusters": clusters})
    >>> scores.shape
    (2,)
    """
    mixture, X = final_step(estimator, X, ("apply",))
    return -dispatch_entropy(clusters, mixture.apply(X))


_request = MetadataRequest(owner="neg_dispatch_entropy_scorer")
_request.score.add_request(param="clusters", alias=True)
# scikit-learn asks a scorer for the metadata that it needs.
neg_dispatch_entropy_scorer.get_metadata_routing = lambda: _request  # type: ignore[attr-defined]
