"""One run: an estimator, fitted on a problem from a seed, and what is measured of it."""

import time
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import NamedTuple

import joblib
import numpy as np
from sklearn.base import BaseEstimator, clone
from sklearn.pipeline import Pipeline
from threadpoolctl import threadpool_limits

from ..callbacks import RoutingTrace
from ..datasets import PAPER_SETTINGS, make_cluster_patches, make_paper_patches
from ..metrics import dispatch_entropy, routing_matrix
from ._provenance import origin

AUTHORS = "authors"
# For one data set of this library in all runs; the numbers are those of the notebooks.
DATA_SEEDS = {1: 12, 2: 11, 3: 11, 4: 11, "verify": 11, "visualization": 11}


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
    setting : int, float or str, default=1
        A key of `PAPER_SETTINGS`.
    n_train, n_test : int, default=16_000
    data_seed : int or "authors", default=None
        The same data for every run: drawn from this seed, or the authors' own, of settings 1 to 4.
        None: every run has a problem of its own.
    """

    setting: float | str = 1
    n_train: int = 16_000
    n_test: int = 16_000
    data_seed: int | str | None = None

    @property
    def settings(self):
        """Return what identifies the problem."""
        return asdict(self)

    @property
    def options(self):
        """Return parameters of the generator."""
        return PAPER_SETTINGS[self.setting]

    def draw(self, seed):
        """Return the samples of the run with this seed."""
        asked = {"return_clusters": True, "return_dictionary": True}
        if self.data_seed == AUTHORS:
            X, y, clusters, dictionary = make_paper_patches(self.setting, **asked)
            start = len(X) // 2  # of the test
            kept = np.r_[: self.n_train, start : start + self.n_test]
            X, y, clusters = X[kept], y[kept], clusters[kept]
        else:
            X, y, clusters, dictionary = make_cluster_patches(
                self.n_train + self.n_test,
                random_state=seed if self.data_seed is None else self.data_seed,
                **asked,
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
    def key(self):
        """Return a hash of what identifies the run."""
        kind = type(self), type(self.problem), self.trace if self._routes else None
        return joblib.hash((kind, self.problem.settings, seeded(self.estimator, self.seed)))

    @property
    def _routes(self):
        """Whether the model has more than one expert."""
        return getattr(self.estimator, "n_experts", 1) != 1

    def perform(self):
        """Fit and measure; the result is plain numbers and lists."""
        start = time.perf_counter()
        fitted, result = self.fit(seeded(self.estimator, self.seed))
        return result | {
            "seed": self.seed,
            "seconds": time.perf_counter() - start,
            "device": str(fitted.net_.device) if hasattr(fitted, "net_") else "cpu",
            **origin(),
        }

    def fit(self, model):
        """Fit a model, and return it and what is measured of it."""
        samples = self.problem.draw(self.seed)
        self.prepare(model, samples)
        X, y, clusters, hard, _ = samples
        if not model.__sklearn_tags__().input_tags.three_d_array:
            X = X.reshape(len(X), -1)
        train, test = slice(self.problem.n_train), slice(self.problem.n_train, None)
        with threadpool_limits(1):
            result = {"fit_seconds": seconds(model.fit, X[train], y[train])}
            right = model.predict(X[test]) == y[test]
            result["accuracy"] = 100 * float(right.mean())
            result["hard_accuracy"] = 100 * float(np.average(right, weights=hard[test]))
            right = model.predict(X[train]) == y[train]
            result["train_accuracy"] = 100 * float(right.mean())
            if self._routes:
                for name, part in (("entropy", train), ("test_entropy", test)):
                    result[name] = float(dispatch_entropy(clusters[part], model.apply(X[part])))
                result["load"] = model.expert_load_.tolist()
            if self._routes and self.trace:
                result |= summarize(model.callbacks[-1], len(model.module_.experts[0].weight))
            last = model[-1] if isinstance(model, Pipeline) else model
            if hasattr(last, "n_iter_"):
                result["steps"] = int(np.max(last.n_iter_))
            return model, result | self.measure(model, samples)

    def prepare(self, model, samples):
        """Add what records the routing of the training samples, with noise as the authors did."""
        if self._routes and self.trace:
            trace = RoutingTrace(
                samples.X[: self.problem.n_train],
                samples.clusters[: self.problem.n_train],
                dictionary=samples.dictionary,
                noise=True,
                every=self.trace,
            )
            model.set_params(callbacks=[*(model.callbacks or []), trace])

    def measure(self, fitted, samples):
        """Return what else is measured of the fitted model, as plain values: here nothing."""
        return {}


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
