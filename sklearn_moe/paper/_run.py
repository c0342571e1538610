"""One run: an estimator, fitted on a problem from a seed, and what is measured of it."""

import platform
import time
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np
import sklearn
import torch
from sklearn import config_context
from sklearn.base import BaseEstimator, clone
from sklearn.metrics import accuracy_score, make_scorer
from sklearn.model_selection import cross_validate
from sklearn.pipeline import Pipeline
from threadpoolctl import threadpool_limits

from .. import __version__
from ..callbacks import RoutingTrace
from ..metrics import neg_dispatch_entropy_scorer
from ._dynamics import summarize
from ._problem import Problem

__all__ = ["Run", "describe", "one_thread", "parameters_named", "seeded", "versions"]

_FORMAT = 2  # of a result: a change of what is measured makes other runs


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
        Steps between two looks at the routing of the training samples, None for no look. A single
        expert has no routing.
    """

    problem: Problem
    estimator: BaseEstimator
    seed: int
    trace: int | None = None

    @property
    def settings(self):
        """Return what identifies the run, as plain values."""
        return {
            "problem": self.problem.settings,
            "estimator": describe(self.estimator),
            "seed": self.seed,
            "trace": self._every,
            "sklearn_moe": __version__,
            "format": _FORMAT,
        }

    @property
    def _routes(self):
        """Whether the model has more than one expert; it may be the last step of a pipeline."""
        return getattr(_final(self.estimator), "n_experts", 1) > 1

    @property
    def _every(self):
        """Steps between two looks: without experts, or behind other steps, there are none."""
        return self.trace if self._routes and _final(self.estimator) is self.estimator else None

    def perform(self):
        """Fit and measure; the result is plain numbers and lists."""
        start = time.perf_counter()
        samples = self.problem.draw(self.seed)
        model = seeded(self.estimator, self.seed)
        if self._every:
            trace = self._trace(samples)
            model.set_params(callbacks=[*(model.callbacks or []), trace])
        scores = self._cross_validate(model, samples)
        fitted = _final(scores["estimator"][0])
        result = {name: 100 * float(scores[key][0]) for name, key in _ACCURACIES.items()}
        if self._routes:
            result["entropy"] = -float(scores["train_entropy"][0])  # as in the notebooks
            result["test_entropy"] = -float(scores["test_entropy"][0])
            result["load"] = fitted.expert_load_.tolist()
        if self._every:
            n_outputs = len(fitted.module_.experts[0].weight)
            result |= summarize(fitted.callbacks[-1], n_outputs)
        if hasattr(fitted, "n_iter_"):
            result["steps"] = int(np.max(fitted.n_iter_))
        return result | {
            "seed": self.seed,
            "fit_seconds": float(scores["fit_time"][0]),
            "seconds": time.perf_counter() - start,
            "device": str(fitted.net_.device) if hasattr(fitted, "net_") else "cpu",
            "versions": versions(),
        }

    def _trace(self, samples):
        """Return a look at the routing of the training samples, noisy as the authors took it."""
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
        clusters = {"clusters": samples.clusters} if self._routes else {}
        with config_context(enable_metadata_routing=True), one_thread():
            return cross_validate(
                model,
                samples.X if _takes_patches(model) else samples.X.reshape(n_samples, -1),
                samples.y,
                cv=[(np.arange(n_train), np.arange(n_train, n_samples))],
                scoring=_scorers(self._routes),
                params={"hard": samples.hard} | clusters,
                return_train_score=True,
                return_estimator=True,
                error_score="raise",
            )


_ACCURACIES = {
    "accuracy": "test_accuracy",
    "train_accuracy": "train_accuracy",
    "hard_accuracy": "test_hard",
}


def _scorers(routes):
    hard = make_scorer(accuracy_score).set_score_request(sample_weight="hard")
    scorers = {"accuracy": "accuracy", "hard": hard}
    if routes:
        scorers["entropy"] = neg_dispatch_entropy_scorer.set_score_request(clusters=True)
    return scorers


def _takes_patches(model):
    """Whether a model takes bags of patches as they are, not as rows."""
    return model.__sklearn_tags__().input_tags.three_d_array


def _final(model):
    """Return the last step of a pipeline, anything else as it is."""
    return model.steps[-1][1] if isinstance(model, Pipeline) else model


def parameters_named(name, estimator):
    """Return the parameters with a name, of the estimator and of those inside of it."""
    return [p for p in estimator.get_params() if p.rsplit("__")[-1] == name]


def seeded(estimator, seed):
    """Return a clone whose every random_state is the seed."""
    return clone(estimator).set_params(
        **dict.fromkeys(parameters_named("random_state", estimator), seed)
    )


@contextmanager
def one_thread():
    """Compute with one thread, so that no result depends on how many runs go side by side."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(threads)


def describe(value):
    """Return a parameter as plain JSON values: what the key of a run is made of."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.generic | np.ndarray | torch.Tensor):
        return value.tolist()
    if isinstance(value, list | tuple):
        return [describe(part) for part in value]
    if isinstance(value, Mapping):
        return {str(key): describe(part) for key, part in value.items()}
    if isinstance(value, type) or hasattr(value, "__qualname__"):
        if "<" in value.__qualname__:
            raise TypeError(
                f"{value!r} has no name by which a run could be found again. Define it at the top "
                "level of a module."
            )
        return f"{value.__module__}.{value.__qualname__}"
    if isinstance(value, partial):
        return [describe(part) for part in (value.func, value.args, value.keywords)]
    if hasattr(value, "get_params"):  # the seed of a run takes the place of its random_state
        parameters = value.get_params(deep=False)
        parameters.pop("random_state", None)
    else:  # a spec of an expert, a callback
        parameters = vars(value)
    described = {name: describe(part) for name, part in sorted(parameters.items())}
    return {"class": describe(type(value))} | described


def versions():
    """Return the versions that a result was made with."""
    return {
        "sklearn_moe": __version__,
        "torch": torch.__version__,
        "scikit-learn": sklearn.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }
