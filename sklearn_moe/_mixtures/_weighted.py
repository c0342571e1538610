"""Fits with weights: pipelines, random states, and how many parameters were fitted."""

import copy

import numpy as np
from scipy.sparse import issparse
from sklearn.base import clone, is_classifier
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.linear_model import (
    GammaRegressor,
    LinearRegression,
    LogisticRegression,
    PoissonRegressor,
    TweedieRegressor,
)
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import validate_data

from .._threads import ignored_warnings
from .._validation import accepts_argument, last_step
from ._defaults import ColumnEncoder

# A seed is added to the index of a component, of which there are few.
LARGEST_SEED = 2**31 - 11
# Without a penalty these are the same functions in all units of their columns.
_LINEAR = LinearRegression, LogisticRegression, PoissonRegressor, GammaRegressor, TweedieRegressor


class Template:
    """An unfitted expert or gate, whose transformers are fitted once and whose last step often.

    The transformers of a pipeline are the same in every step of EM and for all components. Only the
    encoder of default parts sees the weights of the samples. Linear models without a penalty are
    fitted to standardized columns, as solvers leave out those of small units, or stop early, and
    `whole` turns their coefficients back.

    Attributes
    ----------
    estimator : estimator
        As it was given.

    last : estimator
        The last step of the pipeline, or the estimator itself.

    X : array-like of shape (n_samples, n_columns)
        The training samples as the last step takes them.
    """

    def __init__(self, estimator, X, y, weight=None):
        self.estimator = estimator
        self.last = estimator
        self.X = self.read = X
        self.scaler = None
        if type(estimator) in _LINEAR and not _has_penalty(estimator):
            self.scaler = StandardScaler(with_mean=estimator.fit_intercept and not issparse(X))
            self.X = self.scaler.set_output(transform="default").fit_transform(X)
        if isinstance(estimator, Pipeline):
            self.pipeline = clone(estimator)
            if isinstance(estimator[0], ColumnEncoder):
                X = self.pipeline[0].fit(X, sample_weight=weight).transform(X)
            elif len(estimator) > 1:
                X = self.pipeline[:-1].fit_transform(X, y)
            # The last step may be a pipeline, too.
            self.inner = Template(self.pipeline.steps[-1][1], X, y)
            self.last = self.inner.last
            self.X = self.inner.X

    def draw(self, seed):
        """Return a last step to begin with, in which every random state that is None is drawn."""
        last = clone(self.last)
        random_state = np.random.RandomState(seed)
        params = last.get_params()
        for name in sorted(params):
            if name.split("__")[-1] == "random_state" and params[name] is None:
                last.set_params(**{name: random_state.randint(2**31 - 1)})
        return last

    def whole(self, last):
        """Return the fitted estimator that a fitted last step belongs to."""
        if self.scaler:
            last = copy.copy(last)
            last.coef_ = last.coef_ / self.scaler.scale_
            if self.scaler.with_mean:
                last.intercept_ = last.intercept_ - last.coef_ @ self.scaler.mean_
            # The names of the columns.
            validate_data(last, self.read, skip_check_array=True)
        if not isinstance(self.estimator, Pipeline):
            return last
        fitted = clone(self.pipeline)
        name = fitted.steps[-1][0]
        fitted.steps = [*self.pipeline.steps[:-1], (name, self.inner.whole(last))]
        return fitted


def fit_weighted(estimator, X, y, weight):
    """Return a fitted copy; one with `warm_start=True` goes on from where the original stands.

    Without weights, `fit` gets none.
    """
    if weight is None:
        return copy.copy(estimator).fit(X, y)
    is_warm = getattr(estimator, "warm_start", False)
    # Without it, fit replaces what it sets: a shallow copy leaves the original as it is.
    estimator = copy.deepcopy(estimator) if is_warm else copy.copy(estimator)
    if getattr(last_step(estimator), "solver", None) != "newton-cholesky":
        return estimator.fit(X, y, sample_weight=weight)
    # It goes on by lbfgs then: nothing is wrong.
    with ignored_warnings("Line search of Newton solver", "The inner solver of Newton"):
        return estimator.fit(X, y, sample_weight=weight)


def _has_penalty(model):
    return getattr(model, "alpha", 0) > 0 or getattr(model, "C", np.inf) < np.inf


def takes_weights(estimator):
    """Tell whether `fit` of the last step takes sample weights."""
    return accepts_argument(last_step(estimator).fit, "sample_weight")


def count_parameters(estimator):
    """Return the number of parameters that a fitted estimator has, None if it is not countable."""
    last = last_step(estimator)
    n_outputs = len(last.classes_) - 1 if is_classifier(last) else 1
    if hasattr(last, "tree_"):
        n_leaves = last.get_n_leaves()
        # A threshold per split.
        return n_leaves * n_outputs + n_leaves - 1
    if isinstance(last, DummyRegressor | DummyClassifier):
        return n_outputs
    if hasattr(last, "coef_") and np.ndim(last.coef_) <= 2 and not hasattr(last, "support_"):
        n_columns = np.shape(last.coef_)[-1]
        return n_outputs * (n_columns + bool(getattr(last, "fit_intercept", False)))
    return None
