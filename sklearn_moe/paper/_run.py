"""One run: an estimator, fitted on a problem from a seed, and what is measured of it."""

import hashlib
import json
import time
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from sklearn import config_context
from sklearn.base import BaseEstimator, clone
from sklearn.metrics import accuracy_score, make_scorer
from sklearn.model_selection import cross_validate
from sklearn.pipeline import Pipeline

from .._training.checkpoint import describe
from .._training.placement import one_thread
from ..callbacks import RoutingTrace
from ..datasets import PAPER_SETTINGS, make_cluster_patches
from ..metrics import dispatch_entropy, neg_dispatch_entropy_scorer, routing_matrix
from ._provenance import code_hash, origin

DATA_SEEDS = {1: 12, 2: 11, 3: 11, 4: 11, "verify": 11, "visualization": 11}  # of the notebooks


class Samples(NamedTuple):
    """Samples of one problem: the first `n_train` are for training, the others for the test.

    Attributes
    ----------
    X : ndarray of shape (n_samples, n_patches, patch_size)
    y : ndarray of shape (n_samples,)
    clusters : ndarray of shape (n_samples,)
    hard : ndarray of shape (n_samples,)
        1. where the feature noise contradicts the label (y eps = -1), else 0.
    dictionary : tuple (features, centers)
    """

    X: np.ndarray
    y: np.ndarray
    clusters: np.ndarray
    hard: np.ndarray
    dictionary: tuple


@dataclass(frozen=True)
class Problem:
    """A setting of the paper and how it is drawn.

    Parameters
    ----------
    setting : int or str, default=1
        A key of `PAPER_SETTINGS`.
    n_train, n_test : int, default=16_000
    data_seed : int, default=None
        The same data for every run, as in the authors' notebooks (their seeds: `DATA_SEEDS`).
        None: every run has a problem of its own.
    """

    setting: int | str = 1
    n_train: int = 16_000
    n_test: int = 16_000
    data_seed: int | None = None

    @property
    def settings(self):
        """Return what identifies the problem, as plain values."""
        return asdict(self)

    @property
    def options(self):
        """Return parameters of the generator."""
        return PAPER_SETTINGS[self.setting]

    def draw(self, seed):
        """Return the samples of the run with this seed."""
        X, y, clusters, dictionary = make_cluster_patches(
            self.n_train + self.n_test,
            return_clusters=True,
            return_dictionary=True,
            random_state=seed if self.data_seed is None else self.data_seed,
            **self.options,
        )
        return Samples(X, y, clusters, _misled(X, y, clusters, dictionary), dictionary)


def _misled(X, y, clusters, dictionary):
    """Return 1. where the feature noise eps gamma v_k' contradicts the label, else 0."""
    coefficients = X @ np.vstack(dictionary).T  # (n, P, 2K)
    energy = (X**2).sum(2)
    # Signals lie in the span of the dictionary, random noise does not.
    noise = energy - (coefficients**2).sum(2) > 1e-3 * energy
    coefficients[noise] = 0
    signals = coefficients[..., : len(dictionary[0])].sum(1)  # of the features, (n, K)
    np.put_along_axis(signals, clusters[:, None], 0, axis=1)
    return ((signals.sum(1) > 0) != (y == 1)).astype(float)


@dataclass(frozen=True, eq=False)
class Run:
    """One fit: everything that its result depends on, and nothing else.

    Parameters
    ----------
    problem : Problem
    estimator : estimator
        Cloned before it is fitted. All its `random_state` are set to the seed.
    seed : int
    trace : int, default=None
        Steps between two records of the routing of the training samples, None for none. A single
        expert has no routing.
    """

    problem: Problem
    estimator: BaseEstimator
    seed: int
    trace: int | None = None

    @cached_property
    def settings(self):
        """Return what identifies the run, as plain values: among them a hash of the code."""
        return {
            "run": describe(type(self)),
            "problem": {"class": describe(type(self.problem))} | self.problem.settings,
            "estimator": describe(seeded(self.estimator, self.seed)),
            "trace": self._every,
            "code": code_hash(type(self).__module__.rpartition(".")[2]),
        }

    @cached_property
    def key(self):
        """Return a hash of the settings: the name under which the result is stored."""
        text = json.dumps(self.settings, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def _routes(self):
        """Whether the model has more than one expert; it may be the last step of a pipeline."""
        return getattr(_final(self.estimator), "n_experts", 1) != 1

    @property
    def _every(self):
        """Steps between two records; None without experts, or behind other steps of a pipeline."""
        return self.trace if self._routes and _final(self.estimator) is self.estimator else None

    def perform(self):
        """Fit and measure; the result is plain numbers and lists."""
        start = time.perf_counter()
        fitted, result = self.fit(seeded(self.estimator, self.seed))
        return result | {
            "seed": self.seed,
            "seconds": time.perf_counter() - start,
            "device": str(fitted.net_.device) if hasattr(fitted, "net_") else "cpu",
            "code": self.settings["code"],
            **origin(),
        }

    def fit(self, model):
        """Fit a model, and return it and what is measured of it."""
        samples = self.problem.draw(self.seed)
        if self._every:
            trace = self._trace(samples)
            model.set_params(callbacks=[*(model.callbacks or []), trace])
        scores = self._cross_validate(model, samples)
        fitted = _final(scores["estimator"][0])
        result = {name: 100 * float(scores[key][0]) for name, key in _ACCURACIES.items()}
        result["fit_seconds"] = float(scores["fit_time"][0])
        if self._routes:
            result["entropy"] = -float(scores["train_entropy"][0])  # as in the notebooks
            result["test_entropy"] = -float(scores["test_entropy"][0])
            result["load"] = fitted.expert_load_.tolist()
        if self._every:
            n_outputs = len(fitted.module_.experts[0].weight)
            result |= summarize(fitted.callbacks[-1], n_outputs)
        if hasattr(fitted, "n_iter_"):
            result["steps"] = int(np.max(fitted.n_iter_))
        with one_thread():
            result |= self.measure(fitted, samples)
        return fitted, result

    def measure(self, fitted, samples):
        """Return what else is measured of the fitted model, as plain values: here nothing."""
        return {}

    def _trace(self, samples):
        """Return a record of the training samples' routing, with noise as the authors took it."""
        n_train = self.problem.n_train
        return RoutingTrace(
            samples.X[:n_train],
            samples.clusters[:n_train],
            dictionary=samples.dictionary,
            noise=True,
            every=self._every,
            max_records=10**6,
        )

    def _cross_validate(self, model, samples):
        """Fit to the training samples and score on both parts, with one thread."""
        n_train, n_samples = self.problem.n_train, len(samples.X)
        with config_context(enable_metadata_routing=True), one_thread():
            hard = make_scorer(accuracy_score).set_score_request(sample_weight="hard")
            scorers, params = {"accuracy": "accuracy", "hard": hard}, {"hard": samples.hard}
            if self._routes:
                scorers["entropy"] = neg_dispatch_entropy_scorer.set_score_request(clusters=True)
                params["clusters"] = samples.clusters
            return cross_validate(
                model,
                samples.X if _takes_patches(model) else samples.X.reshape(n_samples, -1),
                samples.y,
                cv=[(np.arange(n_train), np.arange(n_train, n_samples))],
                scoring=scorers,
                params=params,
                return_train_score=True,
                return_estimator=True,
                error_score="raise",
            )


_ACCURACIES = {
    "accuracy": "test_accuracy",
    "train_accuracy": "train_accuracy",
    "hard_accuracy": "test_hard",
}


def _takes_patches(model):
    """Whether a model takes bags of patches as they are, not as rows."""
    return model.__sklearn_tags__().input_tags.three_d_array


def _final(model):
    """Return the last step of a pipeline, anything else as it is."""
    return model.steps[-1][1] if isinstance(model, Pipeline) else model


def seconds(function, *arguments):
    """Return how long a call takes."""
    start = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - start


def parameters_named(name, estimator):
    """Return the parameters with a name, of the estimator and of those inside of it."""
    return [p for p in estimator.get_params() if p.rsplit("__")[-1] == name]


def seeded(estimator, seed):
    """Return a clone whose every random_state is the seed."""
    return clone(estimator).set_params(
        **dict.fromkeys(parameters_named("random_state", estimator), seed)
    )


def routes(model, X, clusters):
    """Return how many samples of each cluster an expert gets, their entropy, and the load."""
    experts = model.apply(X)
    dispatch = routing_matrix(clusters, experts, n_experts=len(model.expert_load_))
    return {
        "test_entropy": dispatch_entropy(clusters, experts),
        "dispatch": dispatch.tolist(),
        "load": model.expert_load_.tolist(),
    }


LIVE = 0.01  # share of the samples below which an expert counts as unused


def used_experts(routing):
    """Return which experts have at least the share `LIVE` of the samples, of counts (K, M)."""
    return routing.sum(0) >= LIVE * routing.sum()


MATRICES = ("router_features", "router_centers", "expert_features", "expert_centers")


def summarize(trace, n_outputs):
    """Return curves and inner products of a :class:`~sklearn_moe.callbacks.RoutingTrace`.

    The strongest filter stands for an expert: inner products are those of largest magnitude over
    its filters, in arrays of shape (n_experts, n_clusters). Only those of the start have signs,
    because a filter that is to grow must point to v_k for class 1, away from it for class 0.
    """
    n_experts = trace.load_.shape[1]
    routing = routing_matrix(trace.clusters, trace.experts_, n_experts=n_experts)
    experts = {
        name: np.abs(getattr(trace, f"{name}_")).max(2)  # (records, M, K)
        for name in ("expert_features", "expert_centers")
    }
    routers = {name: getattr(trace, f"{name}_") for name in ("router_features", "router_centers")}
    return {
        "curve": {
            "step": trace.epochs_.tolist(),
            "entropy": _plain(trace.dispatch_entropy_),
            # Mean over the experts of their best-aligned vector, v_k or c_k.
            **{name: _plain(a.max(2).mean(1)) for name, a in experts.items()},
            **{name: _plain(np.abs(a).max(2).mean(1)) for name, a in routers.items()},
        },
        "routing": routing.tolist(),  # (K, M), of the training samples at the end
        "initial_features": _plain(_signed(trace.expert_features_[0], n_outputs).max(1)),
        **{name: _plain(a[-1]) for name, a in experts.items()},
        **{name: _plain(a[-1]) for name, a in routers.items()},
    }


def _signed(products, n_outputs):
    """Turn the sign of the filters of class 0, which are the first half; a margin has none."""
    signs = np.ones(products.shape[1])
    if n_outputs > 1:
        signs[: len(signs) // 2] = -1
    return signs[:, None] * products  # (M, F, K)


def _plain(array):
    """Return lists of floats with five digits: enough to draw, and small on disk."""
    if np.ndim(array) > 1:
        return [_plain(row) for row in array]
    return [float(f"{value:.5g}") for value in array]
