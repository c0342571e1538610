"""Scorers of routes, for `cross_validate`, `GridSearchCV` and their like."""

import copy
from collections.abc import Callable
from inspect import signature

from sklearn import get_config
from sklearn.metrics import normalized_mutual_info_score
from sklearn.utils.metadata_routing import MetadataRequest

from .._validation import check_column, final_step
from ._routing import check_labels, dispatch_entropy, encode


# A scorer of `make_scorer` calls `predict` and never sees the routes.
class RoutingScorer:
    """Scorer that evaluates the routes of a fitted mixture of experts; larger is better.

    It is called as `scorer(estimator, X, y)`, like the scorers of scikit-learn. Metadata, such
    as the clusters, are keyword arguments. In a cross-validation they come through scikit-learn's
    metadata routing, if :meth:`set_score_request` asks for them.

    Parameters
    ----------
    name : str
        The name of the scorer, for its representation and messages.

    score_func : callable
        `score_func(estimator, X, *, ...) -> float` with the mixture itself, never a pipeline,
        and X as it takes it. The keyword arguments are the metadata; those without a default
        must be given.
    """

    def __init__(self, name: str, score_func: Callable):
        self._name = name
        self._score_func = score_func
        self._requests: dict = {}

    def __call__(self, estimator, X, y=None, **metadata):
        """Return the score of a fitted mixture, or of a pipeline that ends in one.

        Parameters
        ----------
        estimator : estimator instance
            Fitted mixture of experts, or a fitted :class:`~sklearn.pipeline.Pipeline` in which
            it is the last step.

        X : array-like of shape (n_samples, ...)
            Samples.

        y : array-like of shape (n_samples,), default=None
            Not used: the score depends on the routes only.

        **metadata : dict
            For instance `clusters`, of shape (n_samples,).

        Returns
        -------
        score : float

        Raises
        ------
        ValueError
            If metadata that the scorer needs is missing.

        TypeError
            If the scorer does not know the metadata, or the estimator is not a mixture.
        """
        self._check_known(metadata)
        for name, parameter in self._parameters().items():
            if parameter.default is parameter.empty and metadata.get(name) is None:
                raise ValueError(
                    f"{self._name} needs `{name}`, one entry per sample, which is missing. Pass it "
                    "in three steps:\n"
                    "1. sklearn.set_config(enable_metadata_routing=True)\n"
                    f"2. scorer = {self._name}.set_score_request({name}=True)  # a copy: use it\n"
                    f'3. cross_validate(..., scoring=scorer, params={{"{name}": {name}}})'
                )
        return self._score_func(*final_step(estimator, X), **metadata)

    def set_score_request(self, **requests: bool | str | None) -> "RoutingScorer":
        """Return a copy of the scorer that asks for metadata.

        Unlike a scorer of `make_scorer` it does not change itself, because it is a constant of the
        module. Use the copy that is returned.

        Parameters
        ----------
        **requests : dict of {str: bool, str or None}
            For each metadata: True to request it, False to ignore it, None to refuse it, or
            the name under which it is passed.

        Returns
        -------
        scorer : RoutingScorer

        Raises
        ------
        RuntimeError
            If metadata routing is not enabled.

        TypeError
            If the scorer does not know the metadata.
        """
        if not get_config()["enable_metadata_routing"]:
            raise RuntimeError(
                "set_score_request needs metadata routing. Enable it with "
                "sklearn.set_config(enable_metadata_routing=True)."
            )
        self._check_known(requests)
        scorer = copy.copy(self)
        scorer._requests = self._requests | requests
        # It refuses what is not a valid request.
        scorer.get_metadata_routing()
        return scorer

    def get_metadata_routing(self) -> MetadataRequest:
        """Return the metadata that the scorer asks for.

        Returns
        -------
        request : MetadataRequest
        """
        request = MetadataRequest(owner=self._name)
        for name in self._parameters():
            request.score.add_request(param=name, alias=self._requests.get(name))
        return request

    def _parameters(self):
        """Return the metadata that the score knows, {name: inspect.Parameter}."""
        parameters = signature(self._score_func).parameters
        return {k: v for k, v in parameters.items() if v.kind is v.KEYWORD_ONLY}

    def _accept_sample_weight(self):
        """Return whether the scorer takes sample weights; scikit-learn calls it."""
        return "sample_weight" in self._parameters()

    def _check_known(self, names):
        known = self._parameters()
        unknown = sorted(set(names) - set(known))
        if unknown:
            raise TypeError(
                f"{self._name} does not know {', '.join(unknown)}. It takes "
                f"{', '.join(known) or 'no metadata'}."
            )

    def __repr__(self):
        requests = ", ".join(f"{name}={alias!r}" for name, alias in self._requests.items())
        return f"{self._name}.set_score_request({requests})" if requests else self._name


def _neg_dispatch_entropy(estimator, X, *, clusters, sample_weight=None):
    return -dispatch_entropy(clusters, estimator.apply(X), sample_weight=sample_weight)


def _cluster_nmi(estimator, X, *, clusters):
    first = check_labels(estimator.apply(X))[:, 0]
    clusters = encode(check_column(clusters, "clusters"), "clusters")[1]
    return float(normalized_mutual_info_score(clusters, first))


neg_dispatch_entropy_scorer = RoutingScorer("neg_dispatch_entropy_scorer", _neg_dispatch_entropy)
cluster_nmi_scorer = RoutingScorer("cluster_nmi_scorer", _cluster_nmi)
