"""Kinds of experts that are estimators of scikit-learn, or of anybody who follows its rules."""

import inspect

import numpy as np
from scipy.special import logit
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.dummy import DummyClassifier
from sklearn.ensemble._base import _set_random_states
from sklearn.multioutput import MultiOutputClassifier, MultiOutputRegressor
from sklearn.pipeline import Pipeline

from .linear import scale_output

# A probability of 0 would rule out what may be true; the least rate, in means of y.
_LEAST_PROBABILITY, _LEAST_RATE = 1e-6, 1e-3


class Member:
    """A fitted estimator, whose predictions are outputs of a head.

    Parameters
    ----------
    estimator : estimator
    head : Head
    """

    def __init__(self, estimator, head):
        self.estimator = estimator
        self.kind, self.n_targets, self.n_outputs = head.kind, head.n_targets, head.n_outputs
        self.is_rate = getattr(head, "is_rate", False)
        # Of heads with a scale: the output that stands for it.
        self.of_scale = None

    def __call__(self, X):
        """Return the outputs for rows, (n_rows, n_outputs)."""
        if self.kind == "regression":
            outputs = self.estimator.predict(X).reshape(len(X), -1)
            if self.is_rate:
                outputs = np.log(np.maximum(outputs, _LEAST_RATE))
        elif self.kind == "multilabel":
            outputs = np.column_stack(
                [
                    proba @ estimator.classes_
                    for estimator, proba in zip(
                        self.estimator.estimators_, self.estimator.predict_proba(X), strict=True
                    )
                ]
            )
            outputs = logit(outputs.clip(_LEAST_PROBABILITY, 1 - _LEAST_PROBABILITY))
        else:
            proba = np.zeros((len(X), self.n_targets))
            proba[:, self.estimator.classes_] = self.estimator.predict_proba(X)
            outputs = np.log(np.maximum(proba, _LEAST_PROBABILITY))
            if self.n_outputs == 1:
                outputs = outputs[:, 1:] - outputs[:, :1]
        if self.of_scale is not None:
            outputs = np.column_stack([outputs, np.tile(self.of_scale, (len(X), 1))])
        return outputs


def fit_members(fit, kind, estimator, in_bag):
    """Fit copies of an estimator to the rows of each bag; give them to the pool.

    They read the columns that linear experts read: standardized numbers without a bound, marks of
    missing values, and a column for each category.

    Parameters
    ----------
    fit : Fit
    kind : int
    estimator : estimator
    in_bag : ndarray of shape (n_rows, n_members), bool
    """
    rows, head = fit.rows, fit.net.criterion_
    X, y, weight = read_kind(fit.net, kind, rows)
    weights = _weights_of(estimator, weight, rows.is_weighted)
    _check_kind(estimator, head)
    if head.kind == "multilabel":
        y = y.astype(int)
    seeds = np.random.RandomState(fit.learned._predict_seed)
    members = []
    for bag in in_bag.T:
        copy = clone(estimator)
        _set_random_states(copy, seeds)
        if head.kind == "multilabel":
            copy = MultiOutputClassifier(copy)
        elif head.n_targets > 1 and head.kind == "regression":
            copy = MultiOutputRegressor(copy)
        target = y[bag, 0] if y.ndim == 2 and y.shape[1] == 1 else y[bag]
        options = weights(bag)
        if head.kind == "classes" and len(np.unique(target)) == 1:
            # Many classifiers refuse a bag without the rare class.
            copy, options = DummyClassifier(), {}
        members.append(Member(copy.fit(X[bag], target, **options), head))
    if head.n_outputs > head.n_targets and head.kind == "regression":
        seen = in_bag
        if fit.validation is not None:
            X, y, weight = read_kind(fit.net, kind, fit.validation)
            seen = np.zeros((len(y), len(members)), dtype=bool)
        scale = measure_scale(members, X, y, weight, seen)
        for member in members:
            member.of_scale = scale_output(scale)
    fit.net.module_.experts[kind].members = members


def read_kind(net, kind, rows):
    """Return the columns that a kind reads of rows, their y and weights."""
    module, columns = net.module_, net.module_.columns_of[kind]
    X = net.map_batches(lambda x: module.read(x, columns), rows)
    return X, rows.y.cpu().numpy(), rows.weight.double().cpu().numpy()


def measure_scale(members, X, y, weight, seen):
    """Return the root mean squared error for rows that members have not seen, or for all rows."""
    chosen = seen if seen.all() else ~seen
    errors, weights = [], []
    for member, part in zip(members, chosen.T, strict=True):
        # An estimator predicts no empty table.
        if part.any():
            errors.append(y[part] - member(X[part]))
            weights.append(weight[part])
    return np.sqrt(np.average(np.concatenate(errors) ** 2, 0, np.concatenate(weights)))


def _check_kind(estimator, head):
    """Refuse an estimator that cannot predict what the head is about."""
    if head.kind == "regression":
        if not is_regressor(estimator):
            raise ValueError(f"expert={estimator!r} is no regressor, which MoERegressor needs.")
    elif not is_classifier(estimator) or not hasattr(estimator, "predict_proba"):
        raise ValueError(
            f"expert={estimator!r} must be a classifier with `predict_proba`, whose probabilities "
            "can be mixed. Wrap it in sklearn.calibration.CalibratedClassifierCV."
        )


def _weights_of(estimator, weight, is_weighted):
    """Return a function from rows to the arguments of `fit`: their weights, if they count."""
    if not is_weighted:
        return lambda part: {}
    name, last = "sample_weight", estimator
    while isinstance(last, Pipeline):
        name, last = f"{last.steps[-1][0]}__{name}", last.steps[-1][1]
    if "sample_weight" not in inspect.signature(last.fit).parameters:
        raise ValueError(
            f"expert={estimator!r} was given sample_weight, which its `fit` does not take. "
            "Use estimators whose `fit` does, or no weights."
        )
    return lambda part: {name: weight[part]}
